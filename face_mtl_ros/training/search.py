"""Searching sizes and rates of a column with Optuna's tree-structured Parzen estimator (paper, section II.C)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import optuna

from ..bundle.bundle import Bundle
from ..bundle.network import build_network
from .columns import Plan, train_column
from .corpus import Corpus
from .loop import TrainingError
from .recipe import Recipe

HEARTBEAT_S = 60  # a trial whose process says nothing for twice as long was killed, and is tried again
MAX_RETRIES = 3


def search_column(
    bundle: Bundle,
    task: str,
    sources: Sequence[str],
    corpus: Corpus,
    validation: Corpus,
    recipe: Recipe,
    study_file: Path,
    trials: int,
    key: str | None = None,
    report: Callable[[str], None] = print,
) -> optuna.Study:
    """Train columns of other sizes and at other rates, and find those with the highest validation accuracy.

    The study is an SQLite file: it is continued where it stands, and several processes may share it. A trial that
    after an epoch is worse than the median of those before it is given up.

    Args:
        recipe: what is not searched: epochs or minutes of a trial, augmentation, views.
        trials: how many this process adds.
        key: as of training.columns.Plan.

    Returns:
        The study; `best_trial` has the parameters.

    Raises:
        ValueError: there is nothing to validate on, or the study is another task's.
        TrainingError: a loss is not finite; such a trial counts as failed and the search goes on.
    """
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of the heartbeat
    study_file.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="face-mtl",
        storage=optuna.storages.RDBStorage(
            f"sqlite:///{study_file}",
            heartbeat_interval=HEARTBEAT_S,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
        ),
        sampler=optuna.samplers.TPESampler(),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        direction="maximize",
        load_if_exists=True,
    )
    setting = {"task": task, "sources": list(sources), "encoder": bundle.manifest.encoder.file.sha256}
    if study.user_attrs.get("setting", setting) != setting:
        raise ValueError(f"{study_file} is the study of {study.user_attrs['setting']}, not of {setting}")
    study.set_user_attr("setting", setting)

    def objective(trial: optuna.Trial) -> float:
        network = build_network(bundle)
        network.preset = replace(network.preset, **_sizes(trial, bool(sources)))
        plan = Plan(task, sources, corpus, validation, key=key)
        best = 0.0

        def seen(step: int, figures: dict[str, float]) -> None:
            nonlocal best
            if "accuracy" in figures:
                best = max(best, figures["accuracy"])
                trial.report(figures["accuracy"], step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        train_column(network, plan, replace(recipe, **_rates(trial)), report=report, log=seen)
        return best

    study.optimize(objective, n_trials=trials, catch=(TrainingError,))
    return study


def _sizes(trial: optuna.Trial, lateral: bool) -> dict:
    """Sizes of Table III that are the column's own: its sources' hidden layer must be as wide as its own."""
    sizes = {"dropout": trial.suggest_float("dropout", 0.1, 0.7)}
    if lateral:
        return sizes | {"adapter_reduction": trial.suggest_categorical("adapter_reduction", [2, 4, 8])}
    return sizes | {"hidden_units": trial.suggest_int("hidden_units", 50, 400, step=50)}


def _rates(trial: optuna.Trial) -> dict:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.1, log=True),
        "batch": trial.suggest_categorical("batch", [32, 64, 128]),
        "smoothing": trial.suggest_float("smoothing", 0.0, 0.15),
        "class_weight": trial.suggest_float("class_weight", 0.0, 0.6),
    }
