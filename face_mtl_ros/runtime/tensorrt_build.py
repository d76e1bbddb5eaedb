"""A bundle compiled by TensorRT for RTX or by TensorRT; see runtime.tensorrt_library.

TensorRT for RTX compiles ahead of time without a GPU, and makes the kernels themselves at the first run on one.
TensorRT measures kernels on the GPU that it compiles for. Networks are strongly typed, from a graph that has the
precision's types, in INT8 with QuantizeLinear and DequantizeLinear around the convolutions; TensorRT 8 knows weakly
typed ones alone, and takes the precision as a flag.

What was executed: tensorrt_rtx 1.7.1, by the tests. Only checked against the names in NVIDIA's Python bindings:
tensorrt 8.6.1, 10.3.0 and 11.4.0.
"""

import logging
import time
from types import ModuleType
from typing import Any

from ..bundle.bundle import Bundle
from .buckets import BUCKETS
from .engine import EngineError
from .graph import build_graph
from .int8_model import GPU, read_int8
from .reduced_precision import reduce_precision
from .tensorrt_library import PORTABLE, check_wish, is_rtx, notes

logger = logging.getLogger(__name__)

# Smallest, usual and largest batch of the one profile: most frames show up to four faces. TensorRT for RTX makes its
# kernels for each bucket at run time; with TensorRT a profile a bucket would take six times as long to build.
BATCHES = (BUCKETS[0], 4, BUCKETS[-1])


def build_plan(
    bundle: Bundle, library: ModuleType, precision: str, target: str = "", timings: bytes = b""
) -> tuple[bytes, bytes]:
    """Compile a bundle.

    Args:
        library: what tensorrt_library.load_library gave.
        precision: one of PRECISIONS.
        target: one of tensorrt_library.targets, or "" for the GPU at hand.
        timings: what an earlier call returned as such, so that only what is new in the network is measured.

    Returns:
        The serialised engine, and TensorRT's measurements so far, empty with TensorRT for RTX, which makes none.

    Raises:
        EngineError: the precision or the target cannot be had, there is no INT8 model, or the library cannot compile
            the bundle.
    """
    typed = hasattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    check_wish(library, precision, target)
    graph = _graph(bundle, precision, typed)
    log = notes(library)
    log.clear()
    started = time.monotonic()
    builder = library.Builder(log)
    network = builder.create_network(_creation_flags(library, typed))
    config = builder.create_builder_config()
    parser = library.OnnxParser(network, log)
    if not parser.parse(graph):
        raise EngineError(f"{bundle.root} cannot be read by {library.__name__}: {log.reason()}; use another engine")
    config.add_optimization_profile(_profile(builder, network))
    _set_flags(library, config, precision, typed)
    if target and target != PORTABLE:
        config.num_compute_capabilities = 1
        config.set_compute_capability(library.ComputeCapability.__members__[target.upper()], 0)
    cache = None
    if not is_rtx(library):
        cache = config.create_timing_cache(timings)
        config.set_timing_cache(cache, False)
    if hasattr(config, "progress_monitor"):
        progress = _progress_monitor(library)
        config.progress_monitor = progress  # TensorRT does not keep it alive
    where = target or "the GPU at hand"
    logger.info("%s compiles %s in %s for %s", library.__name__, bundle.version, precision, where)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{bundle.root} cannot be compiled by {library.__name__} for {where} in {precision}: {log.reason()}; try "
            "another precision or engine"
        )
    logger.info("compiled in %.1f s, %.0f MB", time.monotonic() - started, plan.nbytes / 1e6)
    return bytes(plan), bytes(config.get_timing_cache().serialize()) if cache else b""


def _graph(bundle: Bundle, precision: str, typed: bool) -> bytes:
    if precision == "int8":
        return read_int8(bundle, GPU)
    graph = build_graph(bundle)
    return (reduce_precision(graph, precision) if typed and precision != "fp32" else graph).SerializeToString()


def _creation_flags(library: ModuleType, typed: bool) -> int:
    """TensorRT 8 has to be told that the batch is a dimension; later ones know nothing else."""
    flags = library.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if typed else flags.EXPLICIT_BATCH)


def _profile(builder: Any, network: Any) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        row = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, *((batch, *row) for batch in BATCHES))
    return profile


def _set_flags(library: ModuleType, config: Any, precision: str, typed: bool) -> None:
    flags = library.BuilderFlag
    config.clear_flag(flags.TF32)  # fp32 means it
    if is_rtx(library):
        # The engine brings its own memory, which a CUDA graph needs.
        config.set_flag(flags.REQUIRE_USER_ALLOCATION)
    if not typed:
        # Several contexts, one a bucket, share the one profile.
        config.set_preview_feature(library.PreviewFeature.PROFILE_SHARING_0806, True)
        if precision in ("fp16", "int8"):
            config.set_flag(flags.FP16)
        if precision == "int8":
            config.set_flag(flags.INT8)


def _progress_monitor(library: ModuleType) -> Any:
    """Logs how far the outermost phases are, at most every five seconds: TensorRT takes minutes on a Jetson."""

    class Progress(library.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.said = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps and time.monotonic() - self.said > 5:
                self.said = time.monotonic()
                logger.info("compiling: %s, step %d of %d", phase_name, step + 1, self.steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Progress()
