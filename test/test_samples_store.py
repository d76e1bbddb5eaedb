"""The sample store: what is asked for is kept, counted and listed, and trains as any other dataset."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_world import DAY, NOW, crop, pictures

from face_mtl_ros.datasets.crops import dataset_crop, load_crops
from face_mtl_ros.samples.checks import check_label
from face_mtl_ros.samples.dataset import samples_dataset
from face_mtl_ros.samples.errors import SampleStoreError
from face_mtl_ros.samples.sample import Picture, Sample
from face_mtl_ros.samples.store import SampleStore


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
