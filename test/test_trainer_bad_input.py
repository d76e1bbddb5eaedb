"""What goes wrong around the trainer node: each is answered with what to do, and all else goes on."""

import os
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")
pytest.importorskip("face_mtl_msgs", reason="needs the messages: bash tools/setup.sh run and source tools/env.sh")

import trainer_world  # noqa: E402
from trainer_world import altered_trainer, fill, portrait  # noqa: E402

from face_mtl_ros.nodes.interfaces import (  # noqa: E402
    CancelTraining,
    CollectSamples,
    ForgetSamples,
    ListColumns,
    ListSamples,
    MergeLabels,
    RemoveColumn,
    RenameLabel,
    Rollback,
    TrainColumn,
    TrainingStatus,
)
from face_mtl_ros.nodes.processes import node_process  # noqa: E402
from face_mtl_ros.samples.sample import Picture  # noqa: E402
from face_mtl_ros.samples.store import SampleStore  # noqa: E402

pytestmark = pytest.mark.ros
robot, domain = trainer_world.robot, trainer_world.domain

LONG = {"recipe": "paper", "time_budget_s": 600.0}  # a training that does not end by itself
YEAR_S = 365 * 86400.0
# From here on not even the superuser may write what nobody may: without CAP_DAC_OVERRIDE, which exec takes away.
DROP = """
import ctypes, os, sys
failed = ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
"""
AS_ANYBODY = f"""{DROP}
os.execv(sys.executable, [sys.executable, "-m", "face_mtl_ros.nodes.trainer_node", *sys.argv[1:]])
"""
SET_BACK = f"import time; now = time.time; time.time = lambda: now() - {YEAR_S}"


def collect(robot, **fields):
    """Three pictures of the only face in view."""
    robot.in_view = {"f1": "grace_hopper"}
    fields = {"task": "identity", "label": "Grace", "count": 3, "time_limit_s": 60.0} | fields
    return robot.call(CollectSamples, "collect_samples", **fields)


def refused(answer, *says):
    """The message of a refusal: one line, not longer than a person reads, that says these things."""
    assert not answer.success, answer.message
    assert all(word in answer.message for word in says), answer.message
    assert "\n" not in answer.message and 0 < len(answer.message) < 500
    return answer.message


def test_names_that_cannot_be(robot):
    fill(Ann="grace_hopper", Bob="astronaut")
    with node_process("trainer_node"):
        for label in ("a/b", "a\nb", "x" * 10_000, "unknown"):
            refused(robot.call(RenameLabel, "rename_label", task="identity", label="Ann", new_label=label), "label")
            fields = {"task": "identity", "from_labels": ["Ann"], "into_label": label}
            refused(robot.call(MergeLabels, "merge_labels", **fields), "label")
            refused(robot.call(TrainColumn, "train_column", task="identity", labels=["Ann", label]))
        refused(
            robot.call(RenameLabel, "rename_label", task="identity", label="Ann", display_name="a\nb"), "display_name"
        )
        for task in ("", "a/b", "a\nb", "Mood", "x" * 10_000, "../.."):
            refused(collect(robot, task=task), "task")
            refused(robot.call(TrainColumn, "train_column", task=task))
            refused(robot.call(RemoveColumn, "remove_column", task=task))
        for name in ("../..", "a\nb", "x" * 10_000):
            refused(robot.call(TrainingStatus, "training_status", job_id=name))
            refused(robot.call(CancelTraining, "cancel_training", job_id=name))
            refused(robot.call(Rollback, "rollback", model_version=name))
        refused(
            robot.call(ForgetSamples, "forget_samples", label="Ann", older_than_days=float("nan")), "older_than_days"
        )
        refused(collect(robot, retention_days=float("inf")), "retention_days")
        refused(robot.call(ListSamples, "list_samples", with_images=True), "with_samples")
        assert robot.call(RenameLabel, "rename_label", task="identity", label="Bob", new_label="Боб 鲍勃").success
        counts = robot.call(ListSamples, "list_samples").counts
        assert [(count.label, count.count) for count in counts] == [("Ann", 6), ("Боб 鲍勃", 6)]


def test_while_a_training_runs_another_is_refused_and_all_else_goes_on(robot):
    fill("look", up="grace_hopper", down="astronaut")
    with node_process("trainer_node"):
        started = robot.call(TrainColumn, "train_column", task="look", **LONG)
        assert started.success, started.message
        for task in ("look", "identity"):
            refused(robot.call(TrainColumn, "train_column", task=task), started.job_id, "wait for it, or cancel it")
        result, _, _ = robot.train(task="look")
        refused(result, started.job_id)
        for kind, name, fields in [
            (RemoveColumn, "remove_column", {"task": "emotion"}),
            (RenameLabel, "rename_label", {"task": "look", "label": "up", "new_label": "aloft"}),
            (MergeLabels, "merge_labels", {"task": "look", "from_labels": ["up"], "into_label": "down"}),
            (Rollback, "rollback", {}),
        ]:
            refused(robot.call(kind, name, **fields), started.job_id, "cancel it")
        assert collect(robot).collected == 3
        assert robot.call(ListColumns, "list_columns").success
        cancelled = robot.call(CancelTraining, "cancel_training")
        assert cancelled.success and cancelled.job_id == started.job_id
        again = robot.call(TrainColumn, "train_column", task="look", **LONG)
        assert again.success, again.message


@pytest.fixture
def small_disk(home):
    """FACE_MTL_HOME as a disk of its own."""
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", home], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs the superuser")
    yield home
    subprocess.run(["umount", "--lazy", home], check=True)


def test_a_full_disk(small_disk, robot):
    fill("look", up="grace_hopper", down="astronaut")
    with node_process("trainer_node"):
        assert collect(robot).success
        before = SampleStore().find()
        with (small_disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space left"):
            while True:
                rest.write(bytes(512))
        refused(collect(robot, label="Ann"), "sample store", "room")
        refused(robot.call(ForgetSamples, "forget_samples", label="up"), "sample store", "room")
        refused(robot.call(RenameLabel, "rename_label", task="look", label="up", new_label="aloft"), "room")
        refused(robot.call(TrainColumn, "train_column", task="look", **LONG), "free some room")
        listed = robot.call(ListSamples, "list_samples", with_samples=True, with_images=True)
        assert listed.success and len(listed.samples) == len(before) == 15, listed.message
        assert robot.call(ListColumns, "list_columns").success
        assert not any(job.state == "training" for job in robot.call(TrainingStatus, "training_status").jobs)
        (small_disk / "rest").unlink()
        assert SampleStore().find() == before
        answer = collect(robot, label="Ann")
        assert answer.success, answer.message
        assert robot.call(TrainColumn, "train_column", task="look", **LONG).success


def test_files_that_cannot_grow(robot):
    """As beyond a quota: the system refuses every byte that the node writes to a file."""
    with node_process("trainer_node") as process:
        assert collect(robot).success
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, most))
        refused(collect(robot, label="Ann"), "sample store", "disk", "repeat")
        assert robot.call(ListColumns, "list_columns").success
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        answer = collect(robot, label="Ann")
        assert answer.success and SampleStore().total() == 6, answer.message


def test_a_store_that_may_only_be_read(robot):
    if os.geteuid() == 0 and subprocess.run([sys.executable, "-c", f"{DROP}\nsys.exit(failed)"]).returncode:
        pytest.skip("the superuser's right to write everywhere cannot be given up here")
    fill("look", up="grace_hopper", down="astronaut")
    file = SampleStore().file
    file.chmod(0o400)
    file.parent.chmod(0o500)
    try:
        with altered_trainer(AS_ANYBODY):
            begun = time.monotonic()
            refused(collect(robot, time_limit_s=600.0), "cannot be written", "writable")
            assert time.monotonic() - begun < 300  # nobody poses for nothing
            refused(robot.call(ForgetSamples, "forget_samples", label="up"), "cannot be written")
            refused(robot.call(MergeLabels, "merge_labels", task="look", from_labels=["up"], into_label="down"))
            listed = robot.call(ListSamples, "list_samples", with_samples=True, with_images=True)
            assert listed.success and len(listed.samples) == 12
            assert robot.call(TrainColumn, "train_column", task="look", **LONG).success  # reads alone
            assert robot.call(CancelTraining, "cancel_training").success
            file.parent.chmod(0o700)
            file.chmod(0o600)
            assert collect(robot).success
    finally:
        file.parent.chmod(0o700)


def test_a_store_of_a_newer_format(robot):
    fill("look", up="grace_hopper", down="astronaut")
    (known,) = _write(SampleStore().file, "PRAGMA user_version")
    _write(SampleStore().file, "PRAGMA user_version = 99")
    with node_process("trainer_node"):
        for kind, name, fields in [
            (CollectSamples, "collect_samples", {"task": "look", "label": "up"}),
            (ListSamples, "list_samples", {}),
            (ForgetSamples, "forget_samples", {"everything": True}),
            (RenameLabel, "rename_label", {"task": "look", "label": "up", "new_label": "aloft"}),
            (MergeLabels, "merge_labels", {"task": "look", "from_labels": ["up"], "into_label": "down"}),
            (TrainColumn, "train_column", {"task": "look"}),
        ]:
            refused(robot.call(kind, name, **fields), "format 99", "update face_mtl_ros")
        assert robot.call(TrainingStatus, "training_status").success
        columns = robot.call(ListColumns, "list_columns")
        assert columns.success and [c.info.task for c in columns.columns] == ["emotion", "gender"], columns.message
        _write(SampleStore().file, f"PRAGMA user_version = {known}")
        assert robot.call(ListSamples, "list_samples").total == 12


def test_a_clock_that_was_set_back(robot):
    """By a year, so that what is stored seems to come from the future."""
    SampleStore().add("look", "down", [Picture(portrait("astronaut", 15 * i)) for i in range(6)], keep_days=30.0)
    with altered_trainer(SET_BACK):
        answer = collect(robot, task="look", label="up", count=6, retention_days=2.0)
        assert answer.success and answer.total == 6, answer.message
        listed = robot.call(ListSamples, "list_samples", with_samples=True)
        assert listed.total == 12 and abs(listed.samples[0].collected_at.sec + YEAR_S - time.time()) < 600
        assert listed.samples[0].expires_at.sec == 0  # its days begin when the clock is right
        assert robot.call(ForgetSamples, "forget_samples", older_than_days=1.0, dry_run=True).forgotten == 0
        started = robot.call(TrainColumn, "train_column", task="look", **LONG)
        assert started.success, started.message
        (job,) = robot.call(TrainingStatus, "training_status").jobs
        assert job.job_id == started.job_id and 0 <= job.elapsed_s < 600
        assert robot.call(CancelTraining, "cancel_training").success
    with node_process("trainer_node"):
        robot.ready_again()
        assert collect(robot, task="look", label="up").success
        samples = robot.call(ListSamples, "list_samples", task="look", label="up", with_samples=True).samples
        assert len(samples) == 9
        assert {round((sample.expires_at.sec - time.time()) / 86400) for sample in samples[3:]} == {2}


def _write(file, statement):
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        return db.execute(statement).fetchone() or (None,)
