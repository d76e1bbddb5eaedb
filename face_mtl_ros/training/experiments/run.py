"""One cell with one seed: train its column beside those that it draws on, and test it."""

import json
import platform
import shlex
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import __version__
from ...bundle.files import read_tensors, write_atomically, write_tensors
from ...bundle.manifest import FileRecord
from ...bundle.network import to_numpy, to_torch
from ...networks.column import Column
from ...networks.progressive import ProgressiveNetwork
from ...runtime.processor import processor_name
from .. import distributed
from ..columns import Plan, train_column
from ..corpus import Corpus
from ..device import best_autocast, best_device, has_bf16
from ..evaluation import Evaluation, evaluate
from ..features import Frozen
from ..loop import History
from ..views import Views
from .cells import Cell, Run
from .data import TaskData
from .setting import Setting

BATCH = 64


def train(setting: Setting, run: Run, report: Callable[[str], None]) -> dict[str, Any]:
    """Train and test a cell, and write what came of it; a run that was killed goes on from its checkpoint.

    Several processes train it together; the first one tests and writes, for all.

    Returns:
        What its file holds: cell, task, sources, retrain_encoder, per_class, seed; accuracy and macro_f1 on the test
        split, of the weights at the end; curve, the accuracy on the validation pictures after each epoch, and
        epoch_losses, the mean loss of each; train, val and test, numbers of pictures; majority, the share of the test
        pictures' largest class; epochs, and seconds of training; of a column that others draw on `column`, the record
        of its weights; encoder_sha256; command, threads, device, cpu, commit of the code, and the versions of package
        and torch. All accuracies are shares of 1.

    Raises:
        TrainingError, CheckpointError, DatasetError, OSError, KeyboardInterrupt: see training.loop.fit.
    """
    _commit()  # now: the checkout may be another one when the training ends
    cell, data = run.cell, setting.read(run.cell.task, run.cell.per_class, run.seed)
    recipe = setting.recipe_of(run)
    network, key = network_for(setting, run)
    plan = Plan(
        task=cell.task,
        sources=cell.sources,
        corpus=Corpus([data.train], [cell.task], recipe.smoothing, soft=recipe.soft_labels),
        validation=Corpus([data.val], [cell.task]),
        retrain_encoder=cell.retrain_encoder,
        adapters=setting.adapters,
        key=key,
    )
    checkpoint = setting.out / "checkpoints" / f"{run.name}.pt"
    column, history = train_column(network, plan, recipe, checkpoint, report, every_epoch=True)
    result = distributed.of_first(lambda: _record(setting, run, data, network, column, history))
    if distributed.rank() == 0:
        checkpoint.unlink(missing_ok=True)
    return result


def _record(
    setting: Setting, run: Run, data: TaskData, network: ProgressiveNetwork, column: Column, history: History
) -> dict[str, Any]:
    """Test a trained column and write its line of the results, and its weights where others draw on it."""
    cell = run.cell
    scores = score(network, column, cell, Corpus([data.test], [cell.task]))
    drawn_on = cell == Cell(cell.task)
    record = write_tensors(setting.out, f"columns/{run.name}.safetensors", to_numpy(column)) if drawn_on else None
    table, one = "labels" if cell.per_class else "all", f"--only {shlex.quote(cell.name)} --runs 1 --seed {run.seed}"
    result = {
        "cell": cell.name,
        "task": cell.task,
        "sources": list(cell.sources),
        "retrain_encoder": cell.retrain_encoder,
        "per_class": cell.per_class,
        "seed": run.seed,
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        **data.sizes,
        "majority": data.majority,
        "epochs": setting.recipe_of(run).epochs,
        "seconds": round(history.seconds, 1),
        "epoch_losses": history.epoch_losses,
        "curve": [epoch["accuracy"] for epoch in history.validation],
        "column": record.model_dump(exclude_none=True) if record else None,
        "encoder_sha256": setting.bundle().manifest.encoder.file.sha256,
        "command": f"face-mtl experiment {table} {setting.command} {one}",
        "threads": setting.threads,
        "device": _device(),
        "cpu": processor_name(),
        "commit": _commit(),
        "package_version": __version__,
        "torch_version": torch.__version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
    }
    write_atomically(setting.result_file(run), (json.dumps(result, indent=1) + "\n").encode())
    return result


def _device() -> str:
    """Such as "x86_64 in bf16": what the columns were trained on, and in which precision."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{name} in {'bf16' if has_bf16(best_device()) else 'fp32'}"


@cache
def _commit() -> str:
    """The checkout's, with "+" where its files differ from it; empty where the package is in none of its own."""
    package = Path(__file__).parents[2]
    git = ["git", "--no-optional-locks", "-C", str(package)]
    try:
        said = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True)
        top, _, commit = said.stdout.strip().partition("\n")
        if said.returncode or Path(top) != package.parent:  # such as a .venv in somebody's repository
            return ""
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "."], capture_output=True).returncode
    except FileNotFoundError:  # no git here
        return ""
    return commit + ("+" if changed else "")


def column_record(setting: Setting, run: Run) -> FileRecord:
    """The file of a plain column's weights; as `Setting.result` where it is not trained yet."""
    return FileRecord.model_validate(setting.result(run)["column"])


def network_for(setting: Setting, run: Run) -> tuple[ProgressiveNetwork, str]:
    """The frozen encoder and the columns that the run draws on, and what identifies them for the cache of features."""
    bundle = setting.bundle()
    network = ProgressiveNetwork(setting.preset())
    network.encoder.load_state_dict(to_torch(bundle.encoder))
    digests = [bundle.manifest.encoder.file.sha256]
    for needed in run.needs:
        record = column_record(setting, needed)
        weights = read_tensors(setting.out, record)
        network.add_column(needed.cell.task, len(weights["classifier.bias"]))
        network.columns[needed.cell.task].load_state_dict(to_torch(weights))
        digests.append(record.sha256)
    return network.requires_grad_(False).eval(), "-".join(digests)


@torch.no_grad()
def score(network: ProgressiveNetwork, column: Column, cell: Cell, corpus: Corpus) -> Evaluation:
    """The column on a corpus's pictures as they are."""
    device = best_device()
    network.to(device)
    frozen = Frozen(network, cell.sources, corpus, Views("plain", network.preset.shrink))
    parts = []
    for start in range(0, len(corpus), BATCH):
        encoded, sources = frozen(np.arange(start, min(start + BATCH, len(corpus))), 0)
        with best_autocast(device):
            logits, _ = column(encoded, sources)
        parts.append(logits.float().softmax(1).cpu().numpy())
    return evaluate(np.concatenate(parts), corpus.targets[cell.task].argmax(1).numpy())
