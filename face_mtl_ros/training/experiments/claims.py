"""What the paper claims, and what the runs say of it, in sentences."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from .statistics import Results, Row, few_rows, speeds, table_rows


def findings(results: Results) -> list[str]:
    """A sentence or two a claim that there are runs to judge by."""
    fourth = [row for row in table_rows("table4", results) if row.cell and row.cell.retrain_encoder]
    fifth = [row for row in table_rows("table5", results) if row.cell and row.cell.sources]
    into_others = [row for row in fifth if row.task != "identity"]
    groups = {
        "Re-training the encoder is slightly better than freezing it, but for gender (Table IV)": fourth,
        "Lateral connections from emotion, age and gender improve these three tasks (Table V)": [
            row for row in into_others if "identity" not in row.label.split(", ")
        ],
        "A column that draws on identity loses by it (Table V)": [
            row for row in into_others if "identity" in row.label.split(", ")
        ],
        "Lateral connections do not help identity (Table V)": [row for row in fifth if row.task == "identity"],
    }
    said = [f"*{claim}.* {_counts(rows)}" for claim, rows in groups.items() if any(row.ours for row in rows)]
    return said + _agreement(fifth) + _convergence(results) + _few_labels(results)


def _counts(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if np.isfinite(row.gain)]
    if not measured:
        return "The plain columns to compare with have not been trained."
    higher, paper = (
        sum(gain > 0 for gain in gains) for gains in ([r.gain for r in measured], [r.paper_gain for r in measured])
    )
    sure = [row.gain > 0 for row in measured if row.significant]
    mean, paper_mean = np.mean([row.gain for row in measured]), np.mean([row.paper_gain for row in measured])
    return (
        f"In the paper {paper} of these {len(measured)} cells are above the plain column, {paper_mean:+.2f} points in "
        f"the mean; here {higher}, {mean:+.2f} points. Of ours {sum(sure)} are significantly higher and "
        f"{len(sure) - sum(sure)} significantly lower (adjusted p < 0.05)."
    )


def _agreement(rows: Sequence[Row]) -> list[str]:
    measured = [row for row in rows if np.isfinite(row.gain)]
    if len(measured) < 3:
        return []
    ours, paper = [row.gain for row in measured], [row.paper_gain for row in measured]
    same = sum(np.sign(a) == np.sign(b) for a, b in zip(ours, paper, strict=True))
    found = stats.spearmanr(ours, paper)
    return [
        f"*Which combinations help most (Table V).* Of {len(measured)} cells {same} change in the paper's direction; "
        f"the rank correlation of our gains with the paper's is {found.statistic:.2f} (p {found.pvalue:.3f})."
    ]


def _few_labels(results: Results) -> list[str]:
    rows = few_rows(results)
    if not any(row.per_class for row in rows):
        return []
    parts = []
    for task in dict.fromkeys(row.task for row in rows):
        gains = [f"{row.gain:+.1f} ({row.per_class or 'all'})" for row in rows if row.task == task]
        parts.append(f"{task} {', '.join(gains)}")
    return [
        "*Lateral connections help when labels are few.* Percentage points that the paper's best connections add, by "
        f"the number of pictures of a class: {'; '.join(parts)}."
    ]


def _convergence(results: Results) -> list[str]:
    found = speeds(results)
    if not found:
        return []
    parts = []
    for speed in found:
        without, lateral = speed.epochs
        parts.append(
            f"{speed.task} {without.mean:.1f} epochs without and {lateral.mean:.1f} with, after the first epoch "
            f"{speed.start[0].mean:.1f} % and {speed.start[1].mean:.1f} %"
        )
    return [
        "*Lateral connections speed up convergence and start higher, but for identity (Figure 5).* Until "
        f"95 % of what the plain columns end with: {'; '.join(parts)}."
    ]
