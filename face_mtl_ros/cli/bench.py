"""face-mtl bench: how fast this machine reads faces, engine by engine and as a whole, beside what others would run."""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..bundle.files import BundleError
from ..networks.presets import PRESETS
from ..runtime.engine import EngineError
from ..runtime.engines import ENGINES
from ..vision.detectors import DetectorError
from . import UsageError
from .bench_machine import ceiling, device_kind, load_average, machine

BATCHES = (1, 4, 8)
# What an engine is measured in besides fp32, by the kind of device that it took for that. No others differ in speed:
# fp16 is fp32 on a CPU.
PRECISIONS = {
    ("tensorrt", "cuda"): ("fp16", "bf16", "int8"),
    ("openvino", "cpu"): ("bf16", "int8"),
    ("openvino", "gpu"): ("fp16", "int8"),
    ("openvino", "npu"): ("fp16", "int8"),
    ("torch", "cpu"): ("bf16",),
    ("torch", "cuda"): ("fp16", "bf16"),
    ("onnxruntime", "cpu"): ("int8",),
    ("onnxruntime", "cuda"): ("fp16",),
    ("onnxruntime", "tensorrt"): ("fp16", "int8"),
}
SIZES = ((640, 480), (1280, 720))
FACES = (1, 4, 8, 16)


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
    parser.add_argument("--device", default="auto", help="of each engine; one without it is left out; default: auto")
    parser.add_argument("--precision", action="append", help="default: what differs on the machine")
    parser.add_argument("--batch", type=int, action="append", help="crops an inference; default: 1, 4 and 8")
    parser.add_argument("--seconds", type=float, help="for each measurement; default: 3")
    parser.add_argument("--threads", type=int, default=0, help="of each engine; default: its own choice")
    parser.add_argument("--no-peers", action="store_true", help="leave other projects' networks out")
    parser.add_argument("--no-pictures", action="store_true", help="leave whole pictures, without ROS, out")
    parser.add_argument("--no-pipeline", action="store_true", help="leave the ROS pipeline out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    _check(args)
    if args.plot:
        from . import bench_plot  # noqa: F401  # where matplotlib is missing, say so before the work
    if args.seconds is None:
        args.seconds = 0.5 if args.quick else 3.0
    args.preset = args.preset or (["compact"] if args.quick else list(PRESETS))
    result: dict = {"machine": machine(args.seconds, args.device)}
    _say("{cpu}, {threads} threads, {gemm_gflops}".format(**result["machine"]))
    result["machine"]["auto"] = _auto(args)
    result["inference"] = [*inference(args, result["machine"]["gemm_gflops"])]
    result["peers"] = [] if args.no_peers else [*_peers(args)]
    result["pictures"] = [] if args.no_pictures else [*pictures(args.seconds, args.device)]
    result["pipeline"] = [] if args.no_pipeline or args.quick else [*_pipeline(args.device)]
    result["machine"]["load_at_end"] = load_average()
    if args.report:
        from .bench_report import write_report

        write_report(args.report, result, args.plot)
    if args.plot:
        from .bench_plot import plot_inference

        plot_inference(args.plot, result)
    if args.json:
        print(json.dumps(result))
    return 0


def _check(args: argparse.Namespace) -> None:
    for batch in args.batch or ():
        if batch < 1:
            raise UsageError(f"--batch {batch}: 1 or more is expected")
    if args.seconds is not None and not 0 < args.seconds < math.inf:
        raise UsageError(f"--seconds {args.seconds:g}: more than 0 is expected")
    if args.threads < 0:
        raise UsageError(f"--threads {args.threads}: 0 or more is expected")


def _auto(args: argparse.Namespace) -> dict[str, str] | None:
    """The engine, device and precision that a user gets who chooses none; None where there is no engine."""
    options = ["--device", args.device, "--threads", str(args.threads)]
    with tempfile.TemporaryDirectory() as folder:
        lines = _module("runtime.measure", "compact", "auto", "auto", *options, home=f"{folder}/home")
    return {key: lines[0][key] for key in ("engine", "device", "precision")} if lines else None


def inference(args: argparse.Namespace, rates: dict[str, float]) -> Iterator[dict]:
    """An entry for each preset, engine, precision and batch, each engine in a process of its own.

    memory_mb is the process's largest share of memory; compile_s is from files to the first result with nothing kept
    of an earlier compilation, load_s from starting a process to its first result with what was kept. share_of_ceiling
    is of the device's best matrix product in that precision, None where there is none.

    Args:
        rates: bench_machine.gemm_gflops.
    """
    has_bf16 = any(name.split()[-1] == "bf16" and "cuda" not in name for name in rates)
    for preset in args.preset:
        for engine in args.engine or ENGINES[1:]:
            precisions = list(args.precision or ["fp32"])
            for precision in precisions:  # grows by those of the device that the engine took
                device = ""
                for entry in _engine(args, preset, engine, precision):
                    device = device_kind(entry["device"])
                    best = ceiling(rates, entry["device"], precision)
                    entry["share_of_ceiling"] = round(entry["gflops"] / best, 3) if best else None
                    _say(
                        "{preset} {engine} {precision} on {device}, batch {batch}: median {median_ms} ms, p99 {p99_ms} "
                        "ms, {faces_per_s} faces/s, {gflops} GFLOP/s, {memory_mb} MB".format(**entry)
                    )
                    yield entry
                if not args.precision and precision == "fp32":
                    device = device or device_kind(args.device)  # such as an NPU, which has no fp32
                    more = PRECISIONS.get((engine, device), ())
                    precisions += [p for p in more if p != "bf16" or device != "cpu" or has_bf16]


def _engine(args: argparse.Namespace, preset: str, engine: str, precision: str) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        what = [preset, engine, precision, "--bundle", f"{folder}/bundle", "--threads", str(args.threads)]
        what += ["--device", args.device]
        batches = [option for batch in args.batch or BATCHES for option in ("--batch", str(batch))]
        lines = _module("runtime.measure", *what, *batches, "--seconds", str(args.seconds), home=f"{folder}/home")
        if lines is None:
            return
        had, *entries = lines
        before = time.perf_counter()
        _module("runtime.measure", *what, home=f"{folder}/home")
        load_s = round(time.perf_counter() - before, 2)
    for entry in entries:
        head = {"preset": preset, "engine": engine, "device": had["device"], "precision": precision}
        yield {**head, **entry, "compile_s": had["first_result_s"], "load_s": load_s}


def _peers(args: argparse.Namespace) -> Iterator[dict]:
    from ..runtime.peers import PEERS, RUNTIMES

    options = [option for batch in (args.batch or (1, 8)) for option in ("--batch", str(batch))]
    options += ["--seconds", str(args.seconds)]
    for peer in PEERS:
        for runtime in RUNTIMES:
            for entry in _module("runtime.peers", peer, runtime, *options) or []:
                _say(
                    "{peer} ({attributes}) by {runtime}, batch {batch}: median {median_ms} ms, {faces_per_s} faces/s, "
                    "{gflops} GFLOP/s, {memory_mb} MB".format(**entry)
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
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def pictures(seconds: float, device: str = "auto") -> Iterator[dict]:
    """From a picture to attributes without ROS, median milliseconds by stage, with the shipped model.

    All faces are read in each picture, as of a still; in a stream they are read by turns. Where it can't be had, that
    is said, and nothing is given.
    """
    from ..analyzer import FaceAnalyzer
    from ..runtime.measure import measured_times, timing
    from ..vision.portraits import PlacedFace, compose

    try:
        analyzer = FaceAnalyzer(detector="haar", device=device)
    except (BundleError, DetectorError, EngineError) as error:
        _say(f"pictures left out: {error}")
        return
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
            del stages[0]  # of the run that does not count
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


def _pipeline(device: str) -> Iterator[dict]:
    """What nodes.benchmark prints; ROS lives in nodes/ alone, so in a process of its own. Its log goes to stderr."""
    for package in ("rclpy", "face_mtl_msgs"):
        if not importlib.util.find_spec(package):
            _say(f"perception node left out: {package} is not there; run make demo and source tools/env.sh")
            return
    command = [sys.executable, "-m", "face_mtl_ros.nodes.benchmark", "--device", device]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # else a library's own
                yield json.loads(line)
    if process.returncode:
        _say(f"perception node left out from here: its benchmark ended with status {process.returncode}, see above")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
