"""Several processes that train together, started by torchrun: each takes its share of every batch."""

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from .device import best_device

PATIENCE = timedelta(days=1)  # one process may compute what is kept on disk, or evaluate, while the others wait
T = TypeVar("T")


def start() -> None:
    """Join the processes that torchrun started (its environment variables say so); without them do nothing."""
    if "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(best_device())  # else each process's streams would be those of the first GPU
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)


def rank() -> int:
    """Which process this is; 0 reports and writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(indices: np.ndarray) -> np.ndarray:
    """This process's part of a batch, one piece of it, as mixed as the whole is where that is mixed.

    Raises:
        ValueError: the batch cannot be shared evenly.
    """
    if len(indices) % world():
        raise ValueError(f"batch: {len(indices)} samples cannot be shared evenly by {world()} processes")
    return np.split(indices, world())[rank()]


def of_first(make: Callable[[], T]) -> T:
    """What the first process makes of it, or the exception that it raises, for all.

    The others may be on machines that lack its files; and one that went on alone would wait for them for ever.
    """
    if world() == 1:
        return make()
    made: list = [None, None]
    if rank() == 0:
        try:
            made[0] = make()
        except Exception as error:
            made[1] = error
    dist.broadcast_object_list(made, 0)
    if made[1] is not None:
        raise made[1]
    return made[0]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, that of the whole batch's mean loss."""
    if world() > 1:
        for parameter in parameters:
            if parameter.grad is None:  # this process's share has no sample of the task
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world()


def average(value: float) -> float:
    """The mean of a number over the processes."""
    if world() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item() / world()


def agree(value: float) -> float:
    """The first process's value, for all: processes whose clocks differ must end at the same step."""
    if world() == 1:
        return value
    said = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(said, 0)
    return said.item()
