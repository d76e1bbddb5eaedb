"""What two models have in common, so that what one said of a face holds for the other."""

from typing import Any

from .manifest import ColumnRecord, Manifest


def shared_tasks(before: Manifest, after: Manifest) -> set[str]:
    """The tasks whose columns say the same in both models: equal all the way down to the encoder.

    Files are compared by their sha256, and with them all else that decides what a column says: labels, temperature,
    open-set rule, sources, foreign descriptor, and for a rule that compares embeddings the embedding column too.
    """
    if before.encoder.file.sha256 != after.encoder.file.sha256:
        return set()
    known = {column.task: _content(column) for column in before.columns}
    equal: set[str] = set()
    for column in after.columns:  # sources come before the columns that draw on them
        if known.get(column.task) == _content(column) and equal.issuperset(column.sources):
            equal.add(column.task)
    embeddings = {manifest.embedding.task if manifest.embedding else "" for manifest in (before, after)}
    if len(embeddings) == 1 and embeddings <= equal:
        return equal
    return {task for task in equal if not _compares_embeddings(after.column(task))}


def same_descriptors(before: Manifest, after: Manifest) -> bool:
    """Whether every foreign descriptor that the later model draws on is one of the earlier model's."""
    known = {name: record.identity for name, record in before.descriptors.items()}
    return all(known.get(name) == record.identity for name, record in after.descriptors.items())


def _content(column: ColumnRecord) -> list[Any]:
    """All that decides what a column says, its sources' weights apart."""
    descriptor = column.descriptor.identity if column.descriptor else None
    facts = [column.kind, column.labels, column.values, column.sources, column.temperature, column.open_set]
    return [*facts, descriptor, column.file.sha256]


def _compares_embeddings(column: ColumnRecord) -> bool:
    return column.open_set is not None and column.open_set.method == "embedding"
