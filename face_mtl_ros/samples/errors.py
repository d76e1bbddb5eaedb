"""What goes wrong with the sample store, said so that its user knows what to do."""

import sqlite3
from pathlib import Path


class SampleStoreError(ValueError):
    """A sample cannot be stored, read or erased; the message names the thing, the value and the remedy."""


# What SQLite's messages hold, and what is said instead.
_EXPLAINED = (
    (
        ("database or disk is full", "no space left"),
        "the disk is full: free some room there, or set FACE_MTL_HOME to a larger disk, and repeat",
    ),
    (
        ("readonly database", "read-only file system", "permission denied"),
        "it cannot be written: make the file and its folder writable for this user, or set FACE_MTL_HOME to a place "
        "that is",
    ),
    (
        ("unable to open database file",),
        "it cannot be opened: see that this user may read and write the file and its folder, or set FACE_MTL_HOME",
    ),
    (("locked",), "another process keeps it busy: wait for that one, or end it, and repeat"),
    (("disk i/o error",), "the disk fails to read or write: see that it has room and is sound, and repeat"),
    (
        ("not a database", "malformed", "no such table", "no such column"),
        "it is corrupt: move it away, with the files beside it that begin with its name, and import the last export of "
        "it (face-mtl samples import)",
    ),
)


def explain(file: Path, error: sqlite3.Error | OSError) -> SampleStoreError:
    """The error that tells a user what SQLite or the system said of the store's file."""
    said = str(error)
    for signs, advice in _EXPLAINED:
        if any(sign in said.lower() for sign in signs):
            return SampleStoreError(f"sample store {file}: {advice} ({said})")
    return SampleStoreError(f"sample store {file}: {said}")
