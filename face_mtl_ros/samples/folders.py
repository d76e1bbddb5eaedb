"""Samples as a folder of pictures a class, to look at, sort by hand, back up and carry to another robot."""

import hashlib
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..datasets.crops import read_crop
from ..datasets.dataset import DatasetError
from ..datasets.folder import PICTURES
from ..vision.alignment import TEMPLATE
from .checks import normal_label
from .errors import SampleStoreError
from .pictures import decode, encode, without_margin
from .sample import Sample
from .store import SampleStore

METADATA: Final = "samples.json"
MAX_NAME = 200  # bytes of a folder's name; file systems take 255, and fewer where they are encrypted


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Strict):
    """A sample, as sample.Sample has it; its number and task are not told."""

    file: str = Field(description="relative to the folder")
    label: str
    display_name: str
    face_id: str
    camera: str
    stamp_ns: int
    quality: float
    requested_by: str
    collected_at: float
    keep_days: float | None
    expires_at: float | None


class _Metadata(_Strict):
    format: Literal[1] = 1
    task: str
    samples: list[_Entry]


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        task: of the samples.
        ids: numbers of the stored samples.
        known: how many pictures the store had under their label already, and did not get again.
    """

    task: str
    ids: list[int]
    known: int


def export_samples(store: SampleStore, task: str, folder: Path, label: str = "", margin: bool = True) -> int:
    """Write a task's samples as <folder>/<label>/<number>.png and what is known of them as <folder>/samples.json.

    The folder appears when it is whole, for its user's eyes alone. It is no part of the store: what is forgotten there
    stays here.

    Args:
        folder: new, or empty.
        label: export this one alone; empty: all.
        margin: with the margin around each crop, 160 x 160, so that an import loses nothing; else 128 x 128, as the
            dataset `folder` expects it.

    Returns:
        How many samples.

    Raises:
        SampleStoreError: there is nothing to export, the folder is not empty, or it cannot be written.
    """
    samples = store.find(task, label)[::-1]
    if not samples:
        raise SampleStoreError(f"task '{task}' has no samples{f' of {label!r}' if label else ''} in {store.file}")
    try:
        folder = folder.resolve()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SampleStoreError(f"{folder} is there already: name a folder that is new or empty")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        try:
            entries = [_write(store, sample, partial, margin) for sample in samples]
            metadata = _Metadata(task=task, samples=entries)
            (partial / METADATA).write_text(metadata.model_dump_json(indent=1), encoding="utf-8")
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SampleStoreError(f"{folder} cannot be written: {error}") from error
    return len(samples)


def import_samples(
    store: SampleStore,
    folder: Path,
    task: str = "",
    *,
    requested_by: str = "",
    keep_days: float | None = None,
    now: float | None = None,
    allow_built_in: bool = False,
) -> Imported:
    """Store the pictures of a folder per class: all of them or, on an error, none.

    A picture that samples.json tells of gets back what it had; one that was moved to another class's folder, or came
    from elsewhere, is a new sample of the folder's name, an aligned crop. What the store has already, pixel by pixel
    under its label, is left out.

    Args:
        task: what the labels belong to; empty: as samples.json says.
        requested_by, keep_days, now: of the new samples, as SampleStore.add takes them.
        allow_built_in: take samples of emotion, gender, age and embedding too.

    Raises:
        SampleStoreError: the folder holds no picture, one cannot be read, no task is known, samples.json is malformed
            or of another format, or a label is not allowed; or see SampleStore.
    """
    now = time.time() if now is None else now
    try:
        metadata = _read_metadata(folder)
        files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    except OSError as error:
        raise SampleStoreError(f"{folder} cannot be read: {error}") from error
    task = task or (metadata.task if metadata else "")
    if not task:
        raise SampleStoreError(f"{folder} has no {METADATA} that names the task: give one (--task)")
    if not files:
        raise SampleStoreError(f"{folder} has no pictures in folders, one a class")
    entries = {entry.file: entry for entry in metadata.samples} if metadata else {}
    samples, crops = [], []
    for file in files:
        name = f"{file.parent.name}/{file.name}"
        if name in entries:
            crops.append(_read_exported(file))
            samples.append(Sample(id=0, task=task, **entries[name].model_dump(exclude={"file"})))
        else:
            crops.append(_read_picture(file))
            samples.append(_new_sample(task, file, requested_by, keep_days, now))
    return _store_new(store, task, samples, crops, now, allow_built_in)


def _write(store: SampleStore, sample: Sample, folder: Path, margin: bool) -> _Entry:
    name = f"{_folder_name(sample.label)}/{sample.id:08}.png"
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(store.png(sample.id) if margin else encode(without_margin(store.crop(sample.id))))
    known = asdict(sample)
    return _Entry(file=name, **{field: known[field] for field in _Entry.model_fields if field != "file"})


def _folder_name(label: str) -> str:
    """The label, unless as a folder it would be hidden, too long or in the way of samples.json."""
    if len(label.encode()) <= MAX_NAME and not label.startswith(".") and label.casefold() != METADATA:
        return label
    return f"label-{hashlib.sha256(label.encode()).hexdigest()[:16]}"


def _read_metadata(folder: Path) -> _Metadata | None:
    """What an export told of its samples; None where the folder is none."""
    file = folder / METADATA
    if not folder.is_dir():
        raise SampleStoreError(f"{folder} is no folder: name one with a folder of pictures a class")
    if not file.exists():
        return None
    try:
        return _Metadata.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SampleStoreError(
            f"{file}: {place}: {first['msg']}; mend it, or remove it to import the pictures by their folders' names"
        ) from None


def _read_exported(file: Path) -> np.ndarray:
    crop = decode(file.read_bytes())
    if crop is None:
        raise SampleStoreError(f"{file} is damaged, or no longer the crop that was exported: remove it, or restore it")
    return crop


def _read_picture(file: Path) -> np.ndarray:
    try:
        return read_crop(file, TEMPLATE)
    except DatasetError as error:
        raise SampleStoreError(f"{error}: remove it") from error


def _new_sample(task: str, file: Path, requested_by: str, keep_days: float | None, now: float) -> Sample:
    return Sample(
        id=0,
        task=task,
        label=file.parent.name,
        display_name="",
        face_id="",
        camera=file.name,
        stamp_ns=0,
        quality=0.0,
        requested_by=requested_by,
        collected_at=now,
        keep_days=keep_days,
        expires_at=None,
    )


def _store_new(
    store: SampleStore, task: str, samples: list[Sample], crops: list[np.ndarray], now: float, allow_built_in: bool
) -> Imported:
    known = {(stored.label, _pixels(store.crop(stored.id))) for stored in store.find(task)}
    new = [i for i, sample in enumerate(samples) if (normal_label(sample.label), _pixels(crops[i])) not in known]
    ids = store.restore([samples[i] for i in new], [crops[i] for i in new], now, allow_built_in)
    return Imported(task, ids, len(samples) - len(new))


def _pixels(crop: np.ndarray) -> bytes:
    return hashlib.sha256(crop.tobytes()).digest()
