"""The plot of face-mtl bench. matplotlib comes with the train extra: import this where a plot is asked for."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from ..bundle.files import write_atomically


def plot_inference(file: Path, result: dict) -> None:
    """Faces a second by batch: a panel a preset, a line each engine and precision, the peers dashed in every panel.

    Args:
        file: where the PNG goes; an older one is replaced.
        result: what face-mtl bench --json prints.
    """
    presets = list(dict.fromkeys(entry["preset"] for entry in result["inference"])) or [""]
    figure = Figure(figsize=(6.4 * len(presets), 4.8), layout="constrained")
    figure.suptitle("{cpu}, {threads} threads".format(**result["machine"]))
    for i, preset in enumerate(presets, start=1):
        axes = figure.add_subplot(1, len(presets), i)
        ours = [entry for entry in result["inference"] if entry["preset"] == preset]
        for label in dict.fromkeys(f"{entry['engine']} {entry['precision']}" for entry in ours):
            own = [entry for entry in ours if f"{entry['engine']} {entry['precision']}" == label]
            axes.plot([e["batch"] for e in own], [e["faces_per_s"] for e in own], marker="o", label=label)
        for label in dict.fromkeys(f"{entry['peer']}, {entry['runtime']}" for entry in result["peers"]):
            own = [entry for entry in result["peers"] if f"{entry['peer']}, {entry['runtime']}" == label]
            axes.plot([e["batch"] for e in own], [e["faces_per_s"] for e in own], "--", marker="s", label=label)
        axes.set(title=f"{preset}, four columns", xlabel="faces an inference", ylabel="faces a second", yscale="log")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(file, picture.getvalue())
