"""How fast each engine reads faces on an NVIDIA GPU, and how far its answers are from torch's in fp64 on the CPU.

    python tools/measure_gpu.py --model random:paper --model default --engine torch --engine tensorrt:fp16 --batch 1

A line a measurement on stdout, as it comes; what fails is one line, and the rest goes on. Times are from a host array
to a host array. Engines are compiled into an empty cache, so that what compiling costs is seen.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from face_mtl_ros.bundle.bundle import Bundle, load_bundle
from face_mtl_ros.bundle.locate import locate_bundle
from face_mtl_ros.networks.cost import flops
from face_mtl_ros.runtime.engine import Engine
from face_mtl_ros.runtime.engines import ENGINES, make_engine
from face_mtl_ros.runtime.measure import COLUMNS
from face_mtl_ros.runtime.predictor import softmax
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision.alignment import normalize

PACKAGES = (
    *("torch", "onnx", "tensorrt_rtx_cu12", "tensorrt_rtx_cu13", "tensorrt", "cuda-bindings"),
    *("openvino", "onnxruntime", "onnxruntime-gpu", "numpy", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
)
GEMM_SIZE = 4096
Descriptors = dict[str, np.ndarray]
Probabilities = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="a bundle, or random:PRESET; default: both presets, random")
    parser.add_argument("--engine", action="append", help="NAME, or NAME:PRECISION; default: torch and tensorrt")
    parser.add_argument("--precision", action="append", help="for engines without one of their own; default: fp16")
    parser.add_argument("--batch", type=int, action="append", help="default: 1, 4, 8 and 32")
    parser.add_argument("--device", default="auto", help="for engines that are not openvino")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--within", type=float, default=float("inf"), help="seconds after which no engine is begun")
    parser.add_argument("--crops", type=Path, help="uint8 (n, 128, 128) to compare answers on; default: noise")
    parser.add_argument("--compare", type=int, default=8, help="so many of the crops, at most 64")
    parser.add_argument("--json", type=Path, help="write everything to this file too")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="  %(message)s")
    started = time.monotonic()
    machine = describe_machine()
    say(json.dumps(machine))
    engines = [engine.partition(":") for engine in args.engine or ("torch", "tensorrt")]
    wanted = [
        (name, precision)
        for name, _, own in engines
        for precision in ([own] if own else args.precision or ["fp16"])
        if name in ENGINES or parser.error(f"engine '{name}' is unknown; choose one of {', '.join(ENGINES)}")
    ]
    results: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        bundles = {
            model: find_bundle(model, Path(folder) / f"model{i}")
            for i, model in enumerate(args.model or ("random:paper", "random:compact"))
        }
        os.environ["FACE_MTL_HOME"] = str(Path(folder) / "home")
        for model, bundle in bundles.items():
            crops = read_crops(args.crops, min(args.compare, 64))
            descriptors = random_descriptors(bundle, len(crops))
            before = time.monotonic()
            expected = reference(bundle, crops, descriptors)
            say(f"{model}: reference in fp64 on {len(crops)} crops, {time.monotonic() - before:.1f} s")
            for name, precision in wanted:
                if time.monotonic() - started > args.within:
                    say(f"{model} {name} {precision}: left out, --within {args.within:.0f} s is over")
                    continue
                try:
                    measured = measure(bundle, name, precision, args, crops, descriptors, expected)
                    for result in measured:
                        entry = {"model": model, "engine": name, "precision": precision, **result}
                        entry["share_of_gemm"] = share(entry, machine["gemm_tflops"])
                        results.append(entry)
                        say(" ".join(f"{key} {value}" for key, value in entry.items()))
                except Exception as error:  # whatever it is, the others are to be measured
                    line = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
                    results.append({"model": model, "engine": name, "precision": precision, "error": line})
                    say(f"{model} {name} {precision}: FAILED, {line}")
                if args.json:
                    args.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    say(f"done in {time.monotonic() - started:.0f} s")


def measure(
    bundle: Bundle,
    name: str,
    precision: str,
    args: argparse.Namespace,
    crops: np.ndarray,
    descriptors: Descriptors,
    expected: Probabilities,
) -> Iterator[dict]:
    """An entry for what it costs to have the engine and how right it is, and one for each batch."""
    device = "auto" if name == "openvino" else args.device
    before = time.perf_counter()
    engine = make_engine(bundle, name, device, precision)
    built = time.perf_counter() - before
    difference, agreement = compare(engine, crops, descriptors, expected)
    yield {
        "device": engine.device,
        "build_s": round(built, 2),
        "largest_difference": float(f"{difference:.2e}"),
        "equal_top1": round(agreement, 4),
    }
    operations = flops(bundle.preset, [column.shape for column in bundle.manifest.columns])
    for batch in args.batch or (1, 4, 8, 32):
        inputs = np.random.default_rng(0).normal(size=(batch, 1, 128, 128)).astype(np.float32)
        vectors = random_descriptors(bundle, batch)
        before = time.perf_counter()
        engine.run(inputs, vectors)
        first = time.perf_counter() - before
        engine.run(inputs, vectors)
        times: list[float] = []
        while len(times) < 5 or sum(times) < args.seconds:
            before = time.perf_counter()
            engine.run(inputs, vectors)
            times.append(time.perf_counter() - before)
        median = float(np.median(times))
        yield {
            "batch": batch,
            "median_ms": round(median * 1e3, 3),
            "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 3),
            "faces_per_s": round(batch / median, 1),
            "tflops": round(operations * batch / median / 1e12, 2),
            "first_run_s": round(first, 2),
        }
    # Once more, with what was kept, up to the first result: what a robot's start costs.
    del engine
    before = time.perf_counter()
    make_engine(bundle, name, device, precision).run(crops[:1], {key: rows[:1] for key, rows in descriptors.items()})
    yield {"load_s": round(time.perf_counter() - before, 2)}


def compare(
    engine: Engine, crops: np.ndarray, descriptors: Descriptors, expected: Probabilities
) -> tuple[float, float]:
    """The largest difference of a probability, and the share of faces and tasks with the same first label."""
    outputs = engine.run(crops, descriptors)
    found = {task: softmax(outputs[task]) for task in expected}
    difference = max(float(np.abs(found[task] - expected[task]).max()) for task in expected)
    same = [float((found[task].argmax(1) == expected[task].argmax(1)).mean()) for task in expected]
    return difference, float(np.mean(same))


def reference(bundle: Bundle, crops: np.ndarray, descriptors: Descriptors) -> Probabilities:
    """Task to probabilities, float64 (n, classes), by torch on the CPU."""
    import torch

    from face_mtl_ros.bundle.network import build_network

    network = build_network(bundle).double()
    columns = bundle.manifest.columns
    described = {
        column.task: torch.from_numpy(descriptors[column.descriptor.name]).double()
        for column in columns
        if column.descriptor
    }
    with torch.inference_mode():
        logits = network(torch.from_numpy(crops).double(), None, described)
    return {
        column.task: torch.softmax(logits[column.task], 1).numpy() for column in columns if column.kind != "embedding"
    }


def read_crops(file: Path | None, most: int) -> np.ndarray:
    """float32 (n, 1, 128, 128), normalised."""
    if file is None:
        found = np.random.default_rng(0).integers(0, 256, (most, 128, 128), np.uint8)
    else:
        found = np.load(file, mmap_mode="r")[:most]
    return normalize(found[:, None].astype(np.float32))


def random_descriptors(bundle: Bundle, n: int) -> Descriptors:
    """float32 (n, d) of length 1 for each foreign descriptor."""
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(n, record.dimensions)) for name, record in bundle.manifest.descriptors.items()}
    return {
        name: (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        for name, values in rows.items()
    }


def find_bundle(model: str, folder: Path) -> Bundle:
    if model.startswith("random:"):
        return write_random_bundle(folder, model.removeprefix("random:"), COLUMNS)
    return load_bundle(locate_bundle(model))


def describe_machine() -> dict:
    """The GPU, versions, and the rate of torch's matrix product, TFLOP/s, by precision."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine: dict = {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "versions": versions}
    machine["gemm_tflops"] = {}
    if not torch.cuda.is_available():
        return {**machine, "gpu": None}
    properties = torch.cuda.get_device_properties(0)
    machine |= {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "cuda": torch.version.cuda,
    }
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        left, right = (torch.randn(GEMM_SIZE, GEMM_SIZE, device="cuda").to(dtype) for _ in range(2))
        seconds = []
        for _ in range(10):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(5):
                left @ right
            end.record()
            end.synchronize()
            seconds.append(begin.elapsed_time(end) / 1e3 / 5)
        machine["gemm_tflops"][precision] = round(2 * GEMM_SIZE**3 / float(np.median(seconds)) / 1e12, 1)
    return machine


def share(entry: dict, gemm: dict[str, float]) -> float | None:
    """Of the matrix product's rate in the same precision."""
    if "tflops" not in entry or entry["precision"] not in gemm:
        return None
    return round(entry["tflops"] / gemm[entry["precision"]], 3)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
