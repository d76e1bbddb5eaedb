"""What a robot's training is asked for, checked and completed before any work begins. No torch here."""

from collections.abc import Sequence
from typing import Literal

from ..bundle.bundle import Bundle
from ..bundle.manifest import ColumnRecord
from ..bundle.revision import dependents
from ..runtime.descriptor import DescriptorError, verify_descriptor
from ..samples.checks import BUILT_IN_TASKS, IDENTITY, check_label, check_task, normal_label
from ..samples.sample import LabelCount
from ..site_model import find_column, is_on_site
from .onsite_jobs import NO_SOURCES, OnsiteError, TrainRequest

FAST = "fast"
RECIPES = (FAST, "paper", "best")
KINDS = ("classification", "identity")
FEWEST = 2  # samples of a label with which anything can be held back
MAX_LABELS = 1000
MAX_TEXT = 1000  # characters of requested_by
DESCRIPTOR = "descriptor/"  # before the name of a foreign descriptor among a request's sources; no task has a slash


def check_request(request: TrainRequest, bundle: Bundle) -> ColumnRecord | None:
    """The task's older column, which the new one replaces, if there is one.

    Raises:
        OnsiteError, SampleStoreError: the request does not go together with the model, or a value is out of range.
    """
    check_task(request.task)
    older = find_column(bundle.manifest, request.task)
    if request.task in BUILT_IN_TASKS or (older and not is_on_site(older)):
        raise OnsiteError(
            f"task '{request.task}' is built into the model {bundle.version}: choose another name, such as "
            f"'{request.task}_of_the_site'"
        )
    if users := dependents(bundle.manifest, request.task):
        raise OnsiteError(
            f"column '{request.task}' cannot be trained anew: {', '.join(users)} draws on it; remove that first"
        )
    if request.kind and request.kind not in KINDS:
        raise OnsiteError(f"kind '{request.kind[:60]}' is unknown: choose {' or '.join(KINDS)}, or leave it empty")
    if request.recipe and request.recipe not in RECIPES:
        raise OnsiteError(f"recipe '{request.recipe[:60]}' is unknown: choose one of {', '.join(RECIPES)}")
    if not 0 <= request.time_budget_s <= 7 * 86400:
        raise OnsiteError(f"time_budget_s {request.time_budget_s:g}: 0 to {7 * 86400} seconds are expected")
    if request.min_samples < 0 or not 0 <= request.seed < 2**32:
        raise OnsiteError(f"min_samples {request.min_samples}, seed {request.seed}: 0 or more are expected")
    if len(request.requested_by) > MAX_TEXT:
        raise OnsiteError(f"requested_by has {len(request.requested_by)} characters: at most {MAX_TEXT} are allowed")
    return older


def check_kind(request: TrainRequest, older: ColumnRecord | None) -> Literal["classification", "identity"]:
    """As asked for, else as before, else by the task's name."""
    if request.kind:
        return "identity" if request.kind == "identity" else "classification"
    identity = older.kind == "identity" if older else request.task == IDENTITY
    return "identity" if identity else "classification"


def check_sources(request: TrainRequest, kind: str, bundle: Bundle) -> list[str]:
    """The tasks to draw on: those asked for, or for people the embedding, else every built-in column."""
    known = [column.task for column in bundle.manifest.columns if column.task != request.task]
    if request.sources == [NO_SOURCES]:
        return []
    if len(set(request.sources)) < len(request.sources):
        raise OnsiteError(f"sources {request.sources} name one twice")
    if asked := [source for source in request.sources if not source.startswith(DESCRIPTOR)]:
        for source in asked:
            if source not in known:
                raise OnsiteError(f"source '{source[:60]}' is no column of the model; it has {', '.join(known)}")
        chosen = asked
    elif kind == IDENTITY and bundle.manifest.embedding:
        return [bundle.manifest.embedding.task]
    else:
        chosen = [column.task for column in bundle.manifest.columns if not is_on_site(column)]
    if kind == IDENTITY and bundle.manifest.embedding and bundle.manifest.embedding.task not in chosen:
        chosen.insert(0, bundle.manifest.embedding.task)  # the one that was trained to tell people apart
    return chosen


def check_descriptor(request: TrainRequest, kind: str, bundle: Bundle) -> str:
    """The foreign descriptor to draw on: the one among the sources, or for people the trainer's; empty: none.

    Raises:
        OnsiteError: it is not installed, or another one than the model's of that name, or cannot be drawn on.
    """
    asked = [source.removeprefix(DESCRIPTOR) for source in request.sources if source.startswith(DESCRIPTOR)]
    if len(asked) > 1:
        raise OnsiteError(f"sources {request.sources} name {len(asked)} foreign descriptors: a column draws on one")
    if asked and kind != IDENTITY:
        raise OnsiteError(
            f"source '{DESCRIPTOR}{asked[0]}' tells people apart: only a column of kind '{IDENTITY}' draws on it"
        )
    if kind != IDENTITY or request.sources == [NO_SOURCES]:
        return ""
    name = asked[0] if asked else request.descriptor
    if name:
        _check_installed(name, request.task, bundle)
    return name


def _check_installed(name: str, task: str, bundle: Bundle) -> None:
    try:
        found = verify_descriptor(name).record()
    except DescriptorError as error:
        raise OnsiteError(str(error)) from error
    for column in bundle.manifest.columns:
        other = column.descriptor
        if column.task != task and other and other.name == name and other.identity != found.identity:
            raise OnsiteError(
                f"column '{column.task}' draws on another descriptor '{name}' than the one that is installed: install "
                f"that of sha256 {other.sha256[:12]} again, or this one under another name"
            )


def check_labels(request: TrainRequest, counts: Sequence[LabelCount], min_samples: int) -> list[str]:
    """The labels of the column, each with samples enough.

    Raises:
        OnsiteError: what is missing, of which labels.
    """
    found = {count.label: count.count for count in counts}
    labels = [check_label(label, request.task) for label in request.labels] or sorted(found)
    if len(set(labels)) < len(labels):
        raise OnsiteError(f"labels: '{next(label for label in labels if labels.count(label) > 1)}' is named twice")
    if not labels:
        raise OnsiteError(f"task '{request.task}' has no samples: collect some of at least two labels")
    if len(labels) > MAX_LABELS:
        raise OnsiteError(f"task '{request.task}' would have {len(labels)} labels: at most {MAX_LABELS} are possible")
    least = max(min_samples, FEWEST)
    short = {label: found.get(label, 0) for label in labels if found.get(label, 0) < least}
    if short:
        missing = ", ".join(f"'{label}' has {count}" for label, count in list(short.items())[:5])
        more = f" and {len(short) - 5} others too few" if len(short) > 5 else ""
        raise OnsiteError(
            f"task '{request.task}' needs {least} samples of each label: {missing}{more}; collect more, or leave the "
            "label out"
        )
    if len(labels) < 2:
        raise OnsiteError(f"task '{request.task}' has samples of '{labels[0]}' alone: collect some of a second label")
    if request.values and len(request.values) != len(labels):
        raise OnsiteError(
            f"values: {len(request.values)} are given for {len(labels)} labels; give one for each, or none"
        )
    return [normal_label(label) for label in labels]
