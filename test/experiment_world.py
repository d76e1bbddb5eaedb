"""What the tests of experiments share: pictures for the four tasks, and the command on them."""

import json
import os
import subprocess
import sys

import pytest
from tiny_world import draw_pictures, know_tiny

from face_mtl_ros.cli import main
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.training.experiments import setting

SHAPES = {
    "emotion": ("disc", "stripes", "bars"),
    "age": ("disc", "noise"),
    "gender": ("stripes", "bars"),
    "identity": ("bars", "noise"),
}


@pytest.fixture
def data(tmp_path):
    """A folder of a folder a task."""
    for task, labels in SHAPES.items():
        draw_pictures(tmp_path / "data" / task, labels, 24)
    return tmp_path / "data"


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    know_tiny(monkeypatch)
    return write_random_bundle(tmp_path / "encoder", "tiny", {}).root


USED = [word for task in SHAPES for word in ("--use", f"{task}=folder={task}")]


@pytest.fixture
def call(capsys, home, tmp_path, data, encoder, monkeypatch):
    """Run face-mtl experiment with few, short epochs: status, stdout and the lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def run(table, *words, brief=("--epochs", "1", "--batch", "16", "--learning-rate", "0.01", "--threads", "1")):
        setting._task_data.cache_clear()
        setting._bundle.cache_clear()
        given = ["--data", data, "--out", "out", "--encoder", encoder, *USED, *brief, *words]
        try:
            status = main(["experiment", table, *map(str, given)])
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return run


@pytest.fixture
def start(tmp_path, data, home):
    """Start the command as a process of its own, which knows no preset `tiny`."""
    compact, started = write_random_bundle(tmp_path / "compact", "compact", {}).root, []

    def run(*words):
        given = ["experiment", "table5", "--data", data, "--out", tmp_path / "out", "--encoder", compact, *USED]
        given += ["--batch", "16", "--runs", "1", "--threads", "1", *words]
        code = "import sys; from face_mtl_ros.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *map(str, given)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
        return started[-1]

    yield run
    for process in started:  # those that a failed test left, stopped or not
        process.kill()
        process.wait()


def begun(lines):
    return [line.partition(":")[0] for line in lines if ": begins, " in line]


def results(out):
    return {file.stem: json.loads(file.read_text()) for file in (out / "results").iterdir()}


def told(result):
    """What a run measured, without when."""
    return {name: value for name, value in result.items() if name not in ("date", "command", "column", "seconds")}
