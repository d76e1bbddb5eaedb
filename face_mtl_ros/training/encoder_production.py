"""From datasets to a bundle without columns: pre-train an encoder, and record how it was done."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..bundle.bundle import MANIFEST, Bundle, load_bundle, write_manifest
from ..bundle.files import write_tensors
from ..bundle.manifest import EncoderRecord, Manifest, Preprocessing
from ..bundle.network import build_network, to_numpy
from ..datasets.dataset import Dataset
from ..networks.encoder import Encoder
from ..networks.presets import get_preset
from ..vision.alignment import TEMPLATE
from . import distributed
from .corpus import Corpus
from .loop import History
from .pretraining import pretrain_multitask, tasks_of
from .provenance import checkpoint_file, provenance
from .recipe import Recipe
from .teacher import teacher_descriptors

Report = Callable[[str], None]
Log = Callable[[int, dict[str, float]], None]


def make_encoder(
    output: Path,
    name: str,
    preset: str,
    datasets: Sequence[Dataset],
    recipe: Recipe,
    command: str,
    report: Report,
    start: Path | None = None,
    force: bool = False,
    tasks: Sequence[str] = (),
    teacher: bool = False,
    log: Log | None = None,
) -> Bundle:
    """Pre-train an encoder on tasks that the datasets label and write it as a bundle without columns.

    Beside it, `heads/<task>.safetensors` keeps the convolutions that each task had, for columns to begin with; the
    bundle does not need them.

    Args:
        start: a bundle whose encoder is trained further, such as a BEGAN's, and its heads where it
            has them, instead of random weights.
        force: replace the bundle that `output` holds; its columns go with the encoder that they were trained beside.
        tasks: which tasks, default all that the datasets label.
        teacher: learn dlib's descriptors of the faces as well.

    Raises:
        ValueError: there is a bundle already, or the one to start from is of another preset.
        TrainingError, CheckpointError, OSError: see training.loop.fit.
    """
    refuse_to_replace(output, force)
    weights, begun_from = None, None
    if start is not None:
        older = load_bundle(start)
        begun_from = older.manifest.encoder.provenance
        if older.manifest.preset != preset:
            raise ValueError(f"{start} is of the preset '{older.manifest.preset}', not '{preset}': pass --preset")
        weights = {"encoder": build_network(older).encoder.state_dict()}
        weights |= {file.stem: load_file(file) for file in sorted((start / "heads").glob("*.safetensors"))}
    descriptors = [teacher_descriptors(dataset, report) for dataset in datasets] if teacher else None
    corpus = Corpus(datasets, tasks or tasks_of(datasets), recipe.smoothing, descriptors)
    checkpoint = checkpoint_file(output, "encoder")
    encoder, heads, history = pretrain_multitask(
        get_preset(preset), corpus, recipe, checkpoint, report, weights, log=log
    )
    if distributed.rank() == 0:
        record = EncoderRecord(
            file=write_tensors(output, "encoder.safetensors", to_numpy(encoder)),
            provenance=provenance(datasets, recipe, history, command, begun_from),
        )
        for task, head in heads.items():
            write_tensors(output, f"heads/{task}.safetensors", to_numpy(head))
        write_manifest(output, new_manifest(name, preset, record))
        checkpoint.unlink(missing_ok=True)
    return distributed.of_first(lambda: load_bundle(output))


def make_random_encoder(
    output: Path, name: str, preset: str, recipe: Recipe, command: str, force: bool = False
) -> Bundle:
    """Write an untrained encoder as a bundle without columns: the baseline of what pre-training buys."""
    refuse_to_replace(output, force)
    torch.manual_seed(recipe.seed)
    record = EncoderRecord(
        file=write_tensors(output, "encoder.safetensors", to_numpy(Encoder(get_preset(preset)))),
        provenance=provenance([], recipe, History(), command),
    )
    write_manifest(output, new_manifest(name, preset, record))
    return load_bundle(output)


def refuse_to_replace(output: Path, force: bool) -> None:
    """ValueError where the folder holds a bundle and `force` does not say that it may go."""
    if (output / MANIFEST).exists() and not force:
        raise ValueError(
            f"{output} holds a bundle already, whose encoder and columns would be lost: pass another --output, or "
            "--force to replace it"
        )


def new_manifest(name: str, preset: str, encoder: EncoderRecord) -> Manifest:
    """The manifest of a bundle without columns."""
    template = [(float(x), float(y)) for x, y in TEMPLATE]
    return Manifest(name=name, preset=preset, preprocessing=Preprocessing(template=template), encoder=encoder)
