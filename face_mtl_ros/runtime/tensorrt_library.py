"""NVIDIA's two compilers, TensorRT for RTX (`tensorrt_rtx`) and TensorRT (`tensorrt`), which share their Python API."""

import functools
import importlib
import importlib.util
import logging
from types import ModuleType
from typing import Any

from .engine import EngineError

logger = logging.getLogger(__name__)

LIBRARIES = ("tensorrt_rtx", "tensorrt")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
PORTABLE = "portable"  # TensorRT for RTX: for compute capability 8.0 and later at once
INSTALL = (
    "pip install 'face_mtl_ros[tensorrt]' brings TensorRT for RTX; a Jetson has TensorRT from JetPack, which a virtual "
    "environment sees if it was made with --system-site-packages"
)


def installed() -> list[str]:
    """Which of the libraries are installed."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name)]


@functools.cache
def load_library(name: str) -> ModuleType:
    """Import one of LIBRARIES; EngineError says what to install."""
    if name not in installed():
        raise EngineError(f"engine 'tensorrt' needs {name}, which is not installed: {INSTALL}")
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # what it links is of another version or not on the path
        raise EngineError(
            f"{name} is installed and does not load: {error}; put the folder of its libraries on LD_LIBRARY_PATH, or "
            f"install it again: {INSTALL}"
        ) from error


def is_rtx(library: ModuleType) -> bool:
    return library.__name__ == "tensorrt_rtx"


def targets(library: ModuleType) -> list[str]:
    """What it compiles for without a GPU: none for TensorRT, which measures on the GPU that it compiles for."""
    if not is_rtx(library):
        return []
    known = library.ComputeCapability.__members__
    return [name.lower() for name in known if name.startswith("SM")] + [PORTABLE]


def require_installed() -> list[str]:
    """As `installed`; EngineError where there is none."""
    found = installed()
    if not found:
        raise EngineError(f"engine 'tensorrt' needs tensorrt_rtx or tensorrt, and neither is installed: {INSTALL}")
    return found


def choose(capability: tuple[int, int]) -> tuple[ModuleType, str]:
    """The library for a GPU of a compute capability, and the target to compile for.

    TensorRT for RTX where it knows the GPU; else TensorRT, with the target "" that says the GPU at hand; else, for a
    GPU that it does not list, TensorRT for RTX with code for several, of which one may run.

    Raises:
        EngineError: neither is installed.
    """
    found = require_installed()
    target = f"sm{capability[0]}{capability[1]}"
    if "tensorrt_rtx" in found:
        library = load_library("tensorrt_rtx")
        if target in targets(library):
            return library, target
        if "tensorrt" not in found:
            return library, PORTABLE
    return load_library("tensorrt"), ""


def precisions(library: ModuleType, target: str = "") -> list[str]:
    """What it compiles in for a target: a library of before 9 has no bf16, nor has a GPU of before capability 8.0."""
    has_bf16 = hasattr(library, "bfloat16") and target != "sm75"
    return [name for name in PRECISIONS if name != "bf16" or has_bf16]


def check_wish(library: ModuleType, precision: str, target: str) -> None:
    """EngineError where the library, or the target, has no such precision, or the library no such target."""
    able = precisions(library, target)
    if precision not in able:
        where = f" for {target}" if precision in PRECISIONS and target else ""
        raise EngineError(
            f"precision '{precision}' cannot be had from {library.__name__}{where}; it has {', '.join(able)}"
        )
    known = targets(library)
    if target and target not in known:
        able_here = f"it compiles for {', '.join(known)}" if known else "it compiles on the GPU itself, for that one"
        raise EngineError(f"target '{target}' is unknown to {library.__name__} {library.__version__}; {able_here}")


@functools.cache
def notes(library: ModuleType) -> Any:
    """The one logger that a library's objects share in a process; `complaints` has what went wrong since `clear`."""

    class Notes(library.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.complaints: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.INTERNAL_ERROR, library.ILogger.ERROR):
                self.complaints.append(" ".join(message.split()))
                logger.debug("%s: %s", library.__name__, message)
            elif severity == library.ILogger.WARNING:
                logger.debug("%s: %s", library.__name__, message)

        def clear(self) -> None:
            self.complaints.clear()

        def reason(self) -> str:
            return "; ".join(self.complaints[:2]) if self.complaints else "no reason given"

    return Notes()
