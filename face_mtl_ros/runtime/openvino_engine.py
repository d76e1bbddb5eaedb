"""The bundle compiled by OpenVINO: the engine of machines without a GPU."""

import hashlib
import io
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..bundle.bundle import Bundle
from ..networks.topology import encoder_layers
from .bundle_key import bundle_key
from .engine import EMBEDDING, INPUT, EngineError, check_descriptors, descriptor_input
from .engine_cache import own_folder
from .int8_model import CPU, read_int8
from .plan_cache import Key, cached_plan, held, replace_plan

if TYPE_CHECKING:
    import openvino as ov

logger = logging.getLogger(__name__)

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
PRECISIONS = (*HINTS, "int8")
BEST = ("bf16", "fp32", "fp16")  # what "auto" takes, the first that a device has; NPUs have no fp32


class OpenVinoEngine:
    """See runtime.engine.Engine.

    Compiled models are kept under FACE_MTL_HOME/cache/openvino: for CPUs by what decides them, so that a start need not
    write the graph; for other devices in a folder for each bundle, by OpenVINO's own key, with the kernels. Where that
    cannot be written, a warning says so and nothing is kept.

    Args:
        bundle: what to run.
        device: "auto" and "cpu" are the CPU; any other name is OpenVINO's own, such as "GPU" or "NPU".
        precision: "fp32", "bf16", "fp16", "int8" (runtime.int8_model), or "auto": bf16 where the device has
            instructions for it, else fp32, or fp16 where it has not even that. In INT8 what is not quantised is in the
            precision of "auto".
        threads: at most so many; 0 leaves it to OpenVINO.
        graph: ONNX to run in place of the bundle's own, with the same inputs and outputs; for measuring one, and not
            kept.

    Raises:
        EngineError: openvino or the device is missing, the device has no such precision, there is no INT8 model, or
            OpenVINO cannot compile the bundle.
    """

    name = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        graph: bytes | None = None,
    ):
        try:
            import openvino as ov
        except ModuleNotFoundError as error:
            raise _missing(error) from None
        core = ov.Core()
        device = "CPU" if device in ("auto", "cpu") else device
        if device.split(".")[0] not in {found.split(".")[0] for found in core.available_devices}:
            raise EngineError(
                f"device '{device}' is not there for engine 'openvino', which sees "
                f"{', '.join(core.available_devices)}; use one of these, or install Intel's driver for its GPU or NPU"
            )
        capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        best = next((name for name in BEST if name.upper() in capabilities), "fp32")
        if precision == "auto":
            precision = best
        if precision not in PRECISIONS or precision.upper() not in capabilities:
            able = [name for name in PRECISIONS if name.upper() in capabilities]
            raise EngineError(f"precision '{precision}' cannot be had on {device} here; it has {', '.join(able)}")
        self.device, self.precision = device, precision
        settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": HINTS[best if precision == "int8" else precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._descriptors = bundle.manifest.descriptors
        self._outputs = {column.task: column.outputs for column in bundle.manifest.columns}
        self._outputs[EMBEDDING] = encoder_layers(bundle.preset)[-1].outputs
        try:
            self._request = self._compile(core, bundle, settings, graph).create_infer_request()
        except EngineError:
            raise
        except RuntimeError as error:
            raise EngineError(
                f"{bundle.root} cannot be compiled by OpenVINO for {device} in {precision}: {cause(error)}; "
                "try another precision or engine 'torch'"
            ) from error

    def _compile(
        self, core: "ov.Core", bundle: Bundle, settings: dict[str, str | int], graph: bytes | None
    ) -> "ov.CompiledModel":
        def fresh(**more: str) -> "ov.CompiledModel":
            model = core.read_model(graph or _graph(bundle, self.precision))
            return core.compile_model(model, self.device, settings | more)

        if graph is not None:
            return fresh()
        if self.device != "CPU":
            self._kept = own_folder("openvino", bundle_key(bundle)[:24])
            return fresh() if self._kept is None else fresh(CACHE_DIR=str(self._kept.entry))
        made: list[ov.CompiledModel] = []

        def build() -> bytes:
            made.append(fresh())
            return made[0].export_model().getvalue()

        key = _key(core, bundle, self.precision, settings)
        kept = cached_plan(key, build, "openvino", "blob")
        self._kept = held(key, "blob", "openvino")
        if made:
            return made[0]
        try:
            return core.import_model(io.BytesIO(kept), self.device, settings)
        except RuntimeError as error:
            logger.warning("OpenVINO does not take what it compiled before: %s; compiling anew", cause(error))
            replace_plan(key, build(), "openvino", "blob")
            return made[0]

    def run(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        given = check_descriptors(self._descriptors, descriptors, len(crops))
        if not len(crops):
            return {name: np.empty((0, width), np.float32) for name, width in self._outputs.items()}
        inputs = {descriptor_input(name): values for name, values in given.items()}
        inputs[INPUT] = np.ascontiguousarray(crops, np.float32)
        # Shares the inputs' memory; the outputs are copied, for the request overwrites them at the next call.
        self._request.infer(inputs, share_inputs=True)
        return {name: self._request.get_tensor(name).data.copy() for name in self._outputs}


def _graph(bundle: Bundle, precision: str) -> bytes:
    if precision == "int8":
        return read_int8(bundle, CPU)
    try:
        from .graph import build_graph
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    return build_graph(bundle).SerializeToString()


def _missing(error: ModuleNotFoundError) -> EngineError:
    return EngineError(f"engine 'openvino' needs {error.name}, which is not installed: pip install openvino onnx")


def _key(core: "ov.Core", bundle: Bundle, precision: str, settings: dict[str, str | int]) -> Key:
    """All that decides what OpenVINO compiles for the CPU; how many threads run it may change."""
    import openvino as ov

    calibrated = {"calibrated": hashlib.sha256(read_int8(bundle, CPU)).hexdigest()} if precision == "int8" else {}
    return {
        **calibrated,
        "model": bundle_key(bundle),
        "package": __version__,
        "library": "openvino",
        "version": ov.__version__,
        "precision": precision,
        "hint": str(settings["INFERENCE_PRECISION_HINT"]),
        "target": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "able": " ".join(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    }


def cause(error: RuntimeError) -> str:
    """The first line that says more than the places in OpenVINO's sources that the error passed through."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from ")), "no reason given")
