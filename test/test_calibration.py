"""A temperature makes confidence honest, whatever the scale of the logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

from face_mtl_ros.runtime.predictor import softmax  # noqa: E402
from face_mtl_ros.training.calibration import fit_temperature, negative_log_likelihood  # noqa: E402
from face_mtl_ros.training.evaluation import evaluate  # noqa: E402


def drawn(n, classes, seed):
    """Logits, and labels drawn from their own softmax: calibrated as they are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    chances = softmax(logits).astype(np.float64)
    return logits, np.array([rng.choice(classes, p=row / row.sum()) for row in chances])


def test_calibrated_logits_keep_their_temperature():
    assert fit_temperature(*drawn(4000, 5, 0)) == pytest.approx(1, abs=0.05)


@settings(max_examples=25)
@given(scale=st.floats(0.25, 4), seed=st.integers(0, 1000))
def test_dividing_the_logits_divides_the_temperature(scale, seed):
    logits, labels = drawn(300, 4, seed)
    assert fit_temperature(logits / scale, labels) == pytest.approx(fit_temperature(logits, labels) / scale, rel=1e-4)


@settings(max_examples=25)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_a_fit_is_never_worse_than_none(scale, seed):
    logits, labels = drawn(50, 3, seed)
    logits = logits * scale
    found = negative_log_likelihood(logits, labels, fit_temperature(logits, labels))
    assert found <= negative_log_likelihood(logits, labels)


@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_the_calibration_error_of_too_timid_and_too_bold_logits_falls(scale):
    logits, labels = drawn(3000, 4, 1)
    temperature = fit_temperature(logits * scale, labels)
    before, after = evaluate(softmax(logits * scale), labels), evaluate(softmax(logits * scale / temperature), labels)
    assert before.ece > 0.1 and after.ece < 0.03
    assert after.accuracy == before.accuracy and after.nll < before.nll


def test_logits_beyond_exp_s_range_are_no_trouble():
    logits, labels = drawn(300, 3, 2)
    shifted = fit_temperature(logits + 5000, labels)
    assert shifted == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "labels", "says"),
    [
        (np.empty((0, 3)), [], "no picture to fit"),
        ([[1.0, 2.0], [2.0, 1.0]], [1, 1], "all 2 pictures are of class 1"),
        ([[1.0], [2.0]], [0, 0], "of class 0"),
        ([[1.0, 2.0], [np.inf, 1.0]], [0, 1], "logits of picture 1 are not finite"),
        ([[1.0, 2.0], [2.0, 1.0]], [0, 2], "labels reach from 0 to 2; expected 0 to 1"),
        ([[1.0, 2.0]], [0, 1], "don't match"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(logits, labels, says):
    with pytest.raises(ValueError, match=says):
        fit_temperature(np.array(logits), np.array(labels))
