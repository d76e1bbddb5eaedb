"""Foreign face descriptors: how they are installed and run, and columns that draw on one."""

import hashlib
import json

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from face_mtl_ros import FaceAnalyzer
from face_mtl_ros.bundle.bundle import parse_manifest
from face_mtl_ros.bundle.files import BundleError
from face_mtl_ros.bundle.manifest import DescriptorRecord
from face_mtl_ros.cli import main
from face_mtl_ros.datasets.registry import read_dataset
from face_mtl_ros.runtime.descriptor import (
    Descriptor,
    DescriptorError,
    descriptors_dir,
    install_descriptor,
    load_descriptor,
    read_spec,
)
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.graph import build_graph, descriptor_input
from face_mtl_ros.runtime.predictor import Predictor
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.training.descriptors import dataset_descriptors
from face_mtl_ros.vision import alignment
from face_mtl_ros.vision.detectors import make_detector
from face_mtl_ros.vision.portraits import PlacedFace, compose

pytestmark = pytest.mark.usefixtures("home")

D = 6  # dimensions of the tiny descriptor
TEMPLATE = [[0.342, 0.46], [0.656, 0.46], [0.5, 0.64], [0.37, 0.825], [0.631, 0.823]]
CONFIG = {
    "dimensions": D,
    "size": [32, 24],
    "channels": "rgb",
    "mean": [127.5, 127.5, 127.5],
    "std": [127.5, 127.5, 127.5],
    "template": TEMPLATE,
    "source": "https://example.org/tiny.onnx",
    "terms": "none",
}
TASKS = {"emotion": (["a", "b", "c"], []), "mood": (["good", "bad"], ["emotion"]), "age": (["0", "1"], ["mood"])}


def tiny_onnx(height=32, width=24, batch="batch", channels=3):
    """The mean of each of six parts of the picture's first channel, weighted: not blind to where a face lies."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(D, channels * height * width)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["face"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight"], ["vector"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, [batch, channels, height, width])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [batch, D])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString(), weight


@pytest.fixture
def files(tmp_path):
    """The tiny descriptor's YAML and ONNX file, as a user has them."""
    config, model = tmp_path / "tiny.yaml", tmp_path / "tiny.onnx"
    config.write_text(yaml.safe_dump(CONFIG))
    model.write_bytes(tiny_onnx()[0])
    return config, model


@pytest.fixture
def tiny(files):
    """The tiny descriptor, installed in `home`."""
    return install_descriptor("tiny", *files)


@pytest.fixture
def analyzer(tiny, bundle):
    return FaceAnalyzer(model=bundle.root, detector="haar")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of which one column draws on the tiny descriptor, and another on that column."""
    record = DescriptorRecord(name="tiny", sha256=hashlib.sha256(tiny_onnx()[0]).hexdigest(), **CONFIG)
    root = tmp_path_factory.mktemp("bundle")
    return write_random_bundle(root, "compact", TASKS, descriptors={"mood": record})


def a_face():
    return compose((640, 480), [PlacedFace("astronaut", (320, 240), 160)])


class TestInstall:
    def test_the_command_installs_and_lists_it(self, files, home, capsys):
        config, model = files
        assert main(["descriptor", "install", "--name", "tiny", "--config", str(config), "--model", str(model)]) == 0
        assert main(["descriptor", "list"]) == 0
        sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
        assert f"tiny: {D} numbers a face, sha256 {sha256}, none" in capsys.readouterr().out
        assert sorted(file.name for file in (home / "descriptors").iterdir()) == ["tiny"]
        assert read_spec("tiny").sha256 == sha256

    def test_a_failed_one_leaves_the_installed_one(self, tiny, files):
        config, model = files
        model.write_bytes(b"no network")
        with pytest.raises(DescriptorError, match="'tiny'.*cannot be compiled") as raised:
            install_descriptor("tiny", config, model)
        assert "\n" not in str(raised.value)
        assert load_descriptor("tiny").spec == tiny
        assert [file.name for file in descriptors_dir().iterdir()] == ["tiny"]

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"template": None}, "tiny.yaml: template: Field required"),
            ({"source": None}, "tiny.yaml: source: Field required"),
            ({"channels": "hsv"}, "channels: .*'rgb', 'bgr' or 'grey'"),
            ({"mean": [1.0]}, "needs 3 number"),
            ({"std": [1.0, 0.0, 1.0]}, "std above 0"),
            ({"template": [[38.3, 51.7]] * 5}, "not pixels"),
            ({"size": [112, 112]}, "reads .*32,24.* where size, channels and layout say .*112, 112"),
            ({"layout": "nhwc"}, "reads .*layout say"),
            ({"dimensions": 128}, "gives 6 numbers a face where its dimensions are 128"),
            ({"sha256": "0" * 64}, "its sha256 is [0-9a-f]{64}, not 0000"),
            ({"colour": "red"}, "colour: Extra inputs"),
        ],
    )
    def test_what_is_wrong_is_named(self, files, changes, complaint):
        config, model = files
        changed = {name: value for name, value in (CONFIG | changes).items() if value is not None}
        config.write_text(yaml.safe_dump(changed))
        with pytest.raises(DescriptorError, match=complaint):
            install_descriptor("tiny", config, model)
        assert not (descriptors_dir() / "tiny").exists()

    def test_no_yaml_and_no_file(self, files, tmp_path):
        config, model = files
        config.write_text("a: [")
        with pytest.raises(DescriptorError, match="tiny.yaml is no YAML"):
            install_descriptor("tiny", config, model)
        with pytest.raises(DescriptorError, match="none.onnx cannot be read: No such file"):
            install_descriptor("tiny", CONFIG, tmp_path / "none.onnx")

    def test_a_file_that_was_altered_is_refused(self, tiny, capsys):
        file = descriptors_dir() / "tiny" / tiny.model
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.raises(DescriptorError, match="corrupt.*example.org"):
            load_descriptor("tiny")
        assert main(["descriptor", "list"]) == 1
        assert "tiny: cannot be used" in capsys.readouterr().out


class TestDescribe:
    def test_a_face_is_aligned_and_normalised_as_the_spec_says(self, tiny):
        """In a picture whose face lies on the template already, the input is the picture itself."""
        picture = np.random.default_rng(1).integers(0, 256, (32, 24, 3), np.uint8)
        points = np.array(TEMPLATE, np.float32) * [24, 32]
        found = load_descriptor("tiny").describe(picture, [points, points[:2]])
        inputs = ((picture[:, :, ::-1].astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)
        expected = tiny_onnx()[1] @ inputs.ravel()
        assert found.shape == (2, D) and found.dtype == np.float32
        np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-3)
        np.testing.assert_allclose(found[1], found[0], atol=1e-3)  # two eyes are enough to align by

    def test_a_shifted_face_is_described_alike(self, tiny):
        picture, descriptor = a_face(), load_descriptor("tiny")
        points = np.array([[290, 220], [350, 220], [320, 255], [297, 285], [343, 285]], np.float32)
        here = descriptor.describe(picture, [points])
        there = descriptor.describe(np.roll(picture, (20, 30), (0, 1)), [points + [30, 20]])
        np.testing.assert_allclose(there, here, atol=1e-5)
        assert np.abs(descriptor.describe(picture, [points + [30, 20]]) - here).max() > 0.01

    @pytest.mark.parametrize("channels", ["bgr", "grey"])
    def test_other_channels(self, files, channels):
        count = 1 if channels == "grey" else 3
        files[1].write_bytes(tiny_onnx(channels=count)[0])
        config = CONFIG | {"channels": channels, "mean": [0.0] * count, "std": [1.0] * count}
        install_descriptor("other", config, files[1])
        picture = a_face()
        points = [np.array([[290, 220], [350, 220]], np.float32)]
        descriptor = load_descriptor("other")
        grey = picture[:, :, 1]
        assert descriptor.describe(grey, points).shape == (1, D)
        swapped = descriptor.describe(np.ascontiguousarray(picture[:, :, ::-1]), points)
        assert np.abs(swapped - descriptor.describe(picture, points)).max() > 1e-4

    def test_a_file_with_a_batch_of_one(self, files):
        """As many are published; the batch is no business of the caller."""
        dynamic = Descriptor(install_descriptor("tiny", *files), files[1].read_bytes())
        files[1].write_bytes(tiny_onnx(batch=1)[0])
        fixed = Descriptor(install_descriptor("tiny", *files), files[1].read_bytes())
        points = [np.array([[290 + x, 220], [350 + x, 220]], np.float32) for x in (0, 5, 9)]
        np.testing.assert_allclose(fixed.describe(a_face(), points), dynamic.describe(a_face(), points), atol=1e-6)
        assert fixed.describe(a_face(), []).shape == (0, D)

    def test_crops_with_and_without_a_margin(self, files):
        """Framed as the crops are, a descriptor sees nothing of their margin; framed wider it does."""
        wide = np.random.default_rng(2).integers(0, 256, (2, 160, 160), np.uint8)
        crops = wide[:, 16:144, 16:144]
        tight = CONFIG | {"template": [tuple(float(v) for v in point) for point in alignment.TEMPLATE]}
        for config, sees_it in ((tight | {"size": [128, 128]}, False), (CONFIG, True)):
            files[1].write_bytes(tiny_onnx(*config["size"])[0])
            install_descriptor("tiny", config, files[1])
            descriptor = load_descriptor("tiny")
            found = descriptor.describe_crops(wide)
            assert found.shape == (2, D)
            assert (np.abs(found - descriptor.describe_crops(crops)).max() > 0.05) == sees_it
        assert descriptor.describe_crops(wide[:0]).shape == (0, D)


class TestColumns:
    def test_the_manifest_names_it(self, bundle, tiny):
        written = json.loads((bundle.root / "manifest.json").read_text())
        (named,) = [column["descriptor"] for column in written["columns"] if "descriptor" in column]
        assert (named["name"], named["sha256"], named["source"]) == ("tiny", tiny.sha256, CONFIG["source"])
        assert bundle.manifest.descriptors == {"tiny": tiny.record()}

    def test_one_name_stands_for_one_descriptor(self, bundle):
        written = json.loads((bundle.root / "manifest.json").read_text())
        written["columns"][2]["descriptor"] = written["columns"][1]["descriptor"] | {"sha256": "1" * 64}
        with pytest.raises(BundleError, match="'age' draws on another 'tiny'"):
            parse_manifest(bundle.root / "manifest.json", json.dumps(written).encode())

    def test_only_a_graph_that_needs_one_has_its_input(self, bundle, random_bundle):
        graph = build_graph(bundle)
        onnx.checker.check_model(graph, full_check=True)
        assert [value.name for value in graph.graph.input] == ["crops", descriptor_input("tiny")]
        assert [value.name for value in build_graph(random_bundle).graph.input] == ["crops"]

    def test_engines_agree_and_the_column_reads_it(self, bundle):
        pytest.importorskip("torch", reason="the reference is torch, which the train extra installs")
        rng = np.random.default_rng(3)
        crops = rng.normal(size=(2, 1, 128, 128)).astype(np.float32)
        one, other = rng.normal(size=(2, 2, D)).astype(np.float32)
        reference = make_engine(bundle, "torch", device="cpu", precision="fp32")
        engine = make_engine(bundle, "openvino", precision="fp32")
        expected = reference.run(crops, {"tiny": one})
        for task, logits in engine.run(crops, {"tiny": one}).items():
            np.testing.assert_allclose(logits, expected[task], rtol=2e-3, atol=2e-3, err_msg=task)
        changed = reference.run(crops, {"tiny": other})
        assert np.abs(changed["mood"] - expected["mood"]).max() > 0.1
        # It reaches the classifier alone, so the column that draws on this one does not see it.
        assert np.array_equal(changed["age"], expected["age"])

    @pytest.mark.parametrize("engine", ["openvino", "torch"])
    def test_one_that_is_not_given_is_named(self, bundle, engine):
        if engine == "torch":
            pytest.importorskip("torch", reason="the train extra installs it")
        predictor = Predictor(bundle, make_engine(bundle, engine))
        crops = np.zeros((2, 128, 128), np.uint8)
        with pytest.raises(ValueError, match="draws on the face descriptor 'tiny', which was not given"):
            predictor.read(crops)
        with pytest.raises(ValueError, match=r"'tiny' has the shape \(1, 6\), not \(2, 6\)"):
            predictor.read(crops, {"tiny": np.zeros((1, D), np.float32)})


class TestAnalyzer:
    @pytest.fixture
    def described(self, monkeypatch):
        """How many faces the descriptors described, a number a call."""
        calls, describe = [], Descriptor.describe

        def counted(self, image, points):
            calls.append(len(points))
            return describe(self, image, points)

        monkeypatch.setattr(Descriptor, "describe", counted)
        return calls

    def test_a_still_picture_is_described_from_the_picture(self, analyzer, described):
        (face,) = analyzer.analyze(a_face())
        assert described == [1] and "describe" in analyzer.stage_ms
        (detection,) = analyzer.detector.detect(a_face())
        vector = load_descriptor("tiny").describe(a_face(), [detection.points])
        expected = analyzer.predictor.read(face.crop[None], {"tiny": vector})
        np.testing.assert_allclose(face["mood"].probabilities, expected.probabilities["mood"][0], atol=1e-6)

    def test_a_track_is_described_when_new_and_every_so_many_frames(self, analyzer, described):
        analyzer.descriptor_every = 4
        seen = [bool(analyzer.track(a_face(), i / 30)[0]) for i in range(10)]
        assert all(seen)
        assert described == [1, 1, 1, 0, 0, 0, 1, 0, 0, 0]
        analyzer.descriptor_every = 1
        assert analyzer.track(a_face(), 1 / 3)[0] and described[-1] == 1

    def test_two_tracks_take_turns(self, analyzer, described):
        analyzer.descriptor_every = 2
        faces = [PlacedFace("astronaut", (180, 240), 140), PlacedFace("grace_hopper", (460, 240), 140)]
        found = [len(analyzer.track(compose((640, 480), faces), i / 30)[0]) for i in range(8)]
        assert found[-4:] == [2, 2, 2, 2] and described[-4:] == [1, 1, 1, 1]

    def test_nobody_and_crops(self, analyzer):
        assert analyzer.analyze(np.zeros((200, 200, 3), np.uint8)) == []
        assert analyzer.track(np.zeros((200, 200, 3), np.uint8), 0.0)[0] == []
        attributes, _ = analyzer.read_crops(np.zeros((1, 128, 128), np.uint8))
        assert [attribute.task for attribute in attributes[0]] == list(TASKS)

    def test_nothing_is_described_where_no_column_asks_for_it(self, tiny, random_bundle, described):
        analyzer = FaceAnalyzer(model=random_bundle.root, detector="haar")
        assert analyzer.analyze(a_face()) and analyzer.track(a_face(), 0.0)[0]
        assert not described and "describe" not in analyzer.stage_ms

    def test_a_missing_one_is_named_with_its_remedy(self, bundle, monkeypatch, tmp_path, capsys):
        monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "another"))
        sha256 = bundle.manifest.descriptors["tiny"].sha256
        with pytest.raises(DescriptorError, match="needs the face descriptor 'tiny', which is not installed") as raised:
            FaceAnalyzer(model=bundle.root, detector="haar")
        for part in (str(bundle.root), CONFIG["source"], sha256, "face-mtl descriptor install --name tiny"):
            assert part in str(raised.value)
        assert main(["analyze", "nothing.png", "--model", str(bundle.root), "--detector", "haar"]) == 1
        assert "which is not installed" in capsys.readouterr().err

    def test_another_one_of_its_name_is_refused(self, bundle, files):
        install_descriptor("tiny", CONFIG | {"channels": "bgr"}, files[1])
        with pytest.raises(DescriptorError, match="another face descriptor 'tiny'.*channels is rgb, not bgr"):
            FaceAnalyzer(model=bundle.root, detector="haar")


class TestDlib:
    @pytest.fixture
    def dat_file(self):
        """Finds the files of dlib, whose module and weights are here."""
        pytest.importorskip("torch", reason="the train extra installs it")
        pytest.importorskip("dlib", reason="the teacher extra installs it")
        from face_mtl_ros.training.dlib_resnet import dat_file

        try:
            dat_file()
        except ModuleNotFoundError:
            pytest.skip("dlib's weights come with the teacher extra")
        return dat_file

    def test_it_says_what_dlib_says_of_a_chip(self, dat_file):
        import dlib

        assert main(["descriptor", "dlib"]) == 0
        chip = compose((150, 150), [PlacedFace("astronaut", (75, 70), 110)])[:, :, ::-1].copy()
        expected = np.array(dlib.face_recognition_model_v1(str(dat_file())).compute_face_descriptor(chip))
        found = load_descriptor("dlib").describe_inputs(chip[None])[0]
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-4)

    def test_our_alignment_frames_a_face_as_dlibs_does(self, dat_file):
        """So that its descriptors of our faces are of those that dlib itself would compare them with."""
        import dlib

        assert main(["descriptor", "dlib"]) == 0
        picture = a_face()
        (detection,) = make_detector("haar").detect(picture)
        x, y, width, height = (int(value) for value in detection.box)
        shape = dlib.shape_predictor(str(dat_file("shape_predictor_5_face_landmarks.dat")))(
            picture[:, :, ::-1].copy(), dlib.rectangle(x, y, x + width, y + height)
        )
        model = dlib.face_recognition_model_v1(str(dat_file()))
        expected = np.array(model.compute_face_descriptor(picture[:, :, ::-1].copy(), shape))
        found = load_descriptor("dlib").describe(picture, [detection.points])[0]
        # Of one person are those closer than 0.6 at a length of 1.4 or so.
        assert np.linalg.norm(found * np.linalg.norm(expected) - expected) < 0.45


def test_a_datasets_descriptors_are_kept(tiny, tmp_path, monkeypatch):
    for person, x in (("ann", 0), ("bob", 4)):
        (tmp_path / "people" / person).mkdir(parents=True)
        for i in range(2):
            picture = np.roll(compose((128, 128), [PlacedFace("astronaut", (64, 64), 90)]), x + i, 1)
            cv2.imwrite(str(tmp_path / "people" / person / f"{i}.png"), picture)
    dataset = read_dataset("folder", tmp_path / "people", "all")
    descriptor = load_descriptor("tiny")
    found = dataset_descriptors(dataset, descriptor, report=lambda line: None)
    picture = cv2.imread(str(dataset.paths[2]))
    np.testing.assert_array_equal(found[2], descriptor.describe(picture, [dataset.framing * 128])[0])
    monkeypatch.setattr(Descriptor, "describe", lambda *_: pytest.fail("described again"))
    np.testing.assert_array_equal(dataset_descriptors(dataset, descriptor), found)
