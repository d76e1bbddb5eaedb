"""The store's questions and changes in SQL, each within a transaction of the caller's."""

import json
from collections import Counter
from collections.abc import Sequence
from sqlite3 import Connection

from .checks import normal_label
from .errors import SampleStoreError
from .sample import Forgotten

TABLES = "samples JOIN labels ON labels.id = label_id"
DAY_S = 86400.0
CLOCK_FLOOR = 1735689600.0  # 1 January 2025: a clock that shows less was never set
CLOCK_SLACK_S = 3600.0  # by which a clock may be set back without its being wrong


def condition(task: str = "", label: str = "", ids: Sequence[int] = ()) -> tuple[str, tuple]:
    """An SQL condition over samples and labels, and its values; what is empty restricts nothing."""
    conditions: list[str] = ["1"]
    values: list[str] = []
    if task:
        conditions.append("task = ?")
        values.append(task)
    if label:
        conditions.append("name = ?")
        values.append(normal_label(label))
    if len(ids):
        conditions.append("samples.id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([int(i) for i in ids]))
    return " AND ".join(conditions), tuple(values)


def count_samples(db: Connection, where: str, values: tuple) -> int:
    """How many samples meet the condition."""
    return db.execute(f"SELECT count(*) FROM {TABLES} WHERE {where}", values).fetchone()[0]


def matching(db: Connection, where: str, values: tuple) -> Forgotten:
    """The samples that meet the condition, as if they were erased."""
    rows = db.execute(f"SELECT samples.id, task, name FROM {TABLES} WHERE {where} ORDER BY 1", values).fetchall()
    counts = Counter((task, label) for _, task, label in rows)
    return Forgotten(tuple(row[0] for row in rows), dict(counts), count_samples(db, "1", ()) - len(rows))


def retention_start(db: Connection, now: float) -> float | None:
    """When the days of what is stored now begin, which the store takes note of; None while the clock is wrong."""
    latest = db.execute("SELECT clock FROM state").fetchone()[0]
    if now < max(CLOCK_FLOOR, latest - CLOCK_SLACK_S):
        return None
    start = max(now, latest)
    db.execute("UPDATE state SET clock = ?", (start,))
    return start


def find_label(db: Connection, task: str, label: str) -> int | None:
    """The label's row; None where it has no sample."""
    row = db.execute("SELECT id FROM labels WHERE task = ? AND name = ?", (task, label)).fetchone()
    return row[0] if row else None


def label_id_of(db: Connection, task: str, label: str) -> int:
    """The label's row; SampleStoreError where it has no sample."""
    found = find_label(db, task, label)
    if found is None:
        known = [row[0] for row in db.execute("SELECT name FROM labels WHERE task = ? ORDER BY name", (task,))]
        listed = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        raise SampleStoreError(f"task '{task}' has no label '{label}'; it has {listed or 'none'}")
    return found


def add_label(db: Connection, task: str, label: str, display_name: str) -> int:
    """The label's row, made if need be; a display name replaces an older one."""
    found = find_label(db, task, label)
    if found is None:
        query = "INSERT INTO labels (task, name, display_name) VALUES (?, ?, ?)"
        return db.execute(query, (task, label, display_name)).lastrowid or 0
    if display_name:
        db.execute("UPDATE labels SET display_name = ? WHERE id = ?", (display_name, found))
    return found


def note_traces(db: Connection) -> None:
    """Bytes of what is erased in this transaction may still be in the file."""
    db.execute("UPDATE state SET traces = traces + 1")


def drop_unused_labels(db: Connection) -> None:
    """No name outlives its samples."""
    db.execute("DELETE FROM labels WHERE NOT EXISTS (SELECT 1 FROM samples WHERE label_id = labels.id)")
