"""The paper's tables: which columns, what is trained once, what a kill leaves, and what the numbers mean."""

import csv
import json
import re
import shlex
import signal

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")
pytest.importorskip("matplotlib", reason="plots need matplotlib, which the train extra installs")

import experiment_world  # noqa: E402
from experiment_world import USED, begun, results, told  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from scipy import stats  # noqa: E402
from test_distributed import torchrun  # noqa: E402
from tiny_world import press_ctrl_c  # noqa: E402

from face_mtl_ros.cli import main  # noqa: E402
from face_mtl_ros.datasets.dataset import DatasetError, split_of  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.training.experiments import paper, setting, statistics  # noqa: E402
from face_mtl_ros.training.experiments.cells import TABLES, Cell, choose  # noqa: E402
from face_mtl_ros.training.experiments.data import read_task  # noqa: E402
from face_mtl_ros.training.experiments.report import write_report  # noqa: E402
from face_mtl_ros.training.experiments.statistics import by_cell, curve_of, speeds, table_rows, welch  # noqa: E402

data, encoder, call, start = (getattr(experiment_world, name) for name in ("data", "encoder", "call", "start"))


# Cells


def test_tables_have_the_papers_cells():
    assert [len(TABLES[table]) for table in ("table4", "table5", "table6", "figure5", "labels", "all")] == [
        8,
        32,
        8,
        8,
        38,
        36,
    ]
    for task in paper.TASKS:
        combinations = paper.PROGRESSIVE[task]
        assert len(combinations) == 7 and all(task not in sources for sources in combinations)
        for sources in combinations:
            assert list(sources) == sorted(sources, key=paper.TASKS.index)
        best, accuracy = paper.BEST[task]
        assert combinations[best] == max(combinations.values()) == (93.10 if task == "identity" else accuracy)
    assert paper.PROGRESSIVE["age"]["gender", "identity"] == 45.63


def test_a_cell_comes_after_those_that_it_draws_on():
    names = [cell.name for cell in choose("table5", ["emotion-from-age-gender", "age"])]
    assert names == ["age", "gender", "emotion-from-age-gender"]
    with pytest.raises(ValueError, match="--only emotion-retrained: table6 has no such cell; it has emotion, age"):
        choose("table6", ["emotion-retrained"])


# Running


def test_a_table_is_trained_tested_and_compared(call, tmp_path):
    status, _, lines = call("table4", "--runs", "2", "--seed", "5", "--only", "age", "--only", "age-retrained")
    assert status == 0 and begun(lines) == [f"age{kind}-seed{seed}" for seed in (5, 6) for kind in ("", "-retrained")]
    found = results(tmp_path / "out")
    assert set(found) == set(begun(lines))
    with (tmp_path / "out" / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert {run["cell"] for run in runs} == {"age", "age-retrained"} and len(runs) == 4
    rows = {row["cell"]: row for row in csv.DictReader((tmp_path / "out" / "table4.csv").open())}
    for cell in ("age", "age-retrained"):
        accuracies = [100 * found[f"{cell}-seed{seed}"]["accuracy"] for seed in (5, 6)]
        assert float(rows[cell]["ours"]) == pytest.approx(np.mean(accuracies), abs=1e-3)
        assert float(rows[cell]["standard_error"]) == pytest.approx(stats.sem(accuracies), abs=1e-3)
        assert rows[cell]["runs"] == "2" and rows[cell]["epochs"] == "1" and int(rows[cell]["train"]) > 30
    assert rows["age"]["paper"] == "84.01" and rows["age-retrained"]["paper"] == "85.12"
    assert (tmp_path / "out" / "table4.png").read_bytes().startswith(b"\x89PNG")
    assert "| age | re-trained encoder | 85.12 ± 0.45 |" in (tmp_path / "out" / "table4.md").read_text()


def test_figure_four_shows_where_the_plain_columns_of_a_seed_look(call, tmp_path):
    pytest.importorskip("captum", reason="explaining needs captum, which the train extra installs")
    status, _, lines = call("figure4", "--runs", "1", "--seed", "3", "--only", "gender", "--only", "age")
    assert status == 0 and lines[-1] == "written: out/figure4.png"
    assert begun(lines) == ["gender-seed3", "age-seed3"]
    assert cv2.imread(str(tmp_path / "out" / "figure4.png")).shape[1] // 256 == 2  # columns of pictures
    assert not (tmp_path / "out" / "table4.md").exists()


def test_columns_may_be_narrower_than_the_encoder(call, tmp_path):
    words = ("--runs", "1", "--only", "age-from-emotion-gender", "--column-width", "0.03125")
    status, _, lines = call("table6", *words)
    assert status == 0, lines
    weights = load_file(tmp_path / "out" / "columns" / "emotion-seed0.safetensors")
    assert weights["layers.0.conv.weight"].shape[:2] == (4, 16)  # of 128 channels, on the encoder's 256 / 16


def test_what_tables_share_is_trained_once_and_nothing_twice(call, tmp_path):
    assert begun(call("table6", "--runs", "1", "--only", "gender-from-emotion-age")[2]) == [
        "emotion-seed0",
        "age-seed0",
        "gender-from-emotion-age-seed0",
    ]
    before = results(tmp_path / "out")
    status, _, lines = call("table5", "--runs", "1", "--only", "gender-from-emotion-age", "--only", "age-from-emotion")
    assert status == 0 and begun(lines) == ["age-from-emotion-seed0"]
    after = results(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert all((tmp_path / "out" / f"{name}.md").exists() for name in ("table5", "table6"))
    assert not list((tmp_path / "out" / "checkpoints").iterdir())


def test_a_line_of_the_results_makes_its_run_again(call, tmp_path, data, encoder):
    call("table5", "--runs", "2", "--only", "gender-from-age", "--train-limit", "30")
    first = results(tmp_path / "out")
    words = shlex.split(first["gender-from-age-seed1"]["command"])
    assert words[:2] == ["face-mtl", "experiment"]
    places = {"DATA": data, "OUT": "again", "encoder": encoder}  # the line has no folder of this machine
    setting._task_data.cache_clear()
    assert main([str(places.get(word, word)) for word in words[1:]]) == 0
    again = results(tmp_path / "again")
    assert set(again) == {"gender-from-age-seed1", "age-seed1"}
    assert all(told(again[name]) == told(first[name]) for name in again)
    assert told(first["age-seed0"])["epoch_losses"] != told(first["age-seed1"])["epoch_losses"]
    assert first["age-seed0"]["train"] == 30


def test_few_pictures_of_a_class_beside_columns_that_learned_from_all(call, tmp_path, monkeypatch):
    few = tuple(Cell("age", sources, per_class=2) for sources in ((), ("emotion", "gender")))
    monkeypatch.setitem(TABLES, "labels", (*TABLES["figure5"], *few))
    monkeypatch.setattr(statistics, "LABELS", {task: (2,) for task in paper.TASKS})
    lateral = "age-from-emotion-gender-2"
    status, _, lines = call("labels", "--runs", "2", "--only", "age-2", "--only", lateral, "--only", "age")
    found = results(tmp_path / "out")
    assert status == 0 and begun(lines)[:4] == ["age-2-seed0", "emotion-seed0", "gender-seed0", f"{lateral}-seed0"]
    assert found["age-2-seed0"]["train"] == 4 and found["age-seed0"]["train"] == 38
    assert found["age-2-seed0"]["epochs"] == 5 and found["age-seed0"]["epochs"] == 1
    assert found[f"{lateral}-seed1"]["command"].startswith("face-mtl experiment labels --data DATA")
    (row,) = csv.DictReader((tmp_path / "out" / "labels.csv").open())
    without, with_sources = (
        [100 * found[f"{cell}-seed{i}"]["macro_f1"] for i in (0, 1)] for cell in ("age-2", lateral)
    )
    assert (row["task"], row["per_class"], row["train"], row["runs"]) == ("age", "2", "4", "2/2")
    assert float(row["gain"]) == pytest.approx(np.mean(with_sources) - np.mean(without), abs=1e-3)
    report = write_report(tmp_path / "out", tmp_path / "docs").read_text()
    assert (
        "Lateral connections help when labels are few" in report
        and "age {:+.1f} (2)".format(float(row["gain"])) in report
    )
    assert (tmp_path / "docs" / "experiments" / "labels.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_interrupted_goes_on_and_ends_the_same(call, tmp_path, monkeypatch):
    words = ("figure5", "--runs", "1", "--only", "age", "--epochs", "3")
    assert call(*words)[0] == 0
    whole = results(tmp_path / "out")["age-seed0"]
    (tmp_path / "out").rename(tmp_path / "whole")
    from face_mtl_ros.training import loop

    end_epoch, ended = loop._end_epoch, []

    def interrupt(*arguments):
        end_epoch(*arguments)
        ended.append(1)
        if len(ended) == 2:
            press_ctrl_c()

    monkeypatch.setattr(loop, "_end_epoch", interrupt)
    assert call(*words)[0] == 130
    assert not (tmp_path / "out" / "results").exists()
    status, _, lines = call(*words)
    assert status == 0 and len(ended) == 3  # two epochs before, one after
    assert any("age-seed0: resuming at step" in line for line in lines)
    assert told(results(tmp_path / "out")["age-seed0"]) == told(whole)
    assert len(whole["curve"]) == 3


def test_a_run_that_fails_is_named_with_those_that_needed_it_and_the_others_are_done(call, tmp_path, monkeypatch):
    from face_mtl_ros.training.experiments import schedule
    from face_mtl_ros.training.loop import TrainingError

    train = schedule.train

    def fail(setting, run, report):
        if run.cell.name == "age":
            raise TrainingError("the loss is nan at step 3")
        return train(setting, run, report)

    monkeypatch.setattr(schedule, "train", fail)
    status, _, lines = call("table5", "--runs", "1", "--only", "emotion-from-age", "--only", "gender")
    assert status == 1 and set(results(tmp_path / "out")) == {"gender-seed0"}
    assert "age-seed0: failed: the loss is nan at step 3" in lines
    assert "emotion-from-age-seed0: left out, for age-seed0 failed" in lines
    assert lines[-1] == "face-mtl experiment: not done: age-seed0, emotion-from-age-seed0"


def test_data_that_are_missing_leave_out_their_columns_and_the_rest_is_done(call, tmp_path, data):
    (data / "age").rename(data / "elsewhere")
    only = [word for cell in ("emotion-from-gender", "emotion-from-age", "age") for word in ("--only", cell)]
    status, _, lines = call("table5", "--runs", "1", *only)
    assert status == 1 and set(results(tmp_path / "out")) == {"gender-seed0", "emotion-from-gender-seed0"}
    assert any(line.startswith("face-mtl experiment: age is left out: folder: ") for line in lines)
    assert [line for line in lines if line.endswith("is left out")] == [
        f"face-mtl experiment: cell {cell} is left out" for cell in ("age", "emotion-from-age")
    ]
    # Once they are there the rest is done.
    (data / "elsewhere").rename(data / "age")
    status, _, lines = call("table5", "--runs", "1", *only)
    assert status == 0 and begun(lines) == ["age-seed0", "emotion-from-age-seed0"]


def test_a_copy_without_test_pictures_is_tested_on_those_for_validation(data):
    for file in (data / "age").glob("*/*.png"):
        if split_of(f"{file.parent.name}/{file.name}") == "test":
            file.unlink()
    found = read_task("age", data, {"age": "folder=age"}, train_limit=None, val_limit=2)
    assert (found.test.split, len(found.val)) == ("val", 2) and len(found.test) > 2
    assert not set(found.test.ids) & set(found.train.ids)


def test_a_limit_leaves_a_picture_of_each_class(data):
    rare = sorted((data / "emotion" / "bars").glob("*.png"))
    kept = next(file for file in rare if split_of(f"bars/{file.name}") == "train")
    for file in rare:
        if file != kept and split_of(f"bars/{file.name}") == "train":
            file.unlink()
    found = read_task("emotion", data, {"emotion": "folder=emotion"}, train_limit=4, val_limit=None)
    assert len(found.train) == 4 and found.train.counts("emotion")["bars"] == 1
    with pytest.raises(DatasetError, match="have no sample of"):
        read_task("emotion", data, {"emotion": "folder=emotion"}, train_limit=2, val_limit=None)


def test_a_dry_run_tells_cells_and_time_and_leaves_nothing(call, tmp_path):
    status, out, _ = call("table5", "--runs", "3", "--dry-run", "--only", "age-from-gender")
    lines = out.splitlines()
    assert status == 0 and not (tmp_path / "out").exists()
    assert [line.partition(":")[0] for line in lines[:2]] == ["gender", "age-from-gender"]
    assert all("3 of 3 runs to do, " in line and " min each" in line for line in lines[:2])
    assert lines[2].startswith("6 of 6 runs to do: about ") and lines[2].endswith("with --jobs 1")


@pytest.mark.parametrize(
    ("table", "words", "says"),
    [
        ("table5", ["--runs", "0"], "--runs: at least 1 is expected, got 0"),
        ("table5", ["--jobs", "0"], "--jobs: at least 1 is expected, got 0"),
        ("table5", ["--train-limit", "1"], "--train-limit: at least 2 is expected, got 1"),
        ("table5", ["--epochs", "0"], "epochs: a finite number above 0 is expected, got 0.0"),
        ("table5", ["--column-width", "0"], "--column-width: above 0 to 4 is expected, got 0.0"),
        ("table7", [], "invalid choice: 'table7'"),
        ("table5", ["--only", "shoe-size"], "--only shoe-size: table5 has no such cell; it has emotion, age"),
        ("table5", ["--data", "nowhere"], "--data nowhere is no folder; it should hold ferplus, lfw"),
        ("table5", ["--preset", "paper"], "--preset paper: the encoder of .* is of the preset 'tiny'; pass --encoder"),
        ("table5", ["--use", "shoe=folder=x"], "--use shoe=folder=x: expected TASK=NAME"),
    ],
)
def test_wrong_usage_is_told_before_any_work(call, tmp_path, table, words, says):
    status, out, lines = call(table, *words)
    assert (status, out) == (2, "") and not (tmp_path / "out").exists()
    assert re.search(says, lines[-1])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--train-limit", "20"], "(data.age.train: 38 there and 20 here)"),
        (["--epochs", "2"], "(recipe.epochs: 1.0 there and 2.0 here)"),
        (["--adapters", "groups"], "(adapters: 'layers' there and 'groups' here)"),
        (["--column-width", "0.5"], "(column_width: None there and 0.5 here)"),
        (["--recipe", "best"], "(recipe.augment: False there and True here)"),
    ],
)
def test_the_folder_of_another_configuration_is_refused_before_any_work(call, tmp_path, words, says):
    call("table4", "--runs", "1", "--only", "age")
    before = sorted((tmp_path / "out").rglob("*"))
    status, _, lines = call("table4", "--runs", "1", "--only", "gender", *words)
    assert status == 1 and "another configuration" in lines[-1] and says in lines[-1]
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_a_folder_from_before_there_was_an_option_is_not_taken_for_another_experiment(call, tmp_path):
    call("table4", "--runs", "1", "--only", "age")
    file = tmp_path / "out" / "experiment.json"
    found = json.loads(file.read_text())
    del found["adapters"], found["column_width"]
    file.write_text(json.dumps(found))
    status, _, lines = call("table4", "--runs", "1", "--only", "age", "--adapters", "groups")
    assert status == 1 and "(adapters: 'layers' there and 'groups' here)" in lines[-1]
    assert call("table4", "--runs", "1", "--only", "age")[0] == 0


def test_a_folder_of_something_else_is_refused(call, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("important")
    status, _, lines = call("table4", "--runs", "1")
    assert status == 1 and "out is no folder of an experiment and not empty: pass another --out" in lines[-1]
    status = main(["experiment", "report", "--out", str(tmp_path / "out")])
    assert status == 1 and len(list((tmp_path / "out").iterdir())) == 1


# Several processes, for which there must be a preset that a new process knows


@pytest.mark.slow
def test_processes_share_the_runs(start, tmp_path):
    process = start("--jobs", "2", "--epochs", "1", "--only", "emotion-from-age-gender", "--only", "identity")
    lines = process.communicate(timeout=600)[1].splitlines()
    assert process.returncode == 0, lines
    assert sorted(begun(lines)) == ["age-seed0", "emotion-from-age-gender-seed0", "gender-seed0", "identity-seed0"]


@pytest.mark.slow
def test_processes_of_torchrun_train_each_cell_together(tmp_path, data, home):
    compact = write_random_bundle(tmp_path / "compact", "compact", {}).root
    words = ["table6", "--data", data, "--out", tmp_path / "out", "--encoder", compact, *USED, "--threads", 1]
    words += ["--only", "age-from-emotion-gender", "--runs", 1, "--epochs", 1, "--batch", 16]
    said = torchrun("-m", "face_mtl_ros.cli", "experiment", *map(str, words))
    needed = ["emotion-seed0", "gender-seed0", "age-from-emotion-gender-seed0"]
    assert begun(said.splitlines()) == needed  # each told and trained once
    assert sorted(results(tmp_path / "out")) == sorted(needed)
    assert said.count("table6.md, .csv and .png") == 1


@pytest.mark.slow
def test_what_is_killed_goes_on_within_the_epoch(start, tmp_path):
    words = ("--epochs", "4", "--only", "age")  # of three steps each
    process = start(*words)
    assert any("age-seed0: after epoch 3" in line for line in process.stderr)  # whose checkpoint may not be there yet
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "out" / "results").exists()
    again = start(*words)
    lines = again.communicate(timeout=600)[1].splitlines()
    assert again.returncode == 0, lines
    (step,) = (int(found[1]) for line in lines if (found := re.search(r"resuming at step (\d+) of 10", line)))
    assert step >= 5  # with which the second epoch of 40 pictures ends
    assert len(results(tmp_path / "out")["age-seed0"]["curve"]) == 4


# Statistics


def made(cell, accuracies, curves=None, test=400):
    return [
        {
            "cell": cell.name,
            "task": cell.task,
            "sources": list(cell.sources),
            "retrain_encoder": cell.retrain_encoder,
            "seed": seed,
            "accuracy": accuracy,
            "macro_f1": accuracy,
            "train": 2000,
            "val": 100,
            "test": test,
            "epochs": 3.0,
            "curve": curves[seed] if curves else [],
            "threads": 1,
            "device": "x86_64",
            "package_version": "1",
            "torch_version": "2",
            "date": "today",
            "command": f"face-mtl experiment all --only {cell.name} --seed {seed}",
        }
        for seed, accuracy in enumerate(accuracies)
    ]


PLAIN, LATERAL = Cell("emotion"), Cell("emotion", ("age", "gender"))


def test_a_row_has_difference_gain_and_welchs_test():
    plain, lateral = [0.70, 0.72, 0.71], [0.75, 0.77, 0.79]
    found = by_cell(made(PLAIN, plain) + made(LATERAL, lateral) + made(Cell("emotion", ("age",)), [0.71, 0.70, 0.73]))
    rows = {row.cell: row for row in table_rows("table5", found)}
    row = rows[LATERAL]
    assert row.ours.mean == pytest.approx(77) and row.ours.error == pytest.approx(stats.sem([75, 77, 79]))
    assert row.difference == pytest.approx(77 - 90.41) and row.gain == pytest.approx(6)
    assert row.paper_gain == pytest.approx(90.41 - 83.66)
    assert row.p == pytest.approx(stats.ttest_ind(lateral, plain, equal_var=False).pvalue)
    assert row.sampling == pytest.approx(100 * np.sqrt(0.77 * 0.23 / 400))
    # Of two tests the lower p counts twice.
    assert row.adjusted == pytest.approx(2 * row.p) and row.significant
    assert not rows[Cell("emotion", ("age",))].significant
    assert np.isnan(rows[PLAIN].gain) and rows[PLAIN].paper == 83.66
    assert rows[Cell("gender", ("age",))].ours is None


def test_welchs_test_needs_two_runs_a_side_and_some_spread():
    assert np.isnan(welch([1.0], [1.0, 2.0])) and np.isnan(welch([1.0, 1.0], [2.0, 2.0]))
    assert welch([1.0, 1.1], [1.0, 1.1]) == pytest.approx(1)


def test_table_six_stands_beside_the_literature():
    rows = [row for row in table_rows("table6", by_cell(made(LATERAL, [0.9]))) if row.task == "emotion"]
    assert [(row.label, row.paper) for row in rows] == [
        ("Ensemble of features (Georgescu et al. 2018)", 87.76),
        ("frozen encoder", 83.66),
        ("age, gender", 90.41),
    ]
    assert rows[2].ours.n == 1 and np.isnan(rows[2].ours.error) and np.isnan(rows[2].gain)


def test_curves_tell_where_learning_starts_and_how_fast_it_is():
    slow, fast = [[0.2, 0.4, 0.6], [0.3, 0.5, 0.8]], [[0.5, 0.7, 0.7], [0.6, 0.6, 0.6]]
    found = by_cell(made(PLAIN, [0.6, 0.8], slow) + made(LATERAL, [0.7, 0.6], fast))
    (speed,) = speeds(found)
    assert [seeds.mean for seeds in speed.start] == pytest.approx([25, 55])
    assert speed.target == pytest.approx(0.95 * 70)
    # The plain columns get there never and after 3, the others after 2 and never, which counts as 4.
    assert [seeds.mean for seeds in speed.epochs] == pytest.approx([3.5, 3.0])
    assert curve_of(PLAIN, found).error == pytest.approx([5, 5, 10])
    assert curve_of(Cell("age"), found) is None


def test_the_report_says_what_was_run_what_agrees_and_what_does_not(tmp_path):
    results_folder = tmp_path / "out" / "results"
    results_folder.mkdir(parents=True)
    curves = [[0.2, 0.6], [0.3, 0.7], [0.25, 0.66]]
    runs = made(PLAIN, [0.70, 0.72, 0.71], curves) + made(LATERAL, [0.75, 0.77, 0.79], curves)
    runs += made(Cell("emotion", ("identity",)), [0.6, 0.61, 0.62]) + made(Cell("emotion", ("age",)), [0.71, 0.7, 0.74])
    for run in runs:
        (results_folder / f"{run['cell']}-seed{run['seed']}.json").write_text(json.dumps(run))
    configuration = {
        "preset": "compact",
        "encoder": {"name": "default", "sha256": "a" * 64, "command": "face-mtl pretrain", "samples": {"f/train": 9}},
        "recipe": {"epochs": 3.0, "batch": 32, "normalize": True},
        "train_limit": 2000,
        "val_limit": 100,
        "data": {"emotion": {"dataset": "ferplus", "train": 2000, "val": 100, "test": 400, "tested_on": "val"}},
    }
    (tmp_path / "out" / setting.CONFIGURATION).write_text(json.dumps(configuration))
    text = write_report(tmp_path / "out", tmp_path / "docs").read_text()
    assert "12 runs of 4 cells; seeds [0, 1, 2]" in text and "preset `compact`" in text
    assert "In the paper 2 of 2 cells are above the plain column" in text
    assert "Of 2 cells 2 could be tested; 1 are significantly higher and 0 significantly lower" in text
    assert "Of 1 cells 1 could be tested; 0 are significantly higher and 1 significantly lower" in text  # from identity
    assert "| connections among emotion, age and gender | +4.40 |" in text
    assert "| connections from identity to these |" in text
    assert "| emotion | ferplus | 2000 | 100 | 400, split val |" in text
    assert "At most 2000 training pictures a task." in text and "epochs 3 instead of 35" in text
    for table in ("table5", "table6", "figure5"):
        assert f"(experiments/{table}.png)" in text and (tmp_path / "docs/experiments" / f"{table}.png").exists()
    assert "table4" not in text and "The encoder did not learn without labels" in text
    configuration["encoder"]["began"] = True
    (tmp_path / "out" / setting.CONFIGURATION).write_text(json.dumps(configuration))
    assert "The BEGAN learned from 9 pictures" in write_report(tmp_path / "out", tmp_path / "docs").read_text()
    assert len((tmp_path / "docs/experiments/runs.csv").read_text().splitlines()) == 13
