"""Five people are enrolled, strangers refused: cases counted by hand, and clusters of any quality."""

import numpy as np
import pytest

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

from face_mtl_ros.training.embedding_protocol import embedding_protocol  # noqa: E402


def clusters(noise, people=30, pictures=12, dimensions=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dimensions))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    names = np.repeat(np.arange(people), pictures)
    return centres[names] + rng.normal(size=(len(names), dimensions)) * noise / np.sqrt(dimensions), names


def hand_made(strangers):
    """Persons 0 to 3 are the axes, six pictures each. Person 4 has three pictures at +axis 4 and three at -axis 4: five
    of the six always have their mean on the side of the three, so the sixth is always wrong. One picture a stranger."""
    axes = np.eye(6)
    embeddings = [*np.repeat(axes[:4], 6, 0), *([axes[4]] * 3), *([-axes[4]] * 3), *(axes[axis] for axis in strangers)]
    people = [*np.repeat(np.arange(5), 6), *range(100, 100 + len(strangers))]
    return np.array(embeddings), np.array(people)


def test_counted_by_hand():
    # 96 strangers are like nobody (cosine 0 to all), 4 exactly like person 0: the 95th percentile is 0, the 99th is 1.
    scores = embedding_protocol(*hand_made([5] * 96 + [0] * 4), draws=10)
    assert (scores.n_people, scores.n_pictures, scores.draws) == (105, 130, 10)
    assert scores.right == pytest.approx(0.8)
    assert scores.named_95 == pytest.approx(0.8)
    assert scores.named_99 == 0
    assert scores.right_error == pytest.approx(0, abs=1e-9)


def test_nobody_s_many_pictures_decide_the_result():
    # Person 4's pictures are the corners of a regular simplex, so the mean of five points away from all others: always
    # wrong. Of his 35 left over 15 are tried, beside one of each of the others.
    corners = np.eye(40) - 1 / 40
    embeddings = np.zeros((24 + 40 + 1, 45))
    embeddings[:24, 40:44] = np.repeat(np.eye(4), 6, 0)
    embeddings[24:64, :40] = corners
    embeddings[64, 44] = 1
    people = np.array([*np.repeat(np.arange(4), 6), *[4] * 40, 5])
    assert embedding_protocol(embeddings, people, draws=10).right == pytest.approx(4 / 19)


def test_perfect_descriptors_are_always_right():
    scores = embedding_protocol(*clusters(0.01), draws=20)
    assert (scores.right, scores.named_95, scores.named_99) == (1, 1, 1)


def test_random_descriptors_are_right_one_time_in_five_and_name_nobody():
    rng = np.random.default_rng(0)
    scores = embedding_protocol(rng.normal(size=(600, 32)), np.repeat(np.arange(50), 12))
    assert scores.right == pytest.approx(0.2, abs=5 * scores.right_error) and scores.right_error < 0.01
    assert scores.named_99 < scores.named_95 < 0.05


def test_scores_fall_as_noise_rises():
    found = [embedding_protocol(*clusters(noise), draws=60) for noise in (0.3, 1.0, 2.0, 4.0)]
    for name in ("right", "named_95", "named_99"):
        values = [getattr(scores, name) for scores in found]
        assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.3
    assert all(scores.right >= scores.named_95 >= scores.named_99 for scores in found)


def test_lengths_order_and_names_do_not_matter_and_a_seed_repeats():
    embeddings, people = clusters(1.5)
    scores = embedding_protocol(embeddings, people, draws=20, seed=3)
    lengths = np.random.default_rng(0).uniform(0.1, 10, (len(people), 1))
    names = np.array([f"person {person:02}" for person in people])
    assert embedding_protocol(embeddings * lengths, names, draws=20, seed=3) == pytest.approx(scores)
    assert embedding_protocol(embeddings, people, draws=20, seed=4) != scores


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e, p: (e[p < 5], p[p < 5]), "5 people, of whom 5 have more than 5 pictures, are too few"),
        (lambda e, p: (e[::3], p[::3]), "30 people, of whom 0 have"),
        (lambda e, p: (e, p[1:]), r"people have the shape \(359,\); expected \(360,\)"),
        (lambda e, p: (e[0], p), r"embeddings have the shape \(32,\)"),
        (lambda e, p: (np.where(p[:, None] == 7, np.nan, e), p), r"embedding 84 is 0 or not finite \(12 of 360 are\)"),
        (lambda e, p: (e * (p[:, None] != 0), p), "embedding 0 is 0 or not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        embedding_protocol(*change(*clusters(0.5)))


def test_one_draw_has_no_standard_error():
    with pytest.raises(ValueError, match="draws is 1"):
        embedding_protocol(*clusters(0.5), draws=1)
