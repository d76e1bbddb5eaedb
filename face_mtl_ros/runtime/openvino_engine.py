"""The bundle compiled by OpenVINO: the engine of machines without a GPU."""

import logging
import tempfile
from collections.abc import Mapping

import numpy as np

from ..bundle.bundle import Bundle
from ..networks.topology import encoder_layers
from ..paths import cache_dir
from .engine import EMBEDDING, EngineError, check_descriptors
from .int8_model import CPU, read_int8

logger = logging.getLogger(__name__)

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
PRECISIONS = (*HINTS, "int8")


class OpenVinoEngine:
    """See runtime.engine.Engine.

    Compiled models are kept under FACE_MTL_HOME/cache/openvino, by OpenVINO's own key over graph, weights, device,
    settings and version. Where that folder cannot be written, a warning says so and nothing is kept.

    Args:
        bundle: what to run.
        device: "auto" and "cpu" are the CPU; any other name is OpenVINO's own, such as "GPU" or "NPU".
        precision: "fp32", "bf16", "fp16", "int8" (runtime.int8_model), or "auto": bf16 where the device has
            instructions for it, else fp32. In INT8 what is not quantised is in the precision of "auto".
        threads: at most so many; 0 leaves it to OpenVINO.
        graph: ONNX to run in place of the bundle's own, with the same inputs and outputs; for measuring one.

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

            from .graph import INPUT, build_graph, descriptor_input
        except ModuleNotFoundError as error:
            raise EngineError(
                f"engine 'openvino' needs {error.name}, which is not installed: pip install openvino onnx"
            ) from None
        core = ov.Core()
        device = "CPU" if device in ("auto", "cpu") else device
        if device.split(".")[0] not in {found.split(".")[0] for found in core.available_devices}:
            raise EngineError(f"device '{device}' is not there: OpenVINO sees {', '.join(core.available_devices)}")
        capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        best = "bf16" if "BF16" in capabilities else "fp32"
        if precision == "auto":
            precision = best
        if precision not in PRECISIONS or precision.upper() not in capabilities:
            able = [name for name in PRECISIONS if name.upper() in capabilities]
            raise EngineError(f"precision '{precision}' cannot be had on {device} here; it has {', '.join(able)}")
        self.device, self.precision = device, precision
        settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": HINTS[best if precision == "int8" else precision],
            "PERFORMANCE_HINT": "LATENCY",
            **cache_settings(),
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._input, self._descriptor_input = INPUT, descriptor_input
        self._descriptors = bundle.manifest.descriptors
        self._outputs = {column.task: column.outputs for column in bundle.manifest.columns}
        self._outputs[EMBEDDING] = encoder_layers(bundle.preset)[-1].outputs
        if graph is None:
            graph = read_int8(bundle, CPU) if precision == "int8" else build_graph(bundle).SerializeToString()
        try:
            model = core.read_model(graph)
            self._request = core.compile_model(model, device, settings).create_infer_request()
        except RuntimeError as error:
            raise EngineError(
                f"{bundle.root} cannot be compiled by OpenVINO for {device} in {precision}: {cause(error)}; "
                "try another precision or engine 'torch'"
            ) from error

    def run(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        given = check_descriptors(self._descriptors, descriptors, len(crops))
        if not len(crops):
            return {name: np.empty((0, width), np.float32) for name, width in self._outputs.items()}
        inputs = {self._descriptor_input(name): values for name, values in given.items()}
        inputs[self._input] = np.ascontiguousarray(crops, np.float32)
        # Shares the inputs' memory; the outputs are copied, for the request overwrites them at the next call.
        self._request.infer(inputs, share_inputs=True)
        return {name: self._request.get_tensor(name).data.copy() for name in self._outputs}


def cache_settings() -> dict[str, str]:
    """CACHE_DIR where its folder can be written: OpenVINO fails over one that cannot, though it only saves time."""
    try:
        folder = cache_dir() / "openvino"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return {"CACHE_DIR": str(folder)}
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        logger.warning(
            "compiled models are not kept, so each start compiles anew: %s; set FACE_MTL_HOME to a folder that can be "
            "written",
            error,
        )
        return {}


def cause(error: RuntimeError) -> str:
    """The first line that says more than the places in OpenVINO's sources that the error passed through."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from ")), "no reason given")
