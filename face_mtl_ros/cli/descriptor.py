"""face-mtl descriptor: foreign face descriptors that columns may draw on."""

import argparse
import tempfile
from pathlib import Path

DLIB = "dlib"


def add_parser(commands) -> None:
    parser = commands.add_parser("descriptor", help="install a foreign face descriptor that columns may draw on")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = actions.add_parser(
        "install",
        help="install an ONNX file with its YAML",
        description="Verify a descriptor by running it once and install it; docs/descriptors.md has the YAML of some.",
    )
    install.add_argument("--name", required=True, help="what bundles call it: small letters, digits, - and _")
    install.add_argument("--config", required=True, type=Path, metavar="YAML", help="how a face becomes its input")
    install.add_argument("--model", required=True, type=Path, metavar="ONNX", help="the network")
    install.set_defaults(run=run_install)
    dlib = actions.add_parser(
        DLIB,
        help="install dlib's",
        description="Make dlib's ResNet an ONNX file and install it; needs the extra teacher.",
    )
    dlib.add_argument("--name", default=DLIB, help="what bundles call it (default: %(default)s)")
    dlib.set_defaults(run=run_dlib)
    listing = actions.add_parser("list", help="what is installed")
    listing.set_defaults(run=run_list)


def run_install(args: argparse.Namespace) -> int:
    from ..runtime.descriptor import descriptors_dir, install_descriptor

    spec = install_descriptor(args.name, args.config, args.model)
    print(f"installed {descriptors_dir() / spec.name}: {spec.dimensions} numbers a face, sha256 {spec.sha256}")
    return 0


def run_dlib(args: argparse.Namespace) -> int:
    from ..runtime.descriptor import descriptors_dir, install_descriptor
    from ..training.dlib_onnx import CONFIG, dlib_onnx

    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(dlib_onnx())
        file.flush()
        spec = install_descriptor(args.name, CONFIG, Path(file.name))
    print(f"installed {descriptors_dir() / spec.name}: {spec.dimensions} numbers a face, sha256 {spec.sha256}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """One line each; status 1 where one is not whole."""
    from ..runtime.descriptor import DescriptorError, descriptors_dir, installed_descriptors, load_descriptor

    names, failed = installed_descriptors(), 0
    for name in names:
        try:
            spec = load_descriptor(name).spec
            print(f"{name}: {spec.dimensions} numbers a face, sha256 {spec.sha256}, {spec.terms or 'terms not stated'}")
        except DescriptorError as error:
            failed += 1
            print(f"{name}: cannot be used: {error}")
    if not names:
        print(f"no descriptor is installed in {descriptors_dir()}")
    return 1 if failed else 0
