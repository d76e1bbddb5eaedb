"""Few-shot columns: what they begin as, when training goes on, and what they leave alone."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

import onsite_world  # noqa: E402
from onsite_world import Listener, LongListener, collect, crops_of, make, order_of, write_model  # noqa: E402
from tiny_world import SHAPES, know_tiny  # noqa: E402

from face_mtl_ros.bundle.bundle import PROTOTYPES, load_bundle  # noqa: E402
from face_mtl_ros.bundle.network import build_network  # noqa: E402
from face_mtl_ros.runtime.engines import make_engine  # noqa: E402
from face_mtl_ros.runtime.open_set import MARGIN, clear_nearness  # noqa: E402
from face_mtl_ros.runtime.predictor import Predictor, unit  # noqa: E402
from face_mtl_ros.runtime.torch_engine import TorchEngine  # noqa: E402
from face_mtl_ros.samples.sample import Picture  # noqa: E402
from face_mtl_ros.training import onsite_features  # noqa: E402
from face_mtl_ros.training.calibration import temperature_of_few  # noqa: E402
from face_mtl_ros.training.fewshot import Hidden, begin_as, best_parent, fold_of, train_few_shot  # noqa: E402
from face_mtl_ros.training.loop import TrainingError  # noqa: E402
from face_mtl_ros.training.onsite_identity import recognise_each_other  # noqa: E402
from face_mtl_ros.training.onsite_worker import run_job  # noqa: E402

TASKS = ("emotion", "gender", "embedding")
store = onsite_world.store


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


@pytest.fixture
def bundle(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture(scope="module")
def shipped():
    """The model that comes with the package: one of random weights learns whatever chance allows."""
    return load_bundle(Path(__file__).parents[1] / "models" / "default")


def read(bundle, crops):
    inner = np.stack(crops)[:, 16:144, 16:144]
    return Predictor(bundle, TorchEngine(bundle, "cpu", "fp32")).read(inner)


def files(root):
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in root.rglob("*.safetensors")}


# What a column begins as


@pytest.mark.parametrize(
    ("parent", "sources"),
    [("emotion", []), ("emotion", ["embedding", "emotion"]), ("gender", ["embedding", "emotion"]), ("embedding", [])],
)
def test_a_column_begins_with_the_hidden_layer_of_its_parent(bundle, parent, sources):
    network = build_network(bundle)
    encoded = network.encoder(torch.randn(3, 1, 128, 128, generator=torch.Generator().manual_seed(0)))
    older = network.activations(encoded, TASKS)
    column = begin_as(bundle, parent, sources, 4)
    hidden = column.activations(encoded, [older[source] for source in sources])[-1]
    torch.testing.assert_close(hidden, older[parent][-1], rtol=1e-4, atol=1e-5)


def test_a_parent_whose_source_is_missing_is_refused(bundle):
    with pytest.raises(ValueError, match="'gender' draws on 'emotion', which is not among the sources"):
        begin_as(bundle, "gender", ["embedding"], 2)


def hidden_of(samples, informative, seed=0):
    """Hidden layers of which one alone tells three classes apart, two views of each sample."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    layers = {task: np.maximum(rng.normal(0, 1, (2, samples, 16)), 0).astype(np.float32) for task in TASKS}
    layers[informative][:, :, :3] += 3 * np.eye(3, dtype=np.float32)[labels]
    return Hidden(layers), labels


def test_the_parent_is_the_column_that_tells_the_classes_apart():
    for informative in TASKS:
        assert best_parent(*hidden_of(30, informative), TASKS) == informative


def test_the_logits_of_people_begin_as_cosines_to_their_mean_embeddings(bundle):
    hidden, labels = hidden_of(30, "embedding")
    made = train_few_shot(bundle, hidden, labels, 3, "embedding", ["embedding"], fold_of(labels, 0), seconds=-1)
    weights = bundle.columns["embedding"]
    embeddings = hidden.of_task["embedding"][0] @ weights["classifier.weight"].T + weights["classifier.bias"]
    means = unit(np.stack([unit(embeddings)[labels == person].mean(0) for person in range(3)]))
    assert made.epochs == 0
    expected = 10 * embeddings @ means.T / np.linalg.norm(embeddings, axis=1).mean()
    np.testing.assert_allclose(made.logits, expected, rtol=1e-3, atol=1e-3)


def test_what_the_embedding_does_not_see_is_learned_from_other_sources(bundle):
    hidden, labels = hidden_of(90, "gender")
    alone = train_few_shot(bundle, hidden, labels, 3, "embedding", ["embedding"], fold_of(labels, 0))
    helped = train_few_shot(bundle, hidden, labels, 3, "embedding", [*TASKS], fold_of(labels, 0))
    right = [(made.held_back.argmax(1) == labels).mean() for made in (alone, helped)]
    assert right[0] < 0.5 and right[1] > 0.7 and helped.epochs > 0


def test_no_epoch_begins_when_the_time_is_up(bundle):
    hidden, labels = hidden_of(90, "gender")
    said = []
    made = train_few_shot(
        bundle, hidden, labels, 3, "emotion", TASKS, fold_of(labels, 0), seconds=-1, progress=lambda *a: said.append(a)
    )
    assert made.epochs == 0 and not said and made.held_back.shape == (90, 3)


def test_each_class_is_spread_over_the_folds():
    labels = np.repeat([0, 1, 2], [2, 5, 13])
    folds = fold_of(labels, seed=3)
    for label, most in ((0, 1), (1, 1), (2, 3)):
        assert np.bincount(folds[labels == label], minlength=5).max() == most
    assert not np.array_equal(folds, fold_of(labels, seed=4))


def test_few_samples_that_are_all_right_are_no_reason_to_be_certain():
    logits = np.array([[5.0, 0.0]] * 4 + [[0.0, 5.0]] * 4)
    labels = np.repeat([0, 1], 4)
    sure = np.exp(5 / temperature_of_few(logits, labels))
    assert sure / (1 + sure) == pytest.approx(9 / 10, abs=1e-4)


# Whom it calls unknown


def test_a_name_needs_a_lead_over_the_runner_up():
    means = unit(np.array([[1.0, 0.0], [0.0, 1.0]]))
    faces = unit(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.9], [0.0, 1.0]]))
    clear, between, near, other = clear_nearness(faces, means, np.array([0, 0, 0, 0]))
    assert clear == pytest.approx(1) and between == pytest.approx(math.sqrt(0.5) - MARGIN)
    lead = (1 - 0.9) / math.hypot(1, 0.9)
    assert near == pytest.approx(1 / math.hypot(1, 0.9) - (MARGIN - lead))
    assert other == pytest.approx(-1 - MARGIN)  # named otherwise than it looks


def people(count, of, seed=0, spread=0.15):
    """Embeddings of length 1 around each person's own direction, and who it is."""
    rng = np.random.default_rng(seed)
    centres = unit(np.random.default_rng(9).normal(size=(40, 24)))[list(of)]
    labels = np.repeat(np.arange(len(centres)), count)
    return unit(centres[labels] + rng.normal(0, spread, (len(labels), 24))), labels


def test_people_are_each_others_strangers():
    embeddings, labels = people(15, range(5))
    folds, means = fold_of(labels, 0), unit(np.stack([embeddings[labels == i].mean(0) for i in range(5)]))
    rule, prototypes, named = recognise_each_other((10 * embeddings @ means.T), labels, folds, embeddings)
    assert rule.method == "embedding" and named > 0.9
    np.testing.assert_allclose(prototypes, means, atol=1e-6)
    known, truth = people(20, range(5), seed=1)
    others, _ = people(20, range(5, 40), seed=2)
    scores = [clear_nearness(faces, means, (faces @ means.T).argmax(1)) for faces in (known, others)]
    assert (scores[0] > rule.threshold).mean() > 0.9 and ((known @ means.T).argmax(1) == truth).all()
    assert (scores[1] <= rule.threshold).mean() > 0.9


def test_without_embeddings_probabilities_tell_strangers():
    embeddings, labels = people(15, range(5))
    logits = 10 * embeddings @ unit(np.stack([embeddings[labels == i].mean(0) for i in range(5)])).T
    rule, prototypes, named = recognise_each_other(logits, labels, fold_of(labels, 0), None)
    assert rule.method == "probability" and prototypes is None and named > 0.6


def test_an_identity_column_comes_with_its_rule(store, shipped, tmp_path):
    collect(store, "identity", ("disc", "bars"), 10)
    options = {"task": "identity", "kind": "identity", "sources": ["embedding"]}
    made, _ = make(store, shipped.root, tmp_path / "work", **options)
    record = made.manifest.column("identity")
    assert record.kind == "identity" and record.open_set.method == "embedding"
    assert made.columns["identity"][PROTOTYPES].shape == (2, 128)
    figures = record.metrics
    assert figures["samples/held_back/n"] == 20 and figures["samples/held_back/accuracy"] > 0.5
    assert figures["samples/held_back/known_named"] <= figures["samples/held_back/accuracy"]
    assert read(made, crops_of("disc", 6, seed=1)).known["identity"].shape == (6,)


# A whole job


def test_an_attribute_is_learned_and_says_how_it_was_made(store, shipped, tmp_path):
    collect(store, "shapes", count=10)
    made, listener = make(store, shipped.root, tmp_path / "work", sources=["emotion", "embedding"])
    record = made.manifest.column("shapes")
    said = read(made, crops_of("disc", 20, seed=1) + crops_of("stripes", 20, seed=1)).probabilities["shapes"].argmax(1)
    assert (said == np.repeat([0, 1], 20)).mean() > 0.9
    assert record.sources == ["emotion", "embedding"] and record.provenance.samples == {"samples/all": 20}
    assert record.provenance.recipe["name"] == "fast" and record.provenance.seed == 1
    assert "a test" in record.provenance.command and record.provenance.begun_from is not None
    states = list(dict.fromkeys(progress.state for progress in listener.said))
    assert states == ["training", "evaluating"]
    assert all(progress.time_left_s >= 0 for progress in listener.said)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_compiled_older_columns_say_the_same_as_before(store, shipped, tmp_path, engine):
    pytest.importorskip(engine, reason=f"engine {engine} is not installed")
    collect(store, "shapes", count=5)
    made, _ = make(store, shipped.root, tmp_path / "work", sources=["emotion", "embedding"])
    inner = np.stack([crop for shape in SHAPES for crop in crops_of(shape, 16, seed=3)])[:, 16:144, 16:144]
    before, after = (Predictor(b, make_engine(b, engine, "cpu", "fp32")).read(inner) for b in (shipped, made))
    assert set(after.probabilities) == {*before.probabilities, "shapes"}
    for task, probabilities in before.probabilities.items():
        assert (after.probabilities[task].argmax(1) == probabilities.argmax(1)).all(), task
    np.testing.assert_allclose(after.embeddings, before.embeddings, atol=1e-5)


@pytest.mark.slow
def test_two_hundred_people_on_one_robot(store, shipped, tmp_path):
    rng = np.random.default_rng(5)
    people = [cv2.resize(rng.uniform(0, 255, (6, 6)), (160, 160), interpolation=cv2.INTER_CUBIC) for _ in range(200)]

    def pictures(person, count):
        noisy = [person + rng.normal(0, 6, person.shape) for _ in range(count)]
        return [np.clip(picture, 0, 255).astype(np.uint8) for picture in noisy]

    for i, person in enumerate(people):
        store.add("identity", f"person {i:03}", [Picture(crop) for crop in pictures(person, 5)])
    options = {"task": "identity", "kind": "identity", "sources": ["embedding"], "time_budget_s": 120.0}
    made, _ = make(store, shipped.root, tmp_path / "work", **options)
    record = made.manifest.column("identity")
    assert record.labels == [f"person {i:03}" for i in range(200)] and record.open_set.method == "embedding"
    named = read(made, [pictures(person, 1)[0] for person in people]).probabilities["identity"].argmax(1)
    assert (named == np.arange(200)).mean() > 0.9


def test_older_columns_stay_bit_identical_and_a_new_task_may_draw_on_a_new_column(store, bundle, tmp_path):
    picture = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    before, kept = build_network(bundle)(picture), files(bundle.root)
    collect(store, "shapes", count=5)
    first, _ = make(store, bundle.root, tmp_path / "1", sources=["emotion", "embedding"])
    assert kept.items() < files(first.root).items() and files(bundle.root) == kept
    collect(store, "stance", ("bars", "noise"), count=5)
    second, _ = make(store, first.root, tmp_path / "2", task="stance", sources=["shapes", "emotion", "embedding"])
    assert second.manifest.column("stance").sources == ["shapes", "emotion", "embedding"]
    after = build_network(second)(picture)
    assert all(torch.equal(after[task], outputs) for task, outputs in before.items())
    assert torch.equal(after["shapes"], build_network(first)(picture)["shapes"])


def test_another_person_changes_the_identity_column_alone(store, bundle, tmp_path):
    options = {"task": "identity", "kind": "identity", "sources": ["embedding"]}
    collect(store, "identity", ("disc", "stripes"), 5)
    two, _ = make(store, bundle.root, tmp_path / "1", **options)
    collect(store, "identity", ("bars",), 5)
    three, _ = make(store, two.root, tmp_path / "2", **options)
    assert three.manifest.column("identity").labels == ["bars", "disc", "stripes"]
    changed = {path for path, sha in files(two.root).items() if files(three.root).get(path) != sha}
    assert [path.startswith("columns/identity-") for path in changed] == [True]
    assert [c.task for c in three.manifest.columns] == [c.task for c in two.manifest.columns]


def test_a_killed_job_goes_on_with_the_views_that_it_has(store, bundle, tmp_path, monkeypatch):
    collect(store, "shapes", count=5)
    whole, _ = make(store, bundle.root, tmp_path / "whole")
    taken = 0
    run = onsite_features._Frozen.run

    def killed(self, *args, **kwargs):
        nonlocal taken
        taken += 1
        if taken > 2:
            raise KeyboardInterrupt
        return run(self, *args, **kwargs)

    monkeypatch.setattr(onsite_features._Frozen, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        make(store, bundle.root, tmp_path / "work")
    taken = -3  # three views are left
    resumed, _ = make(store, bundle.root, tmp_path / "work")
    assert taken == 0
    shas = [made.manifest.column("shapes").file.sha256 for made in (whole, resumed)]
    assert shas[0] == shas[1]
    assert run_job(order_of(store, bundle.root), tmp_path / "work", Listener()).version == resumed.version  # is done


def test_a_sample_that_is_erased_meanwhile_ends_the_job(store, bundle, tmp_path):
    collect(store, "shapes", count=5)
    order = order_of(store, bundle.root)
    store.forget(ids=order.sample_ids[:1])
    with pytest.raises(ValueError, match="1 samples, such as 1, were erased meanwhile: train again"):
        run_job(order, tmp_path, Listener())


def test_without_a_column_to_begin_as_the_other_recipe_is_named(store, tmp_path, bundle):
    from face_mtl_ros.training.encoder_production import make_random_encoder
    from face_mtl_ros.training.recipe import Recipe

    empty = make_random_encoder(tmp_path / "empty", "default", "tiny", Recipe(), "")
    collect(store, "shapes", count=5)
    with pytest.raises(TrainingError, match="has none whose sources are among .*take the recipe 'paper'"):
        make(store, empty.root, tmp_path / "work", sources=[])


def test_the_long_recipes_train_all_layers_and_keep_the_values(store, bundle, tmp_path, monkeypatch):
    from face_mtl_ros.training import recipe

    collect(store, "shapes", count=8)
    short = replace(recipe.PAPER, epochs=1, batch=8)
    monkeypatch.setitem(recipe.RECIPES, "paper", short)
    work = tmp_path / "work"
    work.mkdir()
    reporter = LongListener()
    made = run_job(order_of(store, bundle.root, recipe="paper", values=[1.0, 2.0]), work, reporter)
    record = made.manifest.column("shapes")
    assert record.values == [1.0, 2.0] and record.metrics["samples/held_back/n"] > 0
    assert reporter.epochs == 1 and load_bundle(bundle.root).version == bundle.version
