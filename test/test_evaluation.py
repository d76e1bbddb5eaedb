"""What an evaluation counts, by class, by group and over seeds, and `face-mtl evaluate` as a user meets it."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

from face_mtl_ros.cli import main  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.training.evaluation import evaluate, evaluate_groups, mean_and_error  # noqa: E402


def one_hot(predicted, classes, confidence=1.0):
    rest = (1 - confidence) / (classes - 1)
    return np.where(np.arange(classes) == np.array(predicted)[:, None], confidence, rest).astype(np.float32)


def test_recall_and_balanced_accuracy_count_each_class_by_itself():
    scores = evaluate(one_hot([0, 0, 0, 1, 0], 3), np.array([0, 0, 0, 1, 1]))
    assert scores.accuracy == pytest.approx(4 / 5)
    assert scores.recall[:2].tolist() == [1.0, 0.5] and np.isnan(scores.recall[2])
    assert scores.balanced_accuracy == pytest.approx(0.75)
    assert scores.within_one is None


def test_within_one_counts_neighbours_of_an_ordered_task():
    scores = evaluate(one_hot([0, 1, 3, 0], 4), np.array([0, 2, 1, 3]), ordered=True)
    assert (scores.accuracy, scores.within_one) == (0.25, 0.5)


def test_nll_is_the_mean_of_minus_log_of_the_true_label_s_probability():
    scores = evaluate(np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 0]))
    assert scores.nll == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-6)
    assert np.isfinite(evaluate(one_hot([1], 2), np.array([0])).nll)


@pytest.mark.parametrize(
    ("probabilities", "labels", "says"),
    [
        (np.empty((0, 2)), [], "no picture to evaluate"),
        ([[0.5, 0.5]], [0, 1], r"probabilities \(1, 2\) and labels \(2,\) don't match"),
        ([[0.5, 0.5], [np.nan, 0.5]], [0, 1], "picture 1 are not finite"),
        ([[0.5, 0.5]], [2], "label 2 is no class; expected 0 to 1"),
        ([[0.5, 0.5]], [-1], "label -1 is no class"),
    ],
)
def test_what_cannot_be_scored_is_refused(probabilities, labels, says):
    with pytest.raises(ValueError, match=says):
        evaluate(np.array(probabilities), np.array(labels))


def test_groups_are_scored_alone_and_combined():
    labels, predicted = np.array([0, 0, 1, 1, 0]), [0, 1, 1, 1, 0]
    groups = {"sex": np.array(["f", "f", "f", "m", "m"]), "race": np.array(["a", "b", "a", "a", ""])}
    found = evaluate_groups(one_hot(predicted, 2), labels, groups)
    assert found["sex"]["f"].n == 3 and found["sex"]["f"].accuracy == pytest.approx(2 / 3)
    assert found["sex"]["f"].standard_error == pytest.approx(np.sqrt(2 / 9 / 3))
    assert {group: (score.n, score.accuracy) for group, score in found["race"].items()} == {"a": (3, 1), "b": (1, 0)}
    assert {group: score.n for group, score in found["sex/race"].items()} == {"f/a": 2, "f/b": 1, "m/a": 1}
    with pytest.raises(ValueError, match="groups by sex have 2 entries; expected 5"):
        evaluate_groups(one_hot(predicted, 2), labels, {"sex": np.array(["f", "m"])})


def test_seeds_have_a_mean_and_a_standard_error():
    seeds = mean_and_error([0.8, 0.9, 1.0])
    assert (seeds.n, seeds.mean) == (3, pytest.approx(0.9)) and seeds.error == pytest.approx(0.1 / np.sqrt(3))
    assert np.isnan(mean_and_error([0.8]).error)
    with pytest.raises(ValueError, match="at least one seed"):
        mean_and_error([])


# The command.

LABELS = ["young", "middle", "old"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Columns with random weights, of which `age` is ordered and has a temperature."""
    root = tmp_path_factory.mktemp("evaluation") / "bundle"
    write_random_bundle(root, "compact", {"age": (LABELS, []), "gender": (["male", "female"], [])})
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["columns"][0] |= {"values": [10.0, 40.0, 70.0], "unit": "years", "temperature": 2.5}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def noise(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.random.default_rng(seed).integers(0, 255, (48, 48), np.uint8))


@pytest.fixture
def pictures(tmp_path):
    """Two of the three labels have pictures, in another order than the column's."""
    for label, count in (("old", 5), ("middle", 3)):
        for i in range(count):
            noise(tmp_path / "pictures" / label / f"{i}.png", i)
    return tmp_path / "pictures"


@pytest.fixture
def run(capsys, home):
    def run(*arguments):
        status = main(["evaluate", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return run


def folder(bundle, pictures, task):
    return ["--model", bundle, "--task", task, "--dataset", "folder", "--root", pictures, "--split", "all"]


def test_json_has_every_figure_and_they_agree(run, bundle, pictures):
    status, out, err = run(*folder(bundle, pictures, "age"), "--json")
    assert status == 0, err
    result = json.loads(out)
    confusion = np.array(result["confusion"])
    assert (result["task"], result["dataset"], result["split"], result["n"]) == ("age", "folder", "all", 8)
    assert result["labels"] == LABELS and confusion.sum(1).tolist() == [0, 3, 5]
    assert result["accuracy"] == pytest.approx(np.trace(confusion) / 8)
    assert result["per_class_recall"]["young"] is None
    recall = [result["per_class_recall"][label] for label in LABELS[1:]]
    assert recall == pytest.approx([confusion[1, 1] / 3, confusion[2, 2] / 5], abs=1e-5)
    assert result["balanced_accuracy"] == pytest.approx(np.mean(recall), abs=1e-5)
    near = np.abs(np.subtract.outer(range(3), range(3))) <= 1
    assert result["within_one"] == pytest.approx(confusion[near].sum() / 8)
    assert result["temperature"] == 2.5 and result["nll"] > 0 and 0 <= result["ece"] <= 1
    assert result["model_version"] and "macro_f1" in result and "groups" not in result


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_any_engine_gives_the_same_accuracy(run, bundle, pictures, engine):
    pytest.importorskip(engine, reason="the engine is an extra")
    asked = [*folder(bundle, pictures, "age"), "--json", "--device", "cpu", "--precision", "fp32"]
    results = []
    for name in (engine, "torch"):
        status, out, err = run(*asked, "--engine", name)
        assert status == 0, err
        results.append(json.loads(out))
    assert results[0]["confusion"] == results[1]["confusion"]
    assert results[0]["nll"] == pytest.approx(results[1]["nll"], abs=1e-3)


def test_the_table_says_what_the_json_says(run, bundle, pictures):
    result = json.loads(run(*folder(bundle, pictures, "age"), "--json")[1])
    status, out, _ = run(*folder(bundle, pictures, "age"))
    assert status == 0 and "age on folder all, 8 pictures" in out
    for share in (result["accuracy"], result["within_one"], result["per_class_recall"]["old"]):
        assert f"{share:.2%}" in out


def test_groups_of_people_are_scored_where_the_dataset_knows_them(run, bundle, tmp_path):
    root = tmp_path / "utkface"
    for i, (gender, race) in enumerate([(0, 0), (0, 2), (1, 2), (1, 2), (0, 0)]):
        noise(root / f"30_{gender}_{race}_2017010919193{i}000.jpg.chip.jpg", i)
    arguments = ["--model", bundle, "--task", "gender", "--dataset", "utkface", "--root", root, "--split", "all"]
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    result = json.loads(out)
    groups = result["groups"]
    assert "within_one" not in result  # two genders have no order
    assert set(groups) == {"sex", "race", "sex/race"}
    assert sorted(score["n"] for score in groups["sex"].values()) == [2, 3]
    assert sorted(score["n"] for score in groups["sex/race"].values()) == [1, 2, 2]
    right = sum(score["n"] * score["accuracy"] for score in groups["race"].values())
    assert right == pytest.approx(result["accuracy"] * 5, abs=1e-3)
    assert set(next(iter(groups["sex"].values()))) == {"n", "accuracy", "standard_error"}
    assert "standard error" in run(*arguments)[1]


def test_plots_are_pictures_that_differ_from_blank_paper(run, bundle, pictures, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib, which the train extra installs")
    status, _, err = run(*folder(bundle, pictures, "age"), "--json", "--plots", tmp_path / "new" / "plots")
    assert status == 0, err
    for name in ("confusion.png", "reliability.png"):
        picture = cv2.imread(str(tmp_path / "new" / "plots" / name))
        assert min(picture.shape[:2]) > 300 and (picture < 128).any(2).mean() > 0.01


def test_learning_curves_are_drawn(tmp_path):
    plots = pytest.importorskip("face_mtl_ros.training.plots", reason="plots need matplotlib")
    file = tmp_path / "curves.png"
    plots.plot_curves(file, {"train": ([1, 2, 3], [0.9, 0.5, 0.4])}, "epoch", "loss", "a column")
    blank = cv2.imread(str(file))
    plots.plot_curves(file, {"train": ([1, 2, 3], [0.4, 0.5, 0.9])}, "epoch", "loss", "a column")
    assert (cv2.imread(str(file)) != blank).any()


def test_people_are_told_apart_by_the_descriptor(run, tmp_path):
    """Each person's pictures are all the same, which random weights too know again."""
    write_random_bundle(tmp_path / "bundle", "compact", {"gender": (["male", "female"], [])})
    root = tmp_path / "people"
    for person in range(7):
        for i in range(6 if person < 5 else 1):
            noise(root / f"person {person}" / f"{i}.png", person)
    arguments = ["--task", "embedding", "--dataset", "folder", "--root", root, "--split", "all"]
    status, out, err = run("--model", tmp_path / "bundle", *arguments, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert (result["task"], result["dataset"], result["n"], result["people"]) == ("embedding", "folder", 32, 7)
    assert (result["right"], result["named_95"], result["named_99"]) == (1, 1, 1)
    assert (result["right_error"], result["draws"], result["descriptor"]) == (0, 200, "encoder")
    status, out, _ = run("--model", tmp_path / "bundle", *arguments)
    assert status == 0 and "right of five people" in out and "100.00%" in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--task", "hair"], 1, "has no column 'hair'; it has age, gender"),
        (["--task", "gender"], 1, "column 'gender' has the labels ['male', 'female'], 'folder' has ['middle', 'old']"),
        (["--task", "age", "--dataset", "moon"], 2, "dataset 'moon' is unknown; choose one of"),
        (["--task", "age", "--option", "balanced"], 2, "--option balanced: expected KEY=VALUE"),
        (["--task", "age", "--option", "fold=1"], 1, "folder has no option 'fold'; it has task"),
        (["--task", "embedding", "--plots", "x"], 2, "--plots draws what a column predicts"),
        (["--task", "embedding"], 1, "2 people, of whom 0 have more than 5 pictures, are too few"),
    ],
)
def test_a_mistake_is_one_clear_line(run, bundle, pictures, arguments, status, says):
    found, out, err = run(*folder(bundle, pictures, "age"), *arguments)
    assert found == status and says in err.splitlines()[-1] and out == ""


def test_a_split_that_is_not_there_is_named(run, bundle, tmp_path):
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = ["PublicTest,fer0000001.png,10,0,0,0,0,0,0,0,0,0", "PrivateTest,fer0000002.png,10,0,0,0,0,0,0,0,0,0"]
    noise(tmp_path / "FER2013Valid" / "fer0000001.png", 0)
    (tmp_path / "fer2013new.csv").write_text("\n".join([header, *rows]))
    status, out, err = run(
        *("--model", bundle, "--task", "emotion", "--dataset", "ferplus", "--root", tmp_path, "--split", "test")
    )
    assert status == 1 and out == "" and "FER2013Test" in err and "split 'test'" in err


def test_descriptors_need_people(run, bundle, tmp_path):
    noise(tmp_path / "30_0_0_20170109191930000.jpg.chip.jpg", 0)
    arguments = ("--task", "embedding", "--dataset", "utkface", "--root", tmp_path, "--split", "all")
    status, _, err = run("--model", bundle, *arguments)
    assert status == 1 and "dataset 'utkface' does not label 'identity'; it labels age, gender; take lfw" in err
