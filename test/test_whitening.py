"""A whitened descriptor looks at all directions in which faces differ, and is the same column otherwise."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch, which the train extra installs")

from face_mtl_ros.training.whitening import whitened  # noqa: E402

RNG = np.random.default_rng(0)


def layer(outputs=8, units=20):
    """A last layer whose outputs differ a thousandfold in spread, and what it reads of 500 pictures."""
    weight = RNG.normal(size=(outputs, units)) * np.logspace(0, -1.5, outputs)[:, None]
    weights = {"classifier.weight": weight, "classifier.bias": RNG.normal(size=outputs), "hidden.bias": np.zeros(3)}
    return weights, RNG.normal(size=(500, units)) + 1


def said(weights, hidden):
    return hidden @ weights["classifier.weight"].T + weights["classifier.bias"]


def spread(outputs):
    return np.linalg.eigvalsh(np.cov(outputs.T))


def test_outputs_are_centred_evened_out_and_as_long_as_before():
    weights, hidden = layer()
    before = said(weights, hidden)
    after = said(whitened(weights, before), hidden)
    np.testing.assert_allclose(after.mean(0), 0, atol=1e-4)
    assert spread(after).max() / spread(after).sum() < 0.7 * spread(before).max() / spread(before).sum()
    assert np.argsort(spread(after)).tolist() == list(range(8))  # what differed more still differs more
    np.testing.assert_allclose((after**2).sum(1).mean(), (before**2).sum(1).mean(), rtol=1e-4)


def test_all_other_weights_stay():
    weights, hidden = layer()
    after = whitened(weights, said(weights, hidden))
    assert after["hidden.bias"] is weights["hidden.bias"] and set(after) == set(weights)
    assert after["classifier.weight"].dtype == after["classifier.bias"].dtype == np.float32


def test_people_who_differ_little_in_one_direction_become_neighbours_of_their_own():
    # Two people: they differ by 0.2 in the second number, while lighting moves the first by 1.
    people = np.repeat([0.1, -0.1], 200)
    outputs = np.column_stack([RNG.normal(size=400), people + 0.02 * RNG.normal(size=400)])
    identity = {"classifier.weight": np.eye(2), "classifier.bias": np.zeros(2)}

    def agreement(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines, same = unit @ unit.T, people[:, None] == people[None]
        return cosines[same].mean() - cosines[~same].mean()

    assert agreement(said(whitened(identity, outputs), outputs)) > 2 * agreement(outputs)


def test_directions_without_any_spread_are_no_harm():
    weights, hidden = layer()
    weights["classifier.weight"][3:] = 0
    after = whitened(weights, said(weights, hidden))
    assert np.isfinite(after["classifier.weight"]).all() and np.isfinite(after["classifier.bias"]).all()


@pytest.mark.parametrize(
    ("outputs", "says"),
    [(np.ones((1, 8)), "too few"), (np.full((3, 8), np.nan), "not finite"), (np.ones((3, 8)), "the same")],
)
def test_nothing_to_whiten_by(outputs, says):
    with pytest.raises(ValueError, match=says):
        whitened(layer()[0], outputs)
