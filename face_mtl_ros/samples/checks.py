"""What a sample may be called, and what may be known of it."""

import math
import unicodedata
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from ..bundle.manifest import TaskName
from .errors import SampleStoreError
from .sample import Sample

BUILT_IN_TASKS = ("emotion", "gender", "age", "embedding")
IDENTITY = "identity"
UNKNOWN = "unknown"  # what an identity column calls a stranger, so nobody's label
MAX_LABEL = 200  # characters, as in a bundle's manifest
MAX_TEXT = 1000  # characters of anything else
_TASK = TypeAdapter(TaskName)
_COMPANIONS = {"Cf", "Mc", "Me", "Mn", "Zs"}  # joiners, marks and spaces belong to names, and alone show nothing


def check_task(task: str, allow_built_in: bool = False) -> str:
    """The task's name.

    Raises:
        SampleStoreError: it is none that a bundle's column may have, or a built-in task's without the permission.
    """
    try:
        _TASK.validate_python(task)
    except ValidationError:
        raise SampleStoreError(
            f"task {_shown(task)}: a small letter is expected, then up to 63 small letters, digits and _"
        ) from None
    if task in BUILT_IN_TASKS and not allow_built_in:
        raise SampleStoreError(
            f"task '{task}' is built into the model: choose another name, such as '{task}_of_the_site'"
        )
    return task


def normal_label(label: str) -> str:
    """A label as it is stored: without space around it, and one sequence of characters for all that look the same."""
    return unicodedata.normalize("NFC", label.strip())


def check_label(label: str, task: str) -> str:
    """The label of a sample, normalised: of any script, 1 to 200 characters, fit to be the name of a folder.

    Raises:
        SampleStoreError: it is not.
    """
    label = normal_label(_check_text("label", label))
    if len(label) > MAX_LABEL:
        raise SampleStoreError(f"label {_shown(label)} has {len(label)} characters: at most {MAX_LABEL} are allowed")
    if all(unicodedata.category(character) in _COMPANIONS for character in label):
        raise SampleStoreError(f"label {_shown(label)} is empty: give it a name or a number")
    if "/" in label or "\\" in label or label in (".", ".."):
        raise SampleStoreError(f"label {_shown(label)}: it cannot name a folder; leave out slashes, '.' and '..'")
    if task == IDENTITY and label.casefold() == UNKNOWN:
        raise SampleStoreError(f"label '{label}' is what '{IDENTITY}' calls strangers: choose another one")
    return label


def check_display_name(name: str) -> str:
    """What to call a label aloud, at most 200 characters; empty for the label itself. SampleStoreError otherwise."""
    name = normal_label(_check_text("display_name", name))
    if len(name) > MAX_LABEL:
        raise SampleStoreError(
            f"display_name {_shown(name)} has {len(name)} characters: at most {MAX_LABEL} are allowed"
        )
    return name


def check_source(field: str, text: str) -> str:
    """Where a sample came from or who asked for it, at most 1000 characters; SampleStoreError otherwise."""
    text = _check_text(field, text)
    if len(text) > MAX_TEXT:
        raise SampleStoreError(f"{field} {_shown(text)} has {len(text)} characters: at most {MAX_TEXT} are allowed")
    return text


def check_sample(sample: Sample, allow_built_in: bool) -> Sample:
    """The sample with its texts normalised; SampleStoreError where a value is out of range."""
    times = (sample.collected_at, 0.0 if sample.expires_at is None else sample.expires_at)
    if not all(math.isfinite(value) for value in times):
        raise SampleStoreError(f"collected_at {times[0]} and expires_at {times[1]}: seconds since 1970 are expected")
    if sample.keep_days is not None and not 0 < sample.keep_days < math.inf:
        raise SampleStoreError(f"keep_days {sample.keep_days}: days above 0 are expected, or None for ever")
    if not 0 <= sample.quality <= 1:
        raise SampleStoreError(f"quality {sample.quality}: a number from 0 to 1 is expected")
    if not -(2**63) <= sample.stamp_ns < 2**63:
        raise SampleStoreError(f"stamp_ns {sample.stamp_ns}: a number of 64 bits is expected")
    task = check_task(sample.task, allow_built_in)
    return replace(
        sample,
        stamp_ns=int(sample.stamp_ns),
        quality=float(sample.quality),
        task=task,
        label=check_label(sample.label, task),
        display_name=check_display_name(sample.display_name),
        face_id=check_source("face_id", sample.face_id),
        camera=check_source("camera", sample.camera),
        requested_by=check_source("requested_by", sample.requested_by),
    )


def _check_text(field: str, text: str) -> str:
    """A text of one line: no control characters, line or paragraph separators, or halves of a UTF-16 pair."""
    if not isinstance(text, str):
        raise SampleStoreError(f"{field} {text!r} is no text")
    refused = {"Cc", "Cs", "Zl", "Zp"}
    if found := next((character for character in text.strip() if unicodedata.category(character) in refused), None):
        raise SampleStoreError(
            f"{field} {_shown(text)} has the control character U+{ord(found):04X}: leave it out, and write one line"
        )
    return text.strip()


def _shown(text: object) -> str:
    """The value for an error message, however long it is."""
    shown = ascii(text) if isinstance(text, str) and not text.isprintable() else repr(text)
    return shown if len(shown) <= 60 else f"{shown[:40]}... ({len(shown) - 2} characters long)"
