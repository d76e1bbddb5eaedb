"""One engine in one precision, measured in a process of its own, so that memory and start are its own too.

    python -m face_mtl_ros.runtime.measure compact openvino fp32 --batch 1 --batch 8

prints an object with what the engine costs to have, and one for each batch, as lines of JSON. Weights are random, which
changes no speed; another process makes them.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..bundle.bundle import load_bundle
from ..networks.cost import flops
from .engine import EngineError
from .engines import ENGINES, make_engine
from .int8_model import CPU, GPU
from .predictor import Predictor
from .random_bundle import write_random_bundle

COLUMNS: dict[str, tuple[list[str], list[str]]] = {
    "emotion": ([f"emotion {i}" for i in range(8)], []),
    "gender": (["male", "female"], ["emotion"]),
    "age": ([f"group {i}" for i in range(8)], ["emotion", "gender"]),
    "identity": ([f"person {i}" for i in range(50)], ["emotion", "gender", "age"]),
}
T = TypeVar("T")
CALIBRATED_ON = 8  # noise crops; INT8 is as fast whatever its ranges are


def measured_times(work: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each of at least five runs, three where one takes as long as all should, after one that doesn't count.

    Args:
        seconds: how long to go on.
    """
    work()
    times: list[float] = []
    while sum(times) < seconds or len(times) < (3 if max(times) > seconds else 5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def timing(times: list[float]) -> dict[str, float]:
    """How many runs, and their median, 99th percentile (which few runs don't tell) and slowest in milliseconds."""
    return {
        "runs": len(times),
        "median_ms": round(float(np.median(times)) * 1e3, 2),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 2),
        "slowest_ms": round(max(times) * 1e3, 2),
    }


def peak_mb() -> int:
    """The largest share of memory that the process had so far, in 2^20 bytes."""
    # Not getrusage's: that one begins with what the process had from which this one was started.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def apart(work: Callable[..., T], *arguments: object) -> T:
    """Call it in a process of its own, so that what it imports and takes of memory is not counted as this one's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def make_bundle(root: Path, preset: str, int8_kind: str | None) -> None:
    """A random bundle with four columns; its INT8 model of that kind (runtime.int8_model) is made and kept, too."""
    bundle = write_random_bundle(root, preset, COLUMNS)
    if int8_kind:
        from .int8_model import int8_dir, int8_name, write_int8
        from .quantization import Quantizer

        noise = np.random.default_rng(0).normal(size=(CALIBRATED_ON, 1, 128, 128)).astype(np.float32)
        model = Quantizer(bundle, noise).quantize(int8_kind)
        write_int8(int8_dir() / int8_name(bundle, int8_kind), bundle, int8_kind, model, {})


def first_result(root: Path, engine: str, device: str, precision: str, threads: int) -> Predictor:
    """From files to what they say of one face: what a start costs, beside Python's own."""
    bundle = load_bundle(root)
    predictor = Predictor(bundle, make_engine(bundle, engine, device, precision, threads))
    predictor.predict(np.zeros((1, 128, 128), np.uint8))
    return predictor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("precision")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch", type=int, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--bundle", type=Path, help="keep the random bundle here, or start from the one that is here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.bundle or Path(folder) / "bundle"
        try:
            if not root.exists():
                on_tensorrt = args.engine == "tensorrt" or args.device.startswith("tensorrt")
                kind = (GPU if on_tensorrt else CPU) if args.precision == "int8" else None
                apart(make_bundle, root, args.preset, kind)
            before = time.perf_counter()
            predictor = first_result(root, args.engine, args.device, args.precision, args.threads)
            first_s = time.perf_counter() - before
        except (EngineError, ModuleNotFoundError) as error:
            print(error, file=sys.stderr)
            return 1
        engine = predictor.engine
        had = {"engine": engine.name, "device": engine.device, "precision": engine.precision}
        print(json.dumps({**had, "first_result_s": round(first_s, 2), "memory_mb": peak_mb()}), flush=True)
        operations = flops(predictor.bundle.preset, [column.shape for column in predictor.bundle.manifest.columns])
        for batch in args.batch:
            crops = np.random.default_rng(0).integers(0, 256, (batch, 128, 128), np.uint8)
            times = measured_times(lambda crops=crops: predictor.predict(crops), args.seconds)  # type: ignore[misc]
            median = float(np.median(times))
            entry = {"batch": batch, **timing(times), "faces_per_s": round(batch / median, 1)}
            entry |= {"gflops": round(operations * batch / median / 1e9, 1), "memory_mb": peak_mb()}
            print(json.dumps(entry), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
