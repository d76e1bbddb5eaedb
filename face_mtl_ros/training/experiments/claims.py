"""What the paper claims, and what the runs say of it, in sentences: the verdict first, then the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ..evaluation import Seeds
from .differences import span
from .inference import ALPHA
from .statistics import Few, Results, Row, Speed, few_rows, majorities, speeds, table_rows

SURE = f"adjusted p < {ALPHA}"


def findings(configuration: Mapping[str, Any], results: Results) -> list[str]:
    """What the plain columns know, and a sentence or more a claim that there are runs to judge by."""
    majority = majorities(configuration)
    fourth, fifth = table_rows("table4", results, majority), table_rows("table5", results, majority)
    lateral = [row for row in fifth if row.cell and row.cell.sources]
    into_others = [row for row in lateral if row.task != "identity"]
    groups = {
        "Re-training the encoder is slightly better than freezing it, but for gender (Table IV)": [
            row for row in fourth if row.cell and row.cell.retrain_encoder
        ],
        "Lateral connections from emotion, age and gender improve these three tasks (Table V)": [
            row for row in into_others if "identity" not in row.label.split(", ")
        ],
        "A column that draws on identity loses by it (Table V)": [
            row for row in into_others if "identity" in row.label.split(", ")
        ],
        "Lateral connections do not help identity (Table V)": [row for row in lateral if row.task == "identity"],
    }
    plain = [row for row in fifth if row.cell and not row.cell.sources and row.ours]
    said = [f"*{claim}.* {_counts(rows, plain)}" for claim, rows in groups.items() if any(row.ours for row in rows)]
    said += [
        *_agreement(lateral),
        *_convergence(speeds(results, majorities(configuration, "val_majority"))),
        *_few_labels(few_rows(results, majority)),
    ]
    return [*_known(plain), *said] if said else []


def _known(plain: Sequence[Row]) -> list[str]:
    known = [row for row in plain if row.learned is not None]
    if not known:
        return [
            "*What the plain columns know.* Not on record: the folder does not hold the share of the most frequent "
            "class, so nothing here tells a column that has learned from one that has not."
        ]
    dull = [row.task for row in known if not row.learned]
    verdict = (
        f"Not learned: {', '.join(dull)}; gains over such a column say nothing of the paper."
        if dull
        else "All have learned."
    )
    parts = [
        f"{row.task} {_percent(row.ours)} against {row.majority:.1f} (macro F1 {row.macro_f1.mean:.1f})"
        for row in known
        if row.ours and row.macro_f1
    ]
    return [f"*What the plain columns know.* {verdict} Accuracy against the majority class: {'; '.join(parts)}."]


def _counts(rows: Sequence[Row], plain: Sequence[Row]) -> str:
    measured = [row for row in rows if np.isfinite(row.gain)]
    if not measured:
        return "No verdict: the plain columns to compare with have not been trained with these seeds."
    tested = [row for row in measured if np.isfinite(row.p)]
    higher, paper = (
        sum(gain > 0 for gain in gains) for gains in ([r.gain for r in measured], [r.paper_gain for r in measured])
    )
    mean, paper_mean = np.mean([row.gain for row in measured]), np.mean([row.paper_gain for row in measured])
    dull = {row.task for row in plain if row.learned is False}
    unsure = sum(row.task in dull for row in measured)
    mixed = sum(not row.same_device for row in measured)
    return " ".join(
        [
            _verdict(len(measured), [row.gain for row in tested if row.significant], len(tested)),
            *_power(tested),
            f"In the paper {paper} of {len(measured)} cells are above the plain column, {paper_mean:+.2f} points in "
            f"the mean; here {higher}, {mean:+.2f} points.",
            *([f"Resting on a plain column that has not learned: {unsure}."] if unsure else []),
            *([f"On another device, or in another precision, than their plain column: {mixed}."] if mixed else []),
        ]
    )


def _verdict(cells: int, sure: Sequence[float], tested: int) -> str:
    """Of so many cells, of which some could be tested and some differ significantly, by these gains."""
    if not tested:
        return f"No verdict: none of {cells} cells could be tested, for that takes two runs a side with the same seeds."
    if not sure:
        return (
            f"No verdict: of {cells} cells {tested} could be tested, and none differs significantly by itself ({SURE})."
        )
    higher = sum(gain > 0 for gain in sure)
    return (
        f"Of {cells} cells {tested} could be tested; {higher} are significantly higher and {len(sure) - higher} "
        f"significantly lower ({SURE})."
    )


def _power(tested: Sequence[Row]) -> list[str]:
    if not tested:
        return []
    detectable = [row.detectable for row in tested]
    spread = f" (the median; {min(detectable):.1f} to {max(detectable):.1f})" if len(tested) > 1 else ""
    large = sum(abs(row.paper_gain) >= row.detectable for row in tested)
    return [
        f"With {span([len(row.by_seed) for row in tested])} runs a test would show gains of "
        f"{np.median(detectable):.1f} points and more{spread}: the paper's own gain is that large in {large} of "
        f"{len(tested)}."
    ]


def _agreement(rows: Sequence[Row]) -> list[str]:
    measured = [row for row in rows if np.isfinite(row.gain)]
    if len(measured) < 3:
        return []
    ours, paper = [row.gain for row in measured], [row.paper_gain for row in measured]
    same = sum(np.sign(a) == np.sign(b) for a, b in zip(ours, paper, strict=True))
    # The gains of a task share the mean of its plain column, so a p that takes them for independent would be wrong.
    return [
        f"*Which combinations help most (Table V).* Of {len(measured)} cells {same} change in the paper's direction, "
        f"where guessing gives {len(measured) / 2:g}; the rank correlation of our gains with the paper's is "
        f"{stats.spearmanr(ours, paper).statistic:.2f}."
    ]


def _convergence(found: Sequence[Speed]) -> list[str]:
    if not found:
        return []
    dull = [speed for speed in found if speed.learned is False]
    judged = [speed for speed in found if speed.learned is not False]
    tests = [p for speed in judged for p in (speed.start_adjusted, speed.epochs_adjusted) if np.isfinite(p)]
    sure = sum(p < ALPHA for p in tests)
    verdict = f"Of {len(tests)} tests {sure} are significant ({SURE})."
    verdict = verdict if sure else f"No verdict: of {len(tests)} tests none is significant ({SURE})."
    verdict = verdict if tests else "No verdict: nothing could be tested."
    parts = [
        f"{speed.task} {speed.epochs[0].mean:.1f} epochs without and {speed.epochs[1].mean:.1f} with"
        f"{_p(speed.epochs_adjusted)}, after the first epoch {speed.start[0].mean:.1f} % and "
        f"{speed.start[1].mean:.1f} %{_p(speed.start_adjusted)}"
        for speed in judged
    ]
    unlearned = "; ".join(f"{one.task} ends with {_percent(one.end)} against {one.majority:.1f}" for one in dull)
    return [
        " ".join(
            [
                f"*Lateral connections speed up convergence and start higher, but for identity (Figure 5).* {verdict}",
                *([f"Until 95 % of what the plain columns end with: {'; '.join(parts)}."] if parts else []),
                *([f"Not learned, so without a speed: {unlearned} of the majority class."] if dull else []),
            ]
        )
    ]


def _few_labels(rows: Sequence[Few]) -> list[str]:
    few = [row for row in rows if row.per_class]
    if not few:
        return []
    tested = [row for row in few if np.isfinite(row.p)]
    parts = []
    for task in dict.fromkeys(row.task for row in few):
        gains = [f"{row.gain:+.1f} ({row.of_a_class})" for row in rows if row.task == task]
        parts.append(f"{task} {', '.join(gains)}")
    known = [seeds.mean <= row.majority for row in few for seeds in row.accuracies if np.isfinite(row.majority)]
    below = f" {sum(known)} of the {len(known)} columns are no more accurate than the majority class." if known else ""
    verdict = _verdict(len(few), [row.gain for row in tested if row.adjusted < ALPHA], len(tested))
    return [
        f"*Lateral connections help when labels are few.* {verdict}{below} Points of macro F1 that the paper's best "
        f"connections add, by the number of pictures of a class: {'; '.join(parts)}."
    ]


def _percent(seeds: Seeds | None) -> str:
    if seeds is None:
        return ""
    return f"{seeds.mean:.1f} %" + ("" if np.isnan(seeds.error) else f" ± {seeds.error:.1f}")


def _p(value: float) -> str:
    return "" if np.isnan(value) else " (p < 0.01)" if value < 0.01 else f" (p {value:.2f})"
