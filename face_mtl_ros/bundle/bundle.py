"""A trained model on disk: a folder with manifest.json, encoder.safetensors and columns/<task>.safetensors.

Weights may be kept in float16 and split over several files (bundle.convert); what is read is float32 nonetheless.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ..networks.presets import PRESETS, Preset
from ..networks.shapes import Shapes, column_shapes, encoder_shapes
from .files import BundleError, read_tensors, write_atomically
from .manifest import FORMAT_VERSION, ColumnRecord, FileRecord, Manifest

MANIFEST = "manifest.json"
PROTOTYPES = "prototypes"  # the tensor of an identity column: each person's mean embedding or foreign descriptor
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole: every file is there, unaltered, and fits the manifest.

    Attributes:
        root: the folder.
        manifest: what is in it.
        version: name and the first 12 hex digits of the manifest's sha256, which covers the sha256 of every file.
        encoder: weights by the names of networks.shapes.encoder_shapes.
        columns: task to weights by the names of networks.shapes.column_shapes.
    """

    root: Path
    manifest: Manifest
    version: str
    encoder: Tensors
    columns: dict[str, Tensors]

    @property
    def preset(self) -> Preset:
        return PRESETS[self.manifest.preset]


def load_bundle(root: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: what is wrong, and in which file.
    """
    root = Path(root)
    data = _read_manifest(root)
    manifest = parse_manifest(root / MANIFEST, data)
    preset = PRESETS[manifest.preset]
    encoder = read_tensors(root, manifest.encoder.file)
    _check_tensors(_where(root, manifest.encoder.file), encoder, encoder_shapes(preset))
    columns = {}
    for column in manifest.columns:
        columns[column.task] = read_tensors(root, column.file)
        expected = column_shapes(preset, *column.shape)
        if column.open_set and column.open_set.method == "embedding":
            embedding = manifest.embedding
            if embedding is None:
                raise BundleError(f"{root / MANIFEST}: '{column.task}' compares embeddings, and no column makes any")
            expected |= {PROTOTYPES: (len(column.labels), embedding.outputs)}
        if column.open_set and column.open_set.method == "descriptor":
            expected |= {PROTOTYPES: (len(column.labels), column.shape[2])}
        _check_tensors(_where(root, column.file), columns[column.task], expected)
    version = f"{manifest.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    return Bundle(root, manifest, version, encoder, columns)


def parse_manifest(file: Path, data: bytes) -> Manifest:
    """Validate a manifest's bytes; BundleError says which field is wrong and why."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise BundleError(f"{file} is no JSON: {error}") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{file} has format version {version}; this package reads up to {FORMAT_VERSION}: upgrade face_mtl_ros"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BundleError(f"{file}: {where}: {first['msg']}") from error


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write manifest.json, the last step of any change: until then the folder is the old bundle."""
    write_atomically(root / MANIFEST, (manifest.model_dump_json(indent=1, exclude_none=True) + "\n").encode())


def with_column(manifest: Manifest, column: ColumnRecord) -> Manifest:
    """The manifest with a column added at the end, or in the place of the task's older one.

    Raises:
        BundleError: a later column draws on the one that would be replaced.
    """
    columns = list(manifest.columns)
    tasks = [existing.task for existing in columns]
    if column.task in tasks:
        users = [other.task for other in columns if column.task in other.sources]
        if users:
            raise BundleError(f"column '{column.task}' cannot be replaced: {', '.join(users)} draws on it")
        columns[tasks.index(column.task)] = column
    else:
        columns.append(column)
    return Manifest.model_validate(manifest.model_dump() | {"columns": [c.model_dump() for c in columns]})


def _read_manifest(root: Path) -> bytes:
    file = root / MANIFEST
    try:
        return file.read_bytes()
    except FileNotFoundError:
        reason = "the folder does not exist" if not root.exists() else f"it has no {MANIFEST}"
        raise BundleError(f"{root} is no model bundle: {reason}") from None
    except NotADirectoryError:
        raise BundleError(f"{root} is no model bundle: it is a file, a bundle is a folder") from None
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error


def _where(root: Path, record: FileRecord) -> str:
    """The weights' file, or first and last shard, for an error."""
    first, last = record.paths[0], record.paths[-1]
    return f"{root / first}" + (f" to {last}" if last != first else "")


def _check_tensors(file: str, tensors: Tensors, expected: Shapes) -> None:
    """The names, shapes and types that the manifest's preset, labels and sources call for."""
    if missing := expected.keys() - tensors.keys():
        raise BundleError(f"{file} lacks the tensor '{min(missing)}' that its preset has")
    if surplus := tensors.keys() - expected.keys():
        raise BundleError(f"{file} has a tensor '{min(surplus)}' that its preset does not know")
    for name, shape in expected.items():
        found = tensors[name]
        if found.shape != shape:
            raise BundleError(
                f"{file}: tensor '{name}' has shape {found.shape} where the manifest's preset, labels and sources "
                f"call for {shape}"
            )
        # Batch normalisation counts its batches in whole numbers; no engine reads the count.
        if found.dtype != np.float32 and not (name.endswith(".num_batches_tracked") and found.dtype == np.int64):
            raise BundleError(f"{file}: tensor '{name}' is {found.dtype}; save it as float32")
        if not np.isfinite(found).all():
            raise BundleError(f"{file}: tensor '{name}' holds values that are not finite")
