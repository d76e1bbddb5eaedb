"""face-mtl export: a model as an ONNX file, or compiled for other machines' GPUs."""

import argparse
from pathlib import Path

from ..bundle.bundle import Bundle, load_bundle
from ..bundle.files import write_atomically
from ..bundle.locate import DEFAULT_MODEL, locate_bundle
from . import UsageError

ENGINES = ("onnx", "tensorrt")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write a model as an ONNX file, or compile it for other machines",
        description="Write a model as an ONNX file, or as what TensorRT for RTX compiles it to without a GPU. Put "
        "that file into FACE_MTL_HOME/cache/tensorrt of machines that have such a GPU and the same versions of this "
        "package and of TensorRT for RTX, and they need not compile it.",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a folder or a name, as analyze takes it")
    parser.add_argument("--engine", choices=ENGINES, default="onnx", help="default %(default)s")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="default: fp16 for tensorrt; onnx has fp32 alone"
    )
    parser.add_argument(
        "--target", help="tensorrt: the kind of GPU, such as sm86, sm89 or sm120; portable for one not listed"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder that gets the file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.engine == "onnx" and (args.target or args.precision not in (None, "fp32")):
        raise UsageError("--engine onnx writes fp32, for whatever reads it; leave --target and another --precision out")
    if args.engine == "tensorrt" and not args.target:
        raise UsageError("--engine tensorrt needs --target, the kind of GPU, such as sm86")
    bundle = load_bundle(locate_bundle(args.model))
    write = _write_tensorrt if args.engine == "tensorrt" else _write_onnx
    print(f"{bundle.version} written to {write(bundle, args)}")
    return 0


def _write_onnx(bundle: Bundle, args: argparse.Namespace) -> Path:
    from ..runtime.graph import build_graph

    file = args.output / "model.onnx"
    write_atomically(file, build_graph(bundle).SerializeToString())
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
