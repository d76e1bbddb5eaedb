"""The plot of face-mtl bench. matplotlib comes with the train extra: import this where a plot is asked for."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..bundle.files import write_atomically


def plot_inference(file: Path, result: dict) -> None:
    """Faces a second by batch: a panel a preset, a line each engine and precision, the peers dashed in every panel.

    Args:
        file: where the PNG goes; an older one is replaced.
        result: what face-mtl bench --json prints.
    """
    presets = list(dict.fromkeys(entry["preset"] for entry in result["inference"])) or [""]
    figure = Figure(figsize=(5.4 * len(presets) + 2, 4.8), layout="constrained")
    machine = result["machine"]
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    figure.suptitle(f"{machine['cpu']}, {machine['threads']} threads{gpu}")
    lines: dict[str, Line2D] = {}  # by label; what has the same one in several panels has the same colour
    for i, preset in enumerate(presets, start=1):
        axes = figure.add_subplot(1, len(presets), i)
        ours = [(f"{e['engine']} {e['precision']}", e) for e in result["inference"] if e["preset"] == preset]
        peers = [(f"{e['peer']}, {e['runtime']}", e) for e in result["peers"]]
        for entries, style in ((ours, "o-"), (peers, "s--")):
            for label in dict.fromkeys(label for label, _ in entries):
                own = [entry for named, entry in entries if named == label]
                colour = lines[label].get_color() if label in lines else f"C{len(lines)}"
                points = [e["batch"] for e in own], [e["faces_per_s"] for e in own]
                (lines[label],) = axes.plot(*points, style, color=colour)
        axes.set(title=f"{preset}, four columns", xlabel="faces an inference", ylabel="faces a second", yscale="log")
        axes.grid(alpha=0.3)
    if lines:
        figure.legend(lines.values(), lines.keys(), loc="outside right center", fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(file, picture.getvalue())
