"""People told apart on site by a foreign face descriptor beside the model's own embedding."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
pytest.importorskip("openvino", reason="foreign descriptors are run by openvino, which the run extra installs")

import onsite_world  # noqa: E402
from onsite_world import Listener, collect, crops_of, finishing, install_random_descriptor, make, order_of  # noqa: E402
from tiny_world import know_tiny  # noqa: E402

from face_mtl_ros import FaceAnalyzer  # noqa: E402
from face_mtl_ros.bundle.bundle import PROTOTYPES, load_bundle  # noqa: E402
from face_mtl_ros.bundle.files import BundleError  # noqa: E402
from face_mtl_ros.bundle.network import build_network  # noqa: E402
from face_mtl_ros.runtime.descriptor import Descriptor, DescriptorError, load_descriptor  # noqa: E402
from face_mtl_ros.runtime.open_set import MARGIN  # noqa: E402
from face_mtl_ros.runtime.predictor import Predictor, unit  # noqa: E402
from face_mtl_ros.runtime.torch_engine import TorchEngine  # noqa: E402
from face_mtl_ros.site_model import SwapError  # noqa: E402
from face_mtl_ros.training.fewshot import Hidden, fold_of, train_few_shot  # noqa: E402
from face_mtl_ros.training.onsite_identity import recognise_each_other  # noqa: E402
from face_mtl_ros.training.onsite_jobs import JobBook, OnsiteError, TrainRequest  # noqa: E402
from face_mtl_ros.training.onsite_worker import run_job  # noqa: E402
from face_mtl_ros.training.prototypes import SHARPNESS  # noqa: E402

store, site, start = onsite_world.store, onsite_world.site, onsite_world.start
PEOPLE = {"task": "identity", "kind": "identity", "sources": ["embedding"], "descriptor": "seen"}


@pytest.fixture(autouse=True)
def seen(monkeypatch, home, tmp_path):
    """A descriptor of 16 numbers, installed."""
    know_tiny(monkeypatch)
    return install_random_descriptor("seen", tmp_path, 16)


@pytest.fixture
def bundle(site):
    return site.bundle()


def people(count, of=5, dimensions=24, common=0.0, seed=0):
    """Descriptors of length 1 around each person's own direction and what all have in common, and who it is."""
    centres = unit(np.random.default_rng(9).normal(size=(of, dimensions)))
    centres += common * unit(np.random.default_rng(8).normal(size=(1, dimensions)))
    labels = np.repeat(np.arange(of), count)
    noise = np.random.default_rng(seed).normal(0, 0.1, (len(labels), dimensions))
    return unit(centres[labels] + noise), labels


def nothing(samples):
    """Hidden layers that tell nobody apart."""
    rng = np.random.default_rng(1)
    return Hidden({"emotion": np.maximum(rng.normal(size=(2, samples, 16)), 0).astype(np.float32)})


# What the column learns from it


@pytest.mark.parametrize(("dimensions", "common"), [(4, 0.0), (24, 3.0), (64, 0.0)])
def test_logits_begin_as_cosines_to_the_mean_descriptors(bundle, dimensions, common):
    """Whether the adapter has more units than the descriptor numbers, or fewer."""
    described, labels = people(6, 3, dimensions, common)
    folds = fold_of(labels, 0)
    made = train_few_shot(bundle, nothing(18), labels, 3, "emotion", [], folds, described, seconds=-1)
    means = unit(np.stack([described[labels == person].mean(0) for person in range(3)]))
    between = (means @ means.T)[~np.eye(3, dtype=bool)].mean()
    expected = SHARPNESS / (1 - between) * described @ means.T
    np.testing.assert_allclose(made.logits, expected, atol=0.01 if dimensions <= 24 else 0.1)
    assert (made.held_back.argmax(1) == labels).mean() > (0.5 if dimensions == 4 else 0.9)


def test_the_column_says_what_was_learned_of_it(bundle):
    described, labels = people(6, 3)
    hidden = nothing(18)
    made = train_few_shot(bundle, hidden, labels, 3, "emotion", [], fold_of(labels, 0), described, seconds=-1)
    from face_mtl_ros.networks.column import Column

    column = Column(bundle.preset, 3, 0, 24, skip=True).eval()
    column.load_state_dict({name: torch.from_numpy(value) for name, value in made.weights.items()})
    with torch.no_grad():
        activations = torch.from_numpy(hidden.of_task["emotion"][0])
        passed = column.foreign(torch.from_numpy(described).float())
        logits = column.classifier(torch.cat([activations, passed], dim=1))
    np.testing.assert_allclose(logits.numpy(), made.logits, rtol=1e-3, atol=1e-3)


def test_the_rule_compares_descriptors_by_a_margin_of_their_own(bundle):
    described, labels = people(12, common=2.0)
    means = unit(np.stack([described[labels == person].mean(0) for person in range(5)]))
    folds = fold_of(labels, 0)
    blind = unit(np.random.default_rng(3).normal(size=(60, 8)))  # an embedding that tells nobody apart
    rule, prototypes, named = recognise_each_other(30 * described @ means.T, labels, folds, blind, described)
    assert rule.method == "descriptor" and 0 < rule.margin < MARGIN / 2 and named > 0.9
    np.testing.assert_allclose(prototypes, means, atol=1e-6)


# A whole job


def vectors_of(crops):
    return load_descriptor("seen").describe_crops(np.stack(crops))


def test_a_column_that_draws_on_it_names_it_and_asks_for_it(store, bundle, seen, tmp_path):
    picture = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    before = build_network(bundle)(picture)
    collect(store, "identity", ("disc", "bars", "stripes"), 8)
    made, listener = make(store, bundle.root, tmp_path / "work", **PEOPLE)
    record = made.manifest.column("identity")
    assert record.descriptor == seen.record() and record.open_set.method == "descriptor"
    assert made.columns["identity"][PROTOTYPES].shape == (3, 16)
    assert any("describing the samples by 'seen': 24 of 24" in progress.message for progress in listener.said)
    after = build_network(made)(picture, list(before))
    assert all(torch.equal(after[task], outputs) for task, outputs in before.items())

    predictor = Predictor(made, TorchEngine(made, "cpu", "fp32"), {"seen": load_descriptor("seen")})
    shown = crops_of("disc", 10, seed=1) + crops_of("bars", 10, seed=1)
    inner = np.stack(shown)[:, 16:144, 16:144]
    read = predictor.read(inner, {"seen": vectors_of(shown)})
    names = np.array(record.labels)[read.probabilities["identity"].argmax(1)]
    assert (names == np.repeat(["disc", "bars"], 10)).mean() > 0.7
    # The rule reads the descriptor: of a face that it describes as the opposite of everybody, it knows nobody.
    assert (read.known["identity"] > 0).mean() > 0.5
    assert not (predictor.read(inner, {"seen": -vectors_of(shown)}).known["identity"] > 0).any()


def test_it_is_described_once(store, bundle, tmp_path, monkeypatch):
    collect(store, "identity", count=5)
    work = tmp_path / "work"
    whole, _ = make(store, bundle.root, tmp_path / "whole", **PEOPLE)
    monkeypatch.setattr("face_mtl_ros.training.onsite_column.train_few_shot", lambda *_: 1 / 0)  # killed meanwhile
    with pytest.raises(ZeroDivisionError):
        make(store, bundle.root, work, **PEOPLE)
    monkeypatch.undo()
    know_tiny(monkeypatch)
    monkeypatch.setenv("FACE_MTL_HOME", str(store.file.parents[1]))
    monkeypatch.setattr(Descriptor, "describe_crops", lambda *_: pytest.fail("described again"))
    resumed, _ = make(store, bundle.root, work, **PEOPLE)
    assert resumed.manifest.column("identity").file.sha256 == whole.manifest.column("identity").file.sha256


def test_another_column_is_trained_beside_it_where_it_is_not_installed(store, bundle, tmp_path, monkeypatch):
    collect(store, "identity", count=5)
    collect(store, "shapes", count=5)
    one, _ = make(store, bundle.root, tmp_path / "1", **PEOPLE)
    order = order_of(store, one.root)
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "2").mkdir()
    two = run_job(order, tmp_path / "2", Listener())
    assert two.manifest.column("shapes").descriptor is None and list(two.manifest.descriptors) == ["seen"]


@pytest.mark.slow
def test_the_long_recipes_take_it_too(store, bundle, seen, tmp_path, monkeypatch):
    pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")
    from face_mtl_ros.training import recipe

    collect(store, "identity", count=8)
    monkeypatch.setitem(recipe.RECIPES, "paper", replace(recipe.PAPER, epochs=1, batch=8))
    work = tmp_path / "work"
    work.mkdir()
    made = run_job(order_of(store, bundle.root, **PEOPLE, recipe="paper"), work, onsite_world.LongListener())
    record = made.manifest.column("identity")
    assert record.descriptor == seen.record()
    # Each person in turn was a stranger to the others, by what tells people apart best.
    assert record.open_set.method == "descriptor" and record.open_set.margin > 0
    assert record.open_set.strangers_refused is not None and len(made.columns["identity"][PROTOTYPES]) == 2
    assert not list((store.file.parents[1] / "cache").rglob("*samples*"))  # what faces look like does not stay


# What a request asks for


def ordered(trainer, **request):
    trainer.cancel(trainer.start(TrainRequest(**request)).job_id)
    order = JobBook().jobs()[0].order
    return order.sources, order.descriptor


def test_the_trainers_descriptor_is_for_people_alone(start, store):
    collect(store, "identity")
    collect(store, "shapes")
    trainer = start()
    assert ordered(trainer, task="identity") == (["embedding"], "")
    assert ordered(trainer, task="identity", descriptor="seen") == (["embedding"], "seen")
    assert ordered(trainer, task="identity", descriptor="seen", sources=["none"]) == ([], "")
    assert ordered(trainer, task="shapes", descriptor="seen")[1] == ""


def test_a_request_may_name_one_among_its_sources(start, store, tmp_path):
    collect(store, "identity")
    install_random_descriptor("other", tmp_path, seed=1)
    trainer = start()
    asked = {"task": "identity", "descriptor": "seen"}
    assert ordered(trainer, **asked, sources=["descriptor/other"]) == (["embedding"], "other")
    assert ordered(trainer, **asked, sources=["emotion", "descriptor/other"]) == (["embedding", "emotion"], "other")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"descriptor": "dlib"}, "'dlib' is not installed in .*: face-mtl descriptor dlib, which needs the extra: pip"),
        ({"sources": ["descriptor/sface"]}, "'sface' is not installed in .*face-mtl descriptor install --name sface"),
        ({"sources": ["descriptor/seen", "descriptor/dlib"]}, "name 2 foreign descriptors: a column draws on one"),
        ({"sources": ["descriptor/seen", "descriptor/seen"]}, "name one twice"),
        ({"sources": ["descriptor/../" + "x" * 10_000]}, "descriptor '../xx+': its name is made of small letters"),
        ({"task": "shapes", "sources": ["descriptor/seen"]}, "only a column of kind 'identity' draws on it"),
    ],
)
def test_what_cannot_be_drawn_on_is_refused_with_the_remedy(start, store, changes, says):
    collect(store, "identity")
    collect(store, "shapes")
    with pytest.raises(OnsiteError, match=says) as raised:
        start().start(TrainRequest(**{"task": "identity", **changes}))
    assert len(str(raised.value)) < 500 and not list(JobBook().root.glob("*/job.json"))


def test_a_damaged_one_and_another_one_of_a_columns_are_refused(start, store, site, home, tmp_path):
    collect(store, "identity")
    collect(store, "guest")
    made, _ = make(store, site.bundle().root, tmp_path / "work", **{**PEOPLE, "task": "guest"})
    site.versions.install(made.root)
    trainer = start()
    install_random_descriptor("seen", tmp_path, 16, seed=1)
    with pytest.raises(OnsiteError, match="column 'guest' draws on another descriptor 'seen' than the one"):
        trainer.start(TrainRequest(task="identity", descriptor="seen"))
    (home / "descriptors" / "seen" / "model.onnx").write_bytes(b"no network")
    with pytest.raises(OnsiteError, match="'seen': model.onnx is another file or corrupt"):
        trainer.start(TrainRequest(task="identity", descriptor="seen"))


# A machine that lacks it


def test_where_perception_lacks_it_the_old_model_stays(start, store, site, tmp_path, monkeypatch):
    """The trainer's half; test_node_descriptor.py has perception's."""
    collect(store, "identity", count=5)
    made, _ = make(store, site.bundle().root, tmp_path / "work", **PEOPLE)
    before, here = site.bundle(), store.file.parents[1]
    analyzer = FaceAnalyzer(before.root, detector="haar")

    def swap(folder):
        """As perception on another machine does it."""
        with monkeypatch.context() as there:
            there.setenv("FACE_MTL_HOME", str(tmp_path / "elsewhere"))
            try:
                analyzer.load_model(folder)
            except DescriptorError as error:
                raise SwapError(f"perception did not take the model: {error}") from error
        return "perception answers with it"

    site.swap = swap
    trainer = start(finishing(made))
    job = trainer.wait(trainer.start(TrainRequest(task="identity", descriptor="seen")).job_id, 30)
    assert job.state == "failed", job.message
    assert "needs the face descriptor 'seen', which is not installed: get it from this test" in job.message
    assert site.bundle().version == before.version and here.exists()


def test_prototypes_without_a_descriptor_are_refused(store, bundle, tmp_path):
    collect(store, "identity", count=5)
    made, _ = make(store, bundle.root, tmp_path / "work", **PEOPLE)
    manifest = made.root / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"method": "descriptor"', '"method": "embedding"'))
    with pytest.raises(BundleError, match="tensor 'prototypes' has shape"):
        load_bundle(made.root)
