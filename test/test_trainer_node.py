"""The trainer node as users run it: a process over DDS, beside a perception node of the test's own."""

import json
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")
pytest.importorskip("face_mtl_msgs", reason="needs the messages: bash tools/setup.sh run and source tools/env.sh")

import trainer_world  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from trainer_world import fill, portrait  # noqa: E402

from face_mtl_ros.cli import main  # noqa: E402
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
from face_mtl_ros.samples.store import SampleStore  # noqa: E402

pytestmark = pytest.mark.ros
robot, domain = trainer_world.robot, trainer_world.domain


def test_collect_list_and_forget(robot, capfd):
    with node_process("trainer_node", {"collect_count": 3, "collect_time_s": 20.0}):
        assert robot.call(ListSamples, "list_samples").message == "0 samples of 0 labels"
        robot.in_view = {"f1": "grace_hopper"}
        answer = robot.call(
            CollectSamples, "collect_samples", task="identity", label="Grace", display_name="Admiral", requested_by="me"
        )
        assert answer.success, answer.message
        assert (answer.face_id, answer.collected, answer.total, len(answer.sample_ids)) == ("f1", 3, 3, 3)
        assert robot.call(TrainingStatus, "training_status").success and not robot.listeners()
        robot.in_view = {"f1": "grace_hopper", "f2": "astronaut"}
        answer = robot.call(
            CollectSamples,
            "collect_samples",
            face_id="f2",
            task="identity",
            label="Eileen",
            count=2,
            retention_days=2.0,
        )
        assert answer.success and answer.face_id == "f2"

        listed = robot.call(ListSamples, "list_samples", with_samples=True, with_images=True, limit=2)
        assert listed.success and listed.total == 5 and listed.store_bytes > 0
        assert [(c.label, c.display_name, c.count, c.trained) for c in listed.counts] == [
            ("Eileen", "Eileen", 2, False),
            ("Grace", "Admiral", 3, False),
        ]
        assert listed.counts[0].next_expiry.sec - listed.counts[0].last.sec == 2 * 86400
        assert listed.counts[1].next_expiry.sec == 0
        newest = listed.samples[0]
        assert (newest.label, newest.face_id, newest.camera, newest.image.width) == ("Eileen", "f2", "head", 128)
        assert newest.stamp.sec > 0 and newest.quality == pytest.approx(0.8)
        taken = [np.frombuffer(s.image.data, np.uint8).reshape(128, 128) for s in listed.samples]
        shown = [portrait("astronaut", turn) for turn in range(0, 360, 15)]
        assert all(any(np.array_equal(crop, face) for face in shown) for crop in taken)

        dry = robot.call(ForgetSamples, "forget_samples", label="Grace", dry_run=True)
        assert dry.success and (dry.forgotten, dry.remaining) == (3, 2)
        gone = robot.call(ForgetSamples, "forget_samples", sample_ids=answer.sample_ids)
        assert gone.success and (gone.forgotten, gone.remaining, list(gone.affected_tasks)) == (2, 3, [])
        assert SampleStore().total("identity", "Grace") == 3

        enroll = ["enroll", "--label", "Eileen", "--count", "2", "--requested-by", "me", "--json"]
        assert main([*enroll, "--face-id", "f2"]) == 0
        printed = json.loads(capfd.readouterr().out)
        assert printed["success"] and (printed["collected"], printed["total"]) == (2, 2)
        assert main([*enroll, "--seconds", "3"]) == 1
        assert "2 faces are in view" in capfd.readouterr().err
        assert main(["train", "--from-samples", "--task", "identity"]) == 1
        assert "needs 5 samples of each label" in capfd.readouterr().err


def test_what_cannot_be_collected_is_refused_with_a_reason(robot):
    with node_process("trainer_node", {"face_timeout_s": 0.3, "collect_time_s": 1.0}):
        robot.in_view = {"f1": "grace_hopper", "f2": "astronaut"}

        def refused(**fields):
            answer = robot.call(CollectSamples, "collect_samples", **({"task": "identity", "label": "Ann"} | fields))
            assert not answer.success and not answer.collected
            return answer.message

        assert "2 faces are in view" in refused() and "f1, f2" in refused()
        assert "'f9' is not in view" in refused(face_id="f9")
        for label in ("a/b", "a\nb", "x" * 10_000, "", "unknown"):
            assert "label" in refused(label=label) and len(refused(label=label)) < 300
        assert "built into the model" in refused(task="emotion")
        assert "count" in refused(count=5000)
        assert "min_quality" in refused(min_quality=2.0) and "time_limit_s" in refused(time_limit_s=-1.0)
        robot.blurred = True
        assert "too dark, too bright or too flat" in refused(face_id="f1")
        assert not SampleStore().counts()
        robot.blurred = False
        answer = robot.call(CollectSamples, "collect_samples", face_id="f1", task="identity", label="李雷", count=2)
        assert answer.success, answer.message


def test_a_trainer_that_is_not_active_or_not_configured_says_so(robot):
    with node_process("trainer_node", {"model": "nobodys"}):
        answer = robot.call(ListColumns, "list_columns")
        assert not answer.success and "nobodys" in answer.message
        result, _, _ = robot.train(task="identity")
        assert not result.success and "nobodys" in result.message
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=0)
        request = {"parameters": [Parameter(name="collect_count", value=value)]}
        assert not robot.call(SetParameters, "set_parameters", **request).results[0].successful


def test_trainings_that_lack_something_are_refused(robot):
    fill(Grace="grace_hopper")
    with node_process("trainer_node"):
        for fields, says in [
            ({"task": "identity"}, "second label"),
            ({"task": "mood"}, "no samples"),
            ({"task": "emotion"}, "built into the model"),
            ({"task": "identity", "recipe": "magic"}, "magic"),
            ({"task": "identity", "time_budget_s": float("nan")}, "time_budget_s"),
        ]:
            answer = robot.call(TrainColumn, "train_column", **fields)
            assert not answer.success and not answer.job_id and says in answer.message
            result, feedback, _ = robot.train(**fields)
            assert not result.success and result.message == answer.message and not feedback
        assert "no such" in (m := robot.call(TrainingStatus, "training_status", job_id="x").message) or "'x'" in m
        assert "no job is running" in robot.call(CancelTraining, "cancel_training").message
        assert "no column 'mood'" in robot.call(RemoveColumn, "remove_column", task="mood").message
        removal = robot.call(RemoveColumn, "remove_column", task="emotion")
        assert not removal.success and "built into" in removal.message and removal.model_version
        assert not robot.call(Rollback, "rollback").success
        assert not robot.call(Rollback, "rollback", model_version="nothing-0").success
        assert not robot.call(RenameLabel, "rename_label", task="identity", label="Zoe", new_label="Z").success
        assert not robot.call(MergeLabels, "merge_labels", task="identity", from_labels=["Zoe"], into_label="Z").success
        assert not robot.call(ForgetSamples, "forget_samples").success


@pytest.mark.slow
def test_a_column_from_training_to_its_removal(robot):
    fill("look", up="grace_hopper", down="astronaut")
    robot.take_models()
    with node_process("trainer_node", {"threads": 1, "nice": 0}):
        before = robot.call(ListColumns, "list_columns")
        assert [c.info.task for c in before.columns] == ["emotion", "gender"]
        assert all(c.built_in for c in before.columns) and list(before.columns[0].used_by) == ["gender"]
        result, feedback, _ = robot.train(task="look", time_budget_s=600.0, requested_by="me")
        assert result.success, result.message
        assert 0 <= result.accuracy <= 1 and np.isnan(result.known_named) and result.duration_s > 0
        assert result.model_version != before.model_version and robot.models[-1].endswith(result.model_version)
        assert feedback and {f.job_id for f in feedback} == {result.job_id}
        (job,) = robot.call(TrainingStatus, "training_status", job_id=result.job_id).jobs
        assert (job.state, job.task, job.sample_count, job.model_version) == ("done", "look", 12, result.model_version)
        assert 0 < job.created_at.sec <= job.finished_at.sec

        after = robot.call(ListColumns, "list_columns")
        assert [c.sha256 for c in after.columns[:2]] == [c.sha256 for c in before.columns]
        look = after.columns[2]
        assert (look.info.task, list(look.info.labels), look.built_in) == ("look", ["down", "up"], False)
        assert (look.sample_count, look.recipe, look.accuracy) == (12, "fast", result.accuracy)
        assert abs(look.trained_at.sec - time.time()) < 600
        assert list(after.versions) == [result.model_version, before.model_version]
        assert all(count.trained for count in robot.call(ListSamples, "list_samples").counts)

        named = robot.call(RenameLabel, "rename_label", task="look", label="up", new_label="oben", display_name="aloft")
        assert named.success and named.changed == 6 and named.model_version != result.model_version, named.message
        look = robot.call(ListColumns, "list_columns").columns[2]
        assert (list(look.info.labels), list(look.info.display_names)) == (["down", "oben"], ["down", "aloft"])
        forgotten = robot.call(ForgetSamples, "forget_samples", label="oben", retrain=True)
        assert forgotten.success and list(forgotten.affected_tasks) == ["look"] and list(forgotten.job_ids) == [""]
        assert "second label" in forgotten.message

        back = robot.call(Rollback, "rollback")
        assert back.success and back.previous_model_version == named.model_version, back.message
        assert back.model_version == result.model_version
        robot.refuses = "no memory left"
        refused = robot.call(RemoveColumn, "remove_column", task="look")
        assert not refused.success and "no memory left" in refused.message
        assert refused.model_version == result.model_version
        robot.refuses = ""
        removed = robot.call(RemoveColumn, "remove_column", task="look", forget_samples=True)
        assert removed.success and list(removed.removed) == ["look"] and removed.forgotten == 6, removed.message
        assert [c.info.task for c in robot.call(ListColumns, "list_columns").columns] == ["emotion", "gender"]
        assert robot.models[-1].endswith(removed.model_version) and not SampleStore().counts()


@pytest.mark.slow
def test_cancel_refusals_while_training_and_a_trainer_that_is_killed(robot):
    fill("look", up="grace_hopper", down="astronaut")
    with node_process("trainer_node", {"threads": 1, "nice": 0}) as process:
        version = robot.call(ListColumns, "list_columns").model_version
        result, _, _ = robot.train(cancel_at="training", task="look", recipe="paper", time_budget_s=600.0)
        assert not result.success and "cancelled" in result.message
        started = robot.call(TrainColumn, "train_column", task="look", recipe="paper", time_budget_s=600.0)
        assert started.success, started.message
        busy = robot.call(TrainColumn, "train_column", task="look")
        assert not busy.success and started.job_id in busy.message
        assert "wait until" in robot.call(RenameLabel, "rename_label", task="look", label="up", new_label="u").message
        process.send_signal(signal.SIGKILL)
        process.wait()
    with node_process("trainer_node", {"threads": 1, "nice": 0}):
        robot.ready_again()
        (job,) = robot.call(TrainingStatus, "training_status", job_id=started.job_id).jobs
        assert job.state in ("training", "queued"), job.message
        # Who is forgotten must not be learned by a training that goes on.
        forgotten = robot.call(ForgetSamples, "forget_samples", task="look", label="up")
        assert forgotten.success and started.job_id in forgotten.message
        (job,) = robot.call(TrainingStatus, "training_status", job_id=started.job_id).jobs
        assert job.state == "cancelled"
        assert robot.call(ListColumns, "list_columns").model_version == version
