"""The one place that chooses an engine."""

import importlib.util
import logging
import re
from collections.abc import Callable
from pathlib import Path

from ..bundle.bundle import Bundle
from .engine import Engine, EngineError
from .engine_cache import LIMIT_BYTES, prune
from .onnxruntime_engine import OnnxRuntimeEngine
from .openvino_engine import OpenVinoEngine
from .tensorrt_engine import TensorRtEngine, why_not
from .torch_engine import TorchEngine

logger = logging.getLogger(__name__)

MAKERS: dict[str, Callable[[Bundle, str, str, int], Engine]] = {
    "tensorrt": TensorRtEngine,
    "openvino": OpenVinoEngine,
    "torch": TorchEngine,
    "onnxruntime": OnnxRuntimeEngine,
}
ENGINES = ("auto", *MAKERS)
CPU_INFO = Path("/proc/cpuinfo")  # has no line of flags on other processors than x86


def make_engine(
    bundle: Bundle, name: str = "auto", device: str = "auto", precision: str = "auto", threads: int = 0
) -> Engine:
    """Compile a bundle.

    Args:
        name: one of ENGINES. "auto" takes TensorRT where it and an NVIDIA GPU are there and run the bundle, else the
            first of OpenVINO, ONNX Runtime and torch that is installed; ONNX Runtime comes before OpenVINO on an x86
            CPU without AVX-512, on which it is the faster one (docs/engines.md). With a CUDA device it is the first of
            TensorRT, torch and ONNX Runtime, with any other never TensorRT. The log says which and why.
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
    why = ""
    if name == "auto":
        name, why = _choose(device, precision)
        if name == "tensorrt":
            try:
                return _made(TensorRtEngine(bundle, device, precision, threads), why, precision)
            except EngineError as error:
                logger.warning("engine tensorrt is not taken: %s", error)
                name, why = _without_tensorrt(device, precision, "tensorrt does not run the model here")
    return _made(MAKERS[name](bundle, device, precision, threads), why, precision)


def _choose(device: str, precision: str) -> tuple[str, str]:
    """The engine's name, and why it is taken."""
    if device != "auto" and not device.startswith("cuda"):
        return _without_tensorrt(device, precision, f"device is {device}")
    reason = why_not(device)
    if reason is None:
        return "tensorrt", "it and an NVIDIA GPU are there"
    return _without_tensorrt(device, precision, reason)


def _without_tensorrt(device: str, precision: str, reason: str) -> tuple[str, str]:
    if device.startswith("cuda"):
        order: tuple[str, ...] = ("torch", "onnxruntime")
        reason += f"; device is {device}"
    elif device in ("auto", "cpu") and precision in ("auto", "fp32") and _lacks_avx512():
        order = ("onnxruntime", "openvino", "torch")
        reason += "; the processor has no AVX-512"
    else:
        order = ("openvino", "onnxruntime", "torch")
    found = next((name for name in order if importlib.util.find_spec(name)), order[0])
    missing = order[: order.index(found)]
    return found, f"{reason}; {' and '.join(missing)} not installed" if missing else f"{reason}; {found} is installed"


def _lacks_avx512() -> bool:
    """Whether this is an x86 processor without the instructions that OpenVINO is made for."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and "avx512f" not in flags[1].split()


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
