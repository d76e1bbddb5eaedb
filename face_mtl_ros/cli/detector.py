"""face-mtl detector install"""

import argparse
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser("detector", help="install a face detector's model")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = actions.add_parser(
        "install",
        help="install YuNet",
        description="Fetch YuNet's model from OpenCV's model zoo, or take it from a file, verify and install it.",
    )
    install.add_argument("--from", dest="source", type=Path, metavar="FILE", help="the model's file, already here")
    install.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..vision.detectors import install_yunet

    print(f"installed {install_yunet(args.source)}")
    return 0
