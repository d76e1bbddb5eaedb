"""Another model under a stream: what both models share goes on, the rest begins anew, and no face is forgotten."""

import numpy as np
import pytest
from tiny_world import TINY, know_tiny

from face_mtl_ros import FaceAnalyzer
from face_mtl_ros.analyzer import UNKNOWN
from face_mtl_ros.bundle.bundle import load_bundle, write_manifest
from face_mtl_ros.bundle.manifest import OpenSet
from face_mtl_ros.bundle.shared import same_descriptors, shared_tasks
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision.portraits import PlacedFace, compose

PICTURE = compose((640, 480), [PlacedFace("astronaut", (320, 240), 160)])
PEOPLE = ["Anna", "Ben", "Cleo"]
OPEN = OpenSet(method="energy", threshold=0.0, known_kept=0.9)
COLUMNS: dict = {"emotion": (["neutral", "happiness"], []), "person": (PEOPLE, ["emotion"])}


@pytest.fixture(autouse=True)
def _tiny_models(home, monkeypatch):
    know_tiny(monkeypatch)


@pytest.fixture
def bundle(tmp_path):
    return identity(write_random_bundle(tmp_path / "one", TINY.name, COLUMNS))


def identity(bundle, **changes):
    """The bundle with its column `person` an identity."""
    fields = {"kind": "identity", "open_set": OPEN.model_dump()} | changes
    return changed(bundle, "person", **fields)


def changed(bundle, task, **fields):
    """The bundle with fields of a column's record changed."""
    content = bundle.manifest.model_dump()
    for column in content["columns"]:
        if column["task"] == task:
            column |= fields
    write_manifest(bundle.root, type(bundle.manifest).model_validate(content))
    return load_bundle(bundle.root)


class Stream:
    """A face before an analyzer whose engine says what the test wants."""

    def __init__(self, bundle):
        self.analyzer = FaceAnalyzer(model=bundle.root, detector="haar", engine="openvino", smoothing_s=10.0)
        self.analyzer.naming.frames = 3
        self.stamp = 0.0
        self.ids: set[str] = set()
        self.let_say()

    def let_say(self, **logits):
        """Logits by task that the engine gives from now on, instead of its own."""
        engine = self.analyzer.predictor.engine
        run = type(engine).run

        def say(crops, descriptors=None):
            outputs = run(engine, crops, descriptors)
            return outputs | {task: np.tile(np.float32(row), (len(crops), 1)) for task, row in logits.items()}

        engine.run = say

    def swap(self, bundle):
        self.analyzer.predictor = self.analyzer.load_model(bundle.root)
        self.let_say()

    def next(self, **logits):
        self.let_say(**logits)
        faces, _ = self.analyzer.track(PICTURE, self.stamp)
        self.stamp += 1 / 30
        (face,) = faces
        self.ids.add(face.face_id)
        return face


ANNA, BEN, NOBODY = [9, 0, 0], [0, 9, 0], [-30, -31, -32]


def test_a_stream_names_after_three_frames_and_a_wrong_one_changes_nothing(bundle):
    stream = Stream(bundle)
    said = [stream.next(person=logits)["person"] for logits in (ANNA, ANNA, ANNA, BEN, ANNA)]
    assert [attribute.label for attribute in said] == [UNKNOWN, UNKNOWN, "Anna", "Anna", "Anna"]
    assert [attribute.confidence for attribute in said[:2]] == [0, 0]
    for attribute in said[2:]:
        assert attribute.confidence == pytest.approx(float(attribute.probabilities[0]))
    assert stream.next(emotion=[0, 9])["emotion"].label in ("neutral", "happiness")  # never unknown


def test_a_stranger_whom_single_frames_take_for_somebody_has_no_name(bundle):
    stream = Stream(bundle)
    frames = [NOBODY, ANNA, NOBODY, ANNA, ANNA] * 4  # three of five, but on the whole a stranger
    assert {stream.next(person=logits)["person"].label for logits in frames} == {UNKNOWN}


def test_a_still_picture_is_named_at_once(bundle):
    stream = Stream(bundle)
    for logits, label in ((ANNA, "Anna"), (NOBODY, UNKNOWN)):
        stream.let_say(person=logits)
        assert stream.analyzer.analyze(PICTURE)[0]["person"].label == label


def test_what_both_models_share_goes_on_and_the_rest_begins_anew(bundle, tmp_path):
    more = identity(write_random_bundle(tmp_path / "two", TINY.name, COLUMNS | {"badge": (["red", "blue"], [])}))
    assert shared_tasks(bundle.manifest, more.manifest) == {"emotion", "person"}
    stream = Stream(bundle)
    for _ in range(5):
        before = stream.next(emotion=[0, 9], person=ANNA)
    stream.swap(more)
    after = stream.next(emotion=[9, 0], person=BEN, badge=[9, 0])
    assert after["person"].label == before["person"].label == "Anna"
    assert after["emotion"].probabilities[1] == pytest.approx(5 / 6, abs=0.02)
    assert after["badge"].probabilities[0] == pytest.approx(1, abs=1e-3)
    assert len(stream.ids) == 1


def test_a_column_that_was_trained_again_is_another_one(bundle, tmp_path):
    others = COLUMNS | {"person": (["Ben", "Anna", "Dora"], ["emotion"])}
    again = identity(write_random_bundle(tmp_path / "two", TINY.name, others))
    stream = Stream(bundle)
    for _ in range(5):
        stream.next(person=ANNA)
    stream.swap(again)
    said = [stream.next(person=BEN)["person"] for _ in range(3)]  # its second label is Anna
    assert [attribute.label for attribute in said] == [UNKNOWN, UNKNOWN, "Anna"]
    assert said[0].probabilities[1] == pytest.approx(1, abs=1e-3)
    assert len(stream.ids) == 1


@pytest.mark.parametrize(
    ("task", "change", "shared"),
    [
        ("emotion", {}, {"emotion", "person"}),
        ("emotion", {"metrics": {"accuracy": 0.9}}, {"emotion", "person"}),
        ("emotion", {"temperature": 2.0}, set()),
        ("emotion", {"labels": ["happiness", "neutral"]}, set()),
        ("person", {"open_set": OPEN.model_dump() | {"threshold": 1.0}}, {"emotion"}),
        ("person", {"temperature": 2.0}, {"emotion"}),
    ],
)
def test_columns_are_shared_where_all_that_decides_what_they_say_is_equal(bundle, tmp_path, task, change, shared):
    other = changed(identity(write_random_bundle(tmp_path / "two", TINY.name, COLUMNS)), task, **change)
    assert shared_tasks(bundle.manifest, other.manifest) == shared


def test_another_encoder_shares_nothing_and_other_weights_below_count(bundle, tmp_path):
    other = identity(write_random_bundle(tmp_path / "two", TINY.name, COLUMNS, seed=1))
    assert shared_tasks(bundle.manifest, other.manifest) == set()
    assert shared_tasks(bundle.manifest, bundle.manifest) == {"emotion", "person"}
    assert same_descriptors(bundle.manifest, other.manifest)


def test_an_open_set_that_compares_embeddings_is_shared_with_its_embedding_alone(bundle):
    content = bundle.manifest.model_dump()
    content["columns"][1]["open_set"]["method"] = "embedding"
    describes = content["columns"][0] | {"task": "embedding", "kind": "embedding", "labels": [], "dimensions": 8}
    content["columns"].append(describes)
    before = type(bundle.manifest).model_validate(content)
    assert shared_tasks(before, before) == {"emotion", "person", "embedding"}
    content["columns"][2] |= {"file": content["columns"][1]["file"]}
    after = type(bundle.manifest).model_validate(content)
    assert shared_tasks(before, after) == {"emotion"}
