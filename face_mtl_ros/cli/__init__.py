"""The face-mtl command. Exit status: 0 done, 1 failed with one line on stderr, 2 wrong usage."""

import argparse
import logging
import sys
from collections.abc import Sequence

from .. import __version__

# What may be missing from an installation that otherwise works, and the extra that brings it: perception needs one
# engine, training needs torch, and a descriptor its teacher.
EXTRAS = {
    **dict.fromkeys(
        ("captum", "kornia", "matplotlib", "optuna", "PIL", "tensorboard", "torch", "torchmetrics"), "train"
    ),
    **dict.fromkeys(("onnx", "openvino"), ""),  # of the package itself; some engines do without
    "onnxruntime": "onnxruntime",
    **dict.fromkeys(("dlib", "face_recognition_models"), "teacher"),
}


class UsageError(ValueError):
    """The command line's words do not go together; ends with status 2."""


def build_parser() -> argparse.ArgumentParser:
    from . import (
        analyze,
        bench,
        datasets,
        descriptor,
        detector,
        doctor,
        enroll,
        evaluate,
        experiment,
        explain,
        export,
        models,
        pretrain,
        samples,
        search,
        train,
    )

    parser = argparse.ArgumentParser(
        prog="face-mtl", description="Read faces, and train, measure and manage the models that do."
    )
    parser.add_argument("--version", action="version", version=f"face-mtl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    analyze.add_parser(commands)
    pretrain.add_parser(commands)
    train.add_parser(commands)
    search.add_parser(commands)
    evaluate.add_parser(commands)
    explain.add_parser(commands)
    experiment.add_parser(commands)
    export.add_parser(commands)
    datasets.add_parser(commands)
    models.add_parsers(commands)
    samples.add_parser(commands)
    enroll.add_parser(commands)
    bench.add_parser(commands)
    descriptor.add_parser(commands)
    detector.add_parser(commands)
    doctor.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return args.run(args)
    except UsageError as error:
        print(f"face-mtl {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        extra = EXTRAS[missing]
        checkout = "bash tools/setup.sh test" if extra == "train" else f"pip install -e '.[{extra}]' -c constraints.txt"
        remedy = (
            f"pip install 'face_mtl_ros[{extra}]', or in a checkout {checkout}" if extra else f"pip install {missing}"
        )
        print(f"face-mtl {args.command}: needs {missing}, which is not installed: {remedy}", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        # Errors that are the user's to mend; anything else is a defect and shows its traceback.
        print(f"face-mtl {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"face-mtl {args.command}: interrupted", file=sys.stderr)
        return 130
