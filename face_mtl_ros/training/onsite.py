"""Learning on a robot: jobs that turn collected samples into a new version of the model. No torch and no ROS here."""

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..bundle.bundle import load_bundle
from ..samples.store import SampleStore
from ..site_model import SiteModel
from .onsite_checks import FAST, check_descriptor, check_kind, check_labels, check_request, check_sources
from .onsite_jobs import (
    BUNDLE,
    ENDED,
    TRAINER_PID,
    JobBook,
    JobRecord,
    JobStatus,
    OnsiteError,
    Order,
    State,
    TrainRequest,
)

POLL_S = 0.1
PATIENCE_S = 5.0  # that a worker has to end by itself when it is asked to
OVERTIME, OVERTIME_S = 3.0, 60.0  # a worker is ended after so many times its time budget and so many seconds more
RECIPE = FAST  # where a request leaves it open, as the next two
TIME_BUDGET_S = 45.0
MIN_SAMPLES = 5
REMEMBERED = 50  # ended jobs
ATTEMPTS = 3  # of a job whose trainer was ended again and again
WORKER = (sys.executable, "-m", "face_mtl_ros.training.onsite_worker")
logger = logging.getLogger(__name__)


@dataclass
class _Running:
    job: JobRecord
    process: subprocess.Popen | None = None
    cancelled: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class OnsiteTrainer:
    """Trains columns in a worker process, one job at a time, and takes what comes of it into use.

    A job that the end of an earlier trainer has interrupted is taken up at once. Every method may be called from any
    thread; what is refused raises OnsiteError, SampleStoreError or BundleError with a line to tell the user, and
    nothing has changed then.

    Args:
        store: the samples.
        site: the model that learns; its `swap` has a new version taken into use.
        threads: CPU threads of the worker.
        nice: by how much the worker yields to other processes, 0 to 19.
        worker: the command that trains; the job's folder is appended.

    Attributes:
        given_up: the jobs, by id, that the trainer before left unfinished and this one did not go on with.

    Raises:
        OnsiteError: another process trains under the same FACE_MTL_HOME, or its folder cannot be written.
    """

    def __init__(
        self, store: SampleStore, site: SiteModel, threads: int = 2, nice: int = 10, worker: Sequence[str] = WORKER
    ):
        self._store, self._site = store, site
        self._threads, self._nice, self._worker = threads, nice, list(worker)
        self._book = JobBook()
        self._lock = threading.RLock()
        self._running: _Running | None = None
        self._held = _hold(self._book.root)
        self.given_up: list[str] = []
        self._resume()

    def start(self, request: TrainRequest) -> JobStatus:
        """Check a request and begin its job; what becomes of it, `status` and `wait` tell."""
        with self._lock:
            if self._running:
                job = self._running.job
                raise OnsiteError(f"job '{job.job_id}' is training '{job.order.task}': wait for it, or cancel it")
            order = self._order(request)
            try:
                job = self._book.create(order, request.activate)
                self._begin(job)
            except OSError as error:
                raise OnsiteError(f"the job cannot be kept in {self._book.root}: {error}; free some room") from error
            return self._book.status(job)

    def jobs(self) -> list[JobStatus]:
        """All that are remembered, newest first."""
        return [self._book.status(job) for job in self._book.jobs()]

    def status(self, job_id: str) -> JobStatus:
        """A job as it is now; OnsiteError where there is no such job."""
        return self._book.status(self._book.load(job_id))

    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        """A job when it has ended, or after the timeout."""
        running = self._running
        if running and running.job.job_id == job_id:
            running.over.wait(timeout_s)
        return self.status(job_id)

    def cancel(self, job_id: str = "") -> JobStatus:
        """Stop a job, by default the running one; the model stays as it was before it.

        Raises:
            OnsiteError: it is not running, or is being taken into use already.
        """
        with self._lock:
            running = self._running
            if running is None or job_id not in ("", running.job.job_id):
                raise OnsiteError(f"job '{job_id}' is {self.status(job_id).state}" if job_id else "no job is running")
            if running.job.state == "installing":
                raise OnsiteError(f"job '{running.job.job_id}' is being taken into use: wait for it, then roll back")
            running.cancelled = True
        _end(running.process)
        return self.wait(running.job.job_id, PATIENCE_S)

    def close(self) -> None:
        """Interrupt the training; its job goes on with the next trainer."""
        with self._lock:
            running, self._running = self._running, None
        if running:
            _end(running.process)
            running.over.wait(2 * PATIENCE_S)
            if running.job.state == "training":  # an orderly end is no failed attempt
                running.job.attempts -= 1
                with contextlib.suppress(OSError):  # a full disk: it counts, then
                    self._book.save(running.job)
        self._held.close()

    def _order(self, request: TrainRequest) -> Order:
        """The request with all decided that it leaves open."""
        bundle = self._site.bundle()
        older = check_request(request, bundle)
        kind = check_kind(request, older)
        labels = check_labels(request, self._store.counts(request.task), request.min_samples or MIN_SAMPLES)
        samples = self._store.find(request.task)[::-1]
        return Order(
            task=request.task,
            kind=kind,
            labels=labels,
            values=request.values,
            sources=check_sources(request, kind, bundle),
            descriptor=check_descriptor(request, kind, bundle),
            recipe=request.recipe or RECIPE,
            time_budget_s=request.time_budget_s or TIME_BUDGET_S,
            seed=request.seed,
            requested_by=request.requested_by,
            base=bundle.root,
            sample_ids=[sample.id for sample in samples if sample.label in labels],
            store=self._store.file,
            threads=self._threads,
            nice=self._nice,
        )

    def _resume(self) -> None:
        """Take up the job that was not finished when the trainer before was ended."""
        with self._lock:
            unfinished = [job for job in self._book.jobs() if job.state not in ENDED]
            for job in unfinished:
                if why := self._why_not_resumed(job, unfinished[0]):
                    self._book.end(job, "failed", why)
                    self.given_up.append(job.job_id)
                else:
                    self._begin(job)

    def _why_not_resumed(self, job: JobRecord, newest: JobRecord) -> str:
        """Why an unfinished job is given up; empty where it goes on."""
        if job is not newest:
            return "the trainer was ended, and another job was begun after this one"
        if job.attempts >= ATTEMPTS:
            return f"the trainer was killed {ATTEMPTS} times during this job: train again"
        if job.state != "installing" and job.order.base != self._site.bundle().root:
            return "another model came into use while the trainer was ended: train again"
        return ""

    # The running job

    def _begin(self, job: JobRecord) -> None:
        self._book.work(job.job_id).mkdir(parents=True, exist_ok=True)
        if job.state != "installing":
            job.spent_s += self._spent(job)
            job.attempts, job.state, job.message = job.attempts + 1, "training", "starting"
            self._book.mark_started(job.job_id)
        self._book.save(job)
        running = self._running = _Running(job)
        if job.state == "training":
            try:
                running.process = self._start_worker(job)
            except OSError as error:
                self._running = None
                self._book.end(job, "failed", f"the worker cannot be started: {error}")
                raise
        threading.Thread(target=self._follow, args=(running,), name="training", daemon=True).start()

    def _spent(self, job: JobRecord) -> float:
        """Seconds of the attempt before, up to the last thing that its worker said."""
        folder = self._book.folder(job.job_id)
        try:
            said = (folder / "progress.json").stat().st_mtime
            return max(0.0, said - (self._book.work(job.job_id) / "started").stat().st_mtime)
        except OSError:
            return 0.0

    def _start_worker(self, job: JobRecord) -> subprocess.Popen:
        threads = str(self._threads)
        limits = {f"{name}_NUM_THREADS": threads for name in ("OMP", "MKL", "OPENBLAS")}
        with (self._book.work(job.job_id) / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [*self._worker, str(self._book.folder(job.job_id))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **limits, TRAINER_PID: str(os.getpid())},
                start_new_session=True,  # Ctrl-C in the trainer's terminal is the trainer's to handle
            )

    def _follow(self, running: _Running) -> None:
        job = running.job
        try:
            if running.process:
                self._await(running, running.process)
            with self._lock:
                if self._running is not running:  # closed: the job waits for the next trainer
                    return
                state, message = self._outcome(running)
                if state == "installing":
                    job.state, job.message = "installing", "taking the new model into use"
                    self._book.save(job)
            if state == "installing":
                state, message = self._finish(job)
            self._end_job(running, state, message)
        except Exception as error:  # a defect, which must end the job and not the queue
            logger.exception("job %s", job.job_id)
            with contextlib.suppress(OSError):  # a full disk: the next trainer takes it up again
                self._end_job(running, "failed", f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                if self._running is running:
                    self._running = None
            running.over.set()

    def _end_job(self, running: _Running, state: State, message: str) -> None:
        with self._lock:  # whoever sees that it has ended may begin the next one
            self._book.end(running.job, state, message)
            if self._running is running:
                self._running = None
        self._book.forget_old(REMEMBERED)

    def _await(self, running: _Running, process: subprocess.Popen) -> None:
        order = running.job.order
        limit = time.monotonic() + OVERTIME * order.time_budget_s + OVERTIME_S
        while process.poll() is None:
            if time.monotonic() > limit:
                logger.warning("job %s has used up its time", running.job.job_id)
                running.job.message = "overtime"
                _end(process)
            time.sleep(POLL_S)

    def _outcome(self, running: _Running) -> tuple[State, str]:
        """What the worker's end means."""
        job, process = running.job, running.process
        if running.cancelled:
            return "cancelled", "cancelled; the model stays as it was"
        if process is None or process.returncode == 0:
            return "installing", ""
        said = self._book.progress(job.job_id)
        if said and said.state == "failed":
            return "failed", said.message
        if job.message == "overtime":
            return "failed", f"the training took more than {OVERTIME:g} times its {job.order.time_budget_s:g} s: ended"
        if process.returncode == -signal.SIGKILL:
            return "failed", (
                "the worker was killed (SIGKILL), as the system does where memory is short: end other programs, or "
                "train with fewer samples"
            )
        if process.returncode < 0:
            return "failed", f"the worker was ended by {signal.Signals(-process.returncode).name}"
        return "failed", f"the worker ended with status {process.returncode}: {self._last_words(job)}"

    def _last_words(self, job: JobRecord) -> str:
        try:
            lines = (self._book.work(job.job_id) / "worker.log").read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def _finish(self, job: JobRecord) -> tuple[State, str]:
        """Make the worker's bundle a version, and the active one if that is asked for."""
        said = self._book.progress(job.job_id)
        folder = self._book.work(job.job_id) / BUNDLE
        try:
            active, version = self._site.bundle(), load_bundle(folder).version
            if job.activate and active.root != job.order.base and active.version != version:
                return "failed", f"another model, {active.version}, came into use during the training: train again"
            if job.activate:
                used = self._site.take_into_use(lambda: self._site.versions.install(folder))
                job.model_version, message = used.bundle.version, used.message
            else:
                self._site.versions.install(folder, activate=False)
                job.model_version, message = version, "stored, not in use"
        except (ValueError, OSError, RuntimeError) as error:  # BundleError, SwapError
            return "failed", f"trained, but not taken into use: {error}"
        right = f"{said.accuracy:.1%} of the held-back samples right; " if said else ""
        return "done", f"{right}model {job.model_version}: {message}"


def _hold(root: Path) -> IO[str]:
    """A lock that ends with this process, however it ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "trainer.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OnsiteError(f"another trainer is at work in {root}: end that one, or set FACE_MTL_HOME") from None
    except OSError as error:
        raise OnsiteError(f"{root} cannot be written: {error}; set FACE_MTL_HOME to a place that can") from error
    return lock


def _end(process: subprocess.Popen | None) -> None:
    """Ask a worker to end, and end it where it does not."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
