"""The same model in another form on disk: weights in float16, or split over files that hosts with a limit take."""

import os
import shutil
from pathlib import Path
from typing import Final, Literal

from .bundle import Bundle, Tensors, load_bundle, write_manifest
from .files import BundleError, write_shards
from .manifest import FileRecord

LIMIT_BYTES: Final = 16_000_000


def convert_bundle(
    root: Path, output: Path, dtype: Literal["float16", "float32"] = "float16", limit: int = LIMIT_BYTES
) -> Bundle:
    """Write a bundle anew with its matrices in `dtype` and no weight file above `limit` bytes.

    Names, columns, figures and provenance stay; the manifest's file records say how the weights are kept, so the
    version is another one. The output appears whole, by one rename, or not at all. What else lies in the folder, such
    as a pre-training's heads or a README, is not taken over.

    Args:
        root: a whole bundle.
        output: a folder that does not exist yet, or is empty.
        dtype: float16 rounds each weight to 11 significant bits (a relative error of at most 2^-11 from 6.1e-5 on).
        limit: bytes a file.

    Raises:
        BundleError: the bundle is not whole, the output is in use, a tensor is too large for a file or for float16.
    """
    output = Path(output)
    bundle = load_bundle(root)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BundleError(f"{output} is there already: name another output, or remove it")
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        _write(bundle, partial, dtype, limit)
        load_bundle(partial)
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_bundle(output)


def _write(bundle: Bundle, folder: Path, dtype: str, limit: int) -> None:
    manifest = bundle.manifest

    def rewrite(record: FileRecord, tensors: Tensors) -> FileRecord:
        return write_shards(folder, record.path, tensors, dtype, limit)

    encoder = manifest.encoder.model_copy(update={"file": rewrite(manifest.encoder.file, bundle.encoder)})
    columns = [
        column.model_copy(update={"file": rewrite(column.file, bundle.columns[column.task])})
        for column in manifest.columns
    ]
    converted = manifest.model_copy(update={"encoder": encoder, "columns": columns})
    version = 2 if any(record.dtype or record.shards for record in converted.weights) else 1
    write_manifest(folder, converted.model_copy(update={"format_version": version}))
