"""Probabilities become steadier, and stay probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from face_mtl_ros.vision.smoothing import ProbabilitySmoother

A, B = np.array([1, 0], np.float32), np.array([0, 1], np.float32)


def feed(smoother, samples, rate=30.0, start=0.0):
    for i, sample in enumerate(samples):
        out = smoother.update("f-1", "emotion", sample, start + i / rate)
    return out


@pytest.mark.parametrize("rate", [5, 30, 120])
def test_after_a_time_constant_the_new_state_has_63_percent_at_any_frame_rate(rate):
    smoother = ProbabilitySmoother(0.5)
    feed(smoother, [A] * (10 * rate), rate)
    frames = round(0.5 * rate)  # two frames at 5 Hz are a little less than the constant
    out = feed(smoother, [B] * frames, rate, start=10.0)
    assert out[1] == pytest.approx(1 - np.exp(-frames / rate / 0.5), abs=0.01)


def test_noise_is_averaged_from_the_first_frames_on():
    assert feed(ProbabilitySmoother(0.5), [A, B, A, B]) == pytest.approx([0.5, 0.5], abs=0.05)
    rng = np.random.default_rng(0)
    noisy = rng.dirichlet([2, 2, 2], 300).astype(np.float32)
    smoother = ProbabilitySmoother(0.5)
    smooth = np.array([smoother.update("f", "t", p, i / 30) for i, p in enumerate(noisy)])
    assert smooth[30:].std(axis=0).max() < 0.35 * noisy.std(axis=0).min()


def test_an_old_sample_counts_for_nothing():
    smoother = ProbabilitySmoother(0.5)
    smoother.update("f", "t", A, 0.0)
    assert smoother.update("f", "t", B, 20.0) == pytest.approx(B)


def test_zero_switches_off_also_at_run_time():
    smoother = ProbabilitySmoother(0.5)
    feed(smoother, [A] * 30)
    smoother.time_constant_s = 0
    assert (smoother.update("f-1", "emotion", B, 1.0) == B).all()
    smoother.time_constant_s = 0.5
    assert smoother.update("f-1", "emotion", B, 1.03) == pytest.approx(B)


def test_faces_and_tasks_are_apart():
    smoother = ProbabilitySmoother(0.5)
    smoother.update("f-1", "emotion", A, 0.0)
    assert (smoother.update("f-2", "emotion", B, 0.03) == B).all()
    assert (smoother.update("f-1", "gender", B, 0.03) == B).all()


def test_a_model_with_other_classes_begins_anew():
    smoother = ProbabilitySmoother(0.5)
    smoother.update("f", "emotion", A, 0.0)
    three = np.array([0, 0, 1], np.float32)
    assert (smoother.update("f", "emotion", three, 0.03) == three).all()


def test_forget_drops_the_faces_that_left_and_keeps_the_others():
    smoother = ProbabilitySmoother(0.5)
    for face in ("stays", "left"):
        smoother.update(face, "t", A, 0.0)
    smoother.forget(["stays"])
    assert (smoother.update("left", "t", B, 0.03) == B).all()
    assert smoother.update("stays", "t", B, 0.03)[0] > 0.3


def test_a_recording_that_begins_again_begins_anew_and_a_late_frame_does_not():
    smoother = ProbabilitySmoother(0.5)
    feed(smoother, [A] * 30, start=100.0)
    assert smoother.update("f-1", "emotion", B, 100.9)[0] > 0.8
    assert (smoother.update("f-1", "emotion", B, 3.0) == B).all()


def test_a_sample_that_is_not_finite_leaves_no_trace():
    smoother = ProbabilitySmoother(0.5)
    smoother.update("f", "t", A, 0.0)
    smoother.update("f", "t", np.array([np.nan, np.nan], np.float32), 0.03)
    assert (smoother.update("f", "t", A, 0.06) == A).all()


def test_the_result_is_a_copy():
    smoother = ProbabilitySmoother(0.5)
    smoother.update("f", "t", A, 0.0)[:] = 7
    assert smoother.update("f", "t", A, 0.03) == pytest.approx(A)
    off = ProbabilitySmoother(0)
    sample = A.copy()
    off.update("f", "t", sample, 0.0)[:] = 7
    assert (sample == A).all()


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_a_bad_time_constant_is_refused(wrong):
    with pytest.raises(ValueError, match="time_constant_s"):
        ProbabilitySmoother(wrong)


@given(
    st.floats(0, 5),
    st.lists(
        st.tuples(
            arrays(np.float32, 8, elements=st.floats(0, 1, width=32)).filter(lambda a: a.sum() > 0.01), st.floats(-2, 2)
        ),
        min_size=1,
        max_size=10,
    ),
)
def test_the_result_is_a_distribution_within_the_range_of_the_samples(time_constant, samples):
    smoother, stamp, seen = ProbabilitySmoother(time_constant), 0.0, []
    for sample, gap in samples:
        stamp += gap
        seen.append(sample / sample.sum())
        out = smoother.update("f", "t", seen[-1], stamp)
        assert out.dtype == np.float32
        assert out.sum() == pytest.approx(1, abs=1e-5)
        assert (out >= np.min(seen, axis=0) - 1e-6).all()
        assert (out <= np.max(seen, axis=0) + 1e-6).all()
