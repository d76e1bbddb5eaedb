"""The training loop: AdamW with warm-up and cosine decay, an average of the weights, checkpoints, exact resume."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 60.0


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the samples.
        minutes: where it is set, the time after which training ends at the latest; the learning rate then falls with
            the time that has passed, if that is ahead of the steps, so that a short training is a whole one.
        batch: samples a step.
        learning_rate: AdamW's, at the end of the warm-up; from there it falls to 0 along a cosine.
        weight_decay: AdamW's, on weights of two and more dimensions.
        warmup: share of the steps over which the learning rate rises.
        average: decay of the exponential moving average of the weights, which is what training returns.
        smoothing: label smoothing.
        half_size: share of the budget, at its beginning, over which pre-training sees crops at half their size,
            which have a quarter of the pixels; the rest adapts the filters to the full size.
        seed: of the samples' order, the initial weights and the augmentation.
    """

    epochs: float = 12
    minutes: float | None = None
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    average: float = 0.998
    smoothing: float = 0.05
    half_size: float = 0.0
    seed: int = 0


def fit(
    module: nn.Module,
    loss_of: Callable[[np.ndarray, float], torch.Tensor],
    samples: int,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = logger.info,
) -> list[dict]:
    """Train the module's trainable parameters in place.

    Args:
        module: in training mode already; ends with the averaged weights.
        loss_of: the mean loss of the samples at these indices, a scalar with gradient; it also gets the share of the
            budget that is used up.
        samples: how many samples there are; loss_of gets indices below it.
        checkpoint: written once a minute and at the end by an atomic rename; training continues from it if it is
            there and was written under the same recipe, and then goes through the same samples as without a pause.
            The budget (epochs, minutes) may be another one than before: what is left then follows the new one.
        report: called with a line of progress about every ten seconds.

    Returns:
        The budgets that training ran under, {"step", "epochs", "minutes"} each, from which step on.
    """
    steps = max(1, round(recipe.epochs * samples / recipe.batch))
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
    average = {name: value.detach().clone() for name, value in _averaged(module).items()}
    signature = {**asdict(recipe), "samples": samples}
    budget = {"epochs": signature.pop("epochs"), "minutes": signature.pop("minutes")}
    budgets, step, spent = [{"step": 0, **budget}], 0, 0.0
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["signature"] == signature:
            module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
            average, step, spent, budgets = state["average"], state["step"], state["spent"], state["budgets"]
            if {"step": budgets[-1]["step"], **budget} != budgets[-1]:
                budgets.append({"step": step, **budget})
            torch.set_rng_state(state["rng"])
            report(f"resuming at step {step} of {steps} from {checkpoint}")

    def save() -> None:
        if checkpoint:
            state = {
                "signature": signature,
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
                "spent": spent + time.monotonic() - started,
                "budgets": budgets,
                "rng": torch.get_rng_state(),
            }
            partial = checkpoint.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(checkpoint)

    def progress() -> float:
        """The share of the budget that is used up, 0 to 1."""
        in_time = (spent + time.monotonic() - started) / (60 * recipe.minutes) if recipe.minutes else 0.0
        return min(1.0, max(step / steps, in_time))

    started = reported = saved = time.monotonic()
    losses, done = [], progress()
    while done < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _rate(done, recipe.warmup)
        loss = loss_of(_indices(step, samples, recipe), done)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 5.0)
        optimizer.step()
        step += 1
        losses.append(loss.item())
        # The average follows closely at first, else it would remember the initial weights.
        decay = min(recipe.average, (1 + step) / (10 + step))
        for name, value in _averaged(module).items():
            average[name].lerp_(value.detach(), 1 - decay)
        now, done = time.monotonic(), progress()
        if now - reported > 10 or done >= 1:
            report(f"epoch {step * recipe.batch / samples:.2f} loss {np.mean(losses):.4f}, {done:.1%} done")
            reported, losses = now, []
        if now - saved > CHECKPOINT_EVERY_S or done >= 1:
            save()
            saved = now
    module.load_state_dict({**module.state_dict(), **average})
    return budgets


def best_autocast(device: str = "cpu") -> torch.autocast:
    """bf16 where the processor has instructions for it (fp16 has none on CPUs), else no lowering of precision."""
    has_bf16 = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=has_bf16)


def _indices(step: int, samples: int, recipe: Recipe) -> np.ndarray:
    """The samples of a step: consecutive ones of an endless row of shuffled epochs, from the seed and step alone."""
    positions = np.arange(step * recipe.batch, (step + 1) * recipe.batch)
    epochs = positions // samples
    orders = {
        epoch: np.random.default_rng((recipe.seed, int(epoch))).permutation(samples) for epoch in np.unique(epochs)
    }
    return np.array([orders[epoch][position % samples] for epoch, position in zip(epochs, positions, strict=True)])


def _rate(progress: float, warmup: float) -> float:
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
