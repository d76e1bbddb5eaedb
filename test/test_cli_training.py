"""The training commands, from their words to what they write."""

import json
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

from tiny_world import draw_pictures, know_tiny  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.cli import build_parser, main  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home, tmp_path):
    know_tiny(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path):
    return draw_pictures(tmp_path / "data" / "shapes")


@pytest.fixture
def model(tmp_path):
    return write_random_bundle(tmp_path / "model", "tiny", {"older": (["a", "b"], [])}).root


@pytest.fixture
def call(monkeypatch, capsys):
    """Run face-mtl as a shell would: status, stdout and stderr."""

    def run(*words):
        arguments = [str(word) for word in words]
        monkeypatch.setattr("sys.argv", ["face-mtl", *arguments])
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


BRIEF = ("--epochs", "0.1", "--batch", "8", "--no-augment")


def config(tmp_path, text):
    file = tmp_path / "config" / "training" / "shapes.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file.relative_to(tmp_path)


# Options


def parsed(*words):
    return build_parser().parse_args([str(word) for word in words])


def test_a_config_sets_options_and_later_words_win(tmp_path):
    file = config(
        tmp_path,
        "model: models/site\ntask: guest\nsource: [emotion, gender]\ndata: folder=faces\nepochs: 3\n"
        "learning-rate: 1e-3\nsoft_labels: false\nretrain-encoder: true\nrecipe: paper\n",
    )
    args = parsed("train", "--epochs", "9", "--config", file, "--batch", "16", "--recipe", "best")
    assert (args.task, args.source, args.data) == ("guest", ["emotion", "gender"], ["folder=faces"])
    assert (args.epochs, args.learning_rate, args.batch, args.recipe) == (3.0, 1e-3, 16, "best")
    assert args.soft_labels is False and args.retrain_encoder is True and args.augment is None
    assert str(args.model) == "models/site" and args.model.name == "site"
    # What may be repeated adds to the file's.
    assert parsed("train", "--config", file, "--data", "folder=more").data == ["folder=faces", "folder=more"]
    assert parsed("train", "--config", file).data == ["folder=faces"]


def test_a_config_names_options_by_their_own_words(tmp_path):
    args = parsed("pretrain", "--config", config(tmp_path, "from: models/began\nbatch: 16\n"))
    assert args.start.name == "began" and args.batch == 16


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch: 3", "'epoch' is no option of this command"),
        ("help: true", "'help' is no option"),
        ("no-augment: true", "'no-augment' is no option"),
        ("epochs: many", "epochs: could not convert string to float: 'many'"),
        ("epochs: true", "epochs: expected one value, got True"),
        ("epochs: [1, 2]", "epochs: expected one value, got [1, 2]"),
        ("epochs:", "epochs: expected one value, got None"),
        ("batch: 1.5", "batch: invalid literal"),
        ("recipe: worst", "recipe: 'worst' is not one of paper, best"),
        ("augment: 3", "augment: expected true or false, got 3"),
        ("- epochs", "expected options by name"),
        ("epochs: [", "while parsing"),
    ],
)
def test_a_bad_config_is_wrong_usage_and_named(tmp_path, call, text, says):
    file = config(tmp_path, text)
    status, out, err = call("train", "--config", file)
    assert status == 2 and not out
    assert str(file) in err.splitlines()[-1] and says in err.splitlines()[-1]


def test_a_config_that_is_missing_is_wrong_usage(call):
    status, _, err = call("train", "--config", "nowhere.yaml")
    assert status == 2 and "nowhere.yaml" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train"], "face-mtl train: --model is missing"),
        (["train", "--model", "m"], "face-mtl train: --task is missing"),
        (["train", "--model", "m", "--task", "t"], "face-mtl train: --data is missing"),
        (["pretrain", "--output", "m"], "face-mtl pretrain: --data is missing"),
        (["pretrain", "--data", "folder=p"], "face-mtl pretrain: --output is missing"),
        (["search", "--model", "m", "--task", "t", "--data", "folder=p"], "face-mtl search: --study is missing"),
        (
            ["train", "--model", "m", "--task", "t", "--data", "folder"],
            "face-mtl train: --data folder: expected NAME=ROOT, such as ferplus=/data/ferplus",
        ),
        (
            ["train", "--model", "m", "--task", "t", "--data", "folder=p", "--retrain-encoder"],
            "face-mtl train: --retrain-encoder makes another bundle: --output is missing",
        ),
    ],
)
def test_words_that_do_not_go_together_are_wrong_usage_in_one_line(call, words, says):
    status, out, err = call(*words)
    assert (status, out, err) == (2, "", says + "\n")


def test_a_value_out_of_range_is_wrong_usage(call, model, pictures):
    words = ["train", "--model", model, "--task", "shape", "--data", f"folder={pictures}"]
    status, _, err = call(*words, "--epochs", "0")
    assert status == 2 and err == "face-mtl train: epochs: a finite number above 0 is expected, got 0.0\n"


def test_the_root_of_another_dataset_is_told_in_one_line(call, model, tmp_path):
    root = tmp_path / "data" / "fer"
    root.mkdir(parents=True)
    (root / "fer2013new.csv").write_text("Usage,Image name\n")
    status, _, err = call("train", "--model", model, "--task", "gender", "--data", f"utkface={root}")
    assert status == 1 and err == f"face-mtl train: {root} is no root of utkface: it looks like ferplus\n"


def test_a_bundle_or_folder_that_is_missing_is_told_in_one_line(call, model, pictures, tmp_path):
    for words in (
        ("--model", tmp_path / "nowhere", "--data", f"folder={pictures}"),
        ("--model", model, "--data", f"folder={tmp_path / 'nowhere'}"),
    ):
        status, _, err = call("train", "--task", "shape", *words, *BRIEF)
        assert status == 1 and err.count("\n") == 1 and str(tmp_path / "nowhere") in err


# The commands


def test_pretrain_and_train_end_to_end(call, pictures, tmp_path):
    data = ("--data", "folder:task=shape=shapes", "--data-root", tmp_path / "data")
    status, out, err = call("pretrain", "--preset", "tiny", "--name", "site", "--output", "m", *data, *BRIEF)
    assert status == 0 and not out and "encoder written to m, version site-" in err
    file = config(tmp_path, "task: shape\ndata: [folder=shapes]\nbatch: 8\nepochs: 5\n")
    words = ("--config", file, "--data-root", tmp_path / "data", "--begin", tmp_path / "m/heads/shape.safetensors")
    status, _, err = call("train", "--model", "m", *words, *BRIEF, "--tensorboard", "logs")
    assert status == 0 and "column 'shape' added to m" in err and "% done" in err
    record = load_bundle(tmp_path / "m").manifest.column("shape")
    assert record.labels == ["disc", "stripes"] and record.provenance.recipe["epochs"] == 0.1 and record.skip
    assert record.provenance.command == (
        "face-mtl train --model m --config config/training/shapes.yaml --data-root data --begin shape.safetensors "
        "--epochs 0.1 --batch 8 --no-augment --tensorboard logs"
    )
    assert str(tmp_path) not in (tmp_path / "m" / "manifest.json").read_text()
    assert list((tmp_path / "logs").glob("events.*"))
    status, _, err = call("train", "--model", "m", *words, *BRIEF)
    assert status == 1 and err == "face-mtl train: task 'shape' has a column already: pass --replace to train it anew\n"
    status, _, err = call("train", "--model", "m", *words, *BRIEF, "--replace", "--no-skip")
    assert status == 0 and not load_bundle(tmp_path / "m").manifest.column("shape").skip


def test_an_interrupted_training_says_how_to_go_on_and_does(call, pictures, model, monkeypatch):
    words = ("train", "--model", model, "--task", "shape", "--data", f"folder={pictures}", *BRIEF, "--epochs", "0.5")
    with monkeypatch.context() as patched:
        patched.setattr("face_mtl_ros.training.loop.deferred_interrupt", pressed)
        status, _, err = call(*words)
    assert status == 130 and "stopped at step 1; the same command goes on from" in err
    assert err.splitlines()[-1] == "face-mtl train: interrupted"
    status, _, err = call(*words)
    assert status == 0 and "resuming at step 1 of" in err


def pressed():
    """Ctrl-C in the first step."""
    return nullcontext(lambda: True)


def test_search_adds_trials_to_its_study(call, model, pictures, tmp_path):
    pytest.importorskip("optuna", reason="the search needs optuna, which the train extra installs")
    words = ("search", "--model", model, "--task", "shape", "--data", f"folder={pictures}", "--study", "study.db")
    for trials in (1, 2):
        status, out, _ = call(*words, "--trials", "1", "--epochs", "1", "--no-augment", "--json")
        assert status == 0
        best = json.loads(out)
        assert best["trials"] == trials and 0 <= best["accuracy"] <= 1
        assert {"hidden_units", "dropout", "learning_rate", "batch"} <= best.keys()
    assert [column.task for column in load_bundle(model).manifest.columns] == ["older"]
    status, _, err = call(*words[:4], "other", *words[5:], "--trials", "1", *BRIEF)
    assert status == 1 and "study.db is the study of" in err.splitlines()[-1]


def test_began_learns_without_labels_and_says_so(call):
    status, _, err = call("pretrain", "--method", "began", "--output", "m", "--data", "folder=p", "--task", "emotion")
    assert status == 2 and "no --from, --task, --teacher" in err
