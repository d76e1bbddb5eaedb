"""A bundle that was altered in any way is refused, and the error says which file and why."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.bundle.bundle import load_bundle, parse_manifest, with_column, write_manifest
from face_mtl_ros.bundle.files import BundleError, read_tensors, write_tensors
from face_mtl_ros.bundle.locate import locate_bundle
from face_mtl_ros.bundle.manifest import TEMPLATE, FileRecord
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision import alignment

COLUMNS = {"emotion": (["happy", "sad", "neutral"], []), "gender": (["male", "female"], ["emotion"])}


@pytest.fixture
def root(tmp_path):
    write_random_bundle(tmp_path, "compact", COLUMNS)
    return tmp_path


def change(root, **fields):
    manifest = json.loads((root / "manifest.json").read_text())
    manifest.update(fields)
    (root / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_written_is_read(root):
    bundle = load_bundle(root)
    assert [column.task for column in bundle.manifest.columns] == ["emotion", "gender"]
    assert bundle.manifest.column("gender").sources == ["emotion"]
    assert bundle.columns["emotion"]["classifier.weight"].shape == (3, 200)
    assert bundle.version.startswith("random-") and load_bundle(root).version == bundle.version


@pytest.mark.parametrize("name", ["encoder.safetensors", "columns/gender.safetensors"])
def test_one_flipped_bit_is_found(root, name):
    data = bytearray((root / name).read_bytes())
    data[len(data) // 2] ^= 1
    (root / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}.*corrupt.*sha256"):
        load_bundle(root)


def test_a_truncated_file_is_found(root):
    file = root / "columns/emotion.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BundleError, match="columns/emotion.safetensors has .* bytes where the manifest says"):
        load_bundle(root)


def test_a_missing_file_is_named(root):
    (root / "columns/emotion.safetensors").unlink()
    with pytest.raises(BundleError, match="columns/emotion.safetensors is missing"):
        load_bundle(root)


def test_a_newer_format_asks_for_an_upgrade(root):
    change(root, format_version=3)
    with pytest.raises(BundleError, match="format version 3.*reads up to 2: upgrade"):
        load_bundle(root)


def test_labels_that_do_not_fit_the_weights_are_found(root):
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["columns"][0]["labels"].append("angry")
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"emotion.safetensors.*classifier.*\(3, 200\)"):
        load_bundle(root)


def test_weights_under_another_column_s_name_are_found(root):
    manifest = json.loads((root / "manifest.json").read_text())
    emotion, gender = manifest["columns"]
    emotion["file"], gender["file"] = gender["file"], emotion["file"]
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="gender.safetensors"):
        load_bundle(root)


@pytest.mark.parametrize(
    ("bias", "complaint"),
    [
        (np.full(3, np.nan, np.float32), "classifier.bias.*not finite"),
        (np.zeros(3, np.float16), "emotion.safetensors: tensor 'classifier.bias' is float16; save it as float32"),
        (np.zeros(3, np.float64), "classifier.bias' is float64"),
        (np.zeros(3, np.int64), "classifier.bias' is int64"),
    ],
)
def test_weights_that_are_not_finite_or_no_float32_are_refused(root, bias, complaint):
    bundle = load_bundle(root)
    tensors = dict(bundle.columns["emotion"]) | {"classifier.bias": bias}
    record = write_tensors(root, "columns/emotion.safetensors", tensors)
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["columns"][0]["file"] = json.loads(record.model_dump_json())
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=complaint):
        load_bundle(root)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        ({"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}, "x.safetensors holds tensors of the type 'BF16'"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "x.safetensors is no safetensors file"),
    ],
)
def test_a_safetensors_file_that_numpy_cannot_hold_is_named(tmp_path, tensor, complaint):
    header = json.dumps({"a": tensor}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "x.safetensors").write_bytes(data)
    record = FileRecord(path="x.safetensors", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    with pytest.raises(BundleError, match=complaint):
        read_tensors(tmp_path, record)


@pytest.mark.parametrize("x", [0.31, float("nan")])
def test_crops_cut_in_another_way_are_refused(root, x):
    template = [[x, 0.375], *(list(point) for point in TEMPLATE[1:])]
    change(root, preprocessing={"template": template})
    with pytest.raises(BundleError, match="manifest.json: preprocessing.template: .*train the bundle anew"):
        load_bundle(root)


def test_the_manifest_s_framing_is_the_one_that_faces_are_cut_to():
    np.testing.assert_array_equal(np.array(TEMPLATE, np.float32), alignment.TEMPLATE)


def test_a_source_named_twice_is_refused(root):
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["columns"][1]["sources"] = ["emotion", "emotion"]
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="columns.1: .*'gender' names a source twice"):
        load_bundle(root)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"preset": "huge"}, "preset"),
        ({"name": ""}, "name"),
        ({"encoder": None}, "encoder"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_the_field_that_is_wrong_is_named(root, fields, where):
    change(root, **fields)
    with pytest.raises(BundleError, match=f"manifest.json: {where}"):
        load_bundle(root)


@pytest.mark.parametrize("path", ["../outside.safetensors", "/etc/weights.safetensors", "weights.pt", ""])
def test_weights_outside_the_bundle_or_in_another_format_are_refused(root, path):
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["encoder"]["file"]["path"] = path
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="encoder.file.path"):
        load_bundle(root)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_a_manifest_of_garbage_is_refused_and_never_crashes(data):
    with pytest.raises(BundleError):
        parse_manifest("manifest.json", data)


def test_garbage_with_a_right_sha_is_no_safetensors(root):
    record = write_tensors(root, "x.safetensors", {"a": np.zeros(3, np.float32)})
    garbage = b"\xff" * record.bytes
    (root / "x.safetensors").write_bytes(garbage)
    forged = record.model_copy(update={"sha256": hashlib.sha256(garbage).hexdigest()})
    with pytest.raises(BundleError, match="no safetensors file"):
        read_tensors(root, forged)


def test_a_folder_that_is_no_bundle_says_so(tmp_path):
    with pytest.raises(BundleError, match="has no manifest.json"):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match="does not exist"):
        load_bundle(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BundleError, match="a bundle is a folder"):
        load_bundle(file)


def test_a_name_that_is_nowhere_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path))
    with pytest.raises(BundleError, match=f"'nobody' not found.*{tmp_path}"):
        locate_bundle("nobody")


def test_a_folder_here_does_not_pass_for_a_model_s_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "home" / "bundles" / "mine"
    for folder in (installed, tmp_path / "mine", tmp_path / "other"):
        folder.mkdir(parents=True)
    assert locate_bundle("mine") == installed
    assert locate_bundle("./mine") == locate_bundle(Path("mine")) == Path("mine")
    assert locate_bundle(".") == Path(".")
    with pytest.raises(BundleError, match=r"'other' not found.*\./other"):
        locate_bundle("other")


def test_a_place_that_cannot_be_looked_at_is_named(monkeypatch):
    with pytest.raises(BundleError, match="'~nosuchuser/m' cannot be looked for: .*full path"):
        locate_bundle("~nosuchuser/m")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(BundleError, match="'mine' cannot be looked for: .*Permission denied"):
        locate_bundle("mine")


def test_a_column_on_which_another_draws_cannot_be_replaced(root):
    manifest = load_bundle(root).manifest
    with pytest.raises(BundleError, match="gender draws on it"):
        with_column(manifest, manifest.column("emotion"))


def test_an_interrupted_change_leaves_the_old_bundle(root):
    """Files first, manifest last: without the new manifest the bundle is what it was."""
    before = load_bundle(root)
    write_tensors(root, "columns/new.safetensors", {"a": np.zeros(1, np.float32)})
    assert load_bundle(root).version == before.version
    write_manifest(root, before.manifest)
    assert not list(root.rglob("*.partial"))
