"""What face-mtl bench says of the machine: its processors, and how fast their matrix products are."""

import os
import re
from collections.abc import Callable
from functools import partial

import numpy as np

from ..runtime.cuda import Cuda
from ..runtime.engine import EngineError
from ..runtime.measure import measured_times
from ..runtime.processor import instructions, processor_name

SIZE, TORCH_SIZE = 2048, 4096  # rows and columns of the products
BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # elsewhere bf16 is emulated, slower than fp32


def machine(seconds: float, device: str = "auto") -> dict:
    """The processor, its instruction sets, how many threads it gives us, the GPU, and the rates of matrix products.

    Args:
        seconds: for each product, but no longer than 1.
        device: as for the engines; an NVIDIA GPU is looked for where it leaves that open or asks for one.
    """
    found = {
        "cpu": processor_name(),
        "instructions": instructions(),
        "threads": len(os.sched_getaffinity(0)),
        "load_at_start": load_average(),
    }
    on_gpu = re.fullmatch(r"auto|(?:cuda|tensorrt)(:\d+)?", device)
    cuda = f"cuda{on_gpu[1] or ''}" if on_gpu else None
    if cuda and (gpu := _gpu(cuda)):
        found["gpu"] = gpu
    return {**found, "gemm_gflops": gemm_gflops(min(seconds, 1.0), cuda)}


def load_average() -> list[float]:
    """Processes that ran or waited to, over 1, 5 and 15 minutes: other work on the machine makes all times longer."""
    return [round(load, 2) for load in os.getloadavg()]


def gemm_gflops(seconds: float, cuda: str | None) -> dict[str, float]:
    """What the machine could reach: the rate of a matrix product in GFLOP/s, the median of several, by name.

    The name's last word is the precision; those with "cuda" are the GPU's. What is not installed is left out.
    "fp32", "bf16", "int8" are OpenVINO's, "onnxruntime int8" ONNX Runtime's, all of 2048 x 2048; torch's are of 4096 x
    4096.
    """
    found = {**_openvino(seconds), **_onnxruntime(seconds)}
    has_bf16 = "bf16" in found or not BF16_INSTRUCTIONS.isdisjoint(instructions())
    return {**found, **_torch(seconds, has_bf16, cuda)}


def device_kind(device: str) -> str:
    """Of an engine's device, such as "CPU", "cuda:0" or "GPU.1", the part that says what it is, in lower case."""
    return re.split("[:.]", device)[0].lower()


def ceiling(rates: dict[str, float], device: str, precision: str) -> float | None:
    """The best product of the device in the precision, GFLOP/s.

    None where none was measured, and where none is faster than fp32's: what is slower bounds nothing.
    """
    kind = device_kind(device)
    if kind not in ("cpu", "cuda", "tensorrt"):
        return None
    own = {name: rate for name, rate in rates.items() if ("cuda" in name.split()) == (kind != "cpu")}
    best, fp32 = (
        max((rate for name, rate in own.items() if name.split()[-1] == which), default=0.0)
        for which in (precision, "fp32")
    )
    return best if best and (precision == "fp32" or best > fp32) else None


def _gpu(device: str) -> str | None:
    try:
        return Cuda(device).gpu
    except EngineError:  # no bindings, or no GPU; torch has bindings of its own
        pass
    try:
        import torch
    except ModuleNotFoundError:
        return None
    return torch.cuda.get_device_name(device) if _torch_sees(device) else None


def _torch_sees(device: str) -> bool:
    import torch

    return int(device[5:] or 0) < torch.cuda.device_count()


def _openvino(seconds: float) -> dict[str, float]:
    try:
        import openvino as ov
        from openvino import opset13 as ops
    except ModuleNotFoundError:
        return {}
    core = ov.Core()
    rng = np.random.default_rng(0)
    found = {}
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16"), ("int8", "f32")):
        if precision.upper() not in able:
            continue
        left = ops.parameter([SIZE, SIZE], np.float32, name="left")
        right = ops.constant(rng.uniform(-1, 1, (SIZE, SIZE)).astype(np.float32))
        factors = [left, right]
        if precision == "int8":
            ends = [(np.float32(0), np.float32(2.55), 256), (np.float32(-1), np.float32(1), 255)]
            factors = [
                ops.fake_quantize(factor, low, high, low, high, levels)
                for factor, (low, high, levels) in zip(factors, ends, strict=True)
            ]
        model = ov.Model([ops.matmul(*factors, False, False)], [left])
        request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
        values = np.ones((SIZE, SIZE), np.float32)
        found[precision] = _rate(SIZE, partial(request.infer, [values], share_inputs=True), seconds)
    return found


def _onnxruntime(seconds: float) -> dict[str, float]:
    """Of bytes, as its INT8 engine multiplies them: unsigned by signed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError:
        return {}
    rng = np.random.default_rng(0)
    right = numpy_helper.from_array(rng.integers(-127, 128, (SIZE, SIZE), np.int8), "right")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, [SIZE, SIZE])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [SIZE, SIZE])],
        [right],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    left = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
    return {"onnxruntime int8": _rate(SIZE, partial(session.run, None, {"left": left}), seconds)}


def _torch(seconds: float, has_bf16: bool, cuda: str | None) -> dict[str, float]:
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    found = {}
    wanted = [("torch", "cpu", precision) for precision in ("fp32", *(["bf16"] if has_bf16 else []))]
    if cuda and _torch_sees(cuda):
        wanted += [("torch cuda", cuda, precision) for precision in ("fp32", "fp16", "bf16")]
    for name, device, precision in wanted:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        left, right = (torch.randn(TORCH_SIZE, TORCH_SIZE).to(device, dtype) for _ in range(2))

        def work(left=left, right=right, device=device) -> None:
            torch.mm(left, right)
            if device != "cpu":
                torch.cuda.synchronize(device)  # mm only starts it there

        found[f"{name} {precision}"] = _rate(TORCH_SIZE, work, seconds)
    return found


def _rate(size: int, work: Callable[[], object], seconds: float) -> float:
    """GFLOP/s at the median time, as the engines' rates are."""
    return round(2 * size**3 / float(np.median(measured_times(work, seconds))) / 1e9, 1)
