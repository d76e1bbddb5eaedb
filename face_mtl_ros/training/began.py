"""BEGAN pre-training (Berthelot et al. 2017; the paper's equations 1 and 2): an encoder learned without labels."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..datasets.augmentation import plain
from ..networks.began import LATENT, Discriminator, Generator
from ..networks.presets import Preset
from .checkpoint import load_checkpoint, save_checkpoint
from .chunks import chunk_size
from .convergence import BeganHistory, LogRow, write_log, write_plot
from .device import best_autocast, best_device
from .interrupt import deferred_interrupt
from .loop import TrainingError
from .order import batch_indices
from .sample_sheet import write_sheet
from .unlabelled import UnlabelledPool

CHECKPOINT_EVERY_S = 60.0
REPORT_EVERY_S = 10.0
SHEET_FACES = 8
COOLDOWN = 0.25  # share of the budget, at its end, in which the learning rate is halved
COOLDOWN_HALVINGS = 4


@dataclass(frozen=True)
class BeganRecipe:
    """How to train a BEGAN.

    The learning rate is halved whenever M stalls (its mean over a `window` has not fallen by 1 % in two windows, the
    paper's "reduced by a factor of 0.5 once the loss stagnates"), and four times over the last quarter of the budget,
    so that a training too short for M to stall ends at a low rate as well.

    Attributes:
        epochs: passes over the pictures.
        minutes: where it is set, the time after which training ends at the latest.
        batch: real pictures a step, and as many generated ones.
        learning_rate: Adam's at the beginning, of discriminator and generator alike; the paper's is 1e-4.
        gamma: the ratio of L(G(z)) to L(x) that is aimed at (equation 2), 0 to 1; lower is less diverse.
        lambda_k: how fast k_t follows (equation 1).
        window: steps over whose mean M is judged.
        log_every: steps a row of the log.
        sheet_minutes: minutes between two sample sheets.
        seed: of the initial weights, the pictures' order, the mirroring and the noise.
    """

    epochs: float = 20
    minutes: float | None = None
    batch: int = 16
    learning_rate: float = 1e-4
    gamma: float = 0.5
    lambda_k: float = 1e-3
    window: int = 1000
    log_every: int = 50
    sheet_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma: a ratio from 0 to 1 (equation 2) is expected, got {self.gamma}")
        for name, value in asdict(self).items():
            if name not in ("gamma", "seed") and value is not None and not value > 0:
                raise ValueError(f"{name}: a number above 0 is expected, got {value}")


@dataclass
class _State:
    """What changes beside weights and optimizer; a checkpoint holds it as it is."""

    step: int = 0
    spent: float = 0.0  # seconds
    k: float = 0.0
    best: float = math.inf  # the lowest mean of M over a window
    stalled: int = 0  # windows since then
    halvings: int = 0
    m_window: list[float] = field(default_factory=list)
    pending: list[tuple[float, float, float]] = field(default_factory=list)  # L(x), L(G(z)) and M since the last row
    rows: list[LogRow] = field(default_factory=list)
    budgets: list[dict] = field(default_factory=list)

    def note_budget(self, recipe: BeganRecipe) -> None:
        """Keep which budget holds from this step on, if it is another than before."""
        budget = {"epochs": recipe.epochs, "minutes": recipe.minutes}
        if not self.budgets or {**self.budgets[-1], **budget} != self.budgets[-1]:
            self.budgets.append({"step": self.step, **budget})

    def close_row(self, learning_rate: float) -> None:
        """Make a row of the log of the steps since the last one."""
        l_real, l_fake, m = (float(mean) for mean in np.mean(self.pending, axis=0))
        self.rows.append(LogRow(self.step, l_real, l_fake, self.k, m, learning_rate, self.spent))
        self.pending = []


def train_began(
    preset: Preset,
    pool: UnlabelledPool,
    recipe: BeganRecipe,
    checkpoint: Path | None = None,
    sheets: Path | None = None,
    report: Callable[[str], None] = print,
) -> tuple[Discriminator, Generator, BeganHistory]:
    """Train a discriminator, whose encoder is the facial encoder, and a generator.

    Args:
        checkpoint: written once a minute, on Ctrl-C and at the end. Where it is there, training goes on from it as
            if it had never stopped; the budget and the learning rate may be others than before.
        sheets: a folder for `sheet-NNNNNN.png` (rows: real, reconstructed, generated from the same noise each time),
            `began.csv` and `convergence.png`.
        report: called with a line of progress about every ten seconds.

    Returns:
        Both networks, in evaluation mode, and how it went.

    Raises:
        CheckpointError: the checkpoint is of another preset, recipe or number of pictures, or damaged.
        TrainingError: the loss is not finite, with the step and the batch's ids; the checkpoint stays what it was.
        OSError: a checkpoint cannot be written.
        KeyboardInterrupt: Ctrl-C, after the step in hand and a checkpoint; a second one does not wait.
    """
    torch.manual_seed(recipe.seed)
    discriminator, generator = Discriminator(preset), Generator()
    networks = nn.ModuleDict({"discriminator": discriminator, "generator": generator})
    networks.to(best_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    networks.train()
    # Both are updated from the gradients of one step, as equation 1 has it, so one optimizer serves.
    optimizer = torch.optim.Adam(networks.parameters(), lr=recipe.learning_rate, fused=True)
    steps = max(1, round(recipe.epochs * len(pool) / recipe.batch))
    signature = {"kind": "began", "preset": preset.name, "pictures": len(pool), **asdict(recipe)}
    for free in ("epochs", "minutes", "learning_rate", "sheet_minutes"):
        del signature[free]
    state = _State()
    if saved_state := load_checkpoint(checkpoint, signature):
        state = _restore(saved_state, networks, optimizer)
        report(f"resuming at step {state.step} of {steps} from {checkpoint}")
    state.note_budget(recipe)

    started = reported = saved = sheeted = time.monotonic()
    spent_before, first = state.spent, state.step

    def progress() -> float:
        """The share of the budget that is used up, 0 to 1."""
        state.spent = spent_before + time.monotonic() - started
        in_time = state.spent / (60 * recipe.minutes) if recipe.minutes else 0.0
        return min(1.0, max(state.step / steps, in_time))

    done = progress()
    with deferred_interrupt() as interrupted:
        while done < 1 or not state.step:
            rate = optimizer.param_groups[0]["lr"] = _learning_rate(recipe, state, done)
            indices = batch_indices(state.step, len(pool), recipe.batch, recipe.seed)
            real, noise = _views(pool, indices, state.step, recipe)
            optimizer.zero_grad(set_to_none=True)
            l_real, l_fake = backward(discriminator, generator, real, noise, state.k)
            _check_finite((l_real, l_fake), networks, state.step, [pool.ids[i] for i in indices], recipe, checkpoint)
            optimizer.step()
            state.step += 1
            state.k = next_k(state.k, l_real, l_fake, recipe)
            done = progress()
            _log(state, recipe, l_real, l_fake, rate)
            now = time.monotonic()
            if now - reported > REPORT_EVERY_S or done >= 1:
                report(_line(state, steps, recipe.batch, done, (state.step - first) / (state.spent - spent_before)))
                reported = now
            stopped = interrupted()
            if checkpoint and (now - saved > CHECKPOINT_EVERY_S or done >= 1 or stopped):
                save_checkpoint(checkpoint, signature, _content(networks, optimizer, state))
                saved = now
            if sheets and now - sheeted > 60 * recipe.sheet_minutes:
                _show(sheets, discriminator, generator, pool, recipe, state)
                sheeted = now
            if stopped:
                raise KeyboardInterrupt
    if state.pending:
        state.close_row(optimizer.param_groups[0]["lr"])
    if sheets:
        _show(sheets, discriminator, generator, pool, recipe, state)
    networks.cpu().eval()
    epochs = state.step * recipe.batch / len(pool)
    return discriminator, generator, BeganHistory(epochs, state.budgets, state.rows)


def backward(
    discriminator: Discriminator, generator: Generator, real: torch.Tensor, noise: torch.Tensor, k: float
) -> tuple[float, float]:
    """Leave the gradients of equation 1 in both networks, whose gradients must be empty.

    With L the mean absolute error of the reconstruction, the discriminator descends L(x) - k L(G(z)), the generator
    L(G(z)) as in Berthelot et al.: the paper's "L_G = -L_D" is k L(G(z)), the same direction, but nothing to start
    from at k_0 = 0. So one pass through generator and discriminator serves both: dL(G(z)) stays as it is for the
    generator and is scaled by -k for the discriminator, before dL(x) comes on top. G(z) is the discriminator's input
    and its target, and the generator learns through both.

    Args:
        real: float (n, 1, 128, 128), normalised.
        noise: float (n, 128).

    Returns:
        L(x) and L(G(z)).
    """
    # Chunks stay in a CPU's cache. Their gradients add up to the batch's; batch statistics are those of a chunk.
    l_real = l_fake = 0.0
    discriminator.statistics_from(real=False)
    for part in noise.split(chunk_size(noise)):
        with best_autocast(noise.device):
            fake = generator(part)
            loss = F.l1_loss(discriminator(fake).float(), fake.float()) * (len(part) / len(noise))
        loss.backward()
        l_fake += loss.item()
    for parameter in discriminator.parameters():
        assert parameter.grad is not None
        parameter.grad.mul_(-k)
    discriminator.statistics_from(real=True)
    for part in real.split(chunk_size(real)):
        with best_autocast(real.device):
            loss = F.l1_loss(discriminator(part).float(), part) * (len(part) / len(real))
        loss.backward()
        l_real += loss.item()
    return l_real, l_fake


def next_k(k: float, l_real: float, l_fake: float, recipe: BeganRecipe) -> float:
    """k_(t+1) of equation 1, kept within 0 and 1."""
    return min(1.0, max(0.0, k + recipe.lambda_k * (recipe.gamma * l_real - l_fake)))


def convergence(l_real: float, l_fake: float, gamma: float) -> float:
    """Berthelot et al.'s measure M: how well real faces are reconstructed, and how far the balance is off."""
    return l_real + abs(gamma * l_real - l_fake)


def _learning_rate(recipe: BeganRecipe, state: _State, done: float) -> float:
    cooled = max(0, 1 + math.floor((done - (1 - COOLDOWN)) / COOLDOWN * COOLDOWN_HALVINGS))
    return recipe.learning_rate * 0.5 ** (state.halvings + cooled)


def _views(
    pool: UnlabelledPool, indices: np.ndarray, step: int, recipe: BeganRecipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half of the pictures mirrored, and the noise, by a chance of the step's own, which a resumed run repeats."""
    chance = np.random.default_rng((recipe.seed, step, 1))
    real = plain(pool.crops(indices))
    mirrored = torch.from_numpy(chance.random(len(indices)) < 0.5)[:, None, None, None].to(real.device)
    real = torch.where(mirrored, real.flip(-1), real).contiguous(memory_format=torch.channels_last)
    return real, _noise(chance, len(indices)).to(real.device)


def _noise(chance: np.random.Generator, count: int) -> torch.Tensor:
    return torch.from_numpy(chance.uniform(-1, 1, (count, LATENT)).astype(np.float32))


def _check_finite(
    losses: tuple[float, float],
    networks: nn.Module,
    step: int,
    ids: list[str],
    recipe: BeganRecipe,
    checkpoint: Path | None,
) -> None:
    gradient = nn.utils.get_total_norm([p.grad for p in networks.parameters() if p.grad is not None]).item()
    if all(math.isfinite(value) for value in (*losses, gradient)):
        return
    kept = f"; {checkpoint} keeps the last good state" if checkpoint and checkpoint.exists() else ""
    raise TrainingError(
        f"L(x) is {losses[0]:g}, L(G(z)) {losses[1]:g} and their gradient {gradient:g} at step {step}; samples of the "
        f"batch: {', '.join(ids)}{kept}; try a learning rate below {recipe.learning_rate:g}"
    )


def _log(state: _State, recipe: BeganRecipe, l_real: float, l_fake: float, rate: float) -> None:
    """Add a step to the log, and halve the learning rate where M has stalled."""
    m = convergence(l_real, l_fake, recipe.gamma)
    state.pending.append((l_real, l_fake, m))
    state.m_window.append(m)
    if len(state.pending) == recipe.log_every:
        state.close_row(rate)
    if len(state.m_window) == recipe.window:
        mean = float(np.mean(state.m_window))
        state.m_window = []
        state.stalled = 0 if mean < 0.99 * state.best else state.stalled + 1
        state.best = min(state.best, mean)
        if state.stalled == 2:
            state.halvings, state.stalled = state.halvings + 1, 0


def _line(state: _State, steps: int, batch: int, done: float, rate: float) -> str:
    """A line of progress: means over the last steps, the rate in steps a second, and the time left."""
    recent = state.pending or [(row.l_real, row.l_fake, row.m) for row in state.rows[-1:]]
    l_real, l_fake, m = np.mean(recent, axis=0)
    left = state.spent * (1 - done) / done / 60
    return (
        f"step {state.step} of {steps}: M {m:.4f}, L(x) {l_real:.4f}, L(G(z)) {l_fake:.4f}, k {state.k:.3f}, "
        f"{rate * batch:.1f} pictures/s, {done:.1%} done, {left:.0f} min left"
    )


def _content(networks: nn.Module, optimizer: torch.optim.Optimizer, state: _State) -> dict:
    return {"networks": networks.state_dict(), "optimizer": optimizer.state_dict(), "state": asdict(state)}


def _restore(content: dict, networks: nn.Module, optimizer: torch.optim.Optimizer) -> _State:
    networks.load_state_dict(content["networks"])
    optimizer.load_state_dict(content["optimizer"])
    state = _State(**content["state"])
    state.rows = [LogRow(**row) for row in content["state"]["rows"]]
    return state


@torch.no_grad()
def _show(
    folder: Path,
    discriminator: Discriminator,
    generator: Generator,
    pool: UnlabelledPool,
    recipe: BeganRecipe,
    state: _State,
) -> None:
    """Write a sheet of the same pictures and the same noise each time, the log, and its plot."""
    chance = np.random.default_rng((recipe.seed, 0, 2))
    real = plain(pool.crops(chance.choice(len(pool), SHEET_FACES, replace=len(pool) < SHEET_FACES)))
    discriminator.eval()
    rows = [real, discriminator(real), generator(_noise(chance, SHEET_FACES).to(real.device))]
    discriminator.train()
    write_sheet(folder, state.step, rows)
    write_log(folder / "began.csv", state.rows)
    write_plot(folder / "convergence.png", state.rows)
