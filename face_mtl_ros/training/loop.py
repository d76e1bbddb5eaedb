"""The training loop: optimizer, schedule, an average of the weights, checkpoints, exact resume, several processes."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from . import distributed
from .checkpoint import load_checkpoint, save_checkpoint
from .interrupt import deferred_interrupt
from .order import mixed_indices
from .recipe import Recipe

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 60.0
CHECKPOINT_AFTER_EPOCH_S = 5.0  # at the end of an epoch, so that a kill loses one at most, or a few short ones
REPORT_EVERY_S = 10.0
CLIP_NORM = 5.0
STAGNATION = 2  # epochs without a lower loss, after which the plateau schedule halves the learning rate


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, with which samples, and what is kept."""


@dataclass
class History:
    """What came of a training.

    Attributes:
        epochs: passes over the samples that were really done.
        budgets: what it ran under, {"step", "epochs", "minutes"} each, from which step on.
        epoch_losses: mean loss of each whole epoch.
        validation: what `validate` returned after each epoch, with "epoch".
        seconds: that it took, those before a resume included.
    """

    epochs: float = 0.0
    budgets: list[dict] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    validation: list[dict] = field(default_factory=list)
    seconds: float = field(default=0.0, compare=False)


def fit(
    module: nn.Module,
    loss_of: Callable[[np.ndarray, float], torch.Tensor],
    samples: int | Sequence[int],
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = logger.info,
    *,
    names: Sequence[str] | None = None,
    identity: dict[str, Any] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    log: Callable[[int, dict[str, float]], None] | None = None,
    every_epoch: bool = False,
) -> History:
    """Train the module's trainable parameters in place.

    Chance (views, dropout) is seeded anew at each step from the recipe's seed and the step, so a training that is
    resumed goes the very way of one that never stopped.

    Args:
        module: in training mode already; ends with the averaged weights.
        loss_of: the mean loss of the samples at these indices, a scalar with gradient; it also gets the share of the
            budget that is used up.
        samples: how many samples there are; loss_of gets indices below it. Or how many of each part, of which every
            batch then has the same numbers, in the order of `mixed_indices`.
        checkpoint: written once a minute, after an epoch, at the end and on Ctrl-C; training continues from it if it
            is there. The budget (epochs, minutes) may be another one than before: what is left then follows the new
            one. Of several processes the first one writes and reads it, for all.
        report: called with a line of progress about every ten seconds.
        names: the samples' ids, for error messages.
        identity: what else a checkpoint must agree in, such as the preset.
        validate: called after each whole epoch, with the averaged weights in place and in evaluation mode.
        log: called with the step and figures to plot whenever progress is reported, and with those of a validation.
        every_epoch: write the checkpoint after each epoch, however short, so that a kill loses one at most. That is not
            for all: a robot that learns has epochs of a tenth of a second, and a disk that wears.

    Raises:
        TrainingError: the loss or its gradient is not finite.
        CheckpointError: the checkpoint is damaged or of another training.
        OSError: a checkpoint cannot be written; the one before is kept.
        KeyboardInterrupt: Ctrl-C, after the step in hand and a checkpoint; a second one does not wait.
    """
    parts = [samples] if isinstance(samples, int) else list(samples)
    run = _Run(module, sum(parts), recipe, checkpoint, identity or {})
    if run.resume():
        report(f"resuming at step {run.step} of {run.steps} from {checkpoint}")
    reported = saved = time.monotonic()
    losses: list[float] = []
    done, since = run.progress(), run.step
    after_epoch_s = 0.0 if every_epoch else CHECKPOINT_AFTER_EPOCH_S
    with deferred_interrupt() as interrupted:
        while done < 1:
            indices = distributed.share(mixed_indices(run.step, parts, recipe.batch, recipe.seed))
            torch.manual_seed((recipe.seed * 1_000_003 + run.step) * distributed.world() + distributed.rank())
            losses += run.advance(loss_of(indices, done), done, [names[i] for i in indices] if names else [])
            now, done = time.monotonic(), run.progress()
            epoch_ended = run.epoch_ended()
            if epoch_ended:
                losses += run.settle()
                _end_epoch(run, validate, report, log)
            stopped = interrupted()
            reporting = now - reported > REPORT_EVERY_S or done >= 1
            waited = after_epoch_s if epoch_ended else CHECKPOINT_EVERY_S
            saving = now - saved > waited or done >= 1 or stopped
            if reporting or saving:
                losses += run.settle()
            if reporting:
                mean, rate = float(np.mean(losses)), (run.step - since) * recipe.batch / (now - reported)
                report(_progress_line(run, mean, rate, done))
                if log:
                    log(run.step, {"loss": mean, "learning_rate": run.learning_rate, "rate": rate})
                reported, since, losses = now, run.step, []
            if saving:
                run.save()
                saved = now
            if stopped:
                if checkpoint:
                    report(f"stopped at step {run.step}; the same command goes on from {checkpoint}")
                raise KeyboardInterrupt
    run.load_average()
    run.history.epochs = run.step * recipe.batch / run.samples
    run.history.seconds = run.elapsed()
    return run.history


@dataclass
class _Figures:
    """Loss and gradient's norm of a step: float (2,), on its way from the device until the event has happened."""

    step: int
    values: torch.Tensor
    names: list[str]
    event: Any = None


class _Run:
    """A training's state: what a checkpoint holds."""

    def __init__(self, module: nn.Module, samples: int, recipe: Recipe, checkpoint: Path | None, identity: dict):
        self.module, self.recipe, self.checkpoint, self.samples = module, recipe, checkpoint, samples
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.parameters, recipe)
        self.current = _averaged(module)  # the very tensors, which training changes in place
        self.average = {name: value.detach().clone() for name, value in self.current.items()}
        self.signature = {**asdict(recipe), "samples": samples, **identity}
        budget = {"epochs": self.signature.pop("epochs"), "minutes": self.signature.pop("minutes")}
        self.history = History(budgets=[{"step": 0, **budget}])
        self.steps = max(1, math.ceil(recipe.epochs * samples / recipe.batch - 1e-6))  # whole epochs end whole
        self.step, self.spent, self.started = 0, 0.0, time.monotonic()
        self.learning_rate, self.halvings, self.lowest, self.stagnant = 0.0, 0, math.inf, 0
        self.epoch_sum, self.epoch_steps = 0.0, 0
        self._unsettled: deque[_Figures] = deque()
        # Processes that wait for each other keep in step.
        self._behind = 1 if self.parameters[0].is_cuda and distributed.world() == 1 else 0

    def resume(self) -> bool:
        """Take up the checkpoint if there is one."""
        state = distributed.of_first(lambda: load_checkpoint(self.checkpoint, self.signature))
        if state is None:
            return False
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.step, self.spent = state["step"], state["spent"]
        self.halvings, self.lowest, self.stagnant = state["halvings"], state["lowest"], state["stagnant"]
        self.epoch_sum, self.epoch_steps = state["epoch_sum"], state["epoch_steps"]
        budget = {key: value for key, value in self.history.budgets[0].items() if key != "step"}
        self.history = History(**state["history"])
        if {**self.history.budgets[-1], **budget} != self.history.budgets[-1]:
            self.history.budgets.append({"step": self.step, **budget})
        return True

    def save(self) -> None:
        if self.checkpoint is None or distributed.rank():
            return
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "spent": self.elapsed(),
            "halvings": self.halvings,
            "lowest": self.lowest,
            "stagnant": self.stagnant,
            "epoch_sum": self.epoch_sum,
            "epoch_steps": self.epoch_steps,
            "history": asdict(self.history),
        }
        save_checkpoint(self.checkpoint, self.signature, state)

    def advance(self, loss: torch.Tensor, done: float, names: list[str]) -> list[float]:
        """One step of the optimizer. Returns the losses of the steps that were read meanwhile.

        A GPU is told of this step before the last one's figures are read, so that it never waits for them.
        """
        self.learning_rate = self.recipe.learning_rate * self._factor(done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        values = torch.stack([loss.detach().float(), norm.float()])
        figures = _Figures(self.step, values.to("cpu", non_blocking=True), names)
        if values.is_cuda:
            figures.event = torch.cuda.current_stream().record_event()
        self._unsettled.append(figures)
        losses = self.settle(self._behind)
        self.optimizer.step()
        self.step += 1
        # The average follows closely at first, else it would remember the initial weights.
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.current.values()), 1 - decay)
        return losses

    def settle(self, leave: int = 0) -> list[float]:
        """Read the losses of all but the last so many steps, over all processes, before they are kept or told.

        Raises:
            TrainingError: a loss or a gradient's norm is not finite.
        """
        losses = []
        while len(self._unsettled) > leave:
            figures = self._unsettled.popleft()
            if figures.event:
                figures.event.synchronize()
            loss = distributed.average(figures.values[0].item())
            self._check_finite("loss", loss, figures)
            self._check_finite("gradient's norm", figures.values[1].item(), figures)
            losses.append(loss)
        self.epoch_sum, self.epoch_steps = self.epoch_sum + sum(losses), self.epoch_steps + len(losses)
        return losses

    def _check_finite(self, what: str, value: float, figures: _Figures) -> None:
        if math.isfinite(value):
            return
        kept = self.checkpoint is not None and self.checkpoint.exists()
        batch = f"; its samples: {', '.join(figures.names)}" if figures.names else ""
        checkpoint = f"; the last good checkpoint is kept, {self.checkpoint}" if kept else ""
        raise TrainingError(
            f"the {what} is {value} at step {figures.step}{batch}{checkpoint}; look at these samples, or begin anew "
            "with a lower learning rate"
        )

    def epoch_ended(self) -> bool:
        size, batch = self.samples, self.recipe.batch
        return self.step * batch // size > (self.step - 1) * batch // size

    def close_epoch(self) -> None:
        """Note the epoch's mean loss, and halve the learning rate of a plateau schedule when it stagnates."""
        loss = self.epoch_sum / self.epoch_steps
        self.history.epoch_losses.append(loss)
        self.epoch_sum, self.epoch_steps = 0.0, 0
        self.stagnant = 0 if loss < self.lowest else self.stagnant + 1
        self.lowest = min(loss, self.lowest)
        if self.stagnant == STAGNATION:
            self.halvings, self.stagnant = self.halvings + 1, 0

    def _factor(self, done: float) -> float:
        return 0.5**self.halvings if self.recipe.schedule == "plateau" else _cosine(done, self.recipe.warmup)

    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.spent + time.monotonic() - self.started

    def progress(self) -> float:
        """The share of the budget that is used up, 0 to 1."""
        minutes = self.recipe.minutes
        in_time = self.elapsed() / (60 * minutes) if minutes else 0.0
        return min(1.0, max(self.step / self.steps, distributed.agree(in_time)))

    def load_average(self) -> None:
        self.module.load_state_dict({**self.module.state_dict(), **self.average})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in place, in evaluation mode, for the time of a validation."""
        current = {name: value.detach().clone() for name, value in self.current.items()}
        training = {child: child.training for child in self.module.modules()}
        self.load_average()
        self.module.eval()
        try:
            yield
        finally:
            self.module.load_state_dict({**self.module.state_dict(), **current})
            for child, mode in training.items():
                child.training = mode


def _end_epoch(run: _Run, validate: Callable | None, report: Callable[[str], None], log: Callable | None) -> None:
    run.close_epoch()
    if validate is None:
        return
    with run.averaged(), torch.no_grad():
        figures = validate()
    run.history.validation.append({"epoch": len(run.history.epoch_losses), **figures})
    if log:
        log(run.step, figures)
    said = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    report(f"after epoch {len(run.history.epoch_losses)}: {said}")


def _progress_line(run: _Run, loss: float, rate: float, done: float) -> str:
    left = run.elapsed() * (1 - done) / max(done, 1e-9) / 60
    epochs = run.step * run.recipe.batch / run.samples
    return f"epoch {epochs:.2f} loss {loss:.4f}, {rate:.0f} samples/s, {done:.1%} done, {left:.0f} min left"


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    fused = parameters[0].is_cuda  # one kernel for all of them
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.learning_rate, fused=fused)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def _cosine(progress: float, warmup: float) -> float:
    """Factor on the learning rate: a linear rise from a hundredth, then a cosine to 0."""
    if progress < warmup:
        return 0.01 + 0.99 * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _averaged(module: nn.Module) -> dict[str, torch.Tensor]:
    """What the moving average runs over: the trainable parameters and, beside them, the batch statistics."""
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    prefixes = {name.rpartition(".")[0] for name in trainable}
    return {
        name: value
        for name, value in module.state_dict().items()
        if name in trainable or (name.rpartition(".")[0] in prefixes and value.is_floating_point())
    }
