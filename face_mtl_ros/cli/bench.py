"""face-mtl bench: how fast this machine reads faces, engine by engine and as a whole, beside what others would run."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..networks.presets import PRESETS
from ..runtime.engines import ENGINES

BATCHES = (1, 4, 8)
# What an engine is measured in, where the machine has it. No others differ in speed: fp16 is fp32 on a CPU.
PRECISIONS = {
    "tensorrt": ("fp16",),
    "openvino": ("fp32", "bf16", "int8"),
    "torch": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
}
SIZES = ((640, 480), (1280, 720))
FACES = (1, 4, 8, 16)
GEMM_SIZE, TORCH_GEMM_SIZE = 2048, 4096


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed",
        description="Measure the processor's matrix product, each preset with four columns on each engine, other "
        "projects' networks for the same attributes, pictures from detection to attributes, and the perception node "
        "over DDS.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write it down as Markdown, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw faces a second as a PNG file")
    parser.add_argument(
        "--quick", action="store_true", help="a minute or two: compact alone, half a second each, no ROS"
    )
    parser.add_argument("--preset", choices=list(PRESETS), action="append", help="default: all")
    parser.add_argument("--engine", choices=ENGINES[1:], action="append", help="default: all")
    parser.add_argument("--precision", action="append", help="default: what differs on the machine")
    parser.add_argument("--batch", type=int, action="append", help="crops an inference; default: 1, 4 and 8")
    parser.add_argument("--seconds", type=float, help="for each measurement; default: 3")
    parser.add_argument("--threads", type=int, default=0, help="of each engine; default: its own choice")
    parser.add_argument("--no-peers", action="store_true", help="leave other projects' networks out")
    parser.add_argument("--no-pictures", action="store_true", help="leave whole pictures, without ROS, out")
    parser.add_argument("--no-pipeline", action="store_true", help="leave the ROS pipeline out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.plot:
        from . import bench_plot  # noqa: F401  # where matplotlib is missing, say so before the work
    args.seconds = args.seconds or (0.5 if args.quick else 3.0)
    args.preset = args.preset or (["compact"] if args.quick else list(PRESETS))
    result: dict = {"machine": machine(args.seconds)}
    _say("{cpu}, {threads} threads, {gemm_gflops}".format(**result["machine"]))
    result["inference"] = [*inference(args, result["machine"]["gemm_gflops"])]
    result["peers"] = [] if args.no_peers else [*_peers(args)]
    result["pictures"] = [] if args.no_pictures else [*pictures(args.seconds)]
    result["pipeline"] = [] if args.no_pipeline or args.quick else _pipeline()
    if args.report:
        from .bench_report import write_report

        write_report(args.report, result, args.plot)
    if args.plot:
        from .bench_plot import plot_inference

        plot_inference(args.plot, result)
    if args.json:
        print(json.dumps(result))
    return 0


def inference(args: argparse.Namespace, ceiling: dict[str, float]) -> Iterator[dict]:
    """An entry for each preset, engine, precision and batch, each engine in a process of its own.

    memory_mb is the process's largest share of memory; compile_s is from files to the first result with nothing kept
    of an earlier compilation, load_s from starting a process to its first result with what was kept.
    """
    for preset in args.preset:
        for engine in args.engine or ENGINES[1:]:
            for precision in args.precision or PRECISIONS[engine]:
                if not args.precision and precision == "bf16" and "bf16" not in ceiling:
                    continue  # emulated, slower than fp32
                for entry in _engine(args, preset, engine, precision):
                    best = [rate for name, rate in ceiling.items() if name.split()[-1] == precision]
                    entry["share_of_ceiling"] = round(entry["gflops"] / max(best), 3) if best else None
                    _say(
                        "{preset} {engine} {precision} batch {batch}: median {median_ms} ms, p99 {p99_ms} ms, "
                        "{faces_per_s} faces/s, {gflops} GFLOP/s, {memory_mb} MB".format(**entry)
                    )
                    yield entry


def _engine(args: argparse.Namespace, preset: str, engine: str, precision: str) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        what = [preset, engine, precision, "--bundle", f"{folder}/bundle", "--threads", str(args.threads)]
        batches = [option for batch in args.batch or BATCHES for option in ("--batch", str(batch))]
        lines = _module("runtime.measure", *what, *batches, "--seconds", str(args.seconds), home=f"{folder}/home")
        if lines is None:
            return
        had, *entries = lines
        before = time.perf_counter()
        _module("runtime.measure", *what, home=f"{folder}/home")
        load_s = round(time.perf_counter() - before, 2)
    for entry in entries:
        head = {"preset": preset, "engine": engine, "precision": precision}
        yield {**head, **entry, "compile_s": had["first_result_s"], "load_s": load_s}


def _peers(args: argparse.Namespace) -> Iterator[dict]:
    batches = [option for batch in (args.batch or (1, 8)) for option in ("--batch", str(batch))]
    for entry in _module("runtime.peers", "--seconds", str(args.seconds), *batches) or []:
        _say(
            "{peer} ({attributes}) by {runtime}, batch {batch}: median {median_ms} ms, {faces_per_s} faces/s, "
            "{gflops} GFLOP/s".format(**entry)
        )
        yield entry


def _module(name: str, *arguments: str, home: str | None = None) -> list[dict] | None:
    """The lines of JSON that a module of this package prints in a process of its own; None where it fails."""
    environment = {**os.environ, "FACE_MTL_HOME": home} if home else None
    command = [sys.executable, "-m", f"face_mtl_ros.{name}", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ended.returncode:
        reason = ended.stderr.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
        _say(f"{' '.join(arguments[:3])} left out: {reason[0]}")
        return None
    return [json.loads(line) for line in ended.stdout.splitlines()]


def pictures(seconds: float) -> Iterator[dict]:
    """From a picture to attributes without ROS, median milliseconds by stage, with the shipped model.

    All faces are read in each picture, as of a still; in a stream they are read by turns.
    """
    from ..analyzer import FaceAnalyzer
    from ..runtime.measure import measured_times, timing
    from ..vision.portraits import PlacedFace, compose

    analyzer = FaceAnalyzer(detector="haar", min_face=30)
    for width, height in SIZES:
        for faces in FACES:
            columns = {1: 1, 4: 2, 8: 4, 16: 4}[faces]
            rows = faces // columns
            size = 0.6 * min(height / rows, width / columns)
            places = [
                PlacedFace(
                    ("grace_hopper", "astronaut")[i % 2],
                    (width * (i % columns + 0.5) / columns, height * (i // columns + 0.5) / rows),
                    size,
                )
                for i in range(faces)
            ]
            picture = compose((width, height), places)
            stages: list[dict[str, float]] = []

            def work(picture: np.ndarray = picture, stages: list[dict[str, float]] = stages) -> None:
                analyzer.analyze(picture)
                stages.append(analyzer.stage_ms)

            times = measured_times(work, min(seconds, 1.0))
            entry = {
                "width": width,
                "height": height,
                "faces": faces,
                "faces_found": len(analyzer.analyze(picture)),
                "detector": "haar",
                "engine": analyzer.predictor.engine.name,
                **timing(times),
                "stage_ms": {stage: round(float(np.median([ms[stage] for ms in stages])), 2) for stage in stages[0]},
            }
            _say("picture {width}x{height}, {faces_found} of {faces} faces: {median_ms} ms, {stage_ms}".format(**entry))
            yield entry


def _pipeline() -> list[dict]:
    # In a process of its own: ROS lives in nodes/ alone.
    measured = subprocess.run(
        [sys.executable, "-m", "face_mtl_ros.nodes.benchmark"], stdout=subprocess.PIPE, text=True, check=False
    )
    if measured.returncode:
        raise RuntimeError(f"the pipeline benchmark ended with status {measured.returncode}; --no-pipeline skips it")
    return [json.loads(line) for line in measured.stdout.splitlines()]


def machine(seconds: float) -> dict:
    """The processor, how many threads it gives us, and the rate of its matrix product by precision, GFLOP/s."""
    rates = gemm_gflops(min(seconds, 1.0))
    return {"cpu": _cpu_name(), "threads": len(os.sched_getaffinity(0)), "gemm_gflops": rates}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gemm_gflops(seconds: float) -> dict[str, float]:
    """What the machine could reach: matrix products in each precision that the CPU has instructions for.

    "fp32", "bf16" and "int8": 2048 x 2048 by OpenVINO; "torch fp32" and "torch bf16": 4096 x 4096 by torch, where it is
    installed.
    """
    import openvino as ov
    from openvino import opset13 as ops

    from ..runtime.measure import measured_times

    core = ov.Core()
    rng = np.random.default_rng(0)
    found = {}
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16"), ("int8", "f32")):
        if precision.upper() not in able:
            continue
        left = ops.parameter([GEMM_SIZE, GEMM_SIZE], np.float32, name="left")
        right = ops.constant(rng.uniform(-1, 1, (GEMM_SIZE, GEMM_SIZE)).astype(np.float32))
        factors = [left, right]
        if precision == "int8":
            ends = [(np.float32(0), np.float32(2.55), 256), (np.float32(-1), np.float32(1), 255)]
            factors = [
                ops.fake_quantize(factor, low, high, low, high, levels)
                for factor, (low, high, levels) in zip(factors, ends, strict=True)
            ]
        model = ov.Model([ops.matmul(*factors, False, False)], [left])
        request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
        values = np.ones((GEMM_SIZE, GEMM_SIZE), np.float32)
        times = measured_times(partial(request.infer, [values], share_inputs=True), seconds)
        found[precision] = _rate(GEMM_SIZE, times)
    return {**found, **_torch_gemm(["fp32", *(["bf16"] if "bf16" in found else [])], seconds)}


def _torch_gemm(precisions: Sequence[str], seconds: float) -> dict[str, float]:
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    from ..runtime.measure import measured_times

    found = {}
    for precision in precisions:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        left, right = (torch.randn(TORCH_GEMM_SIZE, TORCH_GEMM_SIZE).to(dtype) for _ in range(2))
        found[f"torch {precision}"] = _rate(TORCH_GEMM_SIZE, measured_times(partial(torch.mm, left, right), seconds))
    return found


def _rate(size: int, times: Sequence[float]) -> float:
    return round(2 * size**3 / min(times) / 1e9, 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
