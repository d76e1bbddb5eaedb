"""What face-mtl bench measured, as Markdown."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import __version__
from ..bundle.files import write_atomically
from .bench_ratios import ratios

FEWEST_RUNS = 20  # fewer tell no 99th percentile
PACKAGES = ("openvino", "onnxruntime", "torch", "onnx", "numpy", "opencv-python-headless", "tensorrt-rtx-cu12")
SLOWEST = f"Of fewer than {FEWEST_RUNS} runs the slowest stands for the 99th percentile."
Cell = Callable[[dict], object]


def write_report(file: Path, result: dict, plot: Path | None = None) -> None:
    """Write the tables.

    Args:
        file: where the text goes; an older one is replaced.
        result: what face-mtl bench --json prints.
        plot: the plot's file, to be shown beside them.
    """
    write_atomically(file, ("\n".join(_lines(file, result, plot)) + "\n").encode())


def _lines(file: Path, result: dict, plot: Path | None) -> Iterator[str]:
    machine = result["machine"]
    yield from ("# Benchmark", "", "Written by `make bench`; what it measures is in `face-mtl bench --help`.", "")
    sets = f" with {', '.join(machine['instructions'])}" if machine["instructions"] else ""
    yield f"- {machine['cpu']}{sets}, {machine['threads']} threads, {_memory_gb():.0f} GB of memory"
    if "gpu" in machine:
        yield f"- {machine['gpu']}"
    yield f"- load average {machine['load_at_start'][0]} at the start, {machine['load_at_end'][0]} at the end"
    yield f"- {platform.system()} {platform.release()}, Python {platform.python_version()}, {datetime.date.today()}"
    yield f"- face_mtl_ros {__version__}, {_versions()}"
    yield ""
    if plot:
        yield from (f"![Faces a second by batch]({os.path.relpath(plot, file.parent)})", "")
    yield from ("## The machine's ceiling", "")
    yield "A large matrix product, the median of several: by OpenVINO (no name) and ONNX Runtime 2048 x 2048, by torch"
    yield "4096 x 4096."
    yield ""
    yield from _table(
        [{"name": name, "rate": rate} for name, rate in machine["gemm_gflops"].items()],
        {"precision": lambda e: e["name"], "GFLOP/s": lambda e: e["rate"]},
    )
    yield from ("", "## Ratios", "")
    yield "*Ours* is the engine that `auto` takes; the product is torch's of 4096 x 4096; of a peer the faster runtime."
    yield ""
    yield from _table(
        [*ratios(result)],
        {"what": lambda e: e["what"], "batch": lambda e: e["batch"], "ratio": lambda e: e["ratio"]},
    )
    yield from ("", "## Inference", "")
    yield "Four columns (emotion, gender, age, identity), random weights, each engine in a process of its own."
    yield "*compile* is from files to the first result with nothing kept of an earlier compilation, *start* from"
    yield "starting a process to its first result with what was kept, *memory* the process's largest share, *ceiling*"
    yield "the share of the device's best matrix product in that precision; empty where none was measured, or none that"
    yield f"is faster than fp32's. {SLOWEST}"
    yield ""
    yield from _table(
        result["inference"],
        {
            "preset": lambda e: e["preset"],
            "engine": lambda e: e["engine"],
            "precision": lambda e: e["precision"],
            "device": lambda e: e["device"],
            "batch": lambda e: e["batch"],
            "median ms": lambda e: e["median_ms"],
            "99th percentile": _tail,
            "faces/s": lambda e: e["faces_per_s"],
            "GFLOP/s": lambda e: e["gflops"],
            "ceiling": lambda e: "" if e["share_of_ceiling"] is None else f"{e['share_of_ceiling']:.0%}",
            "memory MB": lambda e: e["memory_mb"],
            "compile s": lambda e: e["compile_s"],
            "start s": lambda e: e["load_s"],
        },
    )
    if result["peers"]:
        yield from ("", "## Beside what else one would run", "")
        yield "Networks written down anew from their published tables with random weights, so this is about speed only:"
        yield "the VGG-13 of FER+, and DeepFace's three networks, a face through all of them. In fp32 by OpenCV's DNN"
        yield "module, and by OpenVINO in the precision that it takes itself, each in a process of its own."
        yield ""
        yield from _table(
            result["peers"],
            {
                "peer": lambda e: e["peer"],
                "attributes": lambda e: e["attributes"],
                "by": lambda e: e["runtime"],
                "batch": lambda e: e["batch"],
                "median ms": lambda e: e["median_ms"],
                "faces/s": lambda e: e["faces_per_s"],
                "GFLOP/s": lambda e: e["gflops"],
                "memory MB": lambda e: e["memory_mb"],
            },
        )
    yield from ("", "## From picture to attributes", "")
    yield "The shipped model without ROS, embedded detector, stills: every face is read in every picture. A still is"
    yield "searched wholly, a stream is not: there faces are looked for around where they were, elsewhere by and by,"
    yield f"which takes far less a frame. {SLOWEST}"
    yield ""
    yield from _table(
        result["pictures"],
        {
            "picture": lambda e: f"{e['width']}x{e['height']}",
            "faces": lambda e: e["faces"],
            "found": lambda e: e["faces_found"],
            "median ms": lambda e: e["median_ms"],
            "99th percentile": _tail,
            "runs": lambda e: e["runs"],
            "by stage, ms": lambda e: _stages(e["stage_ms"]),
        },
    )
    if result["pipeline"]:
        yield from ("", "## The perception node over DDS", "")
        yield "Pictures at 30 Hz from another process; camera, node and subscriber share the processor. The stages"
        yield "are the node's own medians, from /diagnostics."
        yield ""
        yield from _table(
            result["pipeline"],
            {
                "picture": lambda e: f"{e['width']}x{e['height']}",
                "faces": lambda e: e["faces"],
                "messages/s": lambda e: e["messages_per_s"],
                "stamp to receipt, median ms": lambda e: e["median_ms"]["stamp_to_receipt"],
                "99th percentile": lambda e: e.get("p99_ms", ""),
                "by stage, ms": lambda e: _stages({k: v for k, v in e["median_ms"].items() if k != "stamp_to_receipt"}),
                "memory MB": lambda e: e.get("memory_mb", ""),
            },
        )


def _table(entries: Sequence[dict], columns: dict[str, Cell]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for entry in entries:
        yield f"| {' | '.join(str(cell(entry)) for cell in columns.values())} |"


def _tail(entry: dict) -> str:
    if entry["runs"] < FEWEST_RUNS:
        return f"{entry['slowest_ms']}, slowest of {entry['runs']}"
    return str(entry["p99_ms"])


def _stages(milliseconds: dict[str, float]) -> str:
    return ", ".join(f"{stage} {ms}" for stage, ms in milliseconds.items())


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
