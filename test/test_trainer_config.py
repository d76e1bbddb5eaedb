"""The trainer's launch and parameter files say the same as the node; its commands say what they lack."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from face_mtl_ros.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_the_parameter_file_repeats_the_defaults():
    pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")
    from face_mtl_ros.nodes.trainer_parameters import TrainerSettings

    written = yaml.safe_load((ROOT / "config/trainer.yaml").read_text())["/**"]["trainer"]["ros__parameters"]
    fields = TrainerSettings.model_fields
    assert written == {name: fields[name].default for name in fields if name not in ("autostart", "model")}


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [({}, {}), ({"model": "5", "autostart": "false"}, {"model": "5", "autostart": False})],
)
def test_launch_passes_on_the_arguments_that_were_given_alone(arguments, passed):
    pytest.importorskip("launch_ros", reason="needs launch_ros, which comes with ROS 2 and not from PyPI")
    from launch_ros.utilities import evaluate_parameters

    from launch import LaunchContext

    spec = importlib.util.spec_from_file_location("trainer_launch", ROOT / "launch/trainer.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    for name, (default, _) in module.ARGUMENTS.items():
        context.launch_configurations[name] = arguments.get(name, default)
    (node,) = module.nodes(context)
    given = [p for p in node._Node__parameters if isinstance(p, dict)]
    assert {k: v for one in evaluate_parameters(context, given) for k, v in one.items()} == passed


@pytest.mark.parametrize("command", [["enroll", "--label", "Ann"], ["train", "--from-samples", "--task", "identity"]])
def test_without_ros_the_commands_say_what_they_need(command):
    code = f"import sys; sys.modules['rclpy'] = None; from face_mtl_ros.cli import main; sys.exit(main({command}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1
    assert "no ROS 2: source" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["enroll", "--label", "Ann", "--count", "-1"], "--count"),
        (["enroll", "--label", "Ann", "--seconds", "nan"], "--seconds"),
        (["train", "--from-samples"], "--task"),
        (["train", "--from-samples", "--task", "a", "--model", "m"], "--model"),
        (["train", "--from-samples", "--task", "a", "--seed", "-1"], "--seed"),
    ],
)
def test_words_that_do_not_go_together_are_refused(command, says, capsys):
    assert main(command) == 2
    assert says in capsys.readouterr().err
