"""Training a column anew: the others stay, and none may draw on it."""

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

from tiny_world import draw_pictures, know_tiny, quiet, single_step  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.training.production import ColumnOrder, make_column  # noqa: E402


def test_a_column_is_trained_anew_when_asked_and_where_no_other_draws_on_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))
    know_tiny(monkeypatch)
    data = [read_dataset("folder", draw_pictures(tmp_path / "pictures"), "train", task="shape")]
    labels = ["disc", "stripes"]
    root = tmp_path / "bundle"
    older = write_random_bundle(root, "tiny", {"shape": (labels, []), "mood": (["good", "bad"], [])})

    with pytest.raises(ValueError, match="'shape' has a column already: pass --replace"):
        make_column(root, ColumnOrder("shape", data), single_step(), "face-mtl train", quiet)
    assert load_bundle(root).version == older.version

    newer = make_column(root, ColumnOrder("shape", data, replace=True), single_step(), "face-mtl train", quiet)
    assert [column.task for column in newer.manifest.columns] == ["shape", "mood"]
    files = {column.task: column.file.sha256 for column in older.manifest.columns}
    assert newer.manifest.column("mood").file.sha256 == files["mood"]
    assert newer.manifest.column("shape").file.sha256 != files["shape"]
    kept = {file.name for file in (root / "columns").iterdir()}
    assert kept == {f"shape-{newer.manifest.column('shape').file.sha256[:8]}.safetensors", "mood.safetensors"}

    other = tmp_path / "other"
    write_random_bundle(other, "tiny", {"shape": (labels, []), "mood": (["good", "bad"], ["shape"])})
    with pytest.raises(ValueError, match="'shape' cannot be replaced: mood draws on it"):
        make_column(other, ColumnOrder("shape", data, replace=True), single_step(), "face-mtl train", quiet)
