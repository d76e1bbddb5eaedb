"""FaceAnalyzer on real pictures."""

import numpy as np
import pytest

from face_mtl_ros import FaceAnalyzer
from face_mtl_ros.bundle.files import BundleError
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision.portraits import PlacedFace, compose


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path))


@pytest.fixture
def analyzer(random_bundle):
    return FaceAnalyzer(model=random_bundle.root, detector="haar", smoothing_s=0)


def frame(*faces):
    return compose((640, 480), [PlacedFace(*face) for face in faces])


def test_a_portrait_has_one_face_with_every_attribute(analyzer):
    faces = analyzer.analyze(frame(("astronaut", (320, 240), 160)))
    assert len(faces) == 1
    face = faces[0]
    assert np.hypot(*(face.box[:2] + face.box[2:] / 2 - [320, 240])) < 50
    assert [attribute.task for attribute in face.attributes] == ["emotion", "gender"]
    for attribute in face.attributes:
        assert attribute.label == attribute.labels[int(attribute.probabilities.argmax())]
        assert attribute.confidence == pytest.approx(float(attribute.probabilities.max()))
        assert attribute.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert np.isnan(attribute.value)
    assert face["gender"].task == "gender"
    assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)
    with pytest.raises(KeyError, match="no column 'age'"):
        face["age"]


def test_grey_and_colour_give_the_same_faces(analyzer):
    import cv2

    picture = frame(("grace_hopper", (320, 240), 160))
    colour = analyzer.analyze(picture)
    grey = analyzer.analyze(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    assert len(colour) == len(grey) == 1
    np.testing.assert_allclose(colour[0].box, grey[0].box, atol=8)


def test_a_stream_keeps_ids_and_stills_do_not_disturb_it(analyzer):
    ids = []
    for i in range(12):
        picture = frame(("astronaut", (200 + 3 * i, 240), 140), ("grace_hopper", (460, 240), 140))
        faces, version = analyzer.track(picture, i / 30)
        ids.append({face.face_id for face in faces})
        assert version == analyzer.predictor.bundle.version
    assert len(set.union(*ids)) == 2, ids
    assert set(analyzer.stage_ms) == {"detect", "track", "align", "infer"}


def test_faces_looked_for_in_every_third_frame_are_read_in_each(analyzer):
    analyzer.detect_every = 3
    ids, searched = set(), []
    for i in range(18):
        x = 200 + 3 * i
        faces, _ = analyzer.track(frame(("astronaut", (x, 240), 140)), i / 30)
        searched.append("detect" in analyzer.stage_ms)
        ids |= {face.face_id for face in faces}
        assert len(faces) == 1 and faces[0].attributes
        middle = faces[0].box[:2] + faces[0].box[2:] / 2
        np.testing.assert_allclose(middle, [x, 240], atol=25)
    assert len(ids) == 1 and searched == [True, False, False] * 6


def test_three_faces_that_cross_for_ten_seconds_keep_their_ids(analyzer):
    """They pass close above one another, so that none hides another."""
    owners: dict[str, list[str]] = {"top": [], "middle": [], "bottom": []}
    for i in range(150):
        phase = 2 * np.pi * i / 150
        x = {"top": 320 + 220 * np.cos(phase), "middle": 320 - 220 * np.cos(phase), "bottom": 320 + 220 * np.sin(phase)}
        y = {"top": 130, "middle": 240, "bottom": 350}
        picture = frame(
            ("astronaut", (x["top"], y["top"]), 80),
            ("grace_hopper", (x["middle"], y["middle"]), 80),
            ("astronaut", (x["bottom"], y["bottom"]), 80, 0.0, True),
        )
        for face in analyzer.track(picture, i / 15)[0]:
            middle = face.box[:2] + face.box[2:] / 2
            nearest = min(owners, key=lambda name: np.hypot(*(middle - [x[name], y[name]])))
            owners[nearest].append(face.face_id)
    assert [len(set(ids)) for ids in owners.values()] == [1, 1, 1], owners
    assert min(map(len, owners.values())) >= 135  # of 150 frames


def test_another_model_takes_effect_at_the_next_frame(analyzer, tmp_path):
    other = write_random_bundle(tmp_path / "other", "compact", {"mood": (["good", "bad"], [])}, name="other")
    picture = frame(("astronaut", (320, 240), 160))
    analyzer.track(picture, 0.0)
    analyzer.predictor = analyzer.load_model(other.root)
    faces, version = analyzer.track(picture, 0.03)
    assert version == other.version
    assert [attribute.task for attribute in faces[0].attributes] == ["mood"]


def test_many_faces_are_read_by_turns(analyzer):
    analyzer.reads_per_frame = 1
    batches = []
    engine = analyzer.predictor.engine
    run, engine.run = engine.run, lambda crops, *given: batches.append(len(crops)) or run(crops, *given)
    seen = []
    for i in range(5):
        picture = frame(("astronaut", (180, 240), 140), ("grace_hopper", (460, 240), 140))
        picture = np.clip(picture.astype(int) + 10 * i, 0, 255).astype(np.uint8)
        seen.append({f.face_id: f["emotion"].probabilities.tolist() for f in analyzer.track(picture, i / 30)[0]})
    both = [faces for faces in seen if len(faces) == 2]
    assert len(both) >= 3 and batches[-2:] == [1, 1]
    for before, after in zip(both[1:], both[2:], strict=False):
        assert sum(before[face_id] != after[face_id] for face_id in after) == 1  # one was read anew, the other kept


def test_smoothing_does_not_mix_two_models(analyzer, random_bundle, tmp_path):
    analyzer.smoother.time_constant_s = 10.0
    tasks = {"emotion": (random_bundle.manifest.column("emotion").labels[::-1], [])}
    other = write_random_bundle(tmp_path / "other", "compact", tasks, name="other")
    picture = frame(("astronaut", (320, 240), 160))
    for i in range(5):
        analyzer.track(picture, i / 30)
    analyzer.predictor = analyzer.load_model(other.root)
    face = analyzer.track(picture, 0.2)[0][0]
    expected = analyzer.read_crops(face.crop[None])[0][0][0].probabilities
    np.testing.assert_allclose(face["emotion"].probabilities, expected, atol=1e-6)


def test_an_empty_room_and_odd_pictures_have_no_faces(analyzer):
    for shape in ((480, 640, 3), (1, 1, 3), (3, 2000, 3), (200, 200)):
        assert analyzer.analyze(np.zeros(shape, np.uint8)) == []


def test_only_so_many_faces_as_asked_for_the_largest(analyzer):
    analyzer.max_faces = 1
    faces = analyzer.analyze(frame(("astronaut", (170, 240), 110), ("grace_hopper", (450, 240), 190)))
    assert len(faces) == 1 and faces[0].box[0] > 300


def test_boxes_stay_inside_the_picture(analyzer):
    for face in analyzer.analyze(frame(("astronaut", (60, 90), 170))):
        x, y, width, height = face.box
        assert x >= 0 and y >= 0 and x + width <= 640 and y + height <= 480 and min(width, height) >= 1


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleError, match="nowhere"):
        FaceAnalyzer(model=tmp_path / "nowhere")
