"""The one place that chooses an engine."""

import importlib.util
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..bundle.bundle import Bundle
from .engine import Engine, EngineError
from .engine_cache import LIMIT_BYTES, prune
from .onnxruntime_engine import OnnxRuntimeEngine
from .openvino_engine import OpenVinoEngine
from .processor import lacks_avx512
from .tensorrt_engine import TensorRtEngine
from .tensorrt_engine import why_not as tensorrt_why_not
from .torch_engine import TorchEngine

logger = logging.getLogger(__name__)

MAKERS: dict[str, Callable[[Bundle, str, str, int], Engine]] = {
    "tensorrt": TensorRtEngine,
    "openvino": OpenVinoEngine,
    "torch": TorchEngine,
    "onnxruntime": OnnxRuntimeEngine,
}
ENGINES = ("auto", *MAKERS)
NVIDIA_NODES = tuple(map(Path, ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/dxg")))  # a desktop's, a Jetson's, WSL's


def make_engine(
    bundle: Bundle, name: str = "auto", device: str = "auto", precision: str = "auto", threads: int = 0
) -> Engine:
    """Compile a bundle.

    Args:
        name: one of ENGINES. "auto" takes the first of TensorRT, torch and ONNX Runtime that runs the bundle on an
            NVIDIA GPU; where there is none, and device is not "cuda", the first of OpenVINO, ONNX Runtime and torch
            that is installed. ONNX Runtime comes before OpenVINO on an x86 CPU without AVX-512, on which it is the
            faster one (docs/engines.md). The log says which and why.
        device, precision: as the engine takes them. Precision "auto" is never int8, whose answers differ more: that has
            to be asked for. The log says which it is and why.
        threads: at most so many CPU threads; 0 leaves it to the engine. For torch they are the whole process's.

    Raises:
        EngineError: the engine is unknown, or cannot be had here; says what to install.
    """
    if name not in ENGINES:
        raise EngineError(f"engine '{name}' is unknown; choose one of {', '.join(ENGINES)}")
    if not bundle.manifest.columns:
        raise EngineError(f"{bundle.root} has an encoder and no column yet; train one: face-mtl train")
    if name != "auto":
        return _made(MAKERS[name](bundle, device, precision, threads), "", precision)
    reasons: list[str] = []
    if device == "auto" or device.startswith("cuda"):
        for name, own_device, why_not in _on_gpus(device):
            if why_not is None:
                try:
                    engine = MAKERS[name](bundle, own_device, precision, threads)
                except EngineError as error:
                    logger.warning("engine %s is not taken: %s", name, error)
                    why_not = str(error) if device != "auto" else f"{name} does not run the model here"
                else:
                    return _made(engine, "; ".join([*reasons, "it and an NVIDIA GPU are there"]), precision)
            reasons.append(why_not)
        if device != "auto":
            raise EngineError(f"device '{device}' cannot be had: {'; '.join(reasons)}")
    else:
        reasons.append(f"device is {device}")
    name, why = _on_cpu(device, precision)
    return _made(MAKERS[name](bundle, device, precision, threads), "; ".join([*reasons, why]), precision)


def _on_gpus(device: str) -> Iterator[tuple[str, str, str | None]]:
    """Engines for NVIDIA GPUs, the fastest first: name, device, and why it is not there, None where it may be tried."""
    yield "tensorrt", device, tensorrt_why_not(device)
    if device == "auto":
        if not any(node.exists() for node in NVIDIA_NODES):
            return  # nor has any other one, and importing torch takes seconds
        device = "cuda"
    yield "torch", device, _torch_why_not()
    yield "onnxruntime", device, None if importlib.util.find_spec("onnxruntime") else "onnxruntime is not installed"


def _torch_why_not() -> str | None:
    """Why torch has no CUDA, told without importing it, which takes seconds; None where it has."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return "torch is not installed"
    said = Path(found.origin).with_name("version.py").read_text()
    return "torch is a build for CPUs" if re.search(r"^cuda\b.*= None$", said, re.MULTILINE) else None


def _on_cpu(device: str, precision: str) -> tuple[str, str]:
    """The engine's name, and why it is taken."""
    order, why = ("openvino", "onnxruntime", "torch"), ""
    if device in ("auto", "cpu") and precision in ("auto", "fp32", "int8") and lacks_avx512():
        order, why = ("onnxruntime", "openvino", "torch"), "the processor has no AVX-512; "
    found = next((name for name in order if importlib.util.find_spec(name)), order[0])
    missing = order[: order.index(found)]
    return found, why + (f"{' and '.join(missing)} not installed" if missing else f"{found} is installed")


def _made(engine: Engine, why: str, precision: str) -> Engine:
    chosen = f" (auto: {why})" if why else ""
    if precision == "auto":
        chosen += f" (precision auto: {_why_precision(engine)})"
    logger.info("engine %s on %s in %s%s", engine.name, engine.device, engine.precision, chosen)
    prune(LIMIT_BYTES)  # what it compiled may be one too many
    return engine


def _why_precision(engine: Engine) -> str:
    if engine.precision == "fp16":
        return "what GPUs are fast in"
    if engine.precision == "bf16":
        return "the processor has instructions for it"
    return "the processor has none for bf16" if engine.name == "openvino" else f"{engine.name} is fastest so on a CPU"
