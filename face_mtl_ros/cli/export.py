"""face-mtl export: a model as a file that other machines and programs run."""

import argparse
from pathlib import Path

from ..bundle.bundle import Bundle, load_bundle
from ..bundle.files import write_atomically
from ..bundle.locate import DEFAULT_MODEL, locate_bundle
from . import UsageError

ENGINES = ("onnx", "openvino", "tensorrt")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write a model as an ONNX or OpenVINO file, in INT8 too, or compile it for other machines",
        description="Write a model as an ONNX or OpenVINO file, or as what TensorRT for RTX compiles it to without a "
        "GPU. Put that last file into FACE_MTL_HOME/cache/tensorrt of machines that have such a GPU and the same "
        "versions of this package and of TensorRT for RTX, and they need not compile it. With --precision int8 the "
        "model is quantised by what --calibrate names, kept only if no column loses more than half a point of accuracy "
        "on the validation pictures, and put where precision int8 of the engines here finds it; on other machines "
        "the .onnx file, which tensorrt writes beside its own, belongs into FACE_MTL_HOME/cache/int8.",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a folder or a name, as analyze takes it")
    parser.add_argument("--engine", choices=ENGINES, default="onnx", help="default %(default)s")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16", "int8"), help="default: fp16 for tensorrt, else fp32"
    )
    parser.add_argument(
        "--target", help="tensorrt: the kind of GPU, such as sm86, sm89 or sm120; portable for one not listed"
    )
    parser.add_argument(
        "--calibrate",
        action="append",
        default=[],
        metavar="NAME=ROOT",
        help="int8: a dataset, as train takes it; its training split calibrates, its validation split is scored; may "
        "be repeated",
    )
    parser.add_argument("--crops", type=int, default=256, help="int8: so many calibrate (%(default)s)")
    parser.add_argument(
        "--pictures", type=int, default=2000, help="int8: at most so many of a dataset are scored (%(default)s); 0: all"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder that gets the file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    _check(args)
    if args.engine == "tensorrt":
        _check_compiler(args)
    bundle = load_bundle(locate_bundle(args.model))
    if args.precision == "int8":
        _make_int8(bundle, args)
    write = {"onnx": _write_onnx, "openvino": _write_openvino, "tensorrt": _write_tensorrt}[args.engine]
    file = write(bundle, args)
    if args.engine == "tensorrt" and args.precision == "int8":
        # By its content the engine is found, on the machine that runs it.
        print(f"{bundle.version} in int8 written to {_write_onnx(bundle, args)}")
    print(f"{bundle.version} written to {file}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.engine == "onnx" and (args.target or args.precision not in (None, "fp32", "int8")):
        raise UsageError(
            "--engine onnx writes fp32 or int8, for whatever reads it; leave --target and another --precision out"
        )
    if args.engine == "openvino" and (args.target or args.precision == "bf16"):
        raise UsageError(
            "--engine openvino writes fp32, fp16 or int8, and bf16 is chosen where it runs; leave --target and it out"
        )
    if args.engine == "tensorrt" and not args.target:
        raise UsageError("--engine tensorrt needs --target, the kind of GPU, such as sm86")
    if args.calibrate and args.precision != "int8":
        raise UsageError("--calibrate belongs to --precision int8")
    if args.crops < 1 or args.pictures < 0:
        raise UsageError(f"--crops {args.crops} and --pictures {args.pictures} must be at least 1 and 0")


def _check_compiler(args: argparse.Namespace) -> None:
    """Before a calibration of minutes: whether what shall come behind it can be had."""
    from ..runtime.tensorrt_library import check_wish, load_library

    check_wish(load_library("tensorrt_rtx"), args.precision or "fp16", args.target)


def _make_int8(bundle: Bundle, args: argparse.Namespace) -> None:
    """Calibrate, or without --calibrate take what was calibrated before."""
    from ..runtime.int8_model import int8_dir, int8_name, read_int8, write_int8
    from .int8 import calibrate

    kind = _kind(args)
    if not args.calibrate:
        read_int8(bundle, kind)
        return
    made = calibrate(bundle, kind, args)
    write_int8(int8_dir() / int8_name(bundle, kind), bundle, kind, made.model, made.notes)


def _kind(args: argparse.Namespace) -> str:
    from ..runtime.int8_model import CPU, GPU

    return GPU if args.engine == "tensorrt" else CPU


def _onnx(bundle: Bundle, args: argparse.Namespace) -> bytes:
    from ..runtime.graph import build_graph
    from ..runtime.int8_model import read_int8

    return read_int8(bundle, _kind(args)) if args.precision == "int8" else build_graph(bundle).SerializeToString()


def _write_onnx(bundle: Bundle, args: argparse.Namespace) -> Path:
    from ..runtime.int8_model import int8_name

    # In INT8 by the name under which engines look for it, so that it may be put on other machines.
    name = int8_name(bundle, _kind(args)) if args.precision == "int8" else "model.onnx"
    write_atomically(args.output / name, _onnx(bundle, args))
    return args.output / name


def _write_openvino(bundle: Bundle, args: argparse.Namespace) -> Path:
    """model.xml and the weights beside it, model.bin."""
    import openvino

    model = openvino.Core().read_model(_onnx(bundle, args))
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "model.xml"
    openvino.save_model(model, file, compress_to_fp16=args.precision == "fp16")
    return file


def _write_tensorrt(bundle: Bundle, args: argparse.Namespace) -> Path:
    from ..runtime.plan_cache import file_name, plan_key, write_plan
    from ..runtime.tensorrt_build import build_plan
    from ..runtime.tensorrt_library import load_library

    library, precision = load_library("tensorrt_rtx"), args.precision or "fp16"
    plan, _ = build_plan(bundle, library, precision, args.target)
    key = plan_key(bundle, library, precision, args.target)
    file = args.output / file_name(key)
    write_plan(file, key, plan)
    return file
