"""What is forgotten is gone from the file; renaming, merging, retention and clocks."""

import pytest
from sample_world import DAY, NOW, bytes_in, crop, has_pixels_of, opened, pictures

from face_mtl_ros.datasets.crops import load_crops
from face_mtl_ros.samples import database
from face_mtl_ros.samples.dataset import samples_dataset
from face_mtl_ros.samples.errors import SampleStoreError
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore


@pytest.fixture
def store(home):
    return SampleStore()


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
