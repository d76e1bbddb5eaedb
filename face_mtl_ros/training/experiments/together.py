"""The paper's claims, each by the mean of all of its cells: few runs say more of many cells than of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..evaluation import Seeds, mean_and_error
from .inference import NAN, adjust, against_zero
from .statistics import Few, Results, Row, Speed, few_rows, majorities, speeds, table_rows

FEWEST = 50  # pictures of a class, up to which labels count as fewest

Gains = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Claim:
    """What the cells of a claim gain in the mean, in percentage points.

    Attributes:
        what: the claim, without what the paper excepts from it.
        cells: how many there are here.
        paper: the mean gain of the same cells in the paper; NaN where it gives no number.
        gain: over the seeds that all cells have. The cells of a seed share source columns and what they are compared
            with, so that the seeds are counted and not the cells.
        p, adjusted: of a two-sided t-test of the seeds' means against 0, and adjusted for the number of claims.
    """

    what: str
    cells: int
    paper: float
    gain: Seeds
    p: float
    adjusted: float = NAN


def claims_together(configuration: Mapping[str, Any], results: Results) -> list[Claim]:
    """Of each claim of which there are cells with a seed in common."""
    majority = majorities(configuration)
    retrained = [row for row in table_rows("table4", results, majority) if row.cell and row.cell.retrain_encoder]
    lateral = [row for row in table_rows("table5", results, majority) if row.cell and row.cell.sources]
    into_others = [row for row in lateral if row.task != "identity"]
    from_identity = [row for row in into_others if row.cell and "identity" in row.cell.sources]
    learned = [
        speed for speed in speeds(results, majorities(configuration, "val_majority")) if speed.learned is not False
    ]
    few = [row for row in few_rows(results, majority) if row.per_class]
    claims = [
        _claim("re-trained encoders against frozen ones, but for gender", [r for r in retrained if r.task != "gender"]),
        _claim("connections among emotion, age and gender", [r for r in into_others if r not in from_identity]),
        _claim("connections from identity to these", from_identity),
        _claim("connections from these to identity", [row for row in lateral if row.task == "identity"]),
        _claim(
            "after the first epoch, of columns that learn, but for identity",
            [speed for speed in learned if speed.task != "identity"],
        ),
        _claim("few labels, in macro F1", few),
        _contrast(
            f"up to {FEWEST} pictures of a class against more, in macro F1",
            [row for row in few if row.per_class <= FEWEST],
            [row for row in few if row.per_class > FEWEST],
        ),
    ]
    found = [claim for claim in claims if claim]
    return [replace(claim, adjusted=p) for claim, p in zip(found, adjust([one.p for one in found]), strict=True)]


def _claim(what: str, cells: Sequence[Row | Few | Speed]) -> Claim | None:
    compared = [cell for cell in cells if cell.by_seed]
    gains = list(_means(compared).values())
    if not gains:
        return None
    paper = [cell.paper_gain for cell in compared if isinstance(cell, Row)]
    mean = float(np.mean(paper)) if paper else NAN
    return Claim(what, len(compared), mean, mean_and_error(gains), against_zero(gains))


def _contrast(what: str, first: Sequence[Few], second: Sequence[Few]) -> Claim | None:
    """By how much more the first ones gain than the second ones."""
    left, right = _means(first), _means(second)
    gains = [left[seed] - right[seed] for seed in left if seed in right]
    return Claim(what, len(first) + len(second), NAN, mean_and_error(gains), against_zero(gains)) if gains else None


def _means(cells: Sequence[Row | Few | Speed]) -> Gains:
    """The cells' mean gain with each seed that all have."""
    seeds = sorted(set.intersection(*(set(cell.by_seed) for cell in cells))) if cells else []
    return {seed: float(np.mean([cell.by_seed[seed] for cell in cells])) for seed in seeds}
