"""The one place that chooses an engine."""

import importlib.util
import logging

from ..bundle.bundle import Bundle
from .engine import Engine, EngineError
from .openvino_engine import OpenVinoEngine
from .torch_engine import TorchEngine

logger = logging.getLogger(__name__)

ENGINES = ("auto", "openvino", "torch")


def make_engine(
    bundle: Bundle, name: str = "auto", device: str = "auto", precision: str = "auto", threads: int = 0
) -> Engine:
    """Compile a bundle.

    Args:
        name: "openvino", "torch", or "auto": OpenVINO where it is installed, else torch.
        device, precision: as the engine takes them.
        threads: at most so many CPU threads; 0 leaves it to the engine. For torch they are the whole process's.

    Raises:
        EngineError: the engine is unknown, or cannot be had here; says what to install.
    """
    if name not in ENGINES:
        raise EngineError(f"engine '{name}' is unknown; choose one of {', '.join(ENGINES)}")
    if not bundle.manifest.columns:
        raise EngineError(f"{bundle.root} has an encoder and no column yet; train one: face-mtl train")
    chosen = name
    if name == "auto":
        chosen = "openvino" if importlib.util.find_spec("openvino") else "torch"
    if chosen == "openvino":
        engine: Engine = OpenVinoEngine(bundle, device, precision, threads)
    else:
        engine = TorchEngine(bundle, device, precision, threads)
    why = (
        " (auto: openvino is " + ("installed)" if chosen == "openvino" else "not installed)") if name == "auto" else ""
    )
    logger.info("engine %s on %s in %s%s", engine.name, engine.device, engine.precision, why)
    return engine
