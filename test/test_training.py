"""The training loop: schedule, resume, what stops it, and what a checkpoint survives."""

import errno
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

from tiny_world import draw_pictures, listen_to_ctrl_c, press_ctrl_c, quiet  # noqa: E402

from face_mtl_ros.datasets.augmentation import Augmentation, plain  # noqa: E402
from face_mtl_ros.datasets.dataset import UNLABELLED, Dataset, DatasetError  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.training import loop  # noqa: E402
from face_mtl_ros.training.checkpoint import CheckpointError  # noqa: E402
from face_mtl_ros.training.corpus import Corpus  # noqa: E402
from face_mtl_ros.training.loop import TrainingError, fit  # noqa: E402
from face_mtl_ros.training.recipe import PAPER, Recipe  # noqa: E402

DATA = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
RECIPE = Recipe(epochs=8, batch=8, learning_rate=0.05)


class Line(torch.nn.Module):
    """A sum to be learned, by a network of one layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)

    def loss(self, indices, _done=0.0):
        noise = torch.randn(len(indices), 4) * 0.01  # chance, which a resumed run has to repeat
        return (self.layer(DATA[indices] + noise) - DATA[indices].sum(1, keepdim=True)).square().mean()


def after(steps, act, loss):
    """The loss, but before it is computed for the step after so many, `act` is called."""
    calls = []

    def loss_of(indices, done):
        calls.append(1)
        if len(calls) > steps:
            act()
        return loss(indices, done)

    return loss_of


class Killed(Exception):
    """As sudden as a kill, for the training's own code does not expect it."""


def die():
    raise Killed


@pytest.fixture
def file(tmp_path):
    return tmp_path / "training" / "checkpoint.pt"


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after each step."""
    monkeypatch.setattr("face_mtl_ros.training.loop.CHECKPOINT_EVERY_S", -1.0)


@pytest.fixture
def whole():
    """What a training that nothing stops ends with."""
    model = Line()
    return model, fit(model, model.loss, 50, RECIPE, report=quiet)


def test_a_killed_training_resumes_to_the_very_same_weights(file, often, whole):
    killed, resumed, lines = Line(), Line(), []
    with pytest.raises(Killed):
        fit(killed, after(20, die, killed.loss), 50, RECIPE, file, quiet)
    history = fit(resumed, resumed.loss, 50, RECIPE, file, lines.append)
    assert f"resuming at step 20 of 50 from {file}" in lines[0]
    assert torch.equal(resumed.layer.weight, whole[0].layer.weight)
    assert history == whole[1]


def test_ctrl_c_ends_the_step_and_keeps_a_checkpoint_that_goes_the_same_way(file, whole):
    listen_to_ctrl_c()
    model, resumed, lines = Line(), Line(), []
    with pytest.raises(KeyboardInterrupt):
        fit(model, after(20, press_ctrl_c, model.loss), 50, RECIPE, file, lines.append)
    assert lines[-1] == f"stopped at step 21; the same command goes on from {file}"
    fit(resumed, resumed.loss, 50, RECIPE, file, lines.append)
    assert any("resuming at step 21 of 50" in line for line in lines)
    assert torch.equal(resumed.layer.weight, whole[0].layer.weight)


def test_ctrl_c_in_the_last_validation_is_not_lost(file):
    listen_to_ctrl_c()
    model, epochs = Line(), []

    def validate():
        epochs.append(1)
        if len(epochs) == RECIPE.epochs:
            press_ctrl_c()
        return {}

    with pytest.raises(KeyboardInterrupt):
        fit(model, model.loss, 50, RECIPE, file, quiet, validate=validate)
    assert file.exists()


@pytest.fixture
def one_behind(monkeypatch):
    """Losses are read one step late, as on a GPU."""
    begin = loop._Run.__init__

    def init(self, *arguments):
        begin(self, *arguments)
        self._behind = 1

    monkeypatch.setattr(loop._Run, "__init__", init)


def test_losses_read_a_step_late_change_nothing(one_behind, whole, file, often):
    killed, resumed = Line(), Line()
    with pytest.raises(Killed):
        fit(killed, after(20, die, killed.loss), 50, RECIPE, file, quiet)
    history = fit(resumed, resumed.loss, 50, RECIPE, file, quiet)
    assert torch.equal(resumed.layer.weight, whole[0].layer.weight) and history == whole[1]


def test_a_nan_loss_read_a_step_late_is_that_of_its_own_step(one_behind, file):
    model, seen = Line(), []

    def loss_of(indices, done):
        seen.append(set(indices.tolist()))
        return model.loss(indices) * (float("nan") if len(seen) == 3 else 1)

    names = [str(i) for i in range(50)]
    with pytest.raises(TrainingError, match="the loss is nan at step 2;") as failed:
        fit(model, loss_of, 50, Recipe(epochs=1, batch=5), file, quiet, names=names)
    said = str(failed.value).partition("its samples: ")[2].partition(";")[0]
    assert {int(name) for name in said.split(", ")} == seen[2] and not file.exists()


def test_a_second_ctrl_c_does_not_wait(file):
    listen_to_ctrl_c()
    model, after_it = Line(), []

    def press_twice():
        press_ctrl_c()
        press_ctrl_c()
        after_it.append("still here")

    with pytest.raises(KeyboardInterrupt):
        fit(model, after(3, press_twice, model.loss), 50, RECIPE, file, quiet)
    assert not after_it and not file.exists()


class Walker(torch.nn.Module):
    """One weight whose gradient is always 1, which makes each of Adam's steps as long as the learning rate."""

    def __init__(self, losses):
        super().__init__()
        self.p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.losses, self.places = iter(losses), []

    def loss(self, _indices, _done):
        self.places.append(self.p.item())
        return next(self.losses) + (self.p - self.p.detach()).sum()

    def steps(self):
        return -np.diff([*self.places, self.p.item()])


def test_paper_halves_the_rate_after_two_epochs_without_a_lower_loss():
    model = Walker(itertools.repeat(1.0))
    history = fit(model, model.loss, 64, PAPER, report=quiet)
    assert history.epoch_losses == [1.0] * 35
    # The first epoch is the lowest; the third is the second one in a row that is no lower, and so on by twos.
    expected = [1e-4 * 0.5 ** max(0, (epoch - 1) // 2) for epoch in range(35)]
    np.testing.assert_allclose(model.steps().reshape(35, 2), np.repeat(expected, 2).reshape(35, 2), rtol=1e-6)


def test_the_rate_stays_while_the_loss_falls():
    model = Walker(1 / n for n in itertools.count(1))
    fit(model, model.loss, 64, PAPER, report=quiet)
    np.testing.assert_allclose(model.steps(), 1e-4, rtol=1e-6)


def test_a_nan_loss_stops_with_step_and_samples_and_keeps_the_last_good_checkpoint(file, often):
    model, names, kept = Line(), [f"picture-{i}" for i in range(50)], []

    def loss_of(indices, done):
        loss = model.loss(indices)
        if 7 in indices:
            kept.append(file.read_bytes() if file.exists() else None)
            return loss * float("nan")
        return loss

    with pytest.raises(TrainingError) as failed:
        fit(model, loss_of, 50, Recipe(epochs=1, batch=5, seed=0), file, quiet, names=names)
    message = str(failed.value)
    step = next(i for i in range(10) if f"at step {i};" in message)
    assert step > 0, "another seed is needed, for there is no checkpoint before step 1"
    assert message.startswith("the loss is nan") and "picture-7" in message and message.count("picture-") == 5
    assert str(file) in message and "\n" not in message
    assert file.read_bytes() == kept[0]
    assert torch.isfinite(model.layer.weight).all()


def test_a_gradient_that_is_nan_stops_before_it_spoils_the_weights():
    model = Line()
    with pytest.raises(TrainingError, match="the gradient's norm is nan at step 0"):
        fit(model, lambda *_: (model.layer.weight * 0).abs().sqrt().sum(), 50, RECIPE, report=quiet)
    assert torch.isfinite(model.layer.weight).all()


@pytest.mark.parametrize(
    ("recipe", "identity", "says"),
    [
        (Recipe(epochs=1, batch=5), {"preset": "compact"}, "batch 8 there and 5 here"),
        (Recipe(epochs=1, batch=8), {"preset": "paper"}, "preset 'compact' there and 'paper' here"),
        (Recipe(epochs=1, batch=8, seed=1), {"preset": "compact"}, "seed 0 there and 1 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_kept(file, recipe, identity, says):
    model = Line()
    fit(model, model.loss, 50, Recipe(epochs=1, batch=8), file, quiet, identity={"preset": "compact"})
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=says) as refused:
        fit(model, model.loss, 50, recipe, file, quiet, identity=identity)
    assert str(file) in str(refused.value) and "remove it to begin anew" in str(refused.value)
    assert file.read_bytes() == before


def test_a_checkpoint_of_another_budget_goes_on_and_is_told(file):
    model, lines = Line(), []
    fit(model, model.loss, 50, Recipe(epochs=1, batch=5), file, quiet)
    history = fit(model, model.loss, 50, Recipe(epochs=2, batch=5), file, lines.append)
    assert any("resuming at step 10 of 20" in line for line in lines)
    assert [(budget["step"], budget["epochs"]) for budget in history.budgets] == [(0, 1), (10, 2)]
    assert history.epochs == 2 and len(history.epoch_losses) == 2


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"no checkpoint\n"])
def test_a_damaged_checkpoint_is_refused(file, damage):
    model = Line()
    fit(model, model.loss, 50, Recipe(epochs=1, batch=5), file, quiet)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=f"{file} is damaged .*remove it to begin anew"):
        fit(model, model.loss, 50, Recipe(epochs=1, batch=5), file, quiet)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64")])
def test_a_full_disk_leaves_the_older_checkpoint_whole(file, monkeypatch, error):
    model = Line()
    fit(model, model.loss, 50, Recipe(epochs=1, batch=5), file, quiet)
    before = file.read_bytes()

    def half(_state, out):
        out.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr("torch.save", half)
    with pytest.raises(OSError, match=f"checkpoint {file} cannot be written .*disk full"):
        fit(model, model.loss, 50, Recipe(epochs=2, batch=5), file, quiet)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "training").write_text("a file where a folder should be")
    model = Line()
    with pytest.raises(OSError, match="checkpoint .*training/checkpoint.pt cannot be written"):
        fit(model, model.loss, 50, Recipe(epochs=1, batch=5), tmp_path / "training" / "checkpoint.pt", quiet)


def test_history_tells_what_was_done():
    model = Line()
    history = fit(model, model.loss, 50, Recipe(epochs=2.4, batch=10, learning_rate=0.05), report=quiet)
    assert history.epochs == 2.4
    assert len(history.epoch_losses) == 2 and history.epoch_losses[1] < history.epoch_losses[0]
    assert history.budgets == [{"step": 0, "epochs": 2.4, "minutes": None}]


def test_training_ends_when_its_minutes_are_over():
    model, lines = Line(), []
    recipe = Recipe(epochs=1e9, minutes=0.005, batch=8)
    history = fit(model, model.loss, 50, recipe, report=lines.append)
    assert "100.0% done" in lines[-1]
    assert 0 < history.epochs < 1e6


def test_validation_sees_the_average_once_an_epoch_and_training_goes_on_with_its_own_weights():
    recipe, seen, modes = Recipe(epochs=3, batch=10, learning_rate=0.05, average=0.9), [], []
    alone, watched = Line(), Line()
    fit(alone, alone.loss, 50, recipe, report=quiet)
    trained = []

    def loss_of(indices, done):
        trained.append((watched.layer.weight.detach().clone(), watched.training))
        return watched.loss(indices)

    def validate():
        seen.append(watched.layer.weight.detach().clone())
        modes.append(watched.training)
        return {"accuracy": len(seen) / 10}

    logged = []
    history = fit(
        watched,
        loss_of,
        50,
        recipe,
        report=quiet,
        validate=validate,
        log=lambda step, found: logged.append((step, found)),
    )
    assert history.validation == [{"epoch": epoch, "accuracy": epoch / 10} for epoch in (1, 2, 3)]
    assert [(step, found) for step, found in logged if "accuracy" in found] == [
        (5 * epoch, {"accuracy": epoch / 10}) for epoch in (1, 2, 3)
    ]
    assert modes == [False] * 3 and all(mode for _, mode in trained)
    assert torch.equal(watched.layer.weight, alone.layer.weight)  # validation disturbs nothing
    assert torch.equal(seen[-1], watched.layer.weight)  # and sees what training returns
    # The first epoch's steps ended with the weights that the steps after them began with.
    average = trained[0][0]
    for step, (weight, _) in enumerate(trained[1:6], start=1):
        average = average.lerp(weight, 1 - min(0.9, (1 + step) / (10 + step)))
    torch.testing.assert_close(seen[0], average)


def test_the_corpus_joins_datasets_and_leaves_out_what_has_no_label(tmp_path, home):
    pictures = draw_pictures(tmp_path / "pictures")
    labels = read_dataset("folder", pictures, "train")
    shapes = read_dataset("folder", pictures, "val", task="shape")
    corpus = Corpus([labels, shapes], ["label", "shape"], smoothing=0.1)
    assert len(corpus) == len(labels) + len(shapes)
    assert corpus.crops(np.array([0, len(corpus) - 1])).shape == (2, 160, 160)
    sums = corpus.targets["label"].sum(1)
    assert torch.allclose(sums[: len(labels)], torch.ones(len(labels))) and (sums[len(labels) :] == 0).all()
    assert corpus.targets["label"][0].max() == pytest.approx(0.95)
    assert len(Corpus([labels, shapes], ["shape"])) == len(shapes)
    with pytest.raises(DatasetError, match="no dataset .* labels the task 'mood'"):
        Corpus([labels], ["mood"])


def drawn(count, **fields):
    """A dataset whose pictures are made as they are read."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 64, 64), np.uint8)
    return Dataset(
        name=fields.pop("name", "drawn"),
        split="train",
        paths=[fields.pop("file")] * count,
        ids=[f"drawn/{i}" for i in range(count)],
        read=lambda i: pictures[i],
        **fields,
    )


def test_soft_labels_are_the_votes_and_hard_ones_the_winner(tmp_path, home):
    votes = np.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7]], np.float32)
    dataset = drawn(
        2,
        file=tmp_path,
        classes={"mood": ("a", "b", "c")},
        labels={"mood": np.array([0, 2])},
        distributions={"mood": votes},
    )
    np.testing.assert_allclose(Corpus([dataset], ["mood"]).targets["mood"], votes)
    np.testing.assert_array_equal(Corpus([dataset], ["mood"], soft=False).targets["mood"], [[1, 0, 0], [0, 0, 1]])


def test_the_corpus_counts_people_over_all_datasets_and_leaves_out_those_of_one_picture(tmp_path, home):
    first = drawn(
        4, file=tmp_path, name="one", classes={"identity": ("a", "b")}, labels={"identity": np.array([0, 1, 0, -1])}
    )
    second = drawn(
        3, file=tmp_path, name="two", classes={"identity": ("a", "c")}, labels={"identity": np.array([0, 0, 1])}
    )
    descriptors = [np.random.default_rng(i).normal(size=(n, 8)).astype(np.float32) for i, n in enumerate((4, 3))]
    corpus = Corpus([first, second], [], descriptors=descriptors)
    assert corpus.people.tolist() == [0, UNLABELLED, 0, UNLABELLED, 1, 1, UNLABELLED]
    assert corpus.targets["embedding"].norm(dim=1).tolist() == pytest.approx([1] * 7)


def test_augmented_and_plain_crops_have_the_network_s_shape_and_range():
    crops = torch.randint(0, 256, (4, 160, 160), dtype=torch.uint8)
    for side, x in ((128, Augmentation()(crops)), (128, plain(crops)), (64, Augmentation(shrink=2)(crops))):
        assert x.shape == (4, 1, side, side) and torch.isfinite(x).all()
        assert x.mean((1, 2, 3)).abs().max() < 1e-3
    torch.manual_seed(0)
    first = Augmentation()(crops)
    assert not torch.equal(first, Augmentation()(crops))
    torch.manual_seed(0)
    assert torch.equal(first, Augmentation()(crops))
