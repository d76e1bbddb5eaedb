"""Weight files of a bundle: written so that a crash leaves the old or the new one, read with their sha256 checked."""

import glob
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Final, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .manifest import FileRecord, WeightFile, combined_sha256

FRAME_BYTES: Final = 16  # of a safetensors file, beside its header's entries and the data: length, braces, padding


class BundleError(ValueError):
    """A bundle is missing, corrupt or of another format; the message names the file and says why."""


def write_tensors(root: Path, path: str, tensors: dict[str, np.ndarray]) -> FileRecord:
    """Write tensors to root/path, atomically, and return the record for the manifest."""
    write_atomically(root / path, _serialize(tensors))
    return describe_tensors(path, tensors)


def describe_tensors(path: str, tensors: dict[str, np.ndarray]) -> FileRecord:
    """The record that write_tensors would return."""
    data = _serialize(tensors)
    return FileRecord(path=path, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def write_shards(root: Path, path: str, tensors: dict[str, np.ndarray], dtype: str, limit: int) -> FileRecord:
    """Write tensors, in order of their names, to files of at most `limit` bytes; each file atomically.

    Args:
        path: of the file, where one is enough; several are named after it, as in encoder-00001-of-00003.safetensors.
        tensors: name to tensor; those of float32 and two or more dimensions become `dtype`. The others stay: they are
            biases and batch statistics, whose size is nothing and whose range float16 may lack.
        dtype: "float16" or "float32".
        limit: bytes.

    Raises:
        BundleError: a tensor alone is larger than the limit, or has values that float16 cannot hold.
    """
    kept = {name: _narrow(path, name, tensor) if dtype == "float16" else tensor for name, tensor in tensors.items()}
    groups = _share_out(path, kept, limit)
    stem = path.removesuffix(".safetensors")
    names = [f"{stem}-{i:05}-of-{len(groups):05}.safetensors" for i in range(1, len(groups) + 1)]
    names = names if len(groups) > 1 else [path]
    shards: list[WeightFile] = [write_tensors(root, name, group) for name, group in zip(names, groups, strict=True)]
    narrowed: Literal["float16"] | None = "float16" if dtype == "float16" else None
    if len(shards) == 1:
        return FileRecord(path=path, sha256=shards[0].sha256, bytes=shards[0].bytes, dtype=narrowed)
    shards = [WeightFile(path=shard.path, sha256=shard.sha256, bytes=shard.bytes) for shard in shards]
    total = sum(shard.bytes for shard in shards)
    return FileRecord(path=path, sha256=combined_sha256(shards), bytes=total, dtype=narrowed, shards=shards)


def _narrow(path: str, name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype != np.float32 or tensor.ndim < 2:
        return tensor
    if (largest := np.abs(tensor).max(initial=0)) > np.finfo(np.float16).max:
        raise BundleError(
            f"{path}: tensor '{name}' has values up to {largest:.4g}, float16 holds up to 65504: keep float32"
        )
    return tensor.astype(np.float16)


def _share_out(path: str, tensors: dict[str, np.ndarray], limit: int) -> list[dict[str, np.ndarray]]:
    """The tensors by name in groups, each of which makes a file within the limit."""
    groups: list[dict[str, np.ndarray]] = [{}]
    size = FRAME_BYTES
    for name in sorted(tensors):
        entry = {name: {"dtype": "BOOL", "shape": tensors[name].shape, "data_offsets": [limit, limit]}}
        needed = len(json.dumps(entry)) + tensors[name].nbytes  # at most: numbers below the limit are no longer
        if FRAME_BYTES + needed > limit:
            raise BundleError(
                f"{path}: tensor '{name}' needs {FRAME_BYTES + needed} bytes alone, the limit is {limit}: raise it"
            )
        if size + needed > limit:
            groups.append({})
            size = FRAME_BYTES
        groups[-1][name] = tensors[name]
        size += needed
    return groups


def _serialize(tensors: dict[str, np.ndarray]) -> bytes:
    return save({name: np.array(tensor, order="C") for name, tensor in tensors.items()})


def read_tensors(root: Path, record: FileRecord) -> dict[str, np.ndarray]:
    """Read the tensors of a record, those that were narrowed to float16 as float32.

    Raises:
        BundleError: a file is missing, of another size or content than the manifest says, or no safetensors file; or
            the shards on disk are not those that the manifest lists, or two hold the same tensor.
    """
    _refuse_surplus(root, record)
    tensors: dict[str, np.ndarray] = {}
    for file in record.files:
        found = _read_file(root, file)
        if twice := found.keys() & tensors.keys():
            raise BundleError(f"{root / file.path} holds the tensor '{min(twice)}', as a shard before it does")
        tensors |= found
    if record.dtype == "float16":
        return {n: t.astype(np.float32) if t.dtype == np.float16 else t for n, t in tensors.items()}
    return tensors


def _refuse_surplus(root: Path, record: FileRecord) -> None:
    """A shard that the manifest does not know tells of a folder that was mixed from two bundles."""
    if not record.shards:
        return
    listed = {root / path for path in record.paths}
    stem = (root / record.path).with_suffix("")
    pattern = f"{glob.escape(stem.name)}-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors"
    if surplus := set(stem.parent.glob(pattern)) - listed:
        raise BundleError(
            f"{min(surplus)} is a shard that the manifest does not list: remove it, or get the bundle anew"
        )


def _read_file(root: Path, record: WeightFile) -> dict[str, np.ndarray]:
    file = root / record.path
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{file} is missing, though the manifest lists it") from None
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) != record.bytes:
        raise BundleError(
            f"{file} has {len(data)} bytes where the manifest says {record.bytes}: it was cut or replaced"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise BundleError(f"{file} is corrupt: its sha256 is {found}, the manifest says {record.sha256}")
    try:
        return load(data)
    except KeyError as error:
        raise BundleError(
            f"{file} holds tensors of the type {error}, which numpy lacks; save them as float32"
        ) from error
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"{file} is no safetensors file: {error}") from error


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file by way of a temporary one beside it, on disk before it gets its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Machines that share a folder may have processes of the same number.
    partial = file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
