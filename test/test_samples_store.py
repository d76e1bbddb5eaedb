"""The sample store: what is asked for is kept, what is forgotten is gone, whatever happens to the process."""

import contextlib
import itertools
import multiprocessing
import os
import resource
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_mtl_ros.datasets.crops import dataset_crop, load_crops
from face_mtl_ros.samples import database
from face_mtl_ros.samples.checks import check_label
from face_mtl_ros.samples.dataset import samples_dataset
from face_mtl_ros.samples.errors import SampleStoreError
from face_mtl_ros.samples.sample import Picture, Sample
from face_mtl_ros.samples.store import SampleStore

DAY = 86400.0
NOW = 1800000000.0  # in 2027
FORK = multiprocessing.get_context("fork")


def crop(seed, side=160):
    """Noise: no part of it, nor of its PNG file, is anywhere else."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def pictures(*seeds):
    return [Picture(crop(seed)) for seed in seeds]


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


def bytes_in(folder):
    """All bytes of all files of a folder."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def has_pixels_of(data, picture):
    """Whether any of the PNG file's pieces is there: SQLite keeps it in pages of 4 KB."""
    whole = png(picture)
    return any(whole[start : start + 48] in data for start in range(100, len(whole) - 48, 1000))


def opened(store):
    """The store's file by SQLite itself, closed when the block ends."""
    return contextlib.closing(sqlite3.connect(store.file, isolation_level=None))


@pytest.fixture
def store(home):
    return SampleStore()


def test_a_sample_comes_back_whole(store, home):
    shown = crop(1)
    # As numpy has them, which SQLite would store as something else.
    stamp, quality = np.int64(1800000000_123456789), np.float32(0.75)
    picture = Picture(shown, face_id="a3f-7", camera="head", stamp_ns=stamp, quality=quality)
    bare = Picture(crop(2, 128))
    ids = store.add(
        "identity",
        "zoë",
        [picture, bare],
        display_name="Dr. Zoë / QA",
        requested_by="operator",
        keep_days=30,
        now=NOW,
    )
    assert store.file == home / "samples" / "samples.sqlite3"
    newest, oldest = store.find()
    assert [oldest.id, newest.id] == ids and ids == sorted(ids)
    assert oldest == Sample(
        id=ids[0],
        task="identity",
        label="zoë",
        display_name="Dr. Zoë / QA",
        face_id="a3f-7",
        camera="head",
        stamp_ns=1800000000_123456789,
        quality=0.75,
        requested_by="operator",
        collected_at=NOW,
        keep_days=30,
        expires_at=NOW + 30 * DAY,
    )
    np.testing.assert_array_equal(store.crop(ids[0]), shown)
    np.testing.assert_array_equal(store.crop(ids[1]), bare.crop)


def test_looking_at_a_store_makes_none(store, home):
    assert store.find() == [] and store.counts() == [] and store.total() == 0 and store.size_bytes() == 0
    assert store.enforce_retention().count == 0 and store.forget(everything=True).count == 0
    with pytest.raises(SampleStoreError, match="sample 7 is not in"):
        store.crop(7)
    assert not home.exists()


def test_only_its_user_may_read_it(store):
    store.add("identity", "Ann", pictures(1))
    assert store.file.stat().st_mode & 0o077 == 0 and store.file.parent.stat().st_mode & 0o077 == 0


def test_counts_and_pages(store):
    store.add("smile", "yes", pictures(1, 2), now=NOW)
    store.add("identity", "Bob", pictures(3), now=NOW, keep_days=9, display_name="Bobby")
    store.add("identity", "Ann", pictures(4, 5), now=NOW + 1)
    counts = store.counts()
    assert [(c.task, c.label, c.display_name, c.count) for c in counts] == [
        ("identity", "Ann", "Ann", 2),
        ("identity", "Bob", "Bobby", 1),
        ("smile", "yes", "yes", 2),
    ]
    assert (counts[1].first, counts[1].last, counts[1].next_expiry) == (NOW, NOW, NOW + 9 * DAY)
    assert counts[0].next_expiry is None
    assert [c.label for c in store.counts(label="Bob")] == ["Bob"]
    assert store.total() == 5 and store.total("identity") == 3 and store.total("identity", "Ann") == 2
    assert [s.id for s in store.find(offset=1, limit=2)] == [4, 3]
    assert [s.id for s in store.find("smile", "yes")] == [2, 1]
    assert [s.id for s in store.find(ids=[5, 1, 99, 2**64])] == [5, 1]


def test_all_or_none_is_stored(store):
    with pytest.raises(SampleStoreError, match=r"crop is uint8 \(64, 64\)"):
        store.add("identity", "Ann", [*pictures(1, 2), Picture(crop(3, 64))])
    assert store.total() == 0


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("", "is empty"),
        (" \u200d\u0301 ", "is empty"),
        ("a/b", "slashes"),
        ("a\\b", "slashes"),
        ("..", "cannot name a folder"),
        ("two\nlines", r"control character U\+000A"),
        ("nul\0", r"control character U\+0000"),
        ("half \ud800", r"control character U\+D800"),
        ("x" * 10000, "10000 characters"),
        ("Unknown", "calls strangers"),
        (7, "is no text"),
    ],
)
def test_a_bad_label_is_refused_with_the_reason_in_a_line(store, label, said):
    with pytest.raises(SampleStoreError, match=said) as error:
        store.add("identity", label, pictures(1))
    assert len(str(error.value)) < 200 and str(error.value).isprintable()
    assert not store.file.exists()


@pytest.mark.parametrize("label", ["李小龍", "محمد", "Ольга 2", "अनुष्का", "علی‌رضا", "🙂", "x" * 200, "unknown species"])
def test_labels_of_any_script(store, label):
    store.add("identity", f"  {label} ", pictures(1))
    assert store.counts()[0].label == label
    assert store.forget(label=label).count == 1


def test_a_letter_composed_in_two_ways_is_one_label(store):
    store.add("identity", "Zoe\u0308", pictures(1))
    store.add("identity", "Zo\u00eb", pictures(2))
    assert [(c.label, c.count) for c in store.counts()] == [("Zo\u00eb", 2)]
    assert store.total(label="Zoe\u0308") == 2


@given(st.text(max_size=220))
def test_a_label_that_passes_stays_as_it_is(text):
    try:
        label = check_label(text, "identity")
    except SampleStoreError:
        return
    assert check_label(label, "identity") == label
    assert 1 <= len(label) <= 200 and label == label.strip() and len(Path(label).parts) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task": "Emotion"}, "a small letter is expected"),
        ({"task": "a\n"}, "a small letter is expected"),
        ({"task": "emotion"}, "is built into the model"),
        ({"keep_days": 0}, "keep_days 0"),
        ({"keep_days": float("nan")}, "keep_days nan"),
        ({"display_name": "a\tb"}, "display_name 'a.tb' has the control character"),
        ({"requested_by": "x" * 1001}, "requested_by .* has 1001 characters"),
        ({"pictures": [Picture(crop(1), quality=float("nan"))]}, "quality nan"),
        ({"pictures": [Picture(crop(1), stamp_ns=2**64)]}, "stamp_ns"),
        ({"pictures": [Picture(crop(1).astype(np.float32))]}, "crop is float32"),
    ],
)
def test_a_value_out_of_range_is_named(store, values, said):
    with pytest.raises(SampleStoreError, match=said):
        store.add(**{"task": "identity", "label": "Ann", "pictures": pictures(1)} | values)
    assert store.total() == 0


def test_built_in_tasks_by_permission(store):
    store.add("emotion", "unknown", pictures(1), allow_built_in=True)
    assert store.total("emotion") == 1


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"task": "identity"}, ["yes"]),
        ({"label": "Änn"}, ["Bob", "yes"]),
        ({"task": "identity", "label": "Bob"}, ["yes", "Änn"]),
        ({"older_than_days": 10}, ["Bob", "yes"]),
        ({"ids": [1, 2]}, ["Bob", "yes"]),
        ({"ids": [3], "task": "smile"}, ["Bob", "yes", "Änn"]),
        ({"everything": True}, []),
    ],
)
def test_what_is_forgotten_is_gone_from_the_file(store, home, condition, left):
    stored = {"Änn": ("identity", (1, 2), NOW - 20 * DAY), "Bob": ("identity", (3,), NOW), "yes": ("smile", (4,), NOW)}
    for label, (task, seeds, when) in stored.items():
        store.add(task, label, pictures(*seeds), now=when, requested_by=f"{label} herself")
    before = store.forget(**condition, dry_run=True, now=NOW)
    assert store.total() == 4
    done = store.forget(**condition, now=NOW)
    assert (done.ids, done.counts, done.remaining) == (before.ids, before.counts, before.remaining)
    assert sorted(c.label for c in store.counts()) == left and store.total() == done.remaining == 4 - done.count
    data = bytes_in(home)
    for label, (_, seeds, _) in stored.items():
        assert (label.encode() in data) == (label in left)
        assert all(has_pixels_of(data, crop(seed)) == (label in left) for seed in seeds)


def test_nothing_of_many_rows_moved_about_is_left(store, home):
    """And the file gives back the room that they took."""
    for i in range(60):
        store.add("identity", f"person-{i}-of-the-house", [Picture(crop(i, 128), camera=f"camera-{i}-of-{'x' * i}")])
    before = store.size_bytes()
    store.forget(ids=range(1, 61, 2))
    assert store.size_bytes() < 0.55 * before
    data = bytes_in(home)
    assert not [i for i in range(0, 60, 2) if f"person-{i}-of".encode() in data or f"camera-{i}-of".encode() in data]
    assert all(f"person-{i}-of".encode() in data for i in range(1, 60, 2))


def test_nothing_may_be_forgotten_by_accident(store):
    store.add("identity", "Ann", pictures(1))
    for conditions, said in [
        ({}, "nothing says what to forget"),
        ({"everything": True, "label": "Ann"}, "no other condition"),
        ({"older_than_days": float("nan")}, "older_than_days nan"),
        ({"older_than_days": -1}, "older_than_days -1"),
    ]:
        with pytest.raises(SampleStoreError, match=said):
            store.forget(**conditions)
    assert store.forget(label="An").count == 0 and store.total() == 1


def test_numbers_are_never_used_again(store):
    first = store.add("identity", "Ann", pictures(1, 2))
    store.forget(everything=True)
    assert store.add("identity", "Ann", pictures(3))[0] > max(first)


def test_bytes_leave_the_caches_of_training_too(store, home):
    store.add("identity", "Ann", pictures(1, 2))
    store.add("identity", "Bob", pictures(3))
    load_crops(samples_dataset(store, "identity"))
    raw = crop(1)[80].tobytes()
    assert raw in bytes_in(home)
    store.forget(label="Ann")
    assert raw not in bytes_in(home)


def test_a_process_killed_after_it_erased_is_made_up_for(store, home, monkeypatch):
    store.add("identity", "Ann-who-leaves", pictures(1))
    store.add("identity", "Bob", pictures(2))

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database.Database, "scrub", killed)
        with pytest.raises(KeyboardInterrupt):
            store.forget(label="Ann-who-leaves")
    with opened(store) as db:
        assert db.execute("SELECT traces FROM state").fetchone() == (1,)
    assert store.total(label="Ann-who-leaves") == 0
    SampleStore().enforce_retention()
    data = bytes_in(home)
    assert b"Ann-who-leaves" not in data and not has_pixels_of(data, crop(1))


def test_a_reader_that_holds_the_bytes_back_is_told_of(store, home):
    store.add("identity", "Ann-who-leaves", pictures(1))
    impatient = SampleStore(timeout_s=0.2)
    with opened(store) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM samples").fetchone()
        with pytest.raises(SampleStoreError, match="erased, but another process reads it.*repeat"):
            impatient.forget(label="Ann-who-leaves")
        assert impatient.total() == 0
        reader.execute("COMMIT")
    impatient.forget(label="Ann-who-leaves")
    assert b"Ann-who-leaves" not in bytes_in(home)


def test_rename_and_merge(store, home):
    store.add("identity", "Old-Name", pictures(1, 2), display_name="Olga")
    store.add("identity", "Twin", pictures(3))
    store.add("identity", "Bob", pictures(4))
    assert store.rename("identity", "Old-Name", "New") == 2
    assert store.rename("identity", "New", display_name="Nina") == 2
    assert store.merge("identity", ["Twin", "New"], "New") == (1, 3)
    assert store.merge("identity", ["New", "Bob"], "Everyone", "All of us") == (4, 4)
    assert [(c.label, c.display_name, c.count) for c in store.counts()] == [("Everyone", "All of us", 4)]
    data = bytes_in(home)
    assert not [name for name in (b"Old-Name", b"Olga", b"Nina", b"Twin") if name in data]


def test_rename_and_merge_say_what_is_wrong(store):
    store.add("identity", "Ann", pictures(1))
    store.add("identity", "Bob", pictures(2))
    for call, said in [
        (lambda: store.rename("identity", "Cid", "Dan"), "no label 'Cid'; it has Ann, Bob"),
        (lambda: store.rename("smile", "Ann", "Dan"), "no label 'Ann'; it has none"),
        (lambda: store.rename("identity", "Ann", "Bob"), "in use: merge 'Ann' into it"),
        (lambda: store.rename("identity", "Ann", "unknown"), "calls strangers"),
        (lambda: store.rename("identity", "Ann"), "give a new label or a display name"),
        (lambda: store.merge("identity", ["Ann", "Cid"], "Bob"), "no label 'Cid'"),
        (lambda: store.merge("identity", ["Bob"], "Bob"), "none is given"),
    ]:
        with pytest.raises(SampleStoreError, match=said):
            call()
    assert [(c.label, c.count) for c in store.counts()] == [("Ann", 1), ("Bob", 1)]


def test_retention(store, home):
    store.add("identity", "Ann-for-a-week", pictures(1), keep_days=7, now=NOW)
    store.add("identity", "Bob", pictures(2), now=NOW)
    assert store.enforce_retention(NOW + 6.9 * DAY).count == 0
    done = store.enforce_retention(NOW + 7.1 * DAY)
    assert done.counts == {("identity", "Ann-for-a-week"): 1} and done.remaining == 1
    assert b"Ann-for-a-week" not in bytes_in(home)
    assert store.enforce_retention(NOW + 10000 * DAY).count == 0


@pytest.mark.parametrize("wrong", [0.0, NOW - 365 * DAY])
def test_a_clock_that_is_behind_erases_nothing_early(store, wrong):
    """Neither one that was never set nor one that was set back."""
    store.add("identity", "Ann", pictures(1), keep_days=7, now=NOW)
    (behind,) = store.add("identity", "Bob", pictures(2), keep_days=7, now=wrong)
    assert store.enforce_retention(wrong + 8 * DAY).count == 0
    assert [s.label for s in store.find()] == ["Bob", "Ann"]  # order by number, not by clock
    assert store.find(ids=[behind])[0].expires_at is None
    assert store.enforce_retention(NOW + DAY).count == 0
    assert store.find(ids=[behind])[0].expires_at == NOW + 8 * DAY
    assert store.enforce_retention(NOW + 7.5 * DAY).counts == {("identity", "Ann"): 1}
    assert store.enforce_retention(NOW + 8.5 * DAY).counts == {("identity", "Bob"): 1}


def test_a_clock_that_ran_ahead_once_can_be_trusted_again(store):
    store.enforce_retention(NOW)
    store.add("identity", "Ann", pictures(1), now=NOW + 10000 * DAY)
    (waiting,) = store.add("identity", "Bob", pictures(2), keep_days=7, now=NOW)
    store.enforce_retention(NOW + DAY)
    assert store.find(ids=[waiting])[0].expires_at is None
    store.enforce_retention(NOW + DAY, trust_clock=True)
    assert store.find(ids=[waiting])[0].expires_at == NOW + 8 * DAY


def test_the_dataset_of_a_task_trains_as_any_other(store):
    seeds = iter(range(100))
    for label in ("Bob", "Ann"):
        store.add("identity", label, [Picture(crop(next(seeds))) for _ in range(10)])
    store.add("identity", "Cid", [Picture(crop(100, 128))])
    dataset = samples_dataset(store, "identity")
    assert dataset.classes == {"identity": ("Ann", "Bob", "Cid")} and len(dataset) == 21
    assert dataset.counts("identity") == {"Ann": 10, "Bob": 10, "Cid": 1}
    assert dataset.labels["identity"][:2].tolist() == [1, 1] and len(set(dataset.ids)) == 21
    crops = load_crops(dataset)
    assert crops.shape == (21, 160, 160)
    np.testing.assert_array_equal(crops[0], crop(0))
    np.testing.assert_array_equal(crops[20], np.pad(crop(100, 128), 16, mode="edge"))
    np.testing.assert_array_equal(dataset_crop(dataset, 3), crop(3)[16:144, 16:144])

    train, val = (samples_dataset(store, "identity", split, ["Bob", "Ann"]) for split in ("train", "val"))
    assert val.counts("identity") == {"Bob": 2, "Ann": 2} and train.counts("identity") == {"Bob": 8, "Ann": 8}
    assert not set(train.ids) & set(val.ids)
    for labels, said in [(["Bob", "Eve"], "no sample of 'Eve'"), (["Cid"], "hold back")]:
        with pytest.raises(SampleStoreError, match=said):
            samples_dataset(store, "identity", "val", labels)
    with pytest.raises(SampleStoreError, match="'smile' has no samples"):
        samples_dataset(store, "smile")


@pytest.mark.slow
def test_a_column_trains_from_the_store(store, tmp_path, monkeypatch):
    """Two labels of one task, to the end, in a bundle that reads them then."""
    pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
    pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
    pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")
    from tiny_world import QUICK, SHAPES, know_tiny, quiet

    from face_mtl_ros.runtime.random_bundle import write_random_bundle
    from face_mtl_ros.training.production import ColumnOrder, make_column

    know_tiny(monkeypatch)
    random = np.random.default_rng(0)
    for label in ("disc", "stripes"):
        shapes = [cv2.resize(SHAPES[label](i, random), (160, 160)) for i in range(20)]
        store.add("shape", label, [Picture(shape) for shape in shapes])
    bundle = write_random_bundle(tmp_path / "bundle", "tiny", {"older": (["a", "b"], [])})
    train, val = (samples_dataset(store, "shape", split) for split in ("train", "val"))
    made = make_column(bundle.root, ColumnOrder("shape", [train], [val]), QUICK, "", quiet).manifest.column("shape")
    assert made.labels == ["disc", "stripes"] and made.provenance.samples == {"samples/train": 32}
    assert made.metrics["samples/val/n"] == 8 and made.metrics["samples/val/accuracy"] == 1


def test_a_sample_forgotten_while_it_is_read_says_so(store):
    ids = store.add("identity", "Ann", pictures(1))
    dataset = samples_dataset(store, "identity")
    store.forget(ids=ids)
    with pytest.raises(SampleStoreError, match="sample 1 is not in .* erased"):
        load_crops(dataset)


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
