"""Strangers are refused: scores, thresholds, and the choice among methods."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

from face_mtl_ros.runtime.open_set import class_means, energy, probability  # noqa: E402
from face_mtl_ros.training.open_set import best_open_set, choose_threshold  # noqa: E402


def test_energy_and_probability_are_those_of_the_formulas():
    logits = np.array([[0.0, np.log(3)], [1000.0, 1000.0]])
    np.testing.assert_allclose(energy(logits), [np.log(4), 1000 + np.log(2)])
    np.testing.assert_allclose(energy(logits, 2.0)[0], 2 * np.log(1 + np.sqrt(3)))
    np.testing.assert_allclose(probability(logits), [0.75, 0.5])


def test_class_means_are_of_length_1_and_need_every_class():
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    means = class_means(embeddings, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(means, [[np.sqrt(0.5), np.sqrt(0.5)], [-1, 0]])
    with pytest.raises(ValueError, match="class 2 has no embedding"):
        class_means(embeddings, np.array([0, 0, 1]), 3)


def test_a_threshold_refuses_as_many_strangers_as_asked():
    strangers, known = np.arange(100.0), np.arange(50.0, 150.0)
    found = choose_threshold(known, strangers, refuse=0.95)
    assert (found.threshold, found.strangers_refused) == (94, 0.95)
    assert found.known_kept == pytest.approx(0.55)
    assert choose_threshold(known, strangers, refuse=0.99).threshold == 98


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_it_is_the_lowest_such_threshold_even_among_equal_scores(seed, ties):
    rng = np.random.default_rng(seed)
    known, strangers = rng.normal(1, 1, 37), rng.normal(0, 1, 23)
    if ties:
        known, strangers = known.round(), strangers.round()
    found = choose_threshold(known, strangers)
    assert found.strangers_refused == (strangers <= found.threshold).mean() >= 0.95
    assert (strangers < found.threshold).mean() < 0.95
    assert found.known_kept == (known > found.threshold).mean()


def test_the_area_under_the_curve_holds_for_scores_of_any_size():
    rng = np.random.default_rng(0)
    known, strangers = rng.normal(1, 1, 80), rng.normal(0, 1, 60)
    expected = mannwhitneyu(known, strangers).statistic / (80 * 60)
    for scale, shift in ((1, 0), (1e4, -5e4), (1e-6, 3)):
        assert choose_threshold(known * scale + shift, strangers * scale + shift).auroc == pytest.approx(expected)


def test_without_strangers_most_of_the_known_are_kept():
    found = choose_threshold(np.arange(1.0, 101.0))
    assert found.known_kept == 0.95 and (found.strangers_refused, found.auroc) == (None, None)
    assert choose_threshold(np.ones(10)).known_kept == 1


def test_the_method_that_keeps_most_is_taken():
    rng = np.random.default_rng(0)
    strangers = {method: rng.normal(0, 1, 300) for method in ("energy", "probability", "embedding")}
    shifts = {"energy": 1, "probability": 0, "embedding": 4}
    known = {method: rng.normal(shift, 1, 300) for method, shift in shifts.items()}
    best = best_open_set(known, strangers)
    assert best.method == "embedding" and best.known_kept > 0.97 and best.auroc > 0.99
    assert best == choose_threshold(known["embedding"], strangers["embedding"], method="embedding")
    assert best_open_set(known).method == "energy"


@pytest.mark.parametrize(
    ("known", "strangers", "refuse", "says"),
    [
        ([], [1.0], 0.95, "no known sample"),
        ([np.nan], [1.0], 0.95, "the known scores must be finite"),
        ([1.0], [np.inf], 0.95, "the stranger scores must be finite"),
        ([1.0], [1.0], 0.0, "refuse is 0.0"),
        ([1.0], [1.0], 1.1, "refuse is 1.1"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(known, strangers, refuse, says):
    with pytest.raises(ValueError, match=says):
        choose_threshold(np.array(known), np.array(strangers), refuse)


def test_methods_must_be_the_same_for_known_and_strangers():
    with pytest.raises(ValueError, match=r"scores by \['energy'\], the strangers by \['probability'\]"):
        best_open_set({"energy": np.ones(3)}, {"probability": np.ones(3)})
    with pytest.raises(ValueError, match="no score to choose by"):
        best_open_set({}, {})
