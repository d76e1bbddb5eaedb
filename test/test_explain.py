"""Where the columns look: the maps are Captum's, the network's numbers stay, and the maps depend on class and weights.

The sanity tests are those of Adebayo et al. 2018: a map that says something about a column changes with the class that
is asked about, and is destroyed when the weights are.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="explaining needs torch, which the train extra installs")
pytest.importorskip("captum", reason="explaining needs captum, which the train extra installs")

from scipy.stats import spearmanr  # noqa: E402
from tiny_world import draw_pictures  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.bundle.locate import locate_bundle  # noqa: E402
from face_mtl_ros.bundle.network import build_network  # noqa: E402
from face_mtl_ros.cli import main  # noqa: E402
from face_mtl_ros.explain.figure import Panel, draw_figure  # noqa: E402
from face_mtl_ros.explain.guidable import make_guidable  # noqa: E402
from face_mtl_ros.explain.live import LiveExplainer  # noqa: E402
from face_mtl_ros.explain.maps import Explainer  # noqa: E402
from face_mtl_ros.vision.alignment import align, normalize  # noqa: E402
from face_mtl_ros.vision.detectors import make_detector  # noqa: E402

ASSETS = Path(__file__).parents[1] / "face_mtl_ros" / "assets"
FACES = ("astronaut", "grace_hopper")
MAPS = ("guided_backprop", "grad_cam", "guided_grad_cam")


@pytest.fixture(scope="module")
def faces():
    """float32 (2, 1, 128, 128): the bundled pictures' faces."""
    detector, crops = make_detector("haar"), []
    for name in FACES:
        picture = cv2.imread(str(ASSETS / f"{name}.jpg"))
        largest = max(detector.detect(picture), key=lambda found: float(found.box[2]))
        crops.append(align(picture, largest.points))
    return normalize(np.stack(crops).astype(np.float32))[:, None]


@pytest.fixture(scope="module")
def shipped():
    return load_bundle(locate_bundle("default"))


@pytest.fixture(scope="module")
def explainer(shipped):
    return Explainer(shipped)


def test_relu_modules_leave_the_numbers_as_they_are(random_bundle, shipped, faces):
    for bundle in (random_bundle, shipped):
        crops = torch.from_numpy(faces)
        with torch.no_grad():
            before = build_network(bundle)(crops)
            after = make_guidable(build_network(bundle))(crops)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[task], after[task]) for task in before)


def test_every_relu_is_reached_also_those_of_the_adapters(random_bundle, faces):
    network = make_guidable(build_network(random_bundle))
    rectified = [module for module in network.modules() if isinstance(module, torch.nn.ReLU)]
    column = network.columns["gender"]
    assert len(rectified) == 13 + 2 * (24 + 1) + len(column.adapters)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_maps_are_those_of_captums_guided_grad_cam(random_bundle, faces):
    from captum.attr import GuidedGradCam

    maps = Explainer(random_bundle).explain(faces, "gender", [0, 1], "gender")
    network = make_guidable(build_network(random_bundle))

    class Judged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, crops):
            return self.network(crops, ["gender"])["gender"]

    theirs = GuidedGradCam(Judged(), network.columns["gender"].layers[-1].relu)
    expected = theirs.attribute(torch.from_numpy(faces).requires_grad_(), [0, 1], interpolate_mode="bilinear")
    assert np.allclose(maps.guided_grad_cam, expected.detach()[:, 0].numpy(), atol=1e-6)
    assert maps.guided_grad_cam.shape == (2, 128, 128) and maps.guided_grad_cam.dtype == np.float32
    assert np.allclose(maps.guided_backprop * maps.grad_cam, maps.guided_grad_cam) and (maps.grad_cam >= 0).all()


def test_faces_are_explained_alike_alone_and_together(explainer, faces):
    together = explainer.explain(faces, "emotion", [1, 0])
    for i, target in enumerate((1, 0)):
        alone = explainer.explain(faces[i : i + 1], "emotion", target)
        assert np.allclose(alone.guided_backprop[0], together.guided_backprop[i], atol=1e-5)
        assert np.allclose(alone.grad_cam[0], together.grad_cam[i], atol=1e-4)
    average = together.average()
    assert average.grad_cam.shape == (1, 128, 128)
    assert np.allclose(average.guided_backprop[0], np.abs(together.guided_backprop).mean(0))


def test_a_source_column_can_be_the_layer_and_no_other_can(random_bundle, faces):
    explainer = Explainer(random_bundle)
    own, source = (explainer.explain(faces, "gender", 0, layer).grad_cam for layer in ("gender", "emotion"))
    assert not np.allclose(own, source)
    with pytest.raises(ValueError, match="layer 'gender': 'emotion' has no such layer; it has encoder, emotion"):
        explainer.explain(faces, "emotion", 0, "gender")


def test_a_column_with_a_skip_connection_is_shown_where_all_that_it_judges_by_passes(random_bundle, faces):
    explainer = Explainer(random_bundle)
    assert [explainer.layer(task) for task in ("emotion", "gender")] == ["emotion", "encoder"]
    for task in ("emotion", "gender"):
        asked = explainer.explain(faces, task, 0, explainer.layer(task))
        assert np.array_equal(explainer.explain(faces, task, 0).grad_cam, asked.grad_cam)


@pytest.mark.parametrize(
    ("task", "target", "says"),
    [
        ("embedding", 0, "'embedding' is no column that can be explained; .* has emotion, .*an embedding has no class"),
        ("emotion", 8, "target: expected 0 to 7, one or 2 of them, got .8, 8."),
        ("emotion", [0], "target: expected 0 to 7, one or 2 of them, got .0."),
    ],
)
def test_what_cannot_be_explained_is_named(explainer, faces, task, target, says):
    with pytest.raises(ValueError, match=says):
        explainer.explain(faces, task, target)


def test_crops_of_another_shape_are_refused(explainer, faces):
    with pytest.raises(ValueError, match=r"crops: expected \(n, 1, 128, 128\), got \(2, 1, 64, 64\)"):
        explainer.explain(faces[:, :, :64, :64], "emotion", 0)


# Sanity


def alike(first, second):
    """Mean rank correlation of two maps' magnitudes over faces; a map without anything is like no other."""
    correlations = []
    for one, other in zip(np.abs(first), np.abs(second), strict=True):
        flat = not one.any() or not other.any()
        correlations.append(0.0 if flat else spearmanr(one.ravel(), other.ravel()).statistic)
    return float(np.mean(correlations))


def randomise(module):
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


@pytest.mark.parametrize("layer", ["encoder", "own"])
def test_maps_with_grad_cam_change_with_the_class(explainer, faces, layer):
    likeness = {name: [] for name in MAPS}
    for task in ("emotion", "gender"):
        best = explainer.probabilities(faces, task).argmax(1)
        shown = explainer.explain(faces, task, best, layer)
        for other in range(len(explainer.column(task).labels)):
            asked = explainer.explain(faces, task, other, layer)
            for name in MAPS:
                pairs = [(getattr(shown, name)[[i]], getattr(asked, name)[[i]]) for i in np.flatnonzero(best != other)]
                likeness[name] += [alike(*pair) for pair in pairs]
    assert np.mean(likeness["grad_cam"]) < 0.3 and np.mean(likeness["guided_grad_cam"]) < 0.4
    assert np.mean(likeness["guided_backprop"]) > 0.8  # as known of it: it shows what the encoder responds to


def test_maps_with_grad_cam_are_destroyed_with_the_columns_weights(shipped, explainer, faces):
    likeness = {name: [] for name in MAPS}
    for task in explainer.tasks:
        best = explainer.probabilities(faces, task).argmax(1)
        network = build_network(shipped)
        randomise(network.columns[task])
        destroyed = Explainer(shipped, network).explain(faces, task, best, "encoder")
        whole = explainer.explain(faces, task, best, "encoder")
        for name in MAPS:
            likeness[name].append(alike(getattr(whole, name), getattr(destroyed, name)))
    assert np.mean(likeness["grad_cam"]) < 0.5 and np.mean(likeness["guided_grad_cam"]) < 0.5
    assert np.mean(likeness["guided_backprop"]) > 0.8


def test_all_maps_are_destroyed_with_all_weights(shipped, explainer, faces):
    network = build_network(shipped)
    randomise(network)
    destroyed = Explainer(shipped, network).explain(faces, "emotion", [1, 0], "encoder")
    whole = explainer.explain(faces, "emotion", [1, 0], "encoder")
    for name in MAPS:
        assert alike(getattr(whole, name), getattr(destroyed, name)) < 0.5, name


# Pictures


def figure(explainer, faces, *titles):
    nothing = explainer.explain(faces[:1], "gender", 0)
    nothing = type(nothing)(*(np.zeros_like(nothing.grad_cam) for _ in range(3)))
    panels = [Panel(title, np.full((128, 128), 128, np.uint8), nothing) for title in titles]
    return cv2.imdecode(np.frombuffer(draw_figure(panels), np.uint8), cv2.IMREAD_COLOR)


def test_a_figure_has_a_column_a_panel(explainer, faces):
    one, two = (figure(explainer, faces, *["title"] * n) for n in (1, 2))
    assert two.shape[1] - one.shape[1] > 256 and one.shape[0] == two.shape[0] > 4 * 256
    assert one.std() > 0


def test_a_long_name_stays_within_its_column_of_a_figure_and_letters_are_not_ascii_alone(explainer, faces):
    short, long = (figure(explainer, faces, name, "title") for name in ("José", 40 * "José"))
    assert (short[:, -256:] == long[:, -256:]).all() and (short != long).any()
    assert (figure(explainer, faces, "é") != figure(explainer, faces, "ж")).any()


@pytest.fixture
def call(capsys, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = main(["explain", *map(str, words)])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()[-1] if err else ""

    return run


def test_the_command_draws_a_picture_of_a_face(call, tmp_path):
    status, out, last = call(ASSETS / "astronaut.jpg", "--task", "emotion", "--layer", "encoder", "--layer", "emotion")
    assert (status, out, last) == (0, "", "written: explained.png")
    assert cv2.imread(str(tmp_path / "explained.png")).shape[1] // 256 == 2  # columns of pictures


def test_the_command_averages_over_a_class_of_a_dataset(call, random_bundle, tmp_path):
    pictures = draw_pictures(tmp_path / "faces", ("disc", "noise"), 12)
    for old, new in (("disc", "male"), ("noise", "female")):
        (pictures / old).rename(pictures / new)
    words = ["--model", random_bundle.root, "--task", "gender", "--class", "female", "--dataset", f"folder={pictures}"]
    status, _, last = call(*words, "--split", "all", "--limit", 5, "--output", "out/average.png")
    assert (status, last) == (0, "written: out/average.png")
    assert (tmp_path / "out" / "average.png").stat().st_size > 10_000
    words = ["--model", random_bundle.root, "--dataset", f"folder={pictures}", "--split", "all", "--layer", "own"]
    assert call(*words, "--limit", 5, "--output", "any.png")[0] == 0  # any class, every column
    assert cv2.imread(str(tmp_path / "any.png")).shape[1] // 256 == 2  # columns of pictures


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 2, "name either a picture or --dataset"),
        (["p.png", "--dataset", "folder=x"], 2, "name either a picture or --dataset"),
        (["p.png", "--class", "male"], 2, "--class male is of one column: name it by --task"),
        (["--dataset", "folder=x", "--class", "male"], 2, "--class male is of one column: name it by --task"),
        (["p.png", "--limit", "0"], 2, "--limit: at least 1 is expected, got 0"),
        (["p.png"], 1, "p.png: No such file or directory"),
        ([ASSETS / "astronaut.jpg", "--task", "wealth"], 1, "'wealth' is no column that can be explained"),
        ([ASSETS / "astronaut.jpg", "--task", "gender", "--class", "x"], 2, "'gender' has no such class; it has male"),
        ([ASSETS / "astronaut.jpg", "--task", "gender", "--layer", "x"], 1, "layer 'x': 'gender' has no such layer"),
        (["--dataset", "folder=none", "--task", "gender", "--class", "male"], 1, "none not found"),
    ],
)
def test_the_users_mistakes_are_told_in_one_line(call, words, status, says):
    found, out, last = call(*words)
    assert (found, out) == (status, "") and says in last and last.startswith("face-mtl explain: ")


def test_a_picture_without_a_face_is_named_with_the_remedy(call, tmp_path):
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200), 90, np.uint8))
    status, _, last = call("wall.png")
    assert status == 1 and "wall.png: no face found" in last and "--crop" in last
    assert call("wall.png", "--crop", "--task", "gender")[0] == 0


def test_a_crop_without_contrast_has_numbers_for_maps(random_bundle):
    maps = Explainer(random_bundle).explain(np.zeros((1, 1, 128, 128), np.float32), "gender", 0)
    assert all(np.isfinite(values).all() for values in (maps.guided_backprop, maps.grad_cam, maps.guided_grad_cam))


def test_a_robot_s_explanation_is_one_picture_of_the_first_column_or_of_the_one_that_is_asked_for(random_bundle):
    live = LiveExplainer(random_bundle)
    crop = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    first, second = live.picture(crop), live.picture(crop, "gender")
    assert first.shape == second.shape == (278, 1024, 3) and first.dtype == np.uint8
    assert (first == live.picture(crop, "emotion")).all()
    assert (first[22:, :256] == second[22:, :256]).all()  # the crop
    assert (first[22:, 256:] != second[22:, 256:]).any()
    with pytest.raises(ValueError, match="'age' is no column that can be explained"):
        live.picture(crop, "age")
    with pytest.raises(ValueError, match="has no column that can be explained"):
        LiveExplainer(replace(random_bundle, manifest=random_bundle.manifest.model_copy(update={"columns": []})))
