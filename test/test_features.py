"""Features of the frozen part, kept on disk: the same as without, whole after a kill, within their limit."""

import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

import numpy as np  # noqa: E402
from tiny_world import QUICK, TINY, draw_pictures, quiet, single_step  # noqa: E402

from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.file_lock import alone  # noqa: E402
from face_mtl_ros.networks.progressive import ProgressiveNetwork  # noqa: E402
from face_mtl_ros.training.columns import Plan, train_column  # noqa: E402
from face_mtl_ros.training.corpus import Corpus  # noqa: E402
from face_mtl_ros.training.features import CachedFeatures, Frozen  # noqa: E402
from face_mtl_ros.training.views import Views  # noqa: E402


@pytest.fixture
def corpus(tmp_path, home):
    return Corpus([read_dataset("folder", draw_pictures(tmp_path / "pictures"), "all")], ["label"])


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ProgressiveNetwork(TINY)
    network.add_column("first", 2)
    network.add_column("second", 3, ["first"])
    return network.requires_grad_(False).eval()


@pytest.fixture
def folder(home):
    return home / "cache" / "features"


def caches(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def augmented(network, corpus):
    return Frozen(network, ["second"], corpus, Views("augmented"))


def plain(network, corpus, sources=("second", "first")):
    return Frozen(network, list(sources), corpus, Views("plain"))


def test_a_cached_epoch_gives_the_features_of_an_uncached_one(network, corpus):
    frozen = plain(network, corpus)
    cached = CachedFeatures(frozen, 1, "key", quiet)
    indices = np.array([3, 59, 0, 17])
    for epoch in (0, 5):
        encoded, sources = cached(indices, epoch)
        expected, expected_sources = frozen(indices, epoch)
        torch.testing.assert_close(encoded, expected, rtol=2e-3, atol=2e-3)
        assert [len(source) for source in sources] == [25, 25]
        for source, expected_source in zip(sources, expected_sources, strict=True):
            for activation, wanted in zip(source, expected_source, strict=True):
                torch.testing.assert_close(activation, wanted, rtol=2e-3, atol=2e-3)
    assert cached.bytes == CachedFeatures.bytes_of(frozen, 1)


def test_epochs_take_the_kept_views_by_turns(network, corpus):
    cached = CachedFeatures(augmented(network, corpus), 2, "key", quiet)
    first, second, third = (cached(np.arange(8), epoch)[0] for epoch in range(3))
    assert torch.equal(first, third) and not torch.allclose(first, second)


def test_a_cache_whose_filling_was_killed_is_completed_to_the_same_bytes(network, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("face_mtl_ros.training.features.BATCH", 8)
    monkeypatch.setattr("face_mtl_ros.training.features.SAVE_EVERY", 2)
    lines = []

    def kill(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CachedFeatures(augmented(network, corpus), 2, "key", kill)
    assert lines[1].startswith("keeping features: 32 of 120")
    goes_on = []
    file = CachedFeatures(augmented(network, corpus), 2, "key", goes_on.append).folder / "features.npy"
    assert goes_on[0].startswith("keeping features: 48 of 120")
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "another"))
    at_once = CachedFeatures(augmented(network, corpus), 2, "key", quiet).folder / "features.npy"
    assert file != at_once and file.read_bytes() == at_once.read_bytes()


def test_a_cache_is_kept_by_samples_weights_sources_and_views(network, corpus, folder):
    frozen = plain(network, corpus)
    made = [
        CachedFeatures(frozen, 1, "key", quiet),
        CachedFeatures(frozen, 1, "other weights", quiet),
        CachedFeatures(plain(network, corpus, ["second"]), 1, "key", quiet),
        CachedFeatures(augmented(network, corpus), 2, "key", quiet),
    ]
    assert len({cache.folder for cache in made}) == 4
    time = (made[0].folder / "features.npy").stat().st_mtime_ns
    assert CachedFeatures(frozen, 1, "key", pytest.fail).folder == made[0].folder
    assert (made[0].folder / "features.npy").stat().st_mtime_ns == time and len(caches(folder)) == 4


def test_the_caches_used_longest_ago_are_removed_for_room(network, corpus, folder, monkeypatch):
    frozen = plain(network, corpus, [])
    made = [CachedFeatures(frozen, 1, key, quiet) for key in "abc"]
    for age, cache in zip((30, 10, 20), made, strict=True):
        os.utime(cache.folder / "filled", (1e9 - age, 1e9 - age))
    CachedFeatures(frozen, 1, "a", quiet)  # so it was used just now
    monkeypatch.setattr("face_mtl_ros.training.features.LIMIT_BYTES", int(3.5 * made[0].bytes))
    newest = CachedFeatures(frozen, 1, "d", quiet)
    assert caches(folder) == sorted(cache.folder.name for cache in (made[0], made[1], newest))


def test_a_cache_beyond_the_limit_is_not_begun_and_training_goes_on_without(network, corpus, folder, monkeypatch):
    monkeypatch.setattr("face_mtl_ros.training.columns.LIMIT_BYTES", 1000)
    monkeypatch.setattr("face_mtl_ros.training.columns.passes_anew", lambda: False)
    lines = []
    train_column(network, Plan("label", [], corpus, key="key"), single_step(), report=lines.append)
    assert any(line.startswith("features are not kept: they would take") for line in lines)
    assert not folder.exists()


def test_a_gpu_passes_plain_pictures_anew_and_keeps_nothing(network, corpus, folder, monkeypatch):
    monkeypatch.setattr("face_mtl_ros.training.columns.passes_anew", lambda: True)
    train_column(network, Plan("label", [], corpus, key="key"), single_step(), report=quiet)
    assert not folder.exists()


def test_a_disk_without_room_is_named_with_the_remedy(network, corpus, folder, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=f"{folder} has 0.0 GB left .*set FACE_MTL_HOME .*--views 0"):
        CachedFeatures(plain(network, corpus), 1, "key", quiet)
    assert not caches(folder)


def test_of_two_at_work_on_a_cache_one_waits_for_the_other(network, corpus, folder):
    made = [CachedFeatures(plain(network, corpus), 1, "key", quiet)]
    other = threading.Thread(target=lambda: made.append(CachedFeatures(plain(network, corpus), 1, "key", quiet)))
    with alone(folder / f".{made[0].folder.name}.lock", "a test"):
        other.start()
        other.join(0.3)
        assert other.is_alive() and len(made) == 1
        CachedFeatures(plain(network, corpus), 1, "another key", quiet)  # which waits for neither
    other.join(60)
    assert not other.is_alive() and made[1].folder == made[0].folder


def test_a_cache_that_is_being_filled_is_not_removed_for_room(network, corpus, folder, monkeypatch):
    frozen = plain(network, corpus, [])
    made = [CachedFeatures(frozen, 1, key, quiet) for key in "ab"]
    for age, cache in zip((30, 10), made, strict=True):
        os.utime(cache.folder / "filled", (1e9 - age, 1e9 - age))
    monkeypatch.setattr("face_mtl_ros.training.features.LIMIT_BYTES", int(2.5 * made[0].bytes))
    with alone(folder / f".{made[0].folder.name}.lock", "a test"):
        newest = CachedFeatures(frozen, 1, "c", quiet)
    assert caches(folder) == sorted(cache.folder.name for cache in (made[0], newest))


def test_a_column_learns_the_same_from_kept_features_as_from_fresh_ones(network, corpus):
    weights = {}
    for key in ("key", None):
        torch.manual_seed(0)
        fresh = ProgressiveNetwork(TINY)
        fresh.load_state_dict({k: v for k, v in network.state_dict().items() if k.startswith("encoder")}, strict=False)
        column, _ = train_column(fresh, Plan("label", [], corpus, key=key), replace(QUICK, epochs=0.2), report=quiet)
        weights[key] = column.classifier.weight
    torch.testing.assert_close(weights["key"], weights[None], rtol=0.05, atol=5e-3)


@pytest.mark.parametrize("key", ["key", None])
def test_a_processor_with_bf16_trains_and_validates_in_it(network, corpus, monkeypatch, key):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    plan = Plan("label", ["first"], corpus, validation=corpus, key=key)
    column, history = train_column(network, plan, replace(QUICK, epochs=1, batch=30), report=quiet)
    assert len(history.validation) == 1 and 0 <= history.validation[0]["accuracy"] <= 1
    assert all(parameter.dtype == torch.float32 for parameter in column.parameters())
