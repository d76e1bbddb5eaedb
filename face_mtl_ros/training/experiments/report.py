"""All that an experiment's folder holds, as tables, pictures and a document."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...bundle.files import write_atomically
from .cells import PLAIN, TABLES, Cell
from .claims import findings
from .paper import BEST, TASKS
from .setting import read_folder, read_results
from .statistics import Results, by_cell, curve_of, few_rows, speeds, table_rows
from .tables import curves_csv, few_csv, few_markdown, rows_csv, rows_markdown, runs_csv, speeds_markdown

TITLES = {
    "table4": "Table IV: the encoder frozen and re-trained",
    "table5": "Table V: progressive connections from other columns",
    "table6": "Table VI: the best rows beside the literature's",
    "figure5": "Figure 5: learning with and without progressive connections",
    "labels": "How many labels: where lateral connections help",
}
NOTE = (
    "Accuracies in % on the test split, of the weights at the end of training. SE: standard error over the runs. Gains "
    "are in percentage points above the task's plain column (frozen encoder, no sources); p is of Welch's t-test "
    "against it, adjusted for the number of tests in the table by Benjamini and Hochberg; * marks adjusted p < 0.05. "
    "± sampling is the standard error of a single run that the number of test pictures alone brings about.\n"
)


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
    results, title = by_cell(found), f"{TITLES[table]}\n{_setting_line(configuration)}"
    _write(to / "runs.csv", runs_csv(found))
    if table == "figure5":
        pairs = [(curve_of(Cell(task), results), curve_of(Cell(task, BEST[task][0]), results)) for task in TASKS]
        _write(to / "figure5.csv", curves_csv([curve for pair in pairs for curve in pair if curve]))
        plot_learning(to / "figure5.png", pairs, title)
        text = speeds_markdown(speeds(results))
    elif table == "labels":
        few = few_rows(results)
        _write(to / "labels.csv", few_csv(few))
        plot_few(to / "labels.png", few, title)
        text = few_markdown(few)
    else:
        rows = table_rows(table, results)
        _write(to / f"{table}.csv", rows_csv(rows))
        plot_rows(to / f"{table}.png", rows, title)
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


def _setting_line(configuration: Mapping[str, Any]) -> str:
    recipe, limit = configuration["recipe"], configuration["train_limit"]
    pictures = f"at most {limit} pictures a task" if limit else "all pictures"
    adapters = ", adapters by groups" if configuration.get("adapters") == "groups" else ""
    width = f", columns of width {configuration['column_width']:g}" if configuration.get("column_width") else ""
    return f"preset {configuration['preset']}, {pictures}, {recipe['epochs']:g} epochs{adapters}{width}"


def _what_was_run(configuration: Mapping[str, Any], results: Results) -> str:
    recipe, encoder = configuration["recipe"], configuration["encoder"]
    runs = [one for found in results.values() for one in found]
    seeds, devices = sorted({one["seed"] for one in runs}), sorted({one["device"] for one in runs})
    samples = ", ".join(f"{count} of {name}" for name, count in encoder["samples"].items()) or "no pictures"
    data = "".join(
        f"| {task} | {of['dataset']} | {of['train']} | {of['val']} | {of['test']}, split {of['tested_on']} |\n"
        for task, of in configuration["data"].items()
    )
    rates = ", ".join(f"{name} {value}" for name, value in recipe.items() if value not in (None, False, 0.0))
    return f"""Generated by `face-mtl experiment report` from {len(runs)} runs of {len(results)} cells; seeds {seeds},
device {", ".join(devices)}.

- Network: preset `{configuration["preset"]}`. Encoder: `{encoder["name"]}`, sha256 `{encoder["sha256"][:12]}`, made by
  `{encoder["command"]}` on {samples}.
- Every column: {rates}.
- Source columns are plain ones (frozen encoder, no sources) of the same seed; seeds change weights and order, not the
  pictures.

| task | dataset | train | validation, for curves | test |
|---|---|---:|---:|---|
{data}"""


def _what_it_says(configuration: Mapping[str, Any], results: Results) -> str:
    found = findings(results)
    if not found:
        return ""
    reasons = _differences(configuration)
    return "\n".join(
        [
            "## What agrees with the paper and what does not\n",
            *(f"- {sentence}" for sentence in found),
            "\nWhat was done otherwise than in the paper, and may be why:\n",
            *(f"- {reason}" for reason in reasons),
            "",
        ]
    )


def _differences(configuration: Mapping[str, Any]) -> list[str]:
    """Where this experiment departs from the paper's section III."""
    recipe, data, found = configuration["recipe"], configuration["data"], []
    if configuration["encoder"].get("began"):
        pictures = sum(configuration["encoder"]["samples"].values())
        found.append(f"The BEGAN learned from {pictures} pictures of these datasets instead of CelebA's 202,599.")
    else:
        found.append(
            "The encoder did not learn without labels (a BEGAN on CelebA): a frozen encoder that knows the tasks "
            "already leaves less for lateral connections to add."
        )
    if configuration["preset"] != "paper":
        found.append(
            f"The preset `{configuration['preset']}` has fewer channels, smaller maps and batch normalisation."
        )
    elif recipe["normalize"]:
        found.append(
            "Columns learn with a batch normalisation that is folded at the end; without one they hardly learn."
        )
    if configuration.get("adapters") == "groups":
        found.append("Lateral adapters before each group of three convolutions alone.")
    if width := configuration.get("column_width"):
        found.append(f"Columns of {width:g} times Table III's channels.")
    if configuration["train_limit"]:
        found.append(f"At most {configuration['train_limit']} training pictures a task.")
    if recipe["epochs"] != 35:
        found.append(f"{recipe['epochs']:g} epochs instead of 35.")
    if data.get("age", {}).get("dataset", "adience") != "adience":
        found.append(
            f"Age groups are those of {data['age']['dataset']} instead of Adience, cut from years, which makes "
            "neighbours harder to tell apart."
        )
    found.append(
        "The paper does not name its test pictures, nor whether sources drew on each other; here they did not."
    )
    return found


def _write(file: Path, text: str) -> None:
    write_atomically(file, text.encode())
