"""Tables as CSV, for programs, and as Markdown, for people."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation import Seeds
from .statistics import Curve, Few, Row, Speed
from .together import Claim

RUN_FIELDS = (
    *(
        "cell",
        "task",
        "sources",
        "retrain_encoder",
        "per_class",
        "seed",
        "accuracy",
        "macro_f1",
        "train",
        "val",
        "test",
        "epochs",
    ),
    *("threads", "seconds", "device", "cpu", "encoder_sha256", "commit", "package_version", "torch_version"),
    *("date", "command"),
)


def runs_csv(results: Sequence[Mapping[str, Any]]) -> str:
    """A line a run: its figures, as shares of 1, and the command that makes it again."""
    # Runs of before few labels were a thing have no per_class, and older ones lack what else was not recorded yet.
    lines = [{"per_class": 0, **one, "sources": "+".join(one["sources"])} for one in results]
    return _csv(RUN_FIELDS, [{name: line.get(name, "") for name in RUN_FIELDS} for line in lines])


def rows_csv(rows: Sequence[Row]) -> str:
    """A line a row of a table, in %."""
    lines = [
        {
            "task": row.task,
            "row": row.label,
            "cell": row.cell.name if row.cell else "",
            "paper": row.paper,
            "paper_error": row.paper_error,
            "ours": row.ours.mean if row.ours else math.nan,
            "standard_error": row.ours.error if row.ours else math.nan,
            "runs": row.ours.n if row.ours else 0,
            "majority": row.majority,
            "macro_f1": row.macro_f1.mean if row.macro_f1 else math.nan,
            "macro_f1_error": row.macro_f1.error if row.macro_f1 else math.nan,
            "difference": row.difference,
            "paper_gain": row.paper_gain,
            "gain": row.gain,
            "detectable_gain": row.detectable,
            "p": row.p,
            "p_adjusted": row.adjusted,
            "sampling_error": row.sampling,
            "train": row.train,
            "test": row.test,
            "epochs": row.epochs,
            "device": row.devices,
        }
        for row in rows
    ]
    return _csv(lines[0].keys(), lines)


def few_csv(rows: Sequence[Few]) -> str:
    """A line a task and number of pictures of a class, in %; "all" are in natural proportion."""
    lines = [
        {
            "task": row.task,
            "sources": "+".join(row.sources),
            "per_class": row.per_class or "all",
            "train": row.train,
            "epochs": row.epochs,
            "without": row.without.mean,
            "without_error": row.without.error,
            "lateral": row.lateral.mean,
            "lateral_error": row.lateral.error,
            "gain": row.gain,
            "p": row.p,
            "p_adjusted": row.adjusted,
            "accuracy_without": row.accuracies[0].mean,
            "accuracy_lateral": row.accuracies[1].mean,
            "majority": row.majority,
            "runs": f"{row.without.n}/{row.lateral.n}",
            "device": row.devices,
        }
        for row in rows
    ]
    return _csv(lines[0].keys() if lines else ("task",), lines)


def few_markdown(rows: Sequence[Few]) -> str:
    header = (
        *("target", "sources", "of a class", "pictures", "epochs", "macro F1: without ± SE", "with ± SE", "gain"),
        *("p (adjusted)", "accuracy: without", "with", "majority class", "runs", "device"),
    )
    lines = [
        (
            row.task,
            ", ".join(row.sources),
            row.of_a_class,
            str(row.train),
            _epochs(row.epochs),
            *(_seeds(row.without), _seeds(row.lateral), _signed(row.gain), _both_p(row.p, row.adjusted)),
            *(_number(seeds.mean) for seeds in row.accuracies),
            *(_number(row.majority), str(row.without.n), row.devices),
        )
        for row in rows
    ]
    return _markdown(header, lines, text=2)


def curves_csv(curves: Sequence[Curve]) -> str:
    """A line an epoch of each learning curve, in %."""
    lines = [
        {
            "cell": curve.cell.name,
            "task": curve.cell.task,
            "sources": "+".join(curve.cell.sources),
            "epoch": epoch + 1,
            "accuracy": float(curve.mean[epoch]),
            "standard_error": float(curve.error[epoch]),
            "runs": len(curve.values),
            "train": curve.train,
            "val": curve.val,
            "epochs": curve.epochs,
            "device": curve.devices,
        }
        for curve in curves
        for epoch in range(curve.values.shape[1])
    ]
    fields = ("cell", "task", "sources", "epoch", "accuracy", "standard_error", "runs")
    return _csv((*fields, "train", "val", "epochs", "device"), lines)


def rows_markdown(rows: Sequence[Row]) -> str:
    """All of a table; accuracies in %, gains in percentage points above the task's plain column."""
    header = (
        *("target", "sources", "paper", "ours ± SE", "majority class", "macro F1 ± SE", "ours - paper", "gain, paper"),
        *("gain, ours", "detectable gain", "p (adjusted)", "runs", "epochs", "pictures: train", "test"),
        *("± sampling", "device"),
    )
    lines = [
        (
            row.task,
            row.label,
            _with_error(row.paper, row.paper_error),
            *(_seeds(row.ours), _number(row.majority), _seeds(row.macro_f1)),
            _signed(row.difference),
            _signed(row.paper_gain),
            _signed(row.gain),
            _number(row.detectable),
            _both_p(row.p, row.adjusted) + (" *" if row.significant else ""),
            *((str(row.ours.n), _epochs(row.epochs), str(row.train), str(row.test)) if row.ours else ("",) * 4),
            _number(row.sampling),
            row.devices,
        )
        for row in rows
    ]
    return _markdown(header, lines, text=2)


def speeds_markdown(speeds: Sequence[Speed]) -> str:
    header = (
        *("target", "sources", "plain column ends with", "majority class", "after epoch 1: without", "with"),
        *("p (adjusted)", "% counted as reached", "epochs until then: without", "with", "p (adjusted)", "runs"),
        *("epochs", "pictures: train", "validation", "device"),
    )
    lines = [
        (
            speed.task,
            ", ".join(speed.sources),
            *(_seeds(speed.end), _number(speed.majority)),
            *(_seeds(speed.start[0]), _seeds(speed.start[1]), _both_p(speed.start_p, speed.start_adjusted)),
            *(_number(speed.target), _seeds(speed.epochs[0]), _seeds(speed.epochs[1])),
            *(_both_p(speed.epochs_p, speed.epochs_adjusted), f"{speed.start[0].n} / {speed.start[1].n}"),
            *(_epochs(speed.curves[0].epochs), str(speed.curves[0].train), str(speed.curves[0].val)),
            " / ".join(dict.fromkeys(curve.devices for curve in speed.curves)),
        )
        for speed in speeds
    ]
    return _markdown(header, lines, text=2)


def claims_markdown(claims: Sequence[Claim]) -> str:
    header = ("claim", "gain, paper", "gain, ours ± SE", "p (adjusted)", "cells", "seeds")
    lines = [
        (
            claim.what,
            *(_signed(claim.paper), _with_sign(claim.gain), _both_p(claim.p, claim.adjusted)),
            *(str(claim.cells), str(claim.gain.n)),
        )
        for claim in claims
    ]
    return _markdown(header, lines, text=1)


def _csv(fields, lines: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(fields), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]], text: int) -> str:
    """The first `text` columns to the left, the others to the right."""
    rule = ["---" if i < text else "---:" for i in range(len(header))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *lines))


def _seeds(seeds: Seeds | None) -> str:
    return "" if seeds is None else _with_error(seeds.mean, seeds.error)


def _with_error(value: float, error: float) -> str:
    return _number(value) if math.isnan(error) else f"{value:.2f} ± {error:.2f}"


def _with_sign(seeds: Seeds) -> str:
    return _signed(seeds.mean) + ("" if math.isnan(seeds.error) else f" ± {seeds.error:.2f}")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.2f}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _both_p(value: float, adjusted: float) -> str:
    return "" if math.isnan(value) else f"{_p(value)} ({_p(adjusted)})"


def _epochs(value: float) -> str:
    return f"{value:.4g}"
