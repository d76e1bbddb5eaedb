"""Training columns: what learns, what stays frozen, and what the bundle gets."""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

import tiny_world  # noqa: E402
from tiny_world import QUICK, TINY, draw_pictures, quiet, read_as, single_step  # noqa: E402

import face_mtl_ros  # noqa: E402
from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.bundle.files import BundleError  # noqa: E402
from face_mtl_ros.bundle.network import build_network  # noqa: E402
from face_mtl_ros.datasets.dataset import DatasetError  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.networks.column import Column  # noqa: E402
from face_mtl_ros.networks.encoder import Encoder  # noqa: E402
from face_mtl_ros.networks.progressive import ProgressiveNetwork  # noqa: E402
from face_mtl_ros.runtime.predictor import Predictor  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.runtime.torch_engine import TorchEngine  # noqa: E402
from face_mtl_ros.training.calibration import fit_temperature  # noqa: E402
from face_mtl_ros.training.columns import Plan, train_column  # noqa: E402
from face_mtl_ros.training.corpus import Corpus  # noqa: E402
from face_mtl_ros.training.dlib_resnet import DlibResNet, dat_file  # noqa: E402
from face_mtl_ros.training.encoder_production import make_encoder  # noqa: E402
from face_mtl_ros.training.loop import TrainingError  # noqa: E402
from face_mtl_ros.training.pretraining import pretrain_multitask  # noqa: E402
from face_mtl_ros.training.production import ColumnOrder, make_column  # noqa: E402
from face_mtl_ros.training.scoring import column_logits, people_and_embeddings  # noqa: E402

ASTRONAUT = Path(face_mtl_ros.__file__).parent / "assets" / "astronaut.jpg"


tiny, pictures, train, val = tiny_world.tiny, tiny_world.pictures, tiny_world.train, tiny_world.val


@pytest.fixture
def bundle(tmp_path):
    """Random weights and one column."""
    return write_random_bundle(tmp_path / "bundle", "tiny", {"older": (["a", "b", "c"], [])})


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.safetensors"))}


def logits_of(root, picture):
    """The torch network's own answer, of all columns."""
    return build_network(load_bundle(root))(picture)


# What is frozen


def test_encoder_and_sources_stay_bit_identical_while_a_column_trains(train):
    network = ProgressiveNetwork(TINY)
    network.add_column("older", 3)
    network.add_column("source", 2, ["older"])
    network.requires_grad_(False).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    picture = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    network.to(memory_format=torch.channels_last)  # as training does, for another layout rounds otherwise
    outputs = network(picture)
    corpus = Corpus([train], ["label"])
    column, _ = train_column(
        network, Plan("label", ["source", "older"], corpus), replace(QUICK, epochs=0.5), report=quiet
    )
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    untrained = Column(TINY, 2, 2)
    moved = [name for name, value in column.named_parameters() if not torch.equal(value, untrained.state_dict()[name])]
    assert any(name.startswith("adapters.") for name in moved) and any(name.startswith("layers.") for name in moved)
    again = network(picture)
    assert all(torch.equal(again[task], outputs[task]) for task in outputs)
    assert not column.training and not any(p.requires_grad for p in network.parameters())


def test_adapters_by_groups_learn_before_each_group_of_three_and_are_closed_within(train):
    network = ProgressiveNetwork(TINY)
    network.add_column("source", 2)
    plan = Plan("label", ["source"], Corpus([train], ["label"]), adapters="groups")
    column, _ = train_column(network, plan, single_step(), report=quiet)
    open_ones = [i + 1 for i, adapter in enumerate(column.adapters) if adapter.reduce.weight.any()]
    assert open_ones == [3, 6, 9, 12, 15, 18, 21, 24, 25]
    assert not any(p.any() for i in (1, 2, 23) for p in column.adapters[i - 1].parameters())


def test_a_new_column_leaves_the_older_files_and_outputs_alone(bundle, train, val):
    before = {name: hashlib.sha256(data).hexdigest() for name, data in files(bundle.root).items()}
    picture = torch.randn(1, 1, 128, 128)
    outputs = logits_of(bundle.root, picture)
    order = ColumnOrder("label", [train], [val], sources=["older"])
    made = make_column(bundle.root, order, single_step(), "face-mtl train", quiet)
    after = {name: hashlib.sha256(data).hexdigest() for name, data in files(bundle.root).items()}
    assert before.items() < after.items() and after.keys() - before.keys() == {"columns/label.safetensors"}
    assert torch.equal(logits_of(bundle.root, picture)["older"], outputs["older"])
    record = made.manifest.column("label")
    assert record.sources == ["older"] and record.labels == ["disc", "stripes"]
    assert record.provenance.command == "face-mtl train" and record.provenance.samples == {"folder/train": len(train)}


def test_an_encoder_is_trained_along_into_another_bundle(tmp_path, train, val):
    older = write_random_bundle(tmp_path / "older", "tiny", {})
    before = files(older.root)
    order = ColumnOrder("label", [train], [val], output=tmp_path / "newer", retrain_encoder=True)
    newer = make_column(older.root, order, replace(QUICK, epochs=1), "face-mtl train", quiet)
    assert files(older.root) == before and load_bundle(older.root).version == older.version
    assert not np.array_equal(newer.encoder["layers.0.conv.weight"], older.encoder["layers.0.conv.weight"])
    assert newer.manifest.encoder.provenance.command == "face-mtl train"
    assert newer.manifest.column("label").metrics["folder/val/n"] == len(val)


def test_an_encoder_is_not_trained_under_columns_nor_without_another_bundle(bundle, tmp_path, train):
    order = ColumnOrder("label", [train], retrain_encoder=True)
    with pytest.raises(ValueError, match="a re-trained encoder makes another bundle: pass --output"):
        make_column(bundle.root, order, single_step(), "", quiet)
    with pytest.raises(ValueError, match=r"the encoder cannot be re-trained: the columns \['older'\] were trained on"):
        make_column(bundle.root, replace(order, output=tmp_path / "newer"), single_step(), "", quiet)
    assert not (tmp_path / "newer").exists()


def test_a_column_may_go_into_a_new_bundle_with_the_older_ones(bundle, tmp_path, train):
    order = ColumnOrder("label", [train], sources=["older"], output=tmp_path / "newer")
    newer = make_column(bundle.root, order, single_step(), "", quiet)
    assert [column.task for column in newer.manifest.columns] == ["older", "label"]
    assert load_bundle(bundle.root).version == bundle.version
    assert files(bundle.root).items() < files(newer.root).items()
    with pytest.raises(ValueError, match="holds a bundle already"):
        make_column(bundle.root, order, single_step(), "", quiet)


# What learns


def test_a_column_learns(tmp_path, train, val):
    root = write_random_bundle(tmp_path / "bundle", "tiny", {}).root
    lines = []
    made = make_column(root, ColumnOrder("label", [train], [val]), QUICK, "", lines.append)
    metrics = made.manifest.column("label").metrics
    assert metrics["folder/val/accuracy"] == 1 and metrics["folder/val/n"] == len(val)
    assert {"folder/val/macro_f1", "folder/val/ece", "folder/val/nll"} <= metrics.keys() and "seeds" not in metrics
    # The bundle as it is on disk has the temperature that suits the logits of the validation pictures.
    logits, labels = column_logits(Predictor(made, TorchEngine(made, "cpu")), "label", val)
    temperature = made.manifest.column("label").temperature
    assert temperature == pytest.approx(fit_temperature(logits, labels), rel=1e-3) and temperature != 1
    assert sum(line.startswith("after epoch") for line in lines) == 10


def test_several_seeds_give_mean_and_standard_error_and_the_first_is_kept(bundle, train, val):
    order, lines = ColumnOrder("label", [train], [val], seeds=2), []
    recipe = single_step(epochs=0.2)
    made = make_column(bundle.root, order, recipe, "", lines.append).manifest.column("label")
    assert [line for line in lines if line.startswith("seed")] == ["seed 0", "seed 1"]
    assert made.metrics["seeds"] == 2 and made.provenance.seed == 0
    alone = {}
    for seed in (0, 1):
        order = ColumnOrder(f"alone{seed}", [read_as(train, f"alone{seed}")], [read_as(val, f"alone{seed}")])
        alone[seed] = make_column(bundle.root, order, replace(recipe, seed=seed), "", quiet).manifest.columns[-1]
    assert alone[0].file.sha256 == made.file.sha256 != alone[1].file.sha256
    losses = [column.metrics["folder/val/nll"] for column in alone.values()]
    assert made.metrics["folder/val/nll/mean"] == pytest.approx(np.mean(losses))
    assert made.metrics["folder/val/nll/error"] == pytest.approx(abs(losses[0] - losses[1]) / 2)


def first_losses(train, **changes):
    """The mean loss of one step over all samples, with random weights that are always the same."""
    network = ProgressiveNetwork(TINY)
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    recipe = single_step(epochs=1, batch=len(train), smoothing=0, learning_rate=1e-9, **changes)
    corpus = Corpus([train], ["label"], recipe.smoothing, soft=recipe.soft_labels)
    _, history = train_column(network, Plan("label", [], corpus), recipe, report=quiet)
    return history.epoch_losses[0]


def test_class_weights_make_rare_classes_count(train):
    rare = train.take(np.flatnonzero((train.labels["label"] == 0) | (np.arange(len(train)) % 5 == 0)))
    counts = np.bincount(rare.labels["label"])
    assert counts[0] > 3 * counts[1] > 0
    plain, between, even = (first_losses(rare, class_weight=power) for power in (0.0, 0.5, 1.0))
    shares = np.array([counts ** (1 - power) / (counts ** (1 - power)).sum() for power in (0.0, 0.5, 1.0)])
    # Each is a weighted mean of the two classes' losses, which two of them give away.
    of_class = np.linalg.solve(shares[:2], [plain, between])
    assert even == pytest.approx(of_class.mean(), rel=1e-3) and even != pytest.approx(plain, rel=1e-3)


def test_a_column_learns_the_votes_or_the_winner(train):
    votes = np.full((len(train), 2), 0.5, np.float32)
    voted = replace(train, distributions={"label": votes})
    soft, hard = (first_losses(voted, soft_labels=which) for which in (True, False))
    assert hard == pytest.approx(first_losses(train, soft_labels=True)) and soft != pytest.approx(hard, rel=1e-3)


def test_the_last_steps_see_the_pictures_as_they_are_or_mirrored(train):
    stripes = train.take(np.flatnonzero(train.labels["label"] == train.classes["label"].index("stripes")))
    plain, calm, augmented = (
        first_losses(stripes, **views)
        for views in ({}, {"augment": True, "plain_end": 1.0}, {"augment": True, "plain_end": 0.0})
    )
    assert abs(calm - plain) < 0.1 * abs(augmented - plain)  # stripes are the same mirrored


# What is refused, and what a kill leaves


def test_what_does_not_go_together_with_the_bundle_is_refused(bundle, train, val):
    older = read_as(train, "older")
    with pytest.raises(ValueError, match="task 'older' has a column already"):
        make_column(bundle.root, ColumnOrder("older", [older]), single_step(), "", quiet)
    with pytest.raises(BundleError, match="no column 'mood' to draw on; it has older"):
        make_column(bundle.root, ColumnOrder("label", [train], sources=["mood"]), single_step(), "", quiet)
    with pytest.raises(DatasetError, match="does not label 'mood'; it labels label"):
        make_column(bundle.root, ColumnOrder("mood", [train]), single_step(), "", quiet)
    with pytest.raises(ValueError, match="seeds: at least 1 is expected, got 0"):
        ColumnOrder("label", [train], seeds=0)
    assert load_bundle(bundle.root).version == bundle.version


def test_one_class_only_and_an_empty_class_are_refused(bundle, train):
    one = train.take(np.flatnonzero(train.labels["label"] == 0))
    with pytest.raises(DatasetError, match=r"no sample of \['stripes'\]|samples of \['disc'\] alone"):
        make_column(bundle.root, ColumnOrder("label", [one]), single_step(), "", quiet)
    empty = replace(train, classes={"label": ("disc", "stripes", "bars")})
    with pytest.raises(DatasetError, match=r"have no sample of \['bars'\] for 'label'"):
        make_column(bundle.root, ColumnOrder("label", [empty]), single_step(), "", quiet)


def test_an_unreadable_picture_is_named(bundle, pictures):
    broken = pictures / "disc" / "1.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=f"{broken} is missing or cannot be read as a picture"):
        make_column(
            bundle.root, ColumnOrder("label", [read_dataset("folder", pictures, "all")]), single_step(), "", quiet
        )


def test_a_column_whose_loss_is_nan_leaves_the_bundle_and_names_the_batch(bundle, train):
    recipe = single_step(epochs=50, learning_rate=1e30)
    with pytest.raises(TrainingError, match="at step [1-9].*samples: folder/(disc|stripes)/.*lower learning rate"):
        make_column(bundle.root, ColumnOrder("label", [train]), recipe, "", quiet)
    assert load_bundle(bundle.root).version == bundle.version


def test_validation_pictures_of_one_class_leave_a_column_uncalibrated(bundle, train, val):
    one, lines = val.take(np.flatnonzero(val.labels["label"] == 0)), []
    made = make_column(bundle.root, ColumnOrder("label", [train], [one]), single_step(), "", lines.append)
    assert made.manifest.column("label").temperature == 1
    assert any("stays uncalibrated" in line for line in lines)


def test_a_column_whose_evaluation_is_killed_leaves_the_old_bundle_and_can_be_made_again(
    bundle, train, val, monkeypatch
):
    order, lines = ColumnOrder("label", [train], [val]), []

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("face_mtl_ros.training.production.predict_column", kill)
        make_column(bundle.root, order, single_step(), "", quiet)
    assert load_bundle(bundle.root).version == bundle.version
    made = make_column(bundle.root, order, single_step(), "", lines.append)
    assert "resuming" in lines[0]
    assert made.manifest.column("label").metrics["folder/val/n"] == len(val)


# The embedding


def brightness_descriptors(dataset, _report):
    """A teacher that is easy to learn from: where a picture is bright."""
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) for path in dataset.paths]
    return np.stack([cv2.resize(picture, (4, 4), interpolation=cv2.INTER_AREA).ravel() / 255 for picture in pictures])


def people_of_shapes(tmp_path, split):
    root = draw_pictures(tmp_path / "people", ("disc", "stripes", "bars", "noise"), 20)
    return read_dataset("folder", root, split, task="identity")


def test_an_embedding_column_learns_from_a_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr("face_mtl_ros.training.production.teacher_descriptors", brightness_descriptors)
    root = write_random_bundle(tmp_path / "bundle", "tiny", {}).root
    dataset, lines = people_of_shapes(tmp_path, "all"), []
    order = ColumnOrder("embedding", [dataset], [dataset])
    made = make_column(root, order, replace(QUICK, epochs=8), "", lines.append)
    record = made.manifest.column("embedding")
    assert (record.kind, record.dimensions, record.labels) == ("embedding", 16, [])
    # Four people are too few to measure a descriptor by; that is said, and the column is kept.
    assert any("not measured" in line and "too few" in line for line in lines) and not record.metrics
    people, embeddings = people_and_embeddings(Predictor(made, TorchEngine(made, "cpu")), dataset)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    targets = brightness_descriptors(dataset, None)
    targets = targets - targets.mean(0)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    learned, wanted = (vectors @ vectors.T for vectors in (embeddings, targets))
    assert np.corrcoef(learned.ravel(), wanted.ravel())[0, 1] > 0.5  # whitening takes some of it
    same = people[:, None] == people[None]
    assert learned[same].mean() > learned[~same].mean() + 0.3


def test_dlibs_network_in_torch_says_what_dlib_says():
    dlib = pytest.importorskip("dlib", reason="dlib is not installed; the teacher extra brings it")
    try:
        weights = dat_file()
    except ModuleNotFoundError:
        pytest.skip("face-recognition-models is not installed; the teacher extra brings it")
    chip = cv2.resize(cv2.imread(str(ASTRONAUT)), (150, 150), interpolation=cv2.INTER_AREA)[..., ::-1].copy()
    expected = np.array(dlib.face_recognition_model_v1(str(weights)).compute_face_descriptor(chip))
    with torch.no_grad():
        found = DlibResNet(weights)(torch.from_numpy(chip.transpose(2, 0, 1)[None].astype(np.float32)))
    assert np.abs(found[0].numpy() - expected).max() < 1e-4
    assert np.linalg.norm(expected) > 0.5


# Pre-training


def test_pretraining_keeps_heads_beside_the_bundle_and_goes_on_from_another(tmp_path, pictures, train):
    shapes = read_dataset("folder", pictures, "val", task="shape")
    recipe = single_step(epochs=1, batch=32)
    first = make_encoder(tmp_path / "first", "tiny", "tiny", [train, shapes], recipe, "face-mtl pretrain", quiet)
    assert sorted(path.name for path in (first.root / "heads").iterdir()) == ["label.safetensors", "shape.safetensors"]
    assert not first.manifest.columns
    still = single_step(learning_rate=1e-9)  # so little that it ends where it began
    second = make_encoder(tmp_path / "second", "tiny", "tiny", [train], still, "", quiet, start=first.root)
    for name, weights in first.encoder.items():
        if weights.ndim > 1:
            np.testing.assert_allclose(second.encoder[name], weights, atol=1e-6)
    with pytest.raises(ValueError, match="preset 'tiny', not 'compact'"):
        make_encoder(tmp_path / "third", "tiny", "compact", [train], still, "", quiet, start=first.root)


def test_in_pretraining_a_sample_brings_the_losses_that_it_has(train, val):
    """The head of a task that no sample labels stays as it was."""
    shapes = read_as(val, "shape")
    corpus = Corpus([train, shapes], ["label", "shape"])
    assert (corpus.targets["shape"][: len(train)] == 0).all()
    recipe = replace(QUICK, epochs=1, batch=16, weight_decay=0.0, average=0.0, warmup=0.0)
    _, both, _ = pretrain_multitask(TINY, corpus, recipe, report=quiet)
    corpus.targets["shape"].zero_()
    _, alone, _ = pretrain_multitask(TINY, corpus, recipe, report=quiet)
    torch.manual_seed(recipe.seed)
    Encoder(TINY)
    _, untouched = Column(TINY, 2), Column(TINY, 2)
    weight = "layers.0.conv.weight"
    assert torch.equal(alone["shape"].state_dict()[weight], untouched.state_dict()[weight])
    assert not torch.equal(both["shape"].state_dict()[weight], untouched.state_dict()[weight])
    assert not torch.equal(alone["label"].state_dict()[weight], both["label"].state_dict()[weight])


def test_an_encoder_does_not_replace_a_bundle_unless_forced(bundle, train):
    with pytest.raises(ValueError, match=f"{bundle.root} holds a bundle already.*--force"):
        make_encoder(bundle.root, "tiny", "tiny", [train], single_step(), "", quiet)
    assert load_bundle(bundle.root).version == bundle.version
    newer = make_encoder(bundle.root, "tiny", "tiny", [train], single_step(), "", quiet, force=True)
    assert newer.manifest.name == "tiny" and not newer.manifest.columns
