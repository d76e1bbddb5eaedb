"""The bundle run by ONNX Runtime: on CPUs that OpenVINO does not know, and on GPUs by its CUDA and TensorRT providers.

What was executed: the CPU provider, by the tests. The options of the other two were only checked against ONNX Runtime's
documentation.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..bundle.bundle import Bundle
from ..networks.topology import INPUT_SIZE, encoder_layers
from .buckets import BUCKETS, bucket_of, chunks
from .engine import EMBEDDING, EngineError, check_descriptors
from .engine_cache import own_folder
from .int8_model import CPU, GPU, read_int8

logger = logging.getLogger(__name__)

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
PRECISIONS = {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16", "int8")}
INSTALL = "pip install 'face_mtl_ros[onnxruntime]'"
INSTALL_GPU = (
    "pip uninstall onnxruntime, then pip install onnxruntime-gpu; on a Jetson take the wheel that NVIDIA publishes for "
    "its JetPack"
)
# What its providers, CUDA's libraries and TensorRT say of it; "memory" alone is in what says of other failures.
NO_MEMORY = "out ?of ?memory|failed to allocate|bad[ _]alloc|alloc_failed|available memory"
SILENT = 4  # severity from which ONNX Runtime logs on its own: what goes wrong is raised, and said once


class OnnxRuntimeEngine:
    """See runtime.engine.Engine.

    On a CPU the batch is dynamic. On a GPU it is padded to a bucket (runtime.buckets), for cuDNN looks for its kernels,
    and TensorRT compiles, anew for each shape; too large a batch, or one that the GPU's memory does not suffice for, is
    cut. Inputs come from host memory and outputs go back there, so an IO binding would spare no copy.

    Args:
        bundle: what to run.
        device: "cpu"; "cuda" or "cuda:N"; "tensorrt" or "tensorrt:N", whose engines are kept under
            FACE_MTL_HOME/cache/onnxruntime; "auto" is CUDA where this ONNX Runtime has it and it works, else the CPU.
        precision: "fp32"; "fp16" on a GPU; "int8" on a CPU or by TensorRT (runtime.int8_model); or "auto", which is
            fp32 on a CPU and fp16 on a GPU.
        threads: at most so many; 0 leaves it to ONNX Runtime, which takes a thread a core.
        graph: ONNX to run in place of the bundle's own, with the same inputs and outputs; for measuring one.

    Raises:
        EngineError: onnxruntime, the provider, the device or the precision is missing, or there is no INT8 model.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        graph: bytes | None = None,
    ):
        try:
            import onnxruntime

            from .graph import INPUT, descriptor_input
        except ModuleNotFoundError as error:
            raise EngineError(f"engine 'onnxruntime' needs {error.name}, which is not installed: {INSTALL}") from None
        self._library = onnxruntime
        self._input, self._descriptor_input = INPUT, descriptor_input
        self._descriptors = bundle.manifest.descriptors
        self._outputs = {column.task: column.outputs for column in bundle.manifest.columns}
        self._outputs[EMBEDDING] = encoder_layers(bundle.preset)[-1].outputs
        self._largest = BUCKETS[-1]
        if device == "auto" and PROVIDERS["cuda"] in onnxruntime.get_available_providers():
            try:
                self._open(bundle, "cuda", precision, threads, graph)
                return
            except EngineError as error:
                logger.warning("device cuda is not taken: %s", error)
        self._open(bundle, "cpu" if device == "auto" else device, precision, threads, graph)

    def run(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        given = check_descriptors(self._descriptors, descriptors, len(crops))
        if not len(crops):
            return {name: np.empty((0, width), np.float32) for name, width in self._outputs.items()}
        inputs = {self._descriptor_input(name): values for name, values in given.items()}
        inputs[self._input] = np.ascontiguousarray(crops, np.float32)
        if self.device == "cpu":
            return self._infer(inputs)
        return self._infer_in_buckets(inputs, len(crops))

    def _infer_in_buckets(self, inputs: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
        while True:
            try:
                parts = [self._infer_padded(inputs, *part) for part in chunks(n, self._largest)]
                return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}
            except Exception as error:  # ONNX Runtime's errors have no common class
                if not re.search(NO_MEMORY, str(error), re.IGNORECASE):
                    raise
                if self._largest == BUCKETS[0]:
                    raise EngineError(
                        f"{self.device} has too little memory left for one face; end what else uses it, or take "
                        "precision fp16 or a smaller preset"
                    ) from error
                self._largest = BUCKETS[BUCKETS.index(self._largest) - 1]
                logger.warning("%s has memory for batches of %d faces only", self.device, self._largest)

    def _infer_padded(self, inputs: dict[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
        spare = bucket_of(stop - start) - (stop - start)
        padded = {
            name: np.concatenate([values[start:stop], np.zeros((spare, *values.shape[1:]), np.float32)])
            for name, values in inputs.items()
        }
        return {name: values[: stop - start] for name, values in self._infer(padded).items()}

    def _infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self._outputs, self._session.run(list(self._outputs), inputs), strict=True))

    def _open(self, bundle: Bundle, device: str, precision: str, threads: int, graph: bytes | None) -> None:
        match = re.fullmatch(r"(cpu)|(cuda|tensorrt)(?::(\d+))?", device)
        if not match:
            raise EngineError(
                f"device '{device}' is unknown to engine 'onnxruntime'; use cpu, cuda, cuda:N, tensorrt or tensorrt:N"
            )
        kind, index = match[1] or match[2], int(match[3] or 0)
        available = self._library.get_available_providers()
        if PROVIDERS[kind] not in available:
            raise EngineError(
                f"device '{device}' is not there: onnxruntime {self._library.__version__} has {', '.join(available)}; "
                f"for {PROVIDERS[kind]}: {INSTALL_GPU}"
            )
        if precision == "auto":
            precision = "fp32" if kind == "cpu" else "fp16"
        if precision not in PRECISIONS[kind]:
            able = ", ".join(PRECISIONS[kind])
            raise EngineError(
                f"precision '{precision}' cannot be had from engine 'onnxruntime' on {device}; it has {able}"
            )
        options = self._library.SessionOptions()
        if graph is None and (kind, precision) == ("cpu", "fp32"):
            graph = self._graph_apart(bundle, options)
        graph = graph or _graph(bundle, precision, kind)
        options.log_severity_level = SILENT
        options.intra_op_num_threads = threads
        # Its threads would go on spinning after each inference and take the cores from whatever else runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = self._library.InferenceSession(
                graph, options, providers=self._providers(kind, index, precision, graph)
            )
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise EngineError(
                f"{bundle.root} cannot be run by onnxruntime on {device} in {precision}: {' '.join(str(error).split())}"
            ) from error
        if PROVIDERS[kind] not in self._session.get_providers():  # it takes the CPU without a word
            raise EngineError(
                f"device '{device}' cannot be used: {PROVIDERS[kind]} does not load; see ONNX Runtime's documentation "
                "for the versions of CUDA, cuDNN and TensorRT that it needs on the library path; or use engine 'torch'"
            )
        self.device, self.precision = kind if kind == "cpu" else f"{kind}:{index}", precision

    def _graph_apart(self, bundle: Bundle, options: Any) -> bytes:
        """The graph without its weights, which the session takes from the bundle: `paper` starts in a second less."""
        from .graph import build_graph_apart

        model, weights = build_graph_apart(bundle)
        self._weights = weights  # the session reads them where they lie
        values = [self._library.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
        return model.SerializeToString()

    def _providers(self, kind: str, index: int, precision: str, graph: bytes) -> list[tuple[str, dict[str, Any]]]:
        """The wanted one, with its options; behind TensorRT CUDA, for what that does not take."""
        if kind == "cpu":
            return [(PROVIDERS[kind], {})]
        cuda = (PROVIDERS["cuda"], {"device_id": index, "use_tf32": 0})  # fp32 means it
        if kind == "cuda":
            return [cuda]
        return [(PROVIDERS[kind], {"device_id": index, **self._tensorrt_options(precision, graph)}), cuda]

    def _tensorrt_options(self, precision: str, graph: bytes) -> dict[str, Any]:
        rows = {self._input: f"1x{INPUT_SIZE}x{INPUT_SIZE}"}
        rows |= {self._descriptor_input(name): str(record.dimensions) for name, record in self._descriptors.items()}
        options: dict[str, Any] = {
            f"trt_profile_{which}_shapes": ",".join(f"{name}:{batch}x{row}" for name, row in rows.items())
            for which, batch in (("min", BUCKETS[0]), ("opt", 4), ("max", BUCKETS[-1]))
        }
        options |= {"trt_fp16_enable": precision == "fp16", "trt_int8_enable": precision == "int8"}
        # ONNX Runtime's own key says nothing of the weights, nor of what INT8 was calibrated to.
        made_by = f"{__version__} {self._library.__version__} {precision} ".encode()
        self._kept = own_folder("onnxruntime", hashlib.sha256(made_by + graph).hexdigest()[:24])
        if self._kept is not None:
            options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(self._kept.entry)}
            options |= {"trt_timing_cache_enable": True}
        return options


def _graph(bundle: Bundle, precision: str, kind: str) -> bytes:
    from .graph import build_graph
    from .reduced_precision import reduce_precision

    if precision == "int8":
        return read_int8(bundle, CPU if kind == "cpu" else GPU)
    graph = build_graph(bundle)
    return (graph if precision == "fp32" else reduce_precision(graph, precision)).SerializeToString()
