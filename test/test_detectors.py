"""Face detectors: what they find, what they make of odd input, and how YuNet's model is installed."""

import hashlib
import importlib.util
import io
import logging
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros import paths
from face_mtl_ros.vision import detectors
from face_mtl_ros.vision.detection import Detection
from face_mtl_ros.vision.detector_input import check_image, is_dark, shrink
from face_mtl_ros.vision.detectors import DetectorError, install_yunet, make_detector, yunet_path
from face_mtl_ros.vision.haar import (
    Candidate,
    HaarDetector,
    estimated_eyes,
    eye_pair,
    merge,
    moved_eyes,
)
from face_mtl_ros.vision.view import turned_size, view_of
from face_mtl_ros.vision.yunet import YUNET_FILE, YUNET_SHA256, YUNET_SIZE

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
MODEL = SHARED / "detectors" / YUNET_FILE
PICTURES = SHARED / "data" / "lfw_full_sample.tar.gz"
# Heads of the portraits, small enough for quick tests: left, top, side and scale of the cut-out ...
HEADS = {"astronaut.jpg": (90, 0, 240, 1.0), "grace_hopper.jpg": (90, 60, 340, 0.5)}
# ... and the eyes in it (the person's right one first), in pixels.
EYES = {"astronaut.jpg": [[112, 102], [156, 104]], "grace_hopper.jpg": [[68, 67], [109, 67]]}

needs_model = pytest.mark.skipif(not MODEL.is_file(), reason=f"YuNet's model is not in {MODEL.parent}")
needs_pictures = pytest.mark.skipif(not PICTURES.is_file(), reason=f"LFW's pictures are not in {PICTURES.parent}")

angles = st.floats(-180, 180)
coordinates = st.floats(-2000, 2000)
sizes = st.floats(1, 2000)


def load_tool():
    spec = importlib.util.spec_from_file_location("measure_detectors", ROOT / "tools" / "measure_detectors.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


tool = load_tool()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def installed(home):
    return install_yunet(MODEL)


@pytest.fixture(params=["haar", pytest.param("yunet", marks=needs_model)])
def detector(request):
    if request.param == "yunet":
        install_yunet(MODEL)
    return make_detector(request.param)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lfw")
    with tarfile.open(PICTURES) as archive:
        archive.extractall(folder, filter="data")
    return tool.read_pictures(folder / "lfw_full")


def portrait(name="astronaut.jpg"):
    left, top, side, scale = HEADS[name]
    return shrink(cv2.imread(str(ROOT / "face_mtl_ros" / "assets" / name))[top : top + side, left : left + side], scale)


def candidate(x=100.0, y=100.0, size=50.0, roll=0.0, hits=10):
    return Candidate(np.array([x, y]), size, roll, hits)


class TestPictures:
    @pytest.mark.parametrize("name", EYES)
    @pytest.mark.parametrize("grey", [False, True])
    def test_finds_the_face_and_its_eyes(self, detector, name, grey):
        image = portrait(name)
        detections = detector.detect(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if grey else image)
        eyes = np.array(EYES[name])
        distance = np.linalg.norm(eyes[1] - eyes[0])
        best = detections[0]
        assert np.abs(best.points[:2] - eyes).max() < 0.25 * distance
        assert abs(best.box[0] + best.box[2] / 2 - eyes[:, 0].mean()) < 0.5 * distance
        assert 1.5 * distance < best.box[2] < 4 * distance
        assert best.points.dtype == best.box.dtype == np.float32
        assert 0 < best.confidence <= 1

    @pytest.mark.parametrize("degrees", [-20, 20])
    def test_reports_the_roll(self, detector, degrees):
        detections = detector.detect(tool.rolled(portrait("grace_hopper.jpg"), degrees))
        assert abs(detections[0].roll - degrees) < 15

    def test_dark(self, detector):
        assert detector.detect((portrait() * 0.15).astype(np.uint8))

    def test_the_image_is_left_as_it_was(self, detector):
        image = portrait()
        before = image.copy()
        detector.detect(image)
        assert (image == before).all()

    def test_a_read_only_view_with_strides(self, detector):
        image = portrait()[:, ::-1]
        image.setflags(write=False)
        assert detector.detect(image)

    def test_faces_smaller_than_wanted_are_left_out(self):
        assert HaarDetector(min_face=150).detect(portrait()) == []

    @needs_model
    def test_yunet_leaves_out_faces_smaller_than_wanted(self, installed):
        assert make_detector("yunet", min_face=150).detect(portrait()) == []

    @needs_model
    def test_yunet_gives_five_landmarks(self, installed):
        face = make_detector("yunet").detect(portrait())[0]
        right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
        assert right_eye[0] < nose[0] < left_eye[0]
        assert right_mouth[0] < left_mouth[0]
        assert right_eye[1] < nose[1] < right_mouth[1]

    def test_haar_gives_the_eyes_alone(self):
        face = HaarDetector().detect(portrait())[0]
        assert face.points.shape == (2, 2)
        assert face.landmarks.shape == (0, 2)
        assert face.box[2] == face.box[3]


class TestOddInput:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 500), (500, 1, 3), (3, 4000, 3), (19, 19), (21, 21, 3)])
    @pytest.mark.parametrize("previous", [None, []])
    def test_tiny_and_narrow(self, detector, shape, previous):
        assert detector.detect(np.full(shape, 128, np.uint8), previous) == []

    @pytest.mark.parametrize("value", [0, 255])
    def test_black_and_white(self, detector, value):
        assert detector.detect(np.full((120, 160, 3), value, np.uint8)) == []

    def test_noise(self, detector):
        noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
        assert len(detector.detect(noise)) <= 1

    def test_8k(self, detector):
        image = cv2.resize(portrait(), (4320, 4320))
        image = cv2.copyMakeBorder(image, 0, 0, 0, 7680 - 4320, cv2.BORDER_CONSTANT)
        face = detector.detect(image)[0]
        assert np.abs(face.points[:2] - np.array(EYES["astronaut.jpg"]) * 4320 / 240).max() < 200

    @pytest.mark.parametrize(
        "image",
        [None, [[0]], np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8),
         np.zeros((0, 4, 3), np.uint8)],
    )  # fmt: skip
    def test_malformed(self, detector, image):
        with pytest.raises(ValueError, match="image"):
            detector.detect(image)

    @pytest.mark.parametrize(
        "box", [(-500, -500, 50, 50), (0, 0, 0, 0), (5, 5, 1e4, 1e4), (1e6, 1e6, 60, 60), (600, 400, 80, 300)]
    )
    def test_previous_faces_anywhere(self, detector, box):
        previous = [Detection(np.array(box, np.float32), 0.5, np.array([[0, 0], [1, 1]], np.float32))]
        detector.detect(portrait(), previous)

    @pytest.mark.parametrize(
        "options",
        [{"min_face": 5}, {"max_side": 3}, {"angles": ()}, {"full_search_every": 0}, {"time_budget_ms": 0}],
    )
    def test_haar_names_the_bad_option(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            HaarDetector(**options)

    @needs_model
    @pytest.mark.parametrize("options", [{"min_face": 1}, {"max_side": 3}, {"min_confidence": 1.5}])
    def test_yunet_names_the_bad_option(self, installed, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            make_detector("yunet", **options)


class TestStream:
    @pytest.fixture(params=["haar", pytest.param("yunet", marks=needs_model)])
    def detector(self, request):
        """Without a budget for the embedded one: how much of it is used up depends on the machine."""
        if request.param == "yunet":
            install_yunet(MODEL)
            return make_detector("yunet")
        return make_detector("haar", time_budget_ms=1e6)

    def run(self, detector, frames, previous=()):
        for frame in frames:
            previous = detector.detect(frame, previous)
            yield previous

    def test_a_face_is_found_and_followed(self, detector):
        image = portrait()
        frames = [np.roll(image, (3 * i, 4 * i), (0, 1)) for i in range(10)]
        seen = list(self.run(detector, frames))
        assert all(len(faces) == 1 for faces in seen)
        expected = np.array(EYES["astronaut.jpg"]) + (4 * 9, 3 * 9)
        assert np.abs(seen[-1][0].points[:2] - expected).max() < 15

    def test_a_rolled_face_is_found_within_a_second(self, detector):
        frames = [tool.rolled(portrait("grace_hopper.jpg"), 25)] * 30
        assert any(faces for faces in self.run(detector, frames))

    @pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
    def test_the_roll_is_followed(self, detector, degrees):
        image = portrait("grace_hopper.jpg")
        frames = [tool.rolled(image, degrees * i / 20) for i in range(21)] + [tool.rolled(image, degrees)] * 8
        *_, faces = self.run(detector, frames, previous=detector.detect(image))
        assert abs(faces[0].roll - degrees) < 13

    def test_a_second_face_is_found_while_one_is_tracked(self, detector):
        both = np.hstack([portrait(), portrait()])
        seen = list(self.run(detector, [both] * 30, previous=detector.detect(portrait())))
        assert len(seen[-1]) == 2

    def test_a_face_that_left_is_gone_at_once(self, detector):
        previous = detector.detect(portrait())
        assert detector.detect(np.zeros_like(portrait()), previous) == []

    def test_what_the_budget_leaves_out_comes_first_next_time(self):
        """With no time at all each frame does one part, and the parts take turns."""
        detector = HaarDetector(time_budget_ms=1e-6)
        two = np.hstack([portrait(), portrait()])
        tracked = HaarDetector().detect(two)
        assert len(tracked) == 2
        seen = [detector.detect(two, tracked) for _ in range(4)]
        lefts = {int(face.box[0]) // 240 for faces in seen for face in faces}
        assert lefts == {0, 1}


class TestGeometry:
    @given(x=coordinates, y=coordinates, width=st.floats(1, 50), height=st.floats(1, 50), roll=angles,
           scale=st.floats(0.25, 2), point=st.tuples(coordinates, coordinates))  # fmt: skip
    @settings(max_examples=100, deadline=None)
    def test_into_the_view_and_back_is_the_identity(self, x, y, width, height, roll, scale, point):
        view = view_of(np.zeros((5, 5), np.uint8), (x, y), (width, height), roll, scale)
        into = cv2.invertAffineTransform(view.to_image)
        there = into[:, :2] @ point + into[:, 2]
        assert view.points_in_image(there[None])[0] == pytest.approx(point, abs=1e-6)

    @given(x=coordinates, y=coordinates, roll=angles, side=st.integers(1, 60))
    @settings(max_examples=50, deadline=None)
    def test_the_views_middle_is_the_centre(self, x, y, roll, side):
        view = view_of(np.zeros((5, 5), np.uint8), (x, y), (side, side), roll, 1.0)
        middle = (np.array(view.pixels.shape[::-1]) - 1) / 2
        assert view.points_in_image(middle[None])[0] == pytest.approx((x, y), abs=1e-6)

    def test_the_view_shows_a_rolled_face_upright(self):
        """A bar that falls to the right by 30 degrees is level in the view of roll 30."""
        image = np.zeros((101, 101), np.uint8)
        cv2.line(image, (20, 32), (80, 67), 255, 3)
        view = view_of(image, (50, 50), (80, 80), 30, 1.0)
        rows = np.nonzero(view.pixels > 128)[0]
        assert np.ptp(rows) < 6

    @given(width=sizes, height=sizes, roll=angles)
    def test_the_turned_rectangle_holds_the_corners(self, width, height, roll):
        wide, high = turned_size(width, height, roll)
        turn = np.array([[np.cos(np.radians(roll)), np.sin(np.radians(roll))],
                         [-np.sin(np.radians(roll)), np.cos(np.radians(roll))]])  # fmt: skip
        corners = np.abs(np.array([[width, height], [-width, height]]) / 2 @ turn.T)
        assert (corners <= np.array([wide, high]) / 2 + 1e-6).all()

    @given(x=coordinates, y=coordinates, size=sizes, roll=st.floats(-89, 89))
    def test_estimated_eyes_have_the_roll(self, x, y, size, roll):
        eyes = estimated_eyes(candidate(x, y, size, roll))
        dx, dy = eyes[1] - eyes[0]
        assert np.degrees(np.arctan2(dy, dx)) == pytest.approx(roll, abs=1e-3)
        assert np.abs(eyes - (x, y)).max() < size / 2

    @given(x=coordinates, y=coordinates, size=sizes, factor=st.floats(0.5, 2))
    def test_eyes_move_with_the_box(self, x, y, size, factor):
        before = candidate(size=100.0)
        box = np.array([50, 50, 100, 100], np.float32)
        moved = moved_eyes(Detection(box, 1.0, estimated_eyes(before)), candidate(x, y, 100 * factor))
        assert moved == pytest.approx(estimated_eyes(candidate(x, y, 100 * factor)), abs=1e-3)

    @given(st.lists(st.builds(candidate, x=coordinates, y=coordinates, size=st.floats(20, 300), roll=st.floats(-40, 40),
                              hits=st.integers(3, 100)), max_size=12))  # fmt: skip
    @settings(deadline=None)
    def test_merge(self, candidates):
        merged = merge(candidates)
        assert len(merged) <= len(candidates)
        assert bool(merged) == bool(candidates)
        assert [c.hits for c in merged] == sorted((c.hits for c in merged), reverse=True)
        assert sum(c.hits for c in merged) <= sum(c.hits for c in candidates)
        assert all(-40.001 <= c.roll <= 40.001 and 19.9 <= c.size <= 300.1 for c in merged)

    def test_merge_joins_the_angles_of_one_face(self):
        one = merge([candidate(roll=0, hits=10), candidate(x=104, roll=22, hits=10), candidate(x=400, hits=5)])
        assert [c.hits for c in one] == [20, 5]
        assert one[0].roll == pytest.approx(11)
        assert one[0].centre == pytest.approx((102, 100))

    def test_eye_pair(self):
        right, left = np.array([[0.3, 0.4]]), np.array([[0.7, 0.38]])
        pair = np.vstack([right, left])
        assert eye_pair(right, left) == pytest.approx(pair)
        assert eye_pair(np.array([[0.5, 0.6], *right]), np.array([*left, [0.9, 0.4]])) == pytest.approx(pair)
        assert eye_pair(left, right) is None
        assert eye_pair(right, np.empty((0, 2))) is None
        assert eye_pair(np.array([[0.3, 0.2]]), np.array([[0.7, 0.6]])) is None

    @given(width=st.integers(1, 300), height=st.integers(1, 300), scale=st.floats(0.001, 2))
    @settings(max_examples=50, deadline=None)
    def test_shrink_never_grows_or_vanishes(self, width, height, scale):
        small = shrink(np.zeros((height, width), np.uint8), scale)
        assert 1 <= small.shape[0] <= height
        assert 1 <= small.shape[1] <= width

    def test_dark(self):
        assert is_dark((portrait() * 0.15).astype(np.uint8))
        assert not is_dark(portrait())
        check_image(portrait())


class TestChoice:
    def test_auto_takes_haar_where_yunet_is_missing(self, home, caplog):
        caplog.set_level(logging.INFO)
        assert make_detector("auto").name == "haar"
        assert str(yunet_path()) in caplog.text
        assert not home.exists()

    @needs_model
    def test_auto_takes_yunet_where_it_is_installed(self, installed, caplog):
        caplog.set_level(logging.INFO)
        assert make_detector("auto").name == "yunet"
        assert str(installed) in caplog.text

    def test_yunet_missing(self):
        with pytest.raises(DetectorError, match="detector install") as error:
            make_detector("yunet")
        assert str(yunet_path()) in str(error.value)

    @pytest.mark.parametrize("name", ["yunet", "auto"])
    def test_a_corrupt_model_is_refused(self, name):
        yunet_path().parent.mkdir(parents=True)
        yunet_path().write_bytes(b"not a model")
        with pytest.raises(DetectorError, match="corrupt") as error:
            make_detector(name)
        assert str(yunet_path()) in str(error.value)

    @pytest.mark.parametrize("name", ["", "Haar", "mtcnn"])
    def test_unknown(self, name):
        with pytest.raises(DetectorError, match="auto, haar, yunet") as error:
            make_detector(name)
        assert repr(name) in str(error.value)


class TestInstall:
    @needs_model
    def test_from_a_file(self, home):
        steps = []
        path = install_yunet(MODEL, progress=lambda done, total: steps.append((done, total)))
        assert path == home / "detectors" / YUNET_FILE
        assert hashlib.sha256(path.read_bytes()).hexdigest() == YUNET_SHA256
        assert steps[-1] == (YUNET_SIZE, YUNET_SIZE)
        assert list(path.parent.iterdir()) == [path]

    @needs_model
    def test_from_the_network(self, monkeypatch):
        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: MODEL.open("rb"))
        assert install_yunet().read_bytes() == MODEL.read_bytes()

    @needs_model
    def test_the_wrong_file_leaves_the_installed_one(self, installed, tmp_path):
        wrong = tmp_path / "wrong.onnx"
        wrong.write_bytes(b"version https://git-lfs.github.com/spec/v1")
        with pytest.raises(DetectorError, match="sha256") as error:
            install_yunet(wrong)
        assert str(wrong) in str(error.value)
        assert list(installed.parent.iterdir()) == [installed]
        assert make_detector("yunet").name == "yunet"

    def test_a_file_without_end_is_not_read_to_its_end(self, tmp_path):
        large = tmp_path / "large.onnx"
        with large.open("wb") as stream:
            stream.truncate(1 << 34)
        with pytest.raises(DetectorError, match="sha256"):
            install_yunet(large)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(DetectorError, match="absent.onnx.*No such file"):
            install_yunet(tmp_path / "absent.onnx")

    def test_a_folder(self, tmp_path):
        with pytest.raises(DetectorError, match="is a folder"):
            install_yunet(tmp_path)

    def test_no_network(self, monkeypatch):
        def unreachable(url, timeout):
            raise urllib.error.URLError("Name or service not known")

        monkeypatch.setattr(urllib.request, "urlopen", unreachable)
        with pytest.raises(DetectorError, match="Name or service not known.*--from FILE"):
            install_yunet()
        assert not yunet_path().exists()

    def test_the_network_breaks_off(self, monkeypatch):
        class Broken(io.BytesIO):
            def read(self, size=-1):
                raise TimeoutError("timed out")

        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken())
        with pytest.raises(DetectorError, match="broke off after 0 of"):
            install_yunet()
        assert list(yunet_path().parent.iterdir()) == []

    @needs_model
    def test_the_disk_is_full(self, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(detectors.os, "fsync", full)
        with pytest.raises(DetectorError, match="No space left on device"):
            install_yunet(MODEL)
        assert list(yunet_path().parent.iterdir()) == []

    def test_the_target_is_no_folder(self, home, tmp_path):
        home.write_text("a file where a folder should be")
        source = tmp_path / "model.onnx"
        source.write_bytes(b"")
        with pytest.raises(DetectorError, match="cannot be written"):
            install_yunet(source)


class TestPaths:
    def test_home(self, home, monkeypatch):
        assert paths.home() == home
        assert paths.models_dir() == home / "bundles"
        assert paths.detectors_dir() == home / "detectors"
        assert paths.cache_dir() == home / "cache"
        assert not home.exists()
        monkeypatch.setenv("FACE_MTL_HOME", "~/robot")
        assert paths.home() == Path.home() / "robot"
        monkeypatch.setenv("FACE_MTL_HOME", "")
        assert paths.home() == Path.home() / ".local" / "share" / "face_mtl_ros"


# What the detectors have to reach on 300 uncropped LFW pictures, percent found.
TARGETS = {
    "haar": {"as is": 98.5, "roll +20": 98, "roll -20": 98, "roll +35": 88, "roll -35": 88, "dark 15 %": 98},
    "yunet": {"as is": 99, "roll +20": 99, "roll -20": 99, "roll +35": 94, "roll -35": 94, "dark 15 %": 99},
}


@needs_pictures
@pytest.mark.slow
@pytest.mark.parametrize("condition", tool.CONDITIONS)
def test_accuracy(detector, pictures, condition):
    result = tool.measure_pictures(detector, pictures, condition)
    assert result["found_percent"] >= TARGETS[detector.name][condition]
    if detector.name == "haar":  # YuNet also finds the people in the background, who count as surplus
        assert result["surplus_percent"] <= 4
