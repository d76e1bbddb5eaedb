"""What `face-mtl export --precision int8` does: calibrate, score on validation pictures, and keep what loses little."""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import ColumnRecord
from ..runtime.descriptor import load_descriptors
from ..runtime.engine import Engine
from ..runtime.int8_model import CPU
from ..runtime.predictor import Predictor
from . import UsageError

if TYPE_CHECKING:
    import onnx

    from ..datasets.dataset import Dataset

FALL = 0.005  # of a column's accuracy, at most
Scores = dict[str, float]  # task to accuracy
Make = Callable[[Bundle, bytes | None], Engine]


@dataclass(frozen=True)
class Calibrated:
    """An INT8 model that loses no more than FALL, and the figures to show and to keep with it."""

    model: "onnx.ModelProto"
    notes: dict[str, str]


def calibrate(bundle: Bundle, kind: str, args: argparse.Namespace) -> Calibrated:
    """Quantise a bundle, with fewer columns where that is needed.

    The encoder always is; a column whose accuracy falls by more than FALL, or that no dataset labels, stays in float32.
    A model for GPUs is scored on the CPU too, by ONNX Runtime.

    Args:
        args: `calibrate`, one or more datasets as NAME=ROOT or NAME:OPTION=VALUE=ROOT, of which the training split
            calibrates and the validation split scores; `crops`, so many calibrate; `pictures`, at most so many of a
            dataset score, 0 for all.

    Raises:
        RuntimeError: the accuracy of a column falls though it is in float32 itself; says what was tried.
    """
    from ..runtime.quantization import Quantizer

    scored = _validation(bundle, args)
    exact = {column.task for column in bundle.manifest.columns} - scored.keys()
    for task in sorted(exact):
        _say(f"{task} stays in fp32: no dataset given labels it, so its loss cannot be measured")
    if not scored:
        raise UsageError("--calibrate names no dataset that labels a task of the model, so no loss can be measured")
    quantizer = Quantizer(bundle, *_calibration(bundle, args))
    engines = _engines(kind)
    make = next(iter(engines.values()))
    before = _score(Predictor(bundle, make(bundle, None), load_descriptors(bundle)), scored)
    tried: list[str] = []
    while True:
        _say("quantising")
        model = quantizer.quantize(kind, exact)
        what = "all columns" if not exact else f"all but {', '.join(sorted(exact))}"
        worst: Scores = {}
        for name, make in engines.items():
            after = _score(Predictor(bundle, make(bundle, model.SerializeToString()), load_descriptors(bundle)), scored)
            for task, accuracy in after.items():
                _say(f"{what}, {name}, {task}: {before[task]:.2%} in fp32, {accuracy:.2%} in int8")
                worst[task] = min(worst.get(task, 1.0), accuracy)
        fallen = {task for task in worst if before[task] - worst[task] > FALL + 1e-9}  # 0.827 - 0.822 is above 0.005
        tried.append(f"{what}: " + ", ".join(f"{task} {worst[task] - before[task]:+.2%}" for task in sorted(worst)))
        if not fallen:
            figures = ", ".join(f"{task} {before[task]:.4f} -> {worst[task]:.4f}" for task in sorted(worst))
            notes = {"accuracy": figures, "calibrated_on": " ".join(_names(args)), "float32": " ".join(sorted(exact))}
            return Calibrated(model, notes)
        if fallen <= exact:
            raise RuntimeError(
                f"int8 is not kept: {', '.join(sorted(fallen))} loses more than {FALL:.1%} even with nothing but the "
                f"encoder and other columns quantised; tried {'; '.join(tried)}; take bf16, fp16 or fp32"
            )
        _say(f"{', '.join(sorted(fallen - exact))} loses more than {FALL:.1%} and goes back to fp32")
        exact |= fallen


def _engines(kind: str) -> dict[str, Make]:
    """Those installed that run INT8 on a CPU, by name.

    The kind for GPUs by ONNX Runtime alone, whose sums are exact as a GPU's are: OpenVINO is made for unsigned bytes.
    """
    from ..runtime.onnxruntime_engine import OnnxRuntimeEngine
    from ..runtime.openvino_engine import OpenVinoEngine

    def openvino(bundle: Bundle, graph: bytes | None) -> Engine:
        return OpenVinoEngine(bundle, "cpu", "int8" if graph else "fp32", 0, graph)

    def onnxruntime(bundle: Bundle, graph: bytes | None) -> Engine:
        return OnnxRuntimeEngine(bundle, "cpu", "int8" if graph else "fp32", 0, graph)

    known = {"openvino": openvino, "onnxruntime": onnxruntime}
    names = [name for name in known if importlib.util.find_spec(name) and (kind == CPU or name == "onnxruntime")]
    return {name: known[name] for name in names}


def _validation(bundle: Bundle, args: argparse.Namespace) -> dict[str, list["Dataset"]]:
    """Task to the validation pictures of the datasets that label it."""
    found: dict[str, list[Dataset]] = {}
    for entry in args.calibrate:
        dataset = _read(bundle, entry, "val")
        rows = np.random.default_rng(0).permutation(len(dataset))[: args.pictures or None]
        part = dataset.take(np.sort(rows))
        for column in bundle.manifest.columns:
            if _scores(dataset, column):
                # An embedding is scored by people's several pictures, which a part would tear apart.
                found.setdefault(column.task, []).append(dataset if column.kind == "embedding" else part)
    return found


def _scores(dataset: "Dataset", column: ColumnRecord) -> bool:
    """Whether the dataset's labels are those of the column; an embedding's are any people's names."""
    if column.kind == "embedding":
        return "identity" in dataset.classes
    return set(dataset.classes.get(column.task, ())) <= set(column.labels) and column.task in dataset.classes


def _calibration(bundle: Bundle, args: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Crops of the training splits, as many of each dataset, and their faces by foreign descriptors."""
    from ..datasets.crops import dataset_crop
    from ..training.descriptors import dataset_descriptors
    from ..vision.alignment import normalize

    crops, described = [], []
    descriptors = load_descriptors(bundle)
    for entry in args.calibrate:
        dataset = _read(bundle, entry, "train")
        rows = np.random.default_rng(0).permutation(len(dataset))[: -(-args.crops // len(args.calibrate))]
        dataset = dataset.take(np.sort(rows))
        crops += [dataset_crop(dataset, i) for i in range(len(dataset))]
        described.append({name: dataset_descriptors(dataset, found) for name, found in descriptors.items()})
    _say(f"measuring ranges on {len(crops)} crops")
    order = np.random.default_rng(0).permutation(len(crops))  # each batch shows some of each dataset
    vectors = {name: np.concatenate([part[name] for part in described])[order] for name in descriptors}
    return normalize(np.stack(crops)[order][:, None].astype(np.float32)), vectors


def _read(bundle: Bundle, entry: str, split: str) -> "Dataset":
    from ..datasets.registry import read_source

    dataset = read_source(entry, split, bundle.manifest.columns[0].task)
    if not len(dataset):
        raise UsageError(f"--calibrate {entry}: split '{split}' has no picture")
    return dataset


def _score(predictor: Predictor, scored: dict[str, list["Dataset"]]) -> Scores:
    """Task to the accuracy over all of its pictures; an embedding's is the share named rightly of five people."""
    from ..training.scoring import embedding_scores, predict_column

    found: Scores = {}
    for task, datasets in scored.items():
        if predictor.bundle.manifest.column(task).kind == "embedding":
            found[task] = float(np.mean([embedding_scores(predictor, dataset)["right"] for dataset in datasets]))
            continue
        predictions = [predict_column(predictor, task, dataset) for dataset in datasets]
        right = [part.probabilities.argmax(1) == part.labels for part in predictions]
        found[task] = float(np.concatenate(right).mean())
    return found


def _names(args: argparse.Namespace) -> list[str]:
    """The datasets without the folders that they lie in, which concern nobody else."""
    return [entry.rpartition("=")[0] for entry in args.calibrate]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
