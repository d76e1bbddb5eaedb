"""face-mtl samples, as a user meets it, and the folders that it writes and reads."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.cli import main
from face_mtl_ros.datasets.crops import dataset_crop
from face_mtl_ros.datasets.folder import read_folder
from face_mtl_ros.samples.checks import check_label
from face_mtl_ros.samples.errors import SampleStoreError
from face_mtl_ros.samples.folders import export_samples, import_samples
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore

DAY = 86400.0
NOW = 1800000000.0


def crop(seed, side=160):
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def run(*arguments):
    return main(["samples", *map(str, arguments)])


def run_json(capsys, *arguments):
    assert run(*arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def store(home):
    """Ann twice, Bob once, and a smile."""
    store = SampleStore()
    ann = [Picture(crop(1), "a-1", "head", 12_000000034, 0.5), Picture(crop(2, 128))]
    store.add("identity", "Ann", ann, requested_by="operator", now=NOW)
    store.add("identity", "Bob", [Picture(crop(3))], display_name="Bobby", keep_days=30, now=NOW + 5)
    store.add("smile", "yes", [Picture(crop(4))], now=NOW + 10)
    return store


def everything(store, task):
    """All that is known of a task's samples but their numbers, oldest first."""
    return [(replace(s, id=0), store.crop(s.id).tolist()) for s in reversed(store.find(task))]


def test_list(store, capsys):
    samples = run_json(capsys, "list", "--task", "identity")
    assert [s["id"] for s in samples] == [3, 2, 1]
    assert samples[0]["display_name"] == "Bobby" and samples[0]["expires_at"] == NOW + 5 + 30 * DAY
    assert samples[2] == {
        "id": 1,
        "task": "identity",
        "label": "Ann",
        "display_name": "",
        "face_id": "a-1",
        "camera": "head",
        "stamp_ns": 12_000000034,
        "quality": 0.5,
        "requested_by": "operator",
        "collected_at": NOW,
        "keep_days": None,
        "expires_at": None,
    }
    assert [s["id"] for s in run_json(capsys, "list", "--offset", 1, "--limit", 2)] == [3, 2]
    assert run("list", "--label", "Ann") == 0
    newest, oldest = capsys.readouterr().out.splitlines()
    assert oldest.startswith("1: identity Ann, 2027-01-") and "face a-1, camera head, asked for by operator" in oldest
    assert newest.startswith("2: identity Ann") and newest.endswith("kept for ever")


def test_count(store, capsys):
    (found,) = run_json(capsys, "count")
    assert [(c["task"], c["label"], c["count"]) for c in found["counts"]] == [
        ("identity", "Ann", 2),
        ("identity", "Bob", 1),
        ("smile", "yes", 1),
    ]
    assert found["total"] == 4 and found["store_bytes"] >= store.file.stat().st_size
    assert run("count", "--task", "identity") == 0
    out = capsys.readouterr().out
    assert "identity Bob (Bobby): 1" in out and "\n3 samples, " in out


def test_nothing_stored_is_no_error(home, capsys):
    assert run("list") == 0 and run("count") == 0 and run("forget", "--everything") == 0
    out = capsys.readouterr().out
    assert "0 samples, 0 bytes" in out and "forgot 0 samples, 0 remain" in out
    assert not home.exists()


def test_forget(store, capsys):
    assert run("forget", "--label", "Ann", "--dry-run") == 0
    assert capsys.readouterr().out == "identity Ann: 2\nwould forget 2 samples, 2 remain\n"
    assert store.total() == 4
    (done,) = run_json(capsys, "forget", "--id", 1, "--id", 4)
    assert done["forgotten"] == 2 and done["remaining"] == 2
    assert {"task": "smile", "label": "yes", "count": 1} in done["counts"]
    assert run("forget", "--older-than", 0.5, "--task", "identity") == 0
    assert store.total() == 2  # they are of the year 2027
    assert run("forget", "--everything") == 0
    assert store.total() == 0


def test_forget_what_expired(store, capsys, monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW + 31 * DAY)
    (done,) = run_json(capsys, "forget", "--expired")
    assert done["counts"] == [{"task": "identity", "label": "Bob", "count": 1}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["forget"], "nothing says what to forget"),
        (["forget", "--expired", "--label", "Ann"], "--expired: no other condition"),
        (["forget", "--trust-clock", "--label", "Ann"], "--trust-clock: it goes with --expired"),
        (["list", "--limit", "-1"], "--offset and --limit"),
    ],
)
def test_wrong_usage(store, capsys, arguments, said):
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err and store.total() == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["forget", "--everything", "--label", "Ann"], "everything: no other condition"),
        (["forget", "--older-than", "nan"], "older_than_days nan"),
        (["export", "--task", "pose", "{out}"], "task 'pose' has no samples"),
        (["export", "--task", "smile", "{full}"], "is there already"),
        (["export", "--task", "smile", "{full}/picture.txt/deeper"], "cannot be written"),
        (["import", "{full}"], "no samples.json that names the task"),
        (["import", "--task", "pose", "{full}"], "no pictures in folders"),
        (["import", "--task", "pose", "{out}"], "is no folder"),
    ],
)
def test_a_mistake_is_one_line(store, tmp_path, capsys, arguments, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "picture.txt").write_text("none")
    assert run(*(text.format(out=tmp_path / "out", full=tmp_path / "full") for text in arguments)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert store.total() == 4 and {p.name for p in tmp_path.iterdir()} == {"home", "full"}


def test_a_round_trip_loses_nothing(store, tmp_path, capsys, monkeypatch):
    assert run("export", "--task", "identity", tmp_path / "faces") == 0
    assert "exported 3 samples of identity" in capsys.readouterr().out
    assert sorted(p.relative_to(tmp_path / "faces").as_posix() for p in (tmp_path / "faces").glob("*/*")) == [
        "Ann/00000001.png",
        "Ann/00000002.png",
        "Bob/00000003.png",
    ]
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "another"))
    (done,) = run_json(capsys, "import", tmp_path / "faces")
    assert done == {"task": "identity", "imported": 3, "known": 0, "ids": [1, 2, 3]}
    assert everything(SampleStore(), "identity") == everything(store, "identity")
    assert run("import", tmp_path / "faces") == 0  # again
    assert capsys.readouterr().out == "imported 0 samples of identity, 3 were there already\n"
    assert SampleStore().total() == 3


def label_or_none(text):
    with contextlib.suppress(SampleStoreError):
        return check_label(text, "identity")


LABELS = st.text(min_size=1, max_size=200).map(label_or_none).filter(bool) | st.sampled_from(
    [".hidden", "...", "samples.json", "x" * 200, "字" * 200, "a:b*c?", "-rf", "~", "$HOME", "label-0", "con"]
)
LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30).map(str.strip)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(LABELS, LINES, LINES, st.integers(-(2**63), 2**63 - 1), st.floats(0, 1), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    st.none() | st.floats(1e-3, 1e6),
    st.floats(0, 1e11),
)
def test_any_round_trip_loses_nothing(tmp_path_factory, samples, keep_days, now):
    folder = tmp_path_factory.mktemp("round_trip")
    store, other = (SampleStore(folder / name / "samples.sqlite3") for name in ("store", "other"))
    for i, (label, name, asked, stamp, quality, margin) in enumerate(samples):
        picture = Picture(crop(i % 2, 160 if margin else 128), name, asked, stamp, quality)
        store.add("identity", label, [picture], display_name=name, requested_by=asked, keep_days=keep_days, now=now)
    export_samples(store, "identity", folder / "faces")
    import_samples(other, folder / "faces", now=now)

    def known(found):
        return sorted(everything(found, "identity"), key=str)

    assert known(other) == known(store)


def test_pictures_sorted_by_hand(store, tmp_path):
    """One that was moved to another class belongs to it, one that was removed is gone, one from elsewhere is new."""
    export_samples(store, "identity", tmp_path / "faces")
    (tmp_path / "faces" / "Bob" / "00000003.png").unlink()
    (tmp_path / "faces" / "Cid").mkdir()
    (tmp_path / "faces" / "Ann" / "00000001.png").rename(tmp_path / "faces" / "Cid" / "00000001.png")
    colour = np.random.default_rng(9).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "faces" / "Cid" / "portrait.bmp"), colour)
    other = SampleStore(tmp_path / "other" / "samples.sqlite3")
    import_samples(other, tmp_path / "faces", requested_by="me", keep_days=2, now=NOW)
    assert [(c.label, c.count) for c in other.counts()] == [("Ann", 1), ("Cid", 2)]
    new = next(s for s in other.find() if s.camera == "portrait.bmp")
    assert (new.label, new.requested_by, new.collected_at, new.expires_at) == ("Cid", "me", NOW, NOW + 2 * DAY)
    np.testing.assert_array_equal(other.crop(new.id), cv2.imread(str(tmp_path / "faces/Cid/portrait.bmp"), 0))
    assert other.find(label="Ann")[0].requested_by == "operator"


def test_an_export_without_the_margin_is_a_dataset(store, tmp_path):
    assert run("export", "--task", "identity", "--no-margin", tmp_path / "faces") == 0
    dataset = read_folder(tmp_path / "faces", "all", "identity")
    assert dataset.counts("identity") == {"Ann": 2, "Bob": 1}
    for i, expected in enumerate([crop(1)[16:144, 16:144], crop(2, 128), crop(3)[16:144, 16:144]]):
        np.testing.assert_array_equal(dataset_crop(dataset, i), expected)


def test_one_label_is_exported_and_a_task_renamed(store, tmp_path, capsys):
    assert run("export", "--task", "identity", "--label", "Bob", tmp_path / "bob") == 0
    assert run("import", "--task", "colleague", tmp_path / "bob") == 0
    assert [(c.label, c.count) for c in store.counts("colleague")] == [("Bob", 1)]
    assert run("import", "--task", "gender", tmp_path / "bob") == 1
    assert "task 'gender' is built into the model" in capsys.readouterr().err
    assert run("import", "--task", "gender", "--allow-built-in", tmp_path / "bob") == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "samples.json").write_text("{"), "samples.json: the file: "),
        (
            lambda f: (f / "samples.json").write_text('{"task": "a", "format": 2, "samples": []}'),
            "samples.json: format",
        ),
        (
            lambda f: (f / "samples.json").write_text((f / "samples.json").read_text().replace('"Ann"', '"A/n"')),
            "label 'A/n'",
        ),
        (lambda f: (f / "Ann" / "00000001.png").write_bytes(b"no picture"), "00000001.png is damaged"),
        (lambda f: cv2.imwrite(str(f / "Ann" / "00000001.png"), crop(1, 99)), "no longer the crop"),
        (lambda f: (f / "Bob" / "new.jpg").write_bytes(b"no picture"), "new.jpg is missing or cannot be read"),
        (lambda f: shutil.move(f / "Bob", f / "unknown"), "calls strangers"),
    ],
)
def test_a_spoilt_folder_is_refused_whole(store, tmp_path, spoil, said):
    export_samples(store, "identity", tmp_path / "faces")
    spoil(tmp_path / "faces")
    other = SampleStore(tmp_path / "other" / "samples.sqlite3")
    with pytest.raises(SampleStoreError, match=said):
        import_samples(other, tmp_path / "faces")
    assert not other.file.exists()


def test_samples_json_reaches_no_file_outside(store, tmp_path):
    export_samples(store, "identity", tmp_path / "faces")
    cv2.imwrite(str(tmp_path / "secret.png"), crop(7))
    metadata = tmp_path / "faces" / "samples.json"
    metadata.write_text(metadata.read_text().replace("Ann/00000001.png", "../secret.png"))
    other = SampleStore(tmp_path / "other" / "samples.sqlite3")
    import_samples(other, tmp_path / "faces")
    assert other.total() == 3
    assert not any((other.crop(s.id) == crop(7)).all() for s in other.find() if other.crop(s.id).shape == (160, 160))


def test_an_interrupted_export_leaves_no_folder(store, tmp_path, monkeypatch):
    def interrupted(self, sample_id):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SampleStore, "png", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_samples(store, "identity", tmp_path / "faces")
    assert [p.name for p in tmp_path.iterdir()] == ["home"]
    (tmp_path / "faces").mkdir()
    assert export_samples(store, "identity", tmp_path / "faces") == 3  # into an empty folder
    assert Path(tmp_path / "faces" / "samples.json").exists()


def test_a_store_of_another_program_is_one_line(home, capsys):
    (home / "samples").mkdir(parents=True)
    (home / "samples" / "samples.sqlite3").write_bytes(b"no database" * 100)
    assert run("list") == 1
    error = capsys.readouterr().err
    assert "is corrupt: move it away" in error and error.count("\n") == 1


def test_neither_torch_nor_ros_is_needed():
    modules = "cli.samples", "samples.store", "samples.dataset", "samples.folders", "samples.selection"
    code = "".join(f"import face_mtl_ros.{name}\n" for name in modules)
    code += "import sys\nassert not {'torch', 'rclpy'} & set(sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
