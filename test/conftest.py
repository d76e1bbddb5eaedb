"""What several test files share."""

from pathlib import Path

import hypothesis
import pytest

from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision.detectors import install_yunet
from face_mtl_ros.vision.yunet import YUNET_FILE

# Speed is a benchmark, never a test: a shared machine may take any time over an example.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

YUNET = Path(__file__).resolve().parents[2] / "shared" / "detectors" / YUNET_FILE
TASKS = {
    "emotion": (["neutral", "happiness"], []),
    "gender": (["male", "female"], ["emotion"]),
}


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory):
    """A whole bundle with random weights: fast to make, and what it says of a face is as good as dice."""
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "random", "compact", TASKS, skips=["gender"])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A FACE_MTL_HOME of the test's own, which does not exist yet."""
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def yunet_file():
    """YuNet's model, as it is downloaded."""
    if not YUNET.is_file():
        pytest.skip(f"YuNet's model is not in {YUNET.parent}")
    return YUNET


@pytest.fixture
def installed(home, yunet_file):
    """YuNet's model, installed in `home`."""
    return install_yunet(yunet_file)
