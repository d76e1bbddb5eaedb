"""face-mtl bench: how fast this machine reads faces, engine by engine and as a whole."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..networks.cost import flops
from ..networks.presets import PRESETS
from ..runtime.engines import ENGINES

COLUMNS = {
    "emotion": ([f"emotion {i}" for i in range(8)], []),
    "gender": (["male", "female"], ["emotion"]),
    "age": ([f"group {i}" for i in range(8)], ["emotion", "gender"]),
    "identity": ([f"person {i}" for i in range(50)], ["emotion", "gender", "age"]),
}
BATCHES = (1, 4, 8)
GEMM_SIZE = 2048


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed",
        description="Measure the processor's matrix product, each preset with four columns on each engine, and the "
        "perception node over DDS.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--preset", choices=list(PRESETS), action="append", help="default: all")
    parser.add_argument("--engine", choices=ENGINES[1:], action="append", help="default: all")
    parser.add_argument("--batch", type=int, action="append", help="crops an inference; default: 1, 4 and 8")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each inference measurement")
    parser.add_argument("--no-pipeline", action="store_true", help="leave the ROS pipeline out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    machine = _machine()
    inference: list[dict] = []
    pipeline: list[dict] = []
    _say(f"{machine['cpu']}, {machine['threads']} threads, {machine['gemm_gflops']}")
    for preset in args.preset or list(PRESETS):
        for entry in _inference(preset, args.engine or ENGINES[1:], args.batch or BATCHES, args.seconds):
            inference.append(entry)
            _say(
                "{preset} {engine} {precision} batch {batch}: median {median_ms} ms, p99 {p99_ms} ms, "
                "{gflops} GFLOP/s".format(**entry)
            )
    if not args.no_pipeline:
        # In a process of its own: ROS lives in nodes/ alone.
        command = [sys.executable, "-m", "face_mtl_ros.nodes.benchmark"]
        measured = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if measured.returncode:
            raise RuntimeError(
                f"the pipeline benchmark ended with status {measured.returncode}; --no-pipeline skips it"
            )
        pipeline = [json.loads(line) for line in measured.stdout.splitlines()]
    if args.json:
        print(json.dumps({"machine": machine, "inference": inference, "pipeline": pipeline}))
    return 0


def _inference(preset: str, engines: Sequence[str], batches: Sequence[int], seconds: float) -> Iterator[dict]:
    from ..runtime.engine import EngineError
    from ..runtime.engines import make_engine
    from ..runtime.predictor import Predictor
    from ..runtime.random_bundle import write_random_bundle

    columns = [(len(labels), len(sources)) for labels, sources in COLUMNS.values()]
    operations = flops(PRESETS[preset], columns)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_random_bundle(Path(folder), preset, COLUMNS)
        for name in engines:
            for precision in ("fp32", "bf16"):
                try:
                    predictor = Predictor(bundle, make_engine(bundle, name, precision=precision))
                except EngineError as error:
                    _say(f"left out: {error}")
                    continue
                for batch in batches:
                    crops = rng.integers(0, 256, (batch, 128, 128), np.uint8)
                    times = _times(partial(predictor.predict, crops), seconds)
                    yield {
                        "preset": preset,
                        "engine": name,
                        "precision": precision,
                        "batch": batch,
                        "median_ms": round(float(np.median(times)) * 1e3, 2),
                        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 2),
                        "gflops": round(operations * batch / float(np.median(times)) / 1e9, 1),
                    }


def _times(work: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each of at least five runs, after two that don't count."""
    work(), work()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def _machine() -> dict:
    return {"cpu": _cpu_name(), "threads": len(os.sched_getaffinity(0)), "gemm_gflops": _gemm_gflops()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gemm_gflops() -> dict[str, float]:
    """Matrix product of 2048 x 2048 in each precision that OpenVINO has here: what the machine could reach."""
    import openvino as ov
    from openvino import opset13 as ops

    core = ov.Core()
    left = ops.parameter([GEMM_SIZE, GEMM_SIZE], np.float32, name="left")
    right = ops.constant(np.random.default_rng(0).normal(size=(GEMM_SIZE, GEMM_SIZE)).astype(np.float32))
    model = ov.Model([ops.matmul(left, right, False, False)], [left])
    values = np.ones((GEMM_SIZE, GEMM_SIZE), np.float32)
    found = {}
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        if precision.upper() in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
            times = _times(partial(request.infer, [values], share_inputs=True), 1.0)
            found[precision] = round(2 * GEMM_SIZE**3 / min(times) / 1e9, 1)
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
