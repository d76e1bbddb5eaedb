"""What several test files share."""

import hypothesis
import pytest

from face_mtl_ros.runtime.random_bundle import write_random_bundle

# Speed is a benchmark, never a test: a shared machine may take any time over an example.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

TASKS = {
    "emotion": (["neutral", "happiness"], []),
    "gender": (["male", "female"], ["emotion"]),
}


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory):
    """A whole bundle with random weights: fast to make, and what it says of a face is as good as dice."""
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "random", "compact", TASKS)
