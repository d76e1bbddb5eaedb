"""An experiment's folder: whose it is, who writes it at the same time, what is refused, and what a line of it says."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")
pytest.importorskip("matplotlib", reason="plots need matplotlib, which the train extra installs")

import experiment_world  # noqa: E402
from experiment_world import begun, results, told  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.cli import main  # noqa: E402
from face_mtl_ros.datasets.adience import FOLDS, HEADER  # noqa: E402
from face_mtl_ros.datasets.dataset import DatasetError, split_of  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset, read_source  # noqa: E402
from face_mtl_ros.training import features, loop  # noqa: E402
from face_mtl_ros.training.experiments import run, schedule  # noqa: E402
from face_mtl_ros.training.experiments.data import read_task  # noqa: E402
from face_mtl_ros.training.experiments.setting import CONFIGURATION, check_folder, mark_folder  # noqa: E402
from face_mtl_ros.training.recipe import Recipe  # noqa: E402

data, encoder, call, start = (getattr(experiment_world, name) for name in ("data", "encoder", "call", "start"))

AGE = ("table4", "--runs", "1", "--only", "age")


OF_EACH_GROUP = ("(0, 2)", "(4, 6)", "(8, 13)", "(15, 20)", "(25, 32)", "(38, 43)", "(48, 53)", "(60, 100)")


def listed(folder):
    return sorted(folder.rglob("*"))


# Whose folder it is


def test_a_dry_run_refuses_the_folder_of_another_configuration(call, tmp_path):
    assert call(*AGE)[0] == 0
    before = listed(tmp_path / "out")
    status, out, lines = call(*AGE, "--epochs", "2", "--dry-run")
    assert (status, out) == (1, "") and "(recipe.epochs: 1.0 there and 2.0 here)" in lines[-1]
    assert listed(tmp_path / "out") == before
    status, out, _ = call(*AGE, "--dry-run")
    assert status == 0 and "0 of 1 runs to do" in out


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_folder_of_strangers_is_refused_and_stays_as_it_is(call, tmp_path, words):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("important")
    status, out, lines = call(*AGE, *words)
    assert (status, out) == (1, "")
    assert "no folder of an experiment and not empty: pass another --out (it holds thesis.tex" in lines[-1]
    assert [path.name for path in listed(tmp_path / "out")] == ["thesis.tex"]


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_file_in_the_place_of_the_folder_is_named(call, tmp_path, words):
    (tmp_path / "out").write_text("important")
    status, out, lines = call(*AGE, *words)
    assert (status, out) == (1, "") and lines[-1] == "face-mtl experiment: --out out is a file: name a folder"
    assert main(["experiment", "report", "--out", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out").read_text() == "important"


def test_many_processes_may_begin_a_folder_at_once(tmp_path):
    """Threads, each with lock files of its own as a process has; each knows of another dataset."""
    for trial in range(20):
        barrier, errors, out = threading.Barrier(4), [], tmp_path / str(trial)

        def begin(task, barrier=barrier, errors=errors, out=out):
            barrier.wait()
            try:
                mark_folder(out, {"preset": "tiny", "data": {task: {"train": 3}}})
            except (ValueError, OSError) as error:
                errors.append(error)

        threads = [threading.Thread(target=begin, args=(task,)) for task in ("emotion", "age", "gender", "identity")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(json.loads((out / CONFIGURATION).read_text())["data"]) == 4


def test_what_another_process_is_just_writing_is_no_strangers(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / f".{CONFIGURATION}.another-host.7.partial").touch()
    assert check_folder(tmp_path, {"preset": "tiny", "data": {}}) == {}


def test_folders_from_before_majority_was_noted_go_on_and_note_it(call, tmp_path):
    assert call(*AGE)[0] == 0
    file = tmp_path / "out" / CONFIGURATION
    older = json.loads(file.read_text())
    noted = {task: older["data"][task].pop("majority") for task in older["data"]}
    file.write_text(json.dumps(older))
    status, _, lines = call(*AGE)
    assert status == 0 and not begun(lines)
    newer = json.loads(file.read_text())["data"]
    assert {task: newer[task]["majority"] for task in newer} == noted and 0.5 <= noted["age"] < 1


# What is damaged


@pytest.mark.parametrize(("text", "says"), [("{", "Expecting"), ("[1]", r"expected an object, found \[1\]")])
def test_a_damaged_configuration_is_named(call, tmp_path, text, says):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / CONFIGURATION).write_text(text)
    for words in (AGE, (*AGE, "--dry-run"), ("report",)):
        status, _, lines = call(*words)
        assert status == 1 and re.search(rf"out/{CONFIGURATION} is damaged \({says}.*: pass another --out", lines[-1])


def test_a_damaged_result_is_named_and_made_again_once_it_is_removed(call, tmp_path):
    assert call(*AGE)[0] == 0
    file = tmp_path / "out" / "results" / "age-seed0.json"
    whole = json.loads(file.read_text())
    file.write_text("{")
    status, _, lines = call("table5", "--runs", "1", "--only", "gender-from-age")
    assert status == 1
    (failed,) = (line for line in lines if "gender-from-age-seed0: failed" in line)
    for line in (failed, lines[-1]):
        assert re.search(r"out/results/age-seed0.json is damaged \(.*\): remove it, and the same command", line)
    file.unlink()
    assert begun(call(*AGE)[2]) == ["age-seed0"]
    assert told(json.loads(file.read_text())) == told(whole)


def test_a_damaged_test_split_is_no_missing_one(tmp_path):
    adience = tmp_path / "adience"
    face = "{i}@N01\t{i}.jpg\t{i}\t{age}\tm\t0\t0\t9\t9\t0\t0\t9"
    for fold in range(FOLDS):
        lines = [face.format(i=f"{fold}{k}", age=age) for k, age in enumerate(OF_EACH_GROUP)]
        (adience / "aligned" / f"{fold}0@N01").mkdir(parents=True)
        (adience / "aligned" / f"{fold}0@N01" / f"landmark_aligned_face.{fold}0.{fold}0.jpg").touch()
        table = adience / f"fold_{fold}_data.txt"
        table.write_text("\n".join([HEADER.replace(" ", "\t"), *lines]))
    assert read_task("age", tmp_path, {}, None, None).test.split == "test"
    (tmp_path / "UTKFace").mkdir()  # in the place of which it must not be read either
    whole = (adience / "fold_0_data.txt").read_text()
    (adience / "fold_0_data.txt").write_text(whole.replace("\tm\t", "\tman\t"))
    with pytest.raises(DatasetError, match="^adience: .*fold_0_data.txt line 2: expected .* gender m, f or u") as error:
        read_task("age", tmp_path, {}, None, None)
    assert "utkface" not in str(error.value)


# Wrong usage


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--threads", "0"], "--threads: at least 1 is expected, got 0"),
        (["--val-limit", "0"], "--val-limit: at least 1 is expected, got 0"),
        (["--seed", "-1"], "--seed: at least 0 is expected, got -1"),
        (["--use", "age=addience=x"], "--use age=addience=x: dataset 'addience' is unknown; choose one of celeba"),
        (["--use", "age=addience:fold=1=x"], "dataset 'addience' is unknown"),
    ],
)
def test_wrong_usage_is_told_at_once(call, tmp_path, words, says):
    status, out, lines = call(*AGE, *words)
    assert (status, out) == (2, "") and says in lines[-1] and not (tmp_path / "out").exists()


def test_torchrun_takes_no_jobs_beside_it(call, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, lines = call(*AGE, "--jobs", "2")
    assert status == 2 and "--jobs 2: under torchrun all processes train each cell together" in lines[-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_for_the_results_must_be_named(capsys):
    assert main(["experiment", *AGE, "--data", "."]) == 2
    assert main(["experiment", "report"]) == 2
    assert capsys.readouterr().err.splitlines() == ["face-mtl experiment: --out is missing"] * 2


def test_where_all_data_are_missing_nothing_is_begun(call, tmp_path, data):
    data.rename(tmp_path / "elsewhere")
    data.mkdir()
    status, _, lines = call("table4", "--runs", "1")
    assert status == 1 and lines[-1].endswith("has no data for any cell of table4")
    assert sum("is left out: folder: " in line for line in lines) == 4 and not (tmp_path / "out").exists()


def test_a_report_needs_a_run(call, tmp_path):
    mark_folder(tmp_path / "out", {"preset": "tiny", "data": {}})
    status, _, lines = call("report")
    assert status == 1 and lines[-1].endswith("out has no run that is done: nothing to report")


# What is kept


def test_a_result_says_on_what_and_of_which_code_it_was_made(call, tmp_path, encoder):
    assert call(*AGE)[0] == 0
    (found,) = results(tmp_path / "out").values()
    assert found["encoder_sha256"] == load_bundle(encoder).manifest.encoder.file.sha256
    assert found["seconds"] > 0 and found["cpu"] and re.fullmatch(r"([0-9a-f]{40}\+?)?", found["commit"])
    age = read_task("age", tmp_path / "data", {"age": "folder=age"}, None, None)
    assert found["majority"] == max(np.bincount(age.test.labels["age"])) / len(age.test)
    assert json.loads((tmp_path / "out" / CONFIGURATION).read_text())["data"]["age"]["majority"] == found["majority"]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_the_packages_own_checkouts(tmp_path, monkeypatch):
    """Not that of a repository in whose .venv it is installed; and without git there is none."""
    package = tmp_path / "repository" / ".venv" / "face_mtl_ros"
    (package / "training" / "experiments").mkdir(parents=True)
    monkeypatch.setattr(run, "__file__", str(package / "training" / "experiments" / "run.py"))

    def git(*words, at):
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(at), *who, *words], check=True, capture_output=True)

    for root, found in ((package.parents[1], False), (package.parent, True)):
        git("init", at=root)
        (package / "code.py").write_text("1")
        (root / "readme").touch()
        git("add", ".", at=root)
        git("commit", "-m", "first", at=root)
        said = run._commit.__wrapped__()
        assert bool(re.fullmatch("[0-9a-f]{40}", said)) == found, said
    (package / "code.py").write_text("2")
    assert run._commit.__wrapped__() == f"{said}+"
    monkeypatch.setenv("PATH", "")
    assert run._commit.__wrapped__() == ""


def test_every_epoch_of_a_cell_is_kept_however_short_it_is(call, tmp_path, monkeypatch):
    saved = []
    save = loop.save_checkpoint
    monkeypatch.setattr(
        loop, "save_checkpoint", lambda *given: (save(*given), saved.append(len(given[2]["history"]["epoch_losses"])))
    )
    assert call(*AGE, "--epochs", "4")[0] == 0
    assert saved == [1, 2, 3, 4]
    # Other trainings have no such need.
    saved.clear()
    model = torch.nn.Linear(1, 1)
    loop.fit(
        model, lambda indices, _: model(torch.ones(1, 1)).sum(), 8, Recipe(epochs=4, batch=8), tmp_path / "other.pt"
    )
    assert saved == [4]


def test_the_seconds_of_a_training_count_those_before_a_resume(tmp_path):
    def train(epochs):
        model = torch.nn.Linear(1, 1)

        def loss_of(_indices, _done):
            time.sleep(0.01)
            return model(torch.ones(1, 1)).sum()

        return loop.fit(model, loss_of, 8, Recipe(epochs=epochs, batch=8), tmp_path / "checkpoint.pt")

    assert train(10).seconds > 0.1
    assert train(20).seconds > 0.2


def test_features_are_kept_more_often_than_an_epoch_of_two_thousand_pictures():
    assert features.SAVE_EVERY * features.BATCH < 2000


# Who sees which pictures


def test_gender_is_not_tested_on_what_identity_learned_from(tmp_path):
    """Persons of each of gender's splits, with as many pictures as identity takes, and one less."""
    people = {"Ann_Veneman": "val", "Person_0": "test", "Person_4": "test", "Serena_Williams": "train"}
    assert all(split_of(name) == split for name, split in people.items())
    names = []
    for person in people:
        (tmp_path / person).mkdir()
        for number in range(1, 20 if person == "Person_4" else 24):
            names.append(f"{person}_{number:04d}.jpg")
            (tmp_path / person / names[-1]).touch()
    (tmp_path / "male_names.txt").write_text("\n".join(names[::2]))
    (tmp_path / "female_names.txt").write_text("\n".join(names[1::2]))
    learned = set(read_dataset("lfw-identity", tmp_path, "train", people=None).ids)
    assert len(learned) == 3 * 14
    gender = {split: set(read_dataset("lfw-gender", tmp_path, split).ids) for split in ("train", "val", "test")}
    assert not learned & (gender["val"] | gender["test"])
    assert (len(gender["train"]), len(gender["val"]), len(gender["test"])) == (23 - 4, 23 - 14, 23 - 14 + 19)
    assert len(read_dataset("lfw-gender", tmp_path, "all")) == len(names)


def test_a_split_with_one_gender_alone_cannot_be_balanced(tmp_path):
    (tmp_path / "Ann_Veneman").mkdir()
    (tmp_path / "Ann_Veneman" / "Ann_Veneman_0001.jpg").touch()
    (tmp_path / "male_names.txt").touch()
    (tmp_path / "female_names.txt").write_text("Ann_Veneman_0001.jpg")
    with pytest.raises(DatasetError, match="no listed picture of both genders of split 'val'"):
        read_source(f"lfw-gender:balanced=true={tmp_path}", "val", "gender")


# Several commands on one folder


def test_the_run_of_a_killed_lock_holder_is_taken_over(call, tmp_path, monkeypatch):
    lock = tmp_path / "out" / "locks" / "age-seed0.lock"
    code = (
        "import sys, time; from pathlib import Path; from face_mtl_ros.file_lock import alone\n"
        "with alone(Path(sys.argv[1]), 'a run'): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    waited = []

    def kill(_seconds):  # where the command waits for others
        waited.append(1)
        holder.kill()
        holder.wait()

    try:
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(schedule.time, "sleep", kill)
        status, _, lines = call(*AGE, "--only", "gender")
    finally:
        holder.kill()
        holder.communicate()
    assert status == 0 and len(waited) == 1
    assert begun(lines) == ["gender-seed0", "age-seed0"]  # what is free comes first


def test_a_filesystem_without_locks_is_named(call, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    status, _, lines = call(*AGE)
    assert status == 1
    assert "out/locks/.folder.lock cannot be locked (No locks available): put its folder on a filesystem" in lines[-1]


@pytest.mark.slow
def test_two_commands_share_a_folder_and_one_takes_over_from_a_killed_one(start, tmp_path):
    words = ("--epochs", "6", "--only", "age", "--only", "gender", "--only", "identity")
    first = start(*words)
    for line in first.stderr:
        if "age-seed0: after epoch 2" in line:
            break
    first.send_signal(signal.SIGSTOP)  # it holds the lock of age, and does nothing
    second = start(*words)
    deadline = time.monotonic() + 600
    while not (tmp_path / "out" / "results" / "identity-seed0.json").exists():
        assert second.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(3 * schedule.POLL_S)
    assert set(results(tmp_path / "out")) == {"gender-seed0", "identity-seed0"} and second.poll() is None
    first.kill()
    first.communicate()
    lines = second.communicate(timeout=600)[1].splitlines()
    assert second.returncode == 0, lines
    assert begun(lines) == ["gender-seed0", "identity-seed0", "age-seed0"]
    (step,) = (int(found[1]) for line in lines if (found := re.search(r"age-seed0: resuming at step (\d+) of", line)))
    assert step >= 3  # with which the first epoch ends; the checkpoint of the second may not have been there yet
    assert len(results(tmp_path / "out")["age-seed0"]["curve"]) == 6


@pytest.mark.slow
def test_two_commands_begin_a_folder_together_and_train_nothing_twice(start, tmp_path):
    words = ("--epochs", "1", "--only", "age", "--only", "gender", "--only", "gender-from-age", "--only", "identity")
    both = [start(*words), start(*words)]
    lines = [process.communicate(timeout=600)[1].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0], lines
    assert sorted(begun(lines[0]) + begun(lines[1])) == sorted(results(tmp_path / "out"))
    assert len(results(tmp_path / "out")) == 4
