"""The store as a file: formats, damage, full disks, other users, several processes, a kill."""

import contextlib
import itertools
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_world import FORK, crop, opened, pictures

from face_mtl_ros.samples import database
from face_mtl_ros.samples.errors import SampleStoreError
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore


@pytest.fixture
def store(home):
    return SampleStore()


def test_an_older_format_is_migrated_and_a_newer_one_refused(store, monkeypatch):
    store.add("identity", "Ann", pictures(1))
    newer = (*database.MIGRATIONS, "ALTER TABLE samples ADD COLUMN pose REAL; CREATE TABLE poses (id INTEGER)")
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", newer)
        assert store.total() == 1
        with opened(store) as db:
            assert db.execute("SELECT pose FROM samples").fetchall() == [(None,)]
            assert db.execute("PRAGMA user_version").fetchone() == (2,)
    before = store.file.read_bytes()
    for call in (store.find, lambda: store.add("identity", "Bob", pictures(2)), lambda: store.forget(everything=True)):
        with pytest.raises(SampleStoreError, match="is of format 2.*up to 1: update face_mtl_ros"):
            call()
    assert store.file.read_bytes() == before


def test_what_is_no_store_is_left_alone(store):
    store.file.parent.mkdir(parents=True)
    with opened(store) as db:
        db.execute("CREATE TABLE addresses (name TEXT)")
    before = store.file.read_bytes()
    with pytest.raises(SampleStoreError, match="another program's database"):
        store.add("identity", "Ann", pictures(1))
    assert store.file.read_bytes() == before
    store.file.write_bytes(b"no database at all" * 100)
    with pytest.raises(SampleStoreError, match="is corrupt: move it away"):
        store.find()


def test_a_corrupt_file_is_told_of(store):
    store.add("identity", "Ann", pictures(*range(20)))
    data = bytearray(store.file.read_bytes())
    data[4096:16384] = os.urandom(12288)
    store.file.write_bytes(data)
    with pytest.raises(SampleStoreError, match="is corrupt: move it away"):
        store.find()


def test_a_damaged_picture_is_told_of_and_can_be_erased(store):
    store.add("identity", "Ann", pictures(1, 2))
    with opened(store) as db:
        db.execute("UPDATE samples SET png = substr(png, 1, 5000) WHERE id = 1")
    with pytest.raises(SampleStoreError, match="sample 1 of .* is damaged: erase it"):
        store.crop(1)
    assert store.forget(ids=[1]).count == 1
    np.testing.assert_array_equal(store.crop(2), crop(2))


def test_a_busy_store_is_told_of(store):
    store.add("identity", "Ann", pictures(1))
    with opened(store) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.total() == 1  # reading goes on
        with pytest.raises(SampleStoreError, match="another process keeps it busy"):
            SampleStore(timeout_s=0.1).add("identity", "Ann", pictures(2))
        other.execute("ROLLBACK")


@contextlib.contextmanager
def apart(work, *arguments):
    """Run a function in a process of its own, with the pipe that it writes to as its last argument."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=work, args=(*arguments, there))
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join()


def received(pipe):
    """All that was written until the writer's end."""
    found = []
    with contextlib.suppress(EOFError):
        while True:
            found.append(pipe.recv())
    return found


def fill_up(pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    store = SampleStore()
    try:
        while True:
            pipe.send(store.add("identity", "Ann", pictures(*range(5))))
    except SampleStoreError as error:
        pipe.send(str(error))


def test_a_file_that_cannot_grow_keeps_what_it_has(store):
    """As on a full disk: the system refuses to write more than 1 MB to a file."""
    with apart(fill_up) as (_, pipe):
        *acknowledged, message = received(pipe)
    assert "sample store" in message and "disk" in message and "repeat" in message
    stored = sum(map(len, acknowledged))
    assert store.total() == stored > 0
    store.forget(ids=[1])
    assert store.total() == stored - 1


def use_as_another_user(file, pipe):
    if os.getuid() == 0:
        os.setuid(65534)
    store = SampleStore(file)
    pipe.send((store.total(), (store.crop(1) == crop(1)).all()))
    for call in (lambda: store.add("identity", "Bob", pictures(2)), lambda: store.forget(label="Ann")):
        try:
            call()
        except SampleStoreError as error:
            pipe.send(str(error))


def test_a_store_that_cannot_be_written_can_be_read(tmp_path):
    """By a user who may not write there, for root, as whom tests run in containers, may write everywhere."""
    for folder in (tmp_path, *tmp_path.parents[:3]):  # pytest-xdist's is one deeper
        folder.chmod(folder.stat().st_mode | 0o055)
    store = SampleStore(tmp_path / "store" / "samples.sqlite3")
    store.add("identity", "Ann", pictures(1))
    store.file.chmod(0o444)
    store.file.parent.chmod(0o555)
    try:
        with apart(use_as_another_user, store.file) as (_, pipe):
            read, *messages = received(pipe)
    finally:
        store.file.parent.chmod(0o755)
    assert read == (1, True)
    assert len(messages) == 2 and all("cannot be written: make the file" in message for message in messages)
    assert store.total() == 1


def test_a_reader_in_another_thread_keeps_its_lock(store):
    """The locks of all threads of a process go when one of them closes the file, unless it does so through SQLite.

    Another process would take itself for the last user then, and remove the -wal that the reader looks into.
    """
    store.add("identity", "Ann", pictures(1))
    with opened(store) as reader:
        assert reader.execute("SELECT count(*) FROM samples").fetchone() == (1,)
        store.add("identity", "Ann", pictures(2))
        other = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM state'); db.close()"
        subprocess.run([sys.executable, "-c", other, store.file], check=True, timeout=60)  # no fork: it knows the locks
        assert Path(f"{store.file}-wal").exists()
        assert reader.execute("SELECT count(*) FROM samples").fetchone() == (2,)
    assert not Path(f"{store.file}-wal").exists()


def test_an_error_takes_the_whole_transaction_back(store):
    """Such as one that is found when half of it is done."""
    store.add("identity", "Ann", pictures(1))
    with pytest.raises(SampleStoreError, match="no label 'Eve'"):
        store.merge("identity", ["Ann", "Eve"], "Bob")
    samples = [replace(store.find()[0], label=label) for label in ("Cid", "Dan")]
    with pytest.raises(ValueError):
        store.restore(samples, [crop(2)])  # fewer pictures than samples
    assert [(c.label, c.count) for c in store.counts()] == [("Ann", 1)]
    store.add("identity", "Dan", pictures(3))
    assert [(c.label, c.count) for c in store.counts()] == [("Ann", 1), ("Dan", 1)]


def write_many(file, label, start, errors):
    store = SampleStore(file, timeout_s=60)
    start.wait()
    try:
        for i in range(10):
            store.add("identity", label, [Picture(crop(i, 128)), Picture(crop(i + 1, 128))])
            if i % 4 == 3:
                store.forget(ids=[store.find("identity", label, limit=1)[0].id])
    except Exception as error:
        errors.put(repr(error))


def test_processes_that_write_at_once_wait_for_each_other(tmp_path):
    """From the making of the file on, with erasing in between."""
    file, start, errors = tmp_path / "samples.sqlite3", FORK.Barrier(4), FORK.Queue()
    writers = [FORK.Process(target=write_many, args=(file, f"writer {i}", start, errors)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert errors.empty(), errors.get()
    store = SampleStore(file)
    assert [(c.label, c.count) for c in store.counts()] == [(f"writer {i}", 18) for i in range(4)]
    assert len({sample.id for sample in store.find()}) == 72


def add_and_rename_for_ever(pipe):
    store = SampleStore()
    for i in itertools.count():
        pipe.send(store.add("identity", f"Ann {i % 7}", pictures(*range(5))))
        if i % 5 == 4:
            store.rename("identity", "Ann 0", f"Ann {7 + i}")
            store.merge("identity", [f"Ann {7 + i}"], "Ann 0")


def test_a_killed_writer_leaves_nothing_by_halves(store):
    """What was acknowledged is there, five by five, and the next writer goes on."""
    acknowledged = set()
    for wait_s in (0.02, 0.07, 0.13, 0.19, 0.31):
        with apart(add_and_rename_for_ever) as (writer, pipe):
            first = pipe.recv()
            time.sleep(wait_s)
            writer.kill()
            acknowledged |= set(itertools.chain(first, *received(pipe)))
        found = [sample.id for sample in store.find()]
        assert acknowledged <= set(found) and len(found) % 5 == 0
        with opened(store) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        np.testing.assert_array_equal(store.crop(max(found)), crop(4))
        acknowledged |= set(store.add("identity", "Bob", pictures(*range(5))))
