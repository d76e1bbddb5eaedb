"""What the perception node's parameters accept is what the rest of the package can do."""

from typing import get_args

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")

from face_mtl_ros.analyzer import FaceAnalyzer  # noqa: E402
from face_mtl_ros.nodes.parameters import PerceptionSettings  # noqa: E402
from face_mtl_ros.runtime.engines import ENGINES  # noqa: E402
from face_mtl_ros.runtime.openvino_engine import PRECISIONS  # noqa: E402
from face_mtl_ros.vision.detectors import DETECTORS  # noqa: E402
from face_mtl_ros.vision.smoothing import NameAgreement  # noqa: E402


def choices(parameter):
    return set(get_args(PerceptionSettings.model_fields[parameter].annotation))


def test_every_engine_precision_and_detector_can_be_asked_for():
    assert choices("engine") == set(ENGINES)
    assert choices("precision") == {"auto", *PRECISIONS}
    assert choices("detector") == set(DETECTORS)


def test_the_naming_limits_are_those_of_the_analyzer(random_bundle, home):
    settings, naming = PerceptionSettings(), FaceAnalyzer(random_bundle.root, detector="haar").naming
    assert isinstance(naming, NameAgreement)
    limits = (settings.naming_frames, settings.naming_confidence, settings.naming_margin)
    assert limits == (naming.frames, naming.confidence, naming.margin)
