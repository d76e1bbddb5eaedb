"""Who trains which run: each process takes the next one that nobody else is at, on this machine or on another."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from ...file_lock import claimed
from .. import distributed
from ..loop import TrainingError
from .cells import Run
from .run import train
from .setting import LOCKS, Setting

POLL_S = 2.0

Report = Callable[[str], None]


def work(setting: Setting, runs: Sequence[Run], report: Report) -> None:
    """Train all runs that are not done, each after the columns that it draws on; returns when none is left to do.

    A run that another process is training is left to it; should that process die, it is taken over. One that fails
    is reported, and so are those that would draw on it; the others are done.

    The processes of torchrun train each run together; the first one chooses.

    Raises:
        OSError, KeyboardInterrupt: see training.loop.fit.
    """
    torch.set_num_threads(setting.threads)
    torch.backends.cudnn.deterministic = True  # for a seed to give the same cell on a GPU, too
    failed = set[Run]()
    while waiting := distributed.of_first(
        lambda: [run for run in runs if run not in failed and not setting.is_done(run)]
    ):
        idle = True
        for run in waiting:
            if lacking := failed.intersection(run.needs):
                report(f"{run.name}: left out, for {lacking.pop().name} failed")
                failed.add(run)
            elif distributed.of_first(lambda: all(setting.is_done(needed) for needed in run.needs)):  # noqa: B023
                idle = not _take(setting, run, len(waiting), failed, report) and idle
        if idle:
            time.sleep(POLL_S)


def _take(setting: Setting, run: Run, left: int, failed: set[Run], report: Report) -> bool:
    """Train the run unless it is done or another process is at it; whether there was something to do."""
    first = distributed.rank() == 0
    with claimed(setting.out / LOCKS / f"{run.name}.lock") if first else nullcontext(False) as mine:
        if not distributed.of_first(lambda: mine and not setting.is_done(run)):
            return False
        report(f"{run.name}: begins, {left} runs are not done")
        try:
            result = train(setting, run, lambda line: report(f"{run.name}: {line}"))
        except (TrainingError, ValueError) as error:
            report(f"{run.name}: failed: {error}")
            failed.add(run)
        else:
            report(f"{run.name}: accuracy {result['accuracy']:.2%} on {result['test']} test pictures")
        return True


def work_together(setting: Setting, runs: Sequence[Run], jobs: int, report: Report) -> None:
    """The same by so many processes.

    Ctrl-C is passed on to them once, and waits until each has its checkpoint.
    """
    if jobs == 1:
        return work(setting, runs, report)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_worker, args=(setting, list(runs), os.getpid())) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, signal.SIGINT)
        for worker in workers:
            worker.join()
        raise
    return None


def _worker(setting: Setting, runs: list[Run], parent: int) -> None:
    os.setpgrp()  # a terminal's Ctrl-C is the parent's to pass on: a second one would not wait for the checkpoint
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def report(line: str) -> None:
        if os.getppid() != parent:  # it was killed, and nobody wants what follows
            raise KeyboardInterrupt
        print(line, file=sys.stderr, flush=True)

    try:
        work(setting, runs, report)
    except OSError as error:
        print(f"face-mtl experiment: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
