"""One compiled network for encoder and all columns, against one for the encoder and one for each column, by OpenVINO.

    python tools/measure_granularity.py --preset compact --preset paper

Time of both, and how long a column that is added takes to be live: all is compiled anew, or the new part alone. The
parts hand the activations that adapters read from one to the next. It is CPU time of one thread, which other work on
the machine hardly stretches.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from onnx.utils import Extractor

from face_mtl_ros.networks.presets import PRESETS
from face_mtl_ros.runtime.engine import EMBEDDING
from face_mtl_ros.runtime.graph import INPUT, build_graph
from face_mtl_ros.runtime.measure import COLUMNS
from face_mtl_ros.runtime.random_bundle import write_random_bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--runs", type=int, default=15, help="of both by turns")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    args = parser.parse_args()
    for preset in args.preset or list(PRESETS):
        measure(preset, args.batch or [1, 8], args.precision, args.runs)


def measure(preset: str, batches: list[int], precision: str, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        graph = build_graph(write_random_bundle(Path(folder), preset, COLUMNS))
    parts = split(graph)
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    whole, whole_s = compiled(graph, settings)
    requests, parts_s = zip(*(compiled(part, settings) for part in parts.values()), strict=True)
    print(f"{preset} {precision}: compiling all {whole_s:.2f} s, the last column alone {parts_s[-1]:.2f} s")

    def fused(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        whole.infer(inputs, share_inputs=True)
        return {task: whole.get_tensor(task).data for task in COLUMNS}

    def in_parts(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = dict(inputs)
        for part, request in zip(parts.values(), requests, strict=True):
            request.infer({given.name: tensors[given.name] for given in part.graph.input}, share_inputs=True)
            tensors |= {output.name: request.get_tensor(output.name).data for output in part.graph.output}
        return tensors

    for batch in batches:
        inputs = {INPUT: np.random.default_rng(0).normal(size=(batch, 1, 128, 128)).astype(np.float32)}
        expected, found = fused(inputs), in_parts(inputs)
        for task in COLUMNS:
            np.testing.assert_allclose(found[task], expected[task], rtol=1e-2, atol=1e-2)
        times = np.array([(cpu_s(lambda: fused(inputs)), cpu_s(lambda: in_parts(inputs))) for _ in range(runs)])  # noqa: B023
        one, several = np.median(times, 0) * 1e3
        print(f"  batch {batch}: fused {one:.1f} ms, in parts {several:.1f} ms, {several / one:.2f} x", flush=True)


def cpu_s(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def split(graph: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The encoder's and each column's part, in order; each gives out what a later one reads."""
    owner = {name: node.output[0].split("/")[0] for node in graph.graph.node for name in node.output}
    owner |= {task: task for task in COLUMNS}
    constants = {tensor.name for tensor in graph.graph.initializer}
    reads: dict[str, set[str]] = {name: set() for name in ("encoder", *COLUMNS)}
    for node in graph.graph.node:
        part = owner[node.output[0]]
        reads[part] |= {name for name in node.input if name not in constants and owner.get(name) != part}
    ends = {output.name for output in graph.graph.output}
    extractor = Extractor(onnx.shape_inference.infer_shapes(graph))
    found = {}
    for part, inputs in reads.items():
        wanted = {name for other in reads.values() for name in other if owner.get(name) == part}
        wanted |= {name for name in ends if owner[name] == part}
        found[part] = extractor.extract_model(sorted(inputs), sorted(wanted))
    assert EMBEDDING in {output.name for output in found["encoder"].graph.output}
    return found


def compiled(graph: onnx.ModelProto, settings: dict[str, str | int]) -> tuple[ov.InferRequest, float]:
    """A request, and the seconds that compiling took."""
    core = ov.Core()
    before = time.process_time()
    request = core.compile_model(core.read_model(graph.SerializeToString()), "CPU", settings).create_infer_request()
    return request, time.process_time() - before


if __name__ == "__main__":
    main()
