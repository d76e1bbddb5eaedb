"""Training on a task small enough to be learned in seconds: what is learned, frozen, resumed and recorded."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.datasets.augmentation import Augmentation, plain  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.training.corpus import Corpus  # noqa: E402
from face_mtl_ros.training.evaluation import evaluate  # noqa: E402
from face_mtl_ros.training.loop import Recipe, fit  # noqa: E402
from face_mtl_ros.training.production import make_column, make_encoder  # noqa: E402


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))


@pytest.fixture
def pictures(tmp_path):
    """Two classes that differ as much as pictures can: a disc, and stripes."""
    rng = np.random.default_rng(0)
    for i in range(60):
        disc = np.full((64, 64), 40, np.uint8)
        cv2.circle(disc, tuple(int(v) for v in rng.integers(26, 38, 2)), 16, 220, -1)
        stripes = np.where(np.arange(64)[:, None] // 8 % 2, 220, 40).astype(np.uint8).repeat(64, 1)
        for label, picture in (("disc", disc), ("stripes", np.roll(stripes, i, 0))):
            file = tmp_path / "pictures" / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), picture)
    return tmp_path / "pictures"


def quiet(_line):
    pass


@pytest.mark.slow
def test_an_encoder_and_a_column_learn_and_leave_older_weights_alone(pictures, tmp_path):
    train, val = read_dataset("folder", pictures, "train"), read_dataset("folder", pictures, "val")
    root = tmp_path / "bundle"
    make_encoder(root, "tiny", "compact", [train], Recipe(epochs=3, batch=16), "face-mtl pretrain", quiet)
    first = make_column(root, "label", [], [train], [val], Recipe(epochs=6, batch=16), "face-mtl train", quiet)
    record = first.manifest.column("label")
    assert record.metrics["folder/val/accuracy"] >= 0.9
    assert record.provenance.samples == {"folder/train": len(train)}
    encoder = (root / "encoder.safetensors").read_bytes()
    column = (root / "columns/label.safetensors").read_bytes()
    second = read_dataset("folder", pictures, "train", task="shape")
    make_column(root, "shape", ["label"], [second], [], Recipe(epochs=0.5, batch=16), "face-mtl train", quiet)
    assert (root / "encoder.safetensors").read_bytes() == encoder
    assert (root / "columns/label.safetensors").read_bytes() == column
    assert load_bundle(root).manifest.column("shape").sources == ["label"]


@pytest.mark.slow
def test_an_encoder_learns_on_small_crops_first_and_is_trained_further(pictures, tmp_path):
    data, make = [read_dataset("folder", pictures, "train")], "face-mtl pretrain"
    recipe = Recipe(epochs=1, batch=16, half_size=0.5)
    first = make_encoder(tmp_path / "first", "tiny", "compact", data, recipe, make, quiet)
    assert first.manifest.encoder.provenance.recipe["half_size"] == 0.5
    still = Recipe(epochs=0.1, batch=16, learning_rate=1e-9)  # so little that it ends where it began
    second = make_encoder(tmp_path / "second", "tiny", "compact", data, still, make, quiet, start=first.root)
    for name, weights in first.encoder.items():
        if weights.ndim > 1:
            np.testing.assert_allclose(second.encoder[name], weights, atol=1e-6)
    with pytest.raises(ValueError, match="preset 'compact', not 'paper'"):
        make_encoder(tmp_path / "third", "tiny", "paper", data, still, make, quiet, start=first.root)


BRIEF = Recipe(epochs=0.01, batch=8)  # a single step


def test_an_encoder_does_not_replace_a_bundle_unless_forced(pictures, tmp_path):
    data, root = [read_dataset("folder", pictures, "train")], tmp_path / "bundle"
    older = write_random_bundle(root, "compact", {"label": (["disc", "stripes"], [])})
    with pytest.raises(ValueError, match=f"{root} holds a bundle already.*--force"):
        make_encoder(root, "tiny", "compact", data, BRIEF, "face-mtl pretrain", quiet)
    assert load_bundle(root).version == older.version
    newer = make_encoder(root, "tiny", "compact", data, BRIEF, "face-mtl pretrain", quiet, force=True)
    assert newer.manifest.name == "tiny" and not newer.manifest.columns


def test_a_column_whose_evaluation_is_killed_leaves_the_old_bundle_and_can_be_made_again(
    pictures, tmp_path, monkeypatch
):
    train, val = read_dataset("folder", pictures, "train"), read_dataset("folder", pictures, "val")
    root, lines = tmp_path / "bundle", []
    older = write_random_bundle(root, "compact", {})

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("face_mtl_ros.training.production.evaluate_column", kill)
        make_column(root, "label", [], [train], [val], BRIEF, "face-mtl train", quiet)
    assert load_bundle(root).version == older.version
    made = make_column(root, "label", [], [train], [val], BRIEF, "face-mtl train", lines.append)
    assert "resuming" in lines[0]
    assert made.manifest.column("label").metrics["folder/val/n"] == len(val)


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)


def line_loss(model, data, stop_at=None):
    calls = []

    def loss_of(indices, done):
        calls.append(1)
        if stop_at is not None and len(calls) > stop_at:
            raise KeyboardInterrupt
        noise = torch.randn(len(indices), 4) * 0.01  # chance, which a resumed run has to repeat
        return (model.layer(data[indices] + noise) - data[indices].sum(1, keepdim=True)).square().mean()

    return loss_of


def test_a_killed_training_resumes_to_the_very_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("face_mtl_ros.training.loop.CHECKPOINT_EVERY_S", 0.0)
    data = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(epochs=8, batch=8, learning_rate=0.05)
    whole = Line()
    torch.manual_seed(3)
    fit(whole, line_loss(whole, data), 50, recipe, report=quiet)
    killed, file = Line(), tmp_path / "checkpoint.pt"
    torch.manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, line_loss(killed, data, stop_at=20), 50, recipe, file, quiet)
    resumed = Line()
    torch.manual_seed(99)
    lines = []
    fit(resumed, line_loss(resumed, data), 50, recipe, file, lines.append)
    assert "resuming at step 20" in lines[0]
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_a_checkpoint_of_another_recipe_is_not_taken_but_one_of_another_budget_is(tmp_path):
    data = torch.randn(50, 4)
    file, lines = tmp_path / "checkpoint.pt", []
    for batch in (8, 5):
        model = Line()
        fit(model, line_loss(model, data), 50, Recipe(epochs=1, batch=batch), file, lines.append)
    assert not any("resuming" in line for line in lines)
    budgets = fit(model, line_loss(model, data), 50, Recipe(epochs=2, batch=5), file, lines.append)
    assert any("resuming at step 10 of 20" in line for line in lines)
    assert [(budget["step"], budget["epochs"]) for budget in budgets] == [(0, 1), (10, 2)]


def test_training_ends_when_its_minutes_are_over():
    model, lines = Line(), []
    fit(model, line_loss(model, torch.randn(50, 4)), 50, Recipe(epochs=1e9, minutes=0.01, batch=8), report=lines.append)
    assert "100.0% done" in lines[-1]


def test_the_corpus_joins_datasets_and_leaves_out_what_has_no_label(pictures):
    labels = read_dataset("folder", pictures, "train")
    shapes = read_dataset("folder", pictures, "val", task="shape")
    corpus = Corpus([labels, shapes], ["label", "shape"], smoothing=0.1)
    assert len(corpus) == len(labels) + len(shapes)
    assert corpus.crops(np.array([0, len(corpus) - 1])).shape == (2, 160, 160)
    sums = corpus.targets["label"].sum(1)
    assert torch.allclose(sums[: len(labels)], torch.ones(len(labels))) and (sums[len(labels) :] == 0).all()
    assert corpus.targets["label"][0].max() == pytest.approx(0.95)
    assert len(Corpus([labels, shapes], ["shape"])) == len(shapes)
    with pytest.raises(ValueError, match="no dataset .* labels the task 'mood'"):
        Corpus([labels], ["mood"])


def test_augmented_and_plain_crops_have_the_network_s_shape_and_range():
    crops = torch.randint(0, 256, (4, 160, 160), dtype=torch.uint8)
    for x in (Augmentation()(crops), plain(crops)):
        assert x.shape == (4, 1, 128, 128) and torch.isfinite(x).all()
        assert x.mean((1, 2, 3)).abs().max() < 1e-3
    torch.manual_seed(0)
    first = Augmentation()(crops)
    assert not torch.equal(first, Augmentation()(crops))


def test_evaluation_counts_what_anybody_would_count():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
    scores = evaluate(probabilities, np.array([0, 1, 1, 1]))
    assert (scores.n, scores.accuracy) == (4, 0.75)
    assert scores.confusion.tolist() == [[1, 0], [1, 2]]
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores.ece == pytest.approx((0.1 + 0.2 + 0.6 + 0.3) / 4, abs=1e-5)
