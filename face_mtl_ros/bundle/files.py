"""Weight files of a bundle: written so that a crash leaves the old or the new one, read with their sha256 checked."""

import hashlib
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .manifest import FileRecord


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


def _serialize(tensors: dict[str, np.ndarray]) -> bytes:
    return save({name: np.array(tensor, order="C") for name, tensor in tensors.items()})


def read_tensors(root: Path, record: FileRecord) -> dict[str, np.ndarray]:
    """Read the tensors of a record.

    Raises:
        BundleError: the file is missing, of another size or content than the manifest says, or no safetensors file.
    """
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
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
