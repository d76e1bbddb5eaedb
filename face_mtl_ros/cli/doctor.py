"""face-mtl doctor: what is installed here, what it can do, and what to fix."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable

from ..bundle.bundle import Bundle, load_bundle
from ..bundle.files import BundleError
from ..bundle.locate import locate_bundle
from ..paths import home
from ..runtime.descriptor import load_descriptors
from ..runtime.engine import EngineError
from ..runtime.engines import ENGINES, make_engine
from ..runtime.int8_model import CPU, read_int8
from ..runtime.tensorrt_engine import why_not
from ..vision.detectors import DETECTORS, DetectorError, make_detector

PACKAGES = ("numpy", "opencv-python-headless", "safetensors", "pydantic", "onnx", "openvino", "onnxruntime", "torch")
# Said only where they are there: they stand in for others, or few need them.
VARIANTS = ("onnxruntime-gpu", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt", "cuda-bindings", "kornia")


def add_parser(commands) -> None:
    parser = commands.add_parser("doctor", help="what works on this machine, and what to fix")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 exactly where perception can run as it is set up: with the engine and detector that auto takes."""
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors")
    print(f"FACE_MTL_HOME {home()}")
    for package in PACKAGES:
        version = _version(package)
        print(f"  {package} {version}" if version else f"  {package} is not installed")
    for package in VARIANTS:
        if version := _version(package):
            print(f"  {package} {version}")
    print(f"ROS 2 {_ros()}")
    works = True
    try:
        bundle = load_bundle(locate_bundle())
        print(f"model {bundle.version}: {', '.join(column.task for column in bundle.manifest.columns)}")
    except BundleError as error:
        print(f"model: FAILED, {error}")
        return 1
    # auto is what the node and the commands run with; the rest says what else could be chosen.
    for name in ENGINES:
        try:
            print(f"engine {name}: {_try(bundle, name)}")
        except EngineError as error:
            print(f"engine {name}: not here, {error}")
            works &= name != "auto"
    try:
        for name, descriptor in load_descriptors(bundle).items():
            print(f"descriptor {name}: ready, {descriptor.spec.dimensions} numbers a face")
    except EngineError as error:
        print(f"descriptor: FAILED, {error}")
        works = False
    for name in DETECTORS:
        try:
            make_detector(name)
            print(f"detector {name}: ready")
        except DetectorError as error:
            print(f"detector {name}: not here, {error}")
            works &= name != "auto"
    return 0 if works else 1


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _try(bundle: Bundle, name: str) -> str:
    """What the engine runs on, and what else it could; EngineError where it cannot be had."""
    if name in ("auto", "tensorrt") and why_not() is None and not _is_compiled(bundle):
        return "tensorrt, not compiled for this GPU yet; the first start does that, which takes up to minutes"
    engine = make_engine(bundle, name)
    found = f"{engine.device} in {engine.precision}"
    return f"{found}; {ABILITIES[name](bundle)}" if name in ABILITIES else found


def _is_compiled(bundle: Bundle) -> bool:
    """Whether TensorRT's engine lies in the cache, so that it is loaded in no time."""
    from ..runtime.cuda import Cuda
    from ..runtime.plan_cache import file_name, plan_key, plans_dir
    from ..runtime.tensorrt_library import choose

    cuda = Cuda()
    library, target = choose(cuda.capability)
    major, minor = cuda.capability
    key = plan_key(bundle, library, "fp16", target or f"sm{major}{minor} {cuda.gpu}")
    return (plans_dir() / file_name(key)).exists()


def _openvino(bundle: Bundle) -> str:
    try:
        import openvino
    except ModuleNotFoundError:
        return ""
    core = openvino.Core()
    able = set(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    precisions = [name for name in ("fp32", "bf16", "fp16") if name.upper() in able]
    return f"it has {', '.join(precisions)}{_int8(bundle)}; devices {', '.join(core.available_devices)}"


def _onnxruntime(bundle: Bundle) -> str:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return ""
    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    missing = "" if "CUDA" in names else "; for CUDA and TensorRT install onnxruntime-gpu in its place"
    return f"it has fp32{_int8(bundle)}; providers {', '.join(names)}{missing}"


def _torch(_bundle: Bundle) -> str:
    try:
        import torch
    except ModuleNotFoundError:
        return ""
    return f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "it sees no CUDA device"


def _int8(bundle: Bundle) -> str:
    try:
        read_int8(bundle, CPU)
    except EngineError:
        return ", and int8 once face-mtl export --precision int8 --calibrate made it"
    return ", int8"


ABILITIES: dict[str, Callable[[Bundle], str]] = {"openvino": _openvino, "onnxruntime": _onnxruntime, "torch": _torch}


def _ros() -> str:
    if not importlib.util.find_spec("rclpy"):
        return "is not there: source it, or run make demo and source tools/env.sh"
    if not importlib.util.find_spec("face_mtl_msgs"):
        return "is there, face_mtl_msgs is not built: run make demo and source tools/env.sh"
    return "and face_mtl_msgs are there"
