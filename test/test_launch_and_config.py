"""The launch file and the shipped parameter file say the same as the nodes."""

import importlib.util
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")

from pydantic import Field  # noqa: E402

from face_mtl_ros.nodes.parameters import CameraSettings, PerceptionSettings, _descriptor  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def test_the_parameter_file_repeats_the_defaults():
    written = yaml.safe_load((ROOT / "config/perception.yaml").read_text())["/**"]["perception"]["ros__parameters"]
    fields = PerceptionSettings.model_fields
    assert written == {name: fields[name].default for name in written}


@pytest.mark.parametrize(
    ("arguments", "perception", "camera"),
    [
        ({}, {}, {}),
        (
            {"detector": "haar", "autostart": "false", "camera_source": "0", "camera_rate": "15"},
            {"detector": "haar", "autostart": False},
            {"source": "0", "rate": 15.0},
        ),
    ],
)
def test_launch_passes_on_the_arguments_that_were_given_alone(arguments, perception, camera):
    pytest.importorskip("launch_ros", reason="needs launch_ros, which comes with ROS 2 and not from PyPI")
    from launch_ros.utilities import evaluate_parameters

    from launch import LaunchContext

    path = ROOT / "launch/perception.launch.py"
    spec = importlib.util.spec_from_file_location("perception_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    for name, (default, _) in module.ARGUMENTS.items():
        context.launch_configurations[name] = arguments.get(name, default)
    passed = []
    for node in module.nodes(context):
        given = [p for p in node._Node__parameters if isinstance(p, dict)]
        passed.append({k: v for one in evaluate_parameters(context, given) for k, v in one.items()})
    assert passed == [perception, camera]


def test_descriptors_give_ranges_and_what_may_be_set_when():
    rate = _descriptor("rate", CameraSettings.model_fields["rate"], read_only=True)
    assert rate.read_only and not rate.additional_constraints
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.0, 1000.0)
    threads = _descriptor("threads", PerceptionSettings.model_fields["threads"], read_only=False)
    assert not threads.read_only and "configured" in threads.additional_constraints

    class Settings(PerceptionSettings):
        count: int = Field(1, gt=0, le=5)
        share: float = Field(1.0, gt=0.0, le=2.0)

    count = _descriptor("count", Settings.model_fields["count"], read_only=True)
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 5)
    share = _descriptor("share", Settings.model_fields["share"], read_only=True)
    assert (share.floating_point_range[0].from_value, share.floating_point_range[0].to_value) == (0.0, 2.0)
