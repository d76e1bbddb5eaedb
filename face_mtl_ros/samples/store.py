"""The faces that a robot was asked to collect: stored, listed, renamed and erased."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from sqlite3 import Connection

import numpy as np

from ..paths import home
from .caches import erase_cached_crops
from .checks import check_display_name, check_label, check_sample, normal_label
from .database import Database
from .errors import SampleStoreError
from .pictures import decode, encode
from .queries import (
    DAY_S,
    TABLES,
    add_label,
    condition,
    count_samples,
    drop_unused_labels,
    find_label,
    label_id_of,
    matching,
    note_traces,
    retention_start,
)
from .sample import Forgotten, LabelCount, Picture, Sample

_COLUMNS = """
    samples.id, labels.task, labels.name, labels.display_name, face_id, camera, stamp_ns, quality, requested_by,
    collected_at, keep_days, expires_at
"""


class SampleStore:
    """The samples in one SQLite file. Several threads and processes may use it at a time.

    A file that is not there reads as empty, and is made by the first `add`, for its user's eyes alone. Each call is one
    transaction: when it returns its work is on disk, and a process that is killed leaves nothing by halves. Each raises
    SampleStoreError where the disk is full, the file corrupt, of a newer format, not to be written, or kept busy by
    another process. A worker process is to be started anew, not forked, as ever where SQLite is in use.

    Args:
        file: default FACE_MTL_HOME/samples/samples.sqlite3.
        timeout_s: seconds to wait for another process.
    """

    def __init__(self, file: Path | None = None, timeout_s: float = 10.0):
        self.file = file or home() / "samples" / "samples.sqlite3"
        self._database = Database(self.file, timeout_s)

    def add(
        self,
        task: str,
        label: str,
        pictures: Sequence[Picture],
        *,
        display_name: str = "",
        requested_by: str = "",
        keep_days: float | None = None,
        now: float | None = None,
        allow_built_in: bool = False,
    ) -> list[int]:
        """Store pictures under a label: all of them or, on an error, none.

        Args:
            task: a new name begins a new task.
            label: see checks.check_label.
            display_name: what to call the label aloud; empty: as it is, or the label itself.
            requested_by: who asks.
            keep_days: after how many days `enforce_retention` erases them; None: never.
            now: wall-clock time in seconds since 1970; None: this machine's.
            allow_built_in: take samples of emotion, gender, age and embedding too.

        Returns:
            The numbers of the samples, in the order of the pictures.

        Raises:
            SampleStoreError: a value is out of range, named with the remedy; or see the class.
        """
        now = time.time() if now is None else now
        samples = [
            Sample(
                id=0,
                task=task,
                label=label,
                display_name=display_name,
                face_id=picture.face_id,
                camera=picture.camera,
                stamp_ns=picture.stamp_ns,
                quality=picture.quality,
                requested_by=requested_by,
                collected_at=now,
                keep_days=keep_days,
                expires_at=None,
            )
            for picture in pictures
        ]
        return self._insert(samples, [picture.crop for picture in pictures], now, allow_built_in)

    def restore(
        self,
        samples: Sequence[Sample],
        crops: Sequence[np.ndarray],
        now: float | None = None,
        allow_built_in: bool = False,
    ) -> list[int]:
        """Store samples with all that is known of them but their numbers, as an import does: all of them or none.

        Args:
            crops: as of a Picture, one a sample.
            now, allow_built_in: as of `add`; the days of a sample that has no date of expiry yet begin now.

        Returns, raises:
            As `add`.
        """
        return self._insert(samples, crops, time.time() if now is None else now, allow_built_in)

    def find(
        self, task: str = "", label: str = "", ids: Sequence[int] = (), offset: int = 0, limit: int | None = None
    ) -> list[Sample]:
        """The samples that meet every condition given, newest first; see `total` for how many there are.

        Args:
            offset: how many to skip.
            limit: how many at most; None: all.
        """
        where, values = condition(task, label, ids)
        query = f"SELECT {_COLUMNS} FROM {TABLES} WHERE {where} ORDER BY samples.id DESC LIMIT ? OFFSET ?"
        with self._database.reading() as db:
            rows = db.execute(query, (*values, -1 if limit is None else limit, offset))
            return [Sample(*row) for row in rows]

    def total(self, task: str = "", label: str = "") -> int:
        """How many samples there are of the task and label."""
        with self._database.reading() as db:
            return count_samples(db, *condition(task, label))

    def counts(self, task: str = "", label: str = "") -> list[LabelCount]:
        """One entry a task and label, sorted by task, then label."""
        where, values = condition(task, label)
        query = f"""
            SELECT task, name, iif(display_name = '', name, display_name), count(*), min(collected_at),
                max(collected_at), min(expires_at)
            FROM {TABLES} WHERE {where} GROUP BY label_id ORDER BY task, name
        """
        with self._database.reading() as db:
            return [LabelCount(*row) for row in db.execute(query, values)]

    def display_names(self) -> dict[tuple[str, str], str]:
        """What to call the labels aloud, by task and label; none where the store cannot be read: models do without."""
        try:
            return {(count.task, count.label): count.display_name for count in self.counts()}
        except SampleStoreError:
            return {}

    def crop(self, sample_id: int) -> np.ndarray:
        """The picture of a sample as it was stored, uint8 (160, 160) or (128, 128).

        Raises:
            SampleStoreError: there is no such sample (any more), or its picture is damaged.
        """
        crop = decode(self.png(sample_id))
        if crop is None:
            raise SampleStoreError(
                f"sample {sample_id} of {self.file} is damaged: erase it (face-mtl samples forget --id {sample_id})"
            )
        return crop

    def png(self, sample_id: int) -> bytes:
        """The picture of a sample as the PNG file that is stored; SampleStoreError where there is no such sample."""
        where, values = condition(ids=[sample_id])
        with self._database.reading() as db:
            row = db.execute(f"SELECT png FROM samples WHERE {where}", values).fetchone()
        if row is None:
            raise SampleStoreError(f"sample {sample_id} is not in {self.file}: it was erased, or never stored")
        return row[0]

    def forget(
        self,
        task: str = "",
        label: str = "",
        ids: Sequence[int] = (),
        older_than_days: float = 0.0,
        *,
        everything: bool = False,
        dry_run: bool = False,
        now: float | None = None,
    ) -> Forgotten:
        """Erase the samples that meet every condition given: their bytes leave the file and the caches.

        Args:
            older_than_days: those collected longer ago; 0: of any age.
            everything: erase all; no other condition may then be given.
            dry_run: only say what would be erased.
            now: wall-clock time in seconds since 1970; None: this machine's.

        Raises:
            SampleStoreError: no condition is given, or another one beside `everything`; or another process reads the
                store, so that the samples are erased and their bytes not out of the file yet: repeat it.
        """
        if not (math.isfinite(older_than_days) and older_than_days >= 0):
            raise SampleStoreError(f"older_than_days {older_than_days}: 0 (of any age) or more is expected")
        given = bool(task or label or len(ids) or older_than_days)
        if given == everything:
            raise SampleStoreError(
                "everything: no other condition may be given with it"
                if everything
                else "nothing says what to forget: give a task, label, sample or age, or ask for everything"
            )
        where, values = condition(task, label, ids)
        if older_than_days:
            where += " AND collected_at < ?"
            values = (*values, (time.time() if now is None else now) - older_than_days * DAY_S)
        if dry_run:
            with self._database.reading() as db:
                return matching(db, where, values)
        return self._erase(lambda db: (where, values))

    def enforce_retention(self, now: float | None = None, trust_clock: bool = False) -> Forgotten:
        """Erase the samples whose time is over; to be called at start and daily.

        A clock that is behind the latest time that the store has seen, or before 2025, is not trusted: a sample that is
        added meanwhile has no date of expiry, and its days begin with the first call at which the clock is right. So a
        clock that is set back never has a sample erased early.

        Args:
            now: wall-clock time in seconds since 1970; None: this machine's.
            trust_clock: take the time as right, though the store has seen a later one: the remedy for a clock that once
                ran ahead.
        """
        now = time.time() if now is None else now

        def expired(db: Connection) -> tuple[str, tuple]:
            if trust_clock:
                db.execute("UPDATE state SET clock = ?", (now,))
            start = retention_start(db, now)
            db.execute(
                "UPDATE samples SET expires_at = ? + keep_days * ? WHERE expires_at IS NULL AND keep_days IS NOT NULL",
                (start, DAY_S),
            )
            return "expires_at <= ?", (now,)

        return self._erase(expired)

    def rename(self, task: str, label: str, new_label: str = "", display_name: str = "") -> int:
        """Give a label another name, or change what it is called aloud.

        Args:
            new_label: one that is not in use; empty: as it is.
            display_name: empty: as it is.

        Returns:
            How many samples carry the name now.

        Raises:
            SampleStoreError: there is no such label, the new one is in use or not allowed, or nothing is asked for.
        """
        label = normal_label(label)
        new_label = check_label(new_label, task) if new_label else label
        display_name = check_display_name(display_name)
        if new_label == label and not display_name:
            raise SampleStoreError(f"label '{label}': give a new label or a display name")
        with self._database.writing() as db:
            label_id = label_id_of(db, task, label)
            if new_label != label and find_label(db, task, new_label):
                raise SampleStoreError(f"label '{new_label}' of '{task}' is in use: merge '{label}' into it instead")
            db.execute("UPDATE labels SET name = ? WHERE id = ?", (new_label, label_id))
            if display_name:
                db.execute("UPDATE labels SET display_name = ? WHERE id = ?", (display_name, label_id))
            note_traces(db)
            changed = count_samples(db, "label_id = ?", (label_id,))
        self._scrub()
        return changed

    def merge(self, task: str, from_labels: Sequence[str], into_label: str, display_name: str = "") -> tuple[int, int]:
        """Make several labels of a task one, such as a person who was enrolled twice.

        Args:
            from_labels: these cease to exist.
            into_label: this one gets their samples; it may be new.
            display_name: what to call it aloud; empty: as it is, or the label itself.

        Returns:
            How many samples changed their label, and how many the label has now.

        Raises:
            SampleStoreError: a label does not exist or is not allowed.
        """
        into_label, display_name = check_label(into_label, task), check_display_name(display_name)
        merged = [label for label in dict.fromkeys(map(normal_label, from_labels)) if label != into_label]
        if not merged:
            raise SampleStoreError(f"from_labels: none is given that could become '{into_label}'")
        with self._database.writing() as db:
            older = [label_id_of(db, task, label) for label in merged]
            into = add_label(db, task, into_label, display_name)
            moved = sum(
                db.execute("UPDATE samples SET label_id = ? WHERE label_id = ?", (into, label_id)).rowcount
                for label_id in older
            )
            drop_unused_labels(db)
            note_traces(db)
            total = count_samples(db, "label_id = ?", (into,))
        self._scrub()
        return moved, total

    def size_bytes(self) -> int:
        """What the store takes on disk."""
        files = (Path(f"{self.file}{suffix}") for suffix in ("", "-wal", "-shm"))
        return sum(file.stat().st_size for file in files if file.exists())

    def _insert(
        self, samples: Sequence[Sample], crops: Sequence[np.ndarray], now: float, allow_built_in: bool
    ) -> list[int]:
        samples = [check_sample(sample, allow_built_in) for sample in samples]
        pngs = [encode(crop) for crop in crops]
        if not samples:
            return []
        ids = []
        with self._database.writing() as db:
            start = retention_start(db, now)
            for sample, png in zip(samples, pngs, strict=True):
                label_id = add_label(db, sample.task, sample.label, sample.display_name)
                expires_at = sample.expires_at
                if expires_at is None and sample.keep_days is not None and start is not None:
                    expires_at = start + sample.keep_days * DAY_S
                source = (sample.face_id, sample.camera, sample.stamp_ns, sample.quality, sample.requested_by)
                row = (label_id, *source, sample.collected_at, sample.keep_days, expires_at, png)
                ids.append(db.execute(f"INSERT INTO samples VALUES (NULL{', ?' * len(row)})", row).lastrowid or 0)
        return ids

    def _erase(self, choose: Callable[[Connection], tuple[str, tuple]]) -> Forgotten:
        """Erase what meets a condition, which is asked for within the transaction."""
        if not self.file.exists():
            return Forgotten((), {}, 0)
        with self._database.writing() as db:
            where, values = choose(db)
            found = matching(db, where, values)
            if found.count:
                chosen = f"SELECT samples.id FROM {TABLES} WHERE {where}"
                db.execute(f"DELETE FROM samples WHERE id IN ({chosen})", values)
                drop_unused_labels(db)
                note_traces(db)
        self._scrub()
        return found

    def _scrub(self) -> None:
        """Also makes up for a process that was killed after it erased."""
        with self._database.reading() as db:
            traces = db.execute("SELECT traces FROM state").fetchone()[0]
        if traces:
            erase_cached_crops()
            self._database.scrub()
