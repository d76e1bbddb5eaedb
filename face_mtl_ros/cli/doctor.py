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
from ..runtime.engine_cache import LIMIT_BYTES, kept_bytes
from ..runtime.engines import ENGINES, make_engine
from ..runtime.int8_model import CPU, GPU, read_int8
from ..runtime.processor import instructions
from ..runtime.tensorrt_engine import why_not
from ..vision.detectors import DETECTORS, DetectorError, make_detector

PACKAGES = ("numpy", "opencv-python-headless", "safetensors", "pydantic", "onnx", "openvino", "onnxruntime", "torch")
# Said only where they are there: they stand in for others, or few need them.
VARIANTS = ("onnxruntime-gpu", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt", "cuda-bindings", "kornia")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what works on this machine, and what to fix",
        description="Say what is installed, what each engine and detector can do here, and what to fix. The exit "
        "status is 0 where perception runs as it is set up, with the engine and the detector that auto takes, else 1.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 exactly where perception can run as it is set up: with the engine and detector that auto takes."""
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors{_instructions()}")
    print(f"FACE_MTL_HOME {home()}{_home()}")
    for package in PACKAGES:
        version = _version(package)
        print(f"  {package} {version}" if version else f"  {package} is not installed")
    for package in VARIANTS:
        if version := _version(package):
            print(f"  {package} {version}")
    print(f"ROS 2 {_ros()}")
    try:
        bundle = load_bundle(locate_bundle())
        print(f"model {bundle.version}: {', '.join(column.task for column in bundle.manifest.columns)}")
    except BundleError as error:
        print(f"model: FAILED, {error}")
        print("perception does not run here: mend the model first")
        return 1
    faults = []
    # auto is what the node and the commands run with; the rest says what else could be chosen.
    for name in ENGINES:
        try:
            print(f"engine {name}: {_try(bundle, name)}")
        except EngineError as error:
            print(f"engine {name}: not here, {error}{_compiles() if name == 'tensorrt' else ''}")
            faults += ["engine auto"] if name == "auto" else []
    try:
        for name, descriptor in load_descriptors(bundle).items():
            print(f"descriptor {name}: ready, {descriptor.spec.dimensions} numbers a face")
    except EngineError as error:
        print(f"descriptor: FAILED, {error}")
        faults.append("descriptor")
    for name in DETECTORS:
        try:
            detector = make_detector(name)
            print(f"detector {name}: ready{f', takes {detector.name}' if name == 'auto' else ''}")
        except DetectorError as error:
            print(f"detector {name}: not here, {error}")
            faults += ["detector auto"] if name == "auto" else []
    print(f"perception does not run here: mend {', '.join(faults)}" if faults else "perception runs here")
    return 1 if faults else 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _instructions() -> str:
    return f" with {', '.join(found)}" if (found := instructions()) else ""


def _home() -> str:
    folder = next(parent for parent in (home(), *home().absolute().parents) if parent.exists())
    if not os.access(folder, os.W_OK):
        return ": CANNOT BE WRITTEN, so nothing is kept and each start compiles anew; set it to a folder that can be"
    return f", {kept_bytes() / 1e6:.0f} of at most {LIMIT_BYTES / 1e6:.0f} MB of compiled engines"


def _try(bundle: Bundle, name: str) -> str:
    """What the engine runs on, and what else it could; EngineError where it cannot be had."""
    if name in ("auto", "tensorrt") and why_not() is None and not _is_compiled(bundle):
        return "tensorrt, not compiled for this GPU yet; the first start does that, which takes up to minutes"
    engine = make_engine(bundle, name)
    found = f"{engine.device} in {engine.precision}"
    if name == "auto":
        return f"takes {engine.name}, {found}"
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


def _compiles() -> str:
    """What TensorRT for RTX does even where there is no GPU."""
    from ..runtime.tensorrt_library import installed, load_library, targets

    if "tensorrt_rtx" not in installed():
        return ""
    try:
        known = ", ".join(targets(load_library("tensorrt_rtx")))
    except EngineError:  # which the line says already
        return ""
    return f"; it compiles for other machines: face-mtl export --engine tensorrt --target with one of {known}"


def _tensorrt(bundle: Bundle) -> str:
    from ..runtime.cuda import Cuda
    from ..runtime.tensorrt_library import choose, precisions

    able = precisions(*choose(Cuda().capability))
    return f"it has {', '.join(name for name in able if name != 'int8')}{_int8(bundle, GPU)}"


def _openvino(bundle: Bundle) -> str:
    import openvino

    core = openvino.Core()
    able = set(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    precisions = [name for name in ("fp32", "bf16", "fp16") if name.upper() in able]
    return f"it has {', '.join(precisions)}{_int8(bundle, CPU)}; devices {', '.join(core.available_devices)}"


def _onnxruntime(bundle: Bundle) -> str:
    import onnxruntime

    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    on_gpus = "; fp16 on GPUs" if "CUDA" in names else "; for CUDA and TensorRT install onnxruntime-gpu in its place"
    return f"it has fp32{_int8(bundle, CPU)}; providers {', '.join(names)}{on_gpus}"


def _torch(_bundle: Bundle) -> str:
    import torch

    seen = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "it sees no CUDA device"
    return f"it has fp32, bf16, fp16; {seen}"


def _int8(bundle: Bundle, kind: str) -> str:
    try:
        read_int8(bundle, kind)
    except EngineError:
        engine = " --engine tensorrt --target portable" if kind == GPU else ""
        return f", and int8 once face-mtl export{engine} --precision int8 --calibrate made it"
    return ", int8"


ABILITIES: dict[str, Callable[[Bundle], str]] = {
    "tensorrt": _tensorrt,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}


def _ros() -> str:
    if not importlib.util.find_spec("rclpy"):
        return "is not there: source it, or run make demo and source tools/env.sh"
    if not importlib.util.find_spec("face_mtl_msgs"):
        return "is there, face_mtl_msgs is not built: run make demo and source tools/env.sh"
    return "and face_mtl_msgs are there"
