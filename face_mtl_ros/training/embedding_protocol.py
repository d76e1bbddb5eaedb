"""How well a face descriptor tells apart people whom it never saw: five are enrolled, strangers have to be refused."""

from dataclasses import dataclass

import numpy as np

from .evaluation import mean_and_error

PEOPLE = 5  # enrolled at a time, a robot's small company
ENROLLED = 5  # pictures that a person is enrolled by
TRIED = 15  # pictures a person and draw that are tried at most, so that nobody's many pictures decide the result


@dataclass(frozen=True)
class EmbeddingScores:
    """Means over the draws, shares of 1; each *_error is the standard error of the mean over the draws.

    Attributes:
        n_people, n_pictures: in the whole data.
        draws: how often five people were drawn.
        right: share of the tried pictures that are most similar to the person they show, strangers aside.
        named_95, named_99: share of the tried pictures that are so and also more similar than the 95th or 99th
            percentile of the strangers' pictures: named rightly where so many strangers are refused.
    """

    n_people: int
    n_pictures: int
    draws: int
    right: float
    named_95: float
    named_99: float
    right_error: float
    named_95_error: float
    named_99_error: float


def embedding_protocol(embeddings: np.ndarray, people: np.ndarray, draws: int = 200, seed: int = 0) -> EmbeddingScores:
    """Enrol five people, try their other pictures, and let everybody else come as a stranger; many times over.

    A draw takes five of the people who have at least six pictures. Five random pictures enrol each, by the mean of
    their unit vectors, normalised; up to 15 random others are tried. Strangers are all pictures of all other people.
    Similarity is the cosine, a picture's the highest of the five.

    The standard errors are those of the draws, which share pictures: they say how far more draws would move the result,
    not how far other people would.

    Args:
        embeddings: float (n, d), of any length but 0.
        people: int or str (n,), who is on each picture.
        draws: at least 2.

    Raises:
        ValueError: the shapes don't match, an embedding is not finite or 0, or there are too few people or pictures.
    """
    unit, people = _unit(embeddings), np.asarray(people)
    if people.shape != (len(unit),):
        raise ValueError(f"people have the shape {people.shape}; expected ({len(unit)},), one an embedding")
    if draws < 2:
        raise ValueError(f"draws is {draws}; a standard error needs at least 2")
    names, index, counts = np.unique(people, return_inverse=True, return_counts=True)
    eligible = np.flatnonzero(counts > ENROLLED)
    if len(eligible) < PEOPLE or len(names) <= PEOPLE:
        raise ValueError(
            f"{len(names)} people, of whom {len(eligible)} have more than {ENROLLED} pictures, are too few: the "
            f"protocol needs {PEOPLE} such people, and at least one more for a stranger; take another split, or all"
        )
    pictures = [np.flatnonzero(index == person) for person in range(len(names))]
    rng = np.random.default_rng(seed)
    shares = np.array([_draw(unit, index, pictures, eligible, rng) for _ in range(draws)])
    right, named_95, named_99 = (mean_and_error(column) for column in shares.T)
    return EmbeddingScores(
        n_people=len(names),
        n_pictures=len(unit),
        draws=draws,
        right=right.mean,
        named_95=named_95.mean,
        named_99=named_99.mean,
        right_error=right.error,
        named_95_error=named_95.error,
        named_99_error=named_99.error,
    )


def _draw(
    unit: np.ndarray, index: np.ndarray, pictures: list[np.ndarray], eligible: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Share right, and shares named rightly at 95 and 99 % of the strangers refused, of one draw of five people."""
    chosen = rng.choice(eligible, PEOPLE, replace=False)
    shuffled = [rng.permutation(pictures[person]) for person in chosen]
    gallery = _unit(np.stack([unit[rows[:ENROLLED]].mean(0) for rows in shuffled]))
    tried = [rows[ENROLLED : ENROLLED + TRIED] for rows in shuffled]
    truth = np.repeat(np.arange(PEOPLE), [len(rows) for rows in tried])
    similarities = unit[np.concatenate(tried)] @ gallery.T
    right = similarities.argmax(1) == truth
    strangers = (unit[~np.isin(index, chosen)] @ gallery.T).max(1)
    named = [right & (similarities.max(1) > limit) for limit in np.quantile(strangers, (0.95, 0.99))]
    return float(right.mean()), float(named[0].mean()), float(named[1].mean())


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"embeddings have the shape {vectors.shape}; expected (pictures, dimensions)")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise ValueError(
            f"embedding {bad[0]} is 0 or not finite ({len(bad)} of {len(vectors)} are): it has no direction"
        )
    return vectors / lengths
