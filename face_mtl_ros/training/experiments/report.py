"""All that an experiment's folder holds, as tables, pictures and a document."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...bundle.files import write_atomically
from .cells import FIGURE4, PLAIN, TABLES, Cell
from .claims import findings
from .differences import differences, span
from .paper import BEST, TASKS
from .setting import read_folder, read_results
from .statistics import Curve, Few, Results, Row, by_cell, curve_of, few_rows, majorities, speeds, table_rows
from .tables import (
    claims_markdown,
    curves_csv,
    few_csv,
    few_markdown,
    rows_csv,
    rows_markdown,
    runs_csv,
    speeds_markdown,
)
from .together import claims_together

TITLES = {
    "table4": "Table IV: the encoder frozen and re-trained",
    "table5": "Table V: progressive connections from other columns",
    "table6": "Table VI: the best rows beside the literature's",
    "figure5": "Figure 5: learning with and without progressive connections",
    "labels": "How many labels: where lateral connections help",
}
FEW = """Where labels are few the seed also draws the pictures, evenly from the classes out of all training pictures,
  and columns pass over them more often:"""
NOTE = """How to read the tables:

- Accuracies are in % on the test split, of the weights at the end of training. SE: standard error over the runs.
  ± sampling is the standard error of a single run that the number of test pictures alone brings about.
- Majority class: what naming the most frequent class of the test pictures (in Figure 5 of the validation pictures)
  alone reaches. Macro F1 weighs all classes alike. A column counts as learned where its accuracy lies above the
  majority class by more than two standard errors, of runs and sampling together.
- Gains are in percentage points above the task's plain column (frozen encoder, no sources), over the seeds that both
  have. Detectable gain: the smallest that a two-sided test at 0.05 of so many runs with this spread would show in four
  of five trials, before the adjustment; smaller ones stay unseen, whether they are there or not.
- p is of Welch's t-test of the same runs, in brackets adjusted for the number of tests in the table (Benjamini and
  Hochberg); * marks an adjusted p < 0.05.
- Few labels are compared by macro F1: such columns learn from pictures drawn evenly from the classes, which the test
  pictures are not, and accuracy counts that against them.
"""
TOGETHER = """Each claim by all of its cells, in percentage points:

{table}
The mean over a claim's cells with each seed, and p of a t-test of these means against 0, adjusted for the number of
claims. The cells of a seed share source columns and what they are compared with, so it is the seeds that are counted.
The test pictures, and but for few labels the training pictures, are the same with all seeds: what chance they bring is
not in the error.
"""
LOOKS = """## Figure 4: where the plain columns look

![Figure 4: where the plain columns look](experiments/figure4.png)

By the last convolution of each column, averaged over pictures that it is tested on, each for the class that the column
finds most probable. In the paper identity looks at the mouth and around it, the others at eyes, cheeks and nose.
"""


def write_table(out: Path, table: str, to: Path | None = None) -> str:
    """Write a table, Figure 5 or what few labels bring, as <table>.md, .csv and .png, and all runs as runs.csv.

    Args:
        out: the experiment's folder.
        to: where the files go; by default into the experiment's folder.

    Returns:
        The Markdown.

    Raises:
        ValueError: the folder is none of an experiment.
    """
    from .figures import plot_few, plot_learning, plot_rows  # here, so that the numbers need no matplotlib

    to = to or out
    configuration, found = read_folder(out), read_results(out)
    results, majority = by_cell(found), majorities(configuration)
    _write(to / "runs.csv", runs_csv(found))
    if table == "figure5":
        pairs = [(curve_of(Cell(task), results), curve_of(Cell(task, BEST[task][0]), results)) for task in TASKS]
        curves, on_validation = (
            [curve for pair in pairs for curve in pair if curve],
            majorities(configuration, "val_majority"),
        )
        _write(to / "figure5.csv", curves_csv(curves))
        plot_learning(to / "figure5.png", pairs, _title(table, configuration, curves), on_validation)
        text = speeds_markdown(speeds(results, on_validation))
    elif table == "labels":
        few = few_rows(results, majority)
        _write(to / "labels.csv", few_csv(few))
        plot_few(to / "labels.png", few, _title(table, configuration, few))
        text = few_markdown(few)
    else:
        rows = table_rows(table, results, majority)
        _write(to / f"{table}.csv", rows_csv(rows))
        plot_rows(to / f"{table}.png", rows, _title(table, configuration, [row for row in rows if row.ours]))
        text = rows_markdown(rows)
    _write(to / f"{table}.md", text)
    return text


def write_report(out: Path, to: Path) -> Path:
    """Write experiments.md into a folder, with the tables as CSV and the pictures in its subfolder experiments.

    Returns:
        The document.

    Raises:
        ValueError: the folder is none of an experiment, or no run of it is done.
    """
    configuration, found = read_folder(out), read_results(out)
    if not found:
        raise ValueError(f"{out} has no run that is done: nothing to report")
    results = by_cell(found)
    parts = ["# Experiments\n", _what_was_run(configuration, results), _what_it_says(configuration, results), NOTE]
    figure = out / f"{FIGURE4}.png"
    if figure.exists():
        write_atomically(to / "experiments" / figure.name, figure.read_bytes())
        parts.append(LOOKS)
    for table, cells in TABLES.items():
        # What few labels bring shares its other cells with Figure 5.
        own = [cell for cell in cells if cell not in PLAIN and (table != "labels" or cell.per_class)]
        if table in TITLES and any(cell.name in results for cell in own):
            text = write_table(out, table, to / "experiments")
            parts += [f"## {TITLES[table]}\n", f"![{TITLES[table]}](experiments/{table}.png)\n", text]
    parts.append(
        "Each run is a line in [runs.csv](experiments/runs.csv), with the command that makes it again; `DATA` holds "
        "the datasets as [training.md](training.md) says.\n"
    )
    _write(to / "experiments.md", "\n".join(parts))
    return to / "experiments.md"


def _title(table: str, configuration: Mapping[str, Any], trained: Sequence[Row | Few | Curve]) -> str:
    """The table's, and with what its columns were trained."""
    if not trained:
        return TITLES[table]
    adapters = ", adapters by groups" if configuration.get("adapters") == "groups" else ""
    width = f", columns of width {configuration['column_width']:g}" if configuration.get("column_width") else ""
    pictures, epochs = span([one.train for one in trained]), span([one.epochs for one in trained])
    return (
        f"{TITLES[table]}\npreset {configuration['preset']}, {pictures} training pictures a task, {epochs} epochs"
        f"{adapters}{width}"
    )


def _what_was_run(configuration: Mapping[str, Any], results: Results) -> str:
    recipe, encoder = configuration["recipe"], configuration["encoder"]
    runs = [one for found in results.values() for one in found]
    seeds, devices = sorted({one["seed"] for one in runs}), sorted({one["device"] for one in runs})
    samples = ", ".join(f"{count} of {name}" for name, count in encoder["samples"].items()) or "no pictures"
    data = "".join(
        f"| {task} | {of['dataset']} | {of['train']} | {of['val']} | {of['test']}, split {of['tested_on']} |\n"
        for task, of in configuration["data"].items()
    )
    passes = f", {encoder['epochs']:.3g} epochs" if "epochs" in encoder else ""
    epochs = [one["epochs"] for one in runs if one.get("per_class")]
    few = f"\n- {FEW} {span(epochs)} epochs." if epochs else ""
    rates = ", ".join(f"{name} {value}" for name, value in recipe.items() if value not in (None, False, 0.0))
    return f"""Generated by `face-mtl experiment report` from {len(runs)} runs of {len(results)} cells; seeds {seeds},
device {", ".join(devices)}.

- Network: preset `{configuration["preset"]}`. Encoder: `{encoder["name"]}`, sha256 `{encoder["sha256"][:12]}`, made by
  `{encoder["command"]}` on {samples}{passes}.
- Every column: {rates}.
- Source columns are plain ones (frozen encoder, no sources) of the same seed; seeds change weights and order, not the
  pictures.{few}

| task | dataset | train | validation, for curves | test |
|---|---|---:|---:|---|
{data}"""


def _what_it_says(configuration: Mapping[str, Any], results: Results) -> str:
    found = findings(configuration, results)
    if not found:
        return ""
    reasons = differences(configuration, results)
    claims = claims_together(configuration, results)
    return "\n".join(
        [
            "## What agrees with the paper and what does not\n",
            *(f"- {sentence}" for sentence in found),
            *(["", TOGETHER.format(table=claims_markdown(claims))] if claims else [""]),
            "What was done otherwise than in the paper, and may be why:\n",
            *(f"- {reason}" for reason in reasons),
            "",
        ]
    )


def _write(file: Path, text: str) -> None:
    write_atomically(file, text.encode())
