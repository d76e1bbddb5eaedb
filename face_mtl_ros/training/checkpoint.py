"""A training's state on disk, from which it goes on after it was killed."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint is damaged or another training's; the message says in what, and the remedy."""


def save_checkpoint(file: Path, signature: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint by way of a temporary file, so that a full disk or a kill leaves the one before.

    Raises:
        OSError: it cannot be written; the checkpoint before is still there.
    """
    partial = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as out:
                torch.save({"signature": signature, **state}, out)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError is what torch makes of a full disk
        raise OSError(f"checkpoint {file} cannot be written ({error}); is the disk full?") from error


def load_checkpoint(file: Path | None, signature: dict[str, Any]) -> dict[str, Any] | None:
    """The state that was saved under this signature, or None where there is no checkpoint.

    Raises:
        CheckpointError: the file is damaged, or of a training that was set up otherwise.
    """
    if file is None or not file.exists():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        found = state.pop("signature")
    except OSError as error:
        raise CheckpointError(f"checkpoint {file} cannot be read ({error})") from error
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.PickleError) as error:
        raise CheckpointError(
            f"checkpoint {file} is damaged ({type(error).__name__}): remove it to begin anew"
        ) from error
    differing = sorted(key for key in found.keys() | signature.keys() if found.get(key) != signature.get(key))
    if differing:
        first = ", ".join(f"{key} {found.get(key)!r} there and {signature.get(key)!r} here" for key in differing[:3])
        raise CheckpointError(
            f"checkpoint {file} is of another training ({first}): give the same command as then to go on, or remove "
            "it to begin anew"
        )
    return state
