"""Where an experiment departs from the paper's section III, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..recipe import PAPER
from .statistics import Results

RUNS = 10  # the paper's, of each cell
# Told in a sentence of its own, and what changes no result.
NOT_COMPARED = ("normalize", "seed", "views")


def differences(configuration: Mapping[str, Any], results: Results) -> list[str]:
    """A sentence a difference."""
    return [
        *_encoder(configuration),
        *_network(configuration),
        *_training(configuration, results),
        *_data(configuration),
        "The paper does not name its test pictures, nor whether sources drew on each other; here they did not.",
    ]


def span(values: Sequence[float]) -> str:
    """Such as "12" or "12 to 60"."""
    ends = dict.fromkeys((min(values), max(values)))
    return " to ".join(f"{value:.4g}" if value % 1 else f"{value:.0f}" for value in ends)


def _encoder(configuration: Mapping[str, Any]) -> list[str]:
    encoder = configuration["encoder"]
    if not encoder.get("began"):
        return [
            "The encoder did not learn without labels (a BEGAN on CelebA): a frozen encoder that knows the tasks "
            "already leaves less for lateral connections to add."
        ]
    # Folders from before this was kept do not have it.
    passes = f" in {encoder['epochs']:.3g} epochs" if "epochs" in encoder else ""
    pictures = sum(encoder["samples"].values())
    return [f"The BEGAN learned from {pictures} pictures of these datasets{passes} instead of CelebA's 202,599."]


def _network(configuration: Mapping[str, Any]) -> list[str]:
    found = []
    if configuration["preset"] != "paper":
        found.append(
            f"The preset `{configuration['preset']}` has fewer channels, smaller maps and batch normalisation."
        )
    elif configuration["recipe"]["normalize"]:
        found.append(
            "Columns learn with a batch normalisation that is folded at the end; without one they hardly learn."
        )
    if configuration.get("adapters") == "groups":
        found.append("Lateral adapters before each group of three convolutions alone.")
    if width := configuration.get("column_width"):
        found.append(f"Columns of {width:g} times Table III's channels.")
    return found


def _training(configuration: Mapping[str, Any], results: Results) -> list[str]:
    paper = {name: value for name, value in asdict(PAPER).items() if name not in NOT_COMPARED}
    others = [
        f"{name.replace('_', ' ')} {_value(ours)} instead of {_value(paper[name])}"
        for name, ours in configuration["recipe"].items()
        if name in paper and ours != paper[name]
    ]
    runs = [len(found) for found in results.values()]
    return [
        *([f"At most {limit} training pictures a task."] if (limit := configuration["train_limit"]) else []),
        *([f"The recipe: {', '.join(others)}."] if others else []),
        *([f"Runs of a cell: {span(runs)} instead of {RUNS}."] if min(runs) < RUNS else []),
    ]


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _data(configuration: Mapping[str, Any]) -> list[str]:
    data = configuration["data"]
    found = [
        f"{task.capitalize()} is tested on the split `val` of {of['dataset']}, which also holds its {of['val']} "
        "pictures for the curves; nothing is chosen by either."
        for task, of in data.items()
        if of["tested_on"] == "val"
    ]
    if data.get("age", {}).get("dataset", "adience") != "adience":
        found.append(
            f"Age groups are those of {data['age']['dataset']} instead of Adience, cut from years, which makes "
            "neighbours harder to tell apart."
        )
    return found
