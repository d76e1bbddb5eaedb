"""Training jobs on a robot: what is asked for, how far it is, and their record on disk, which outlives any process.

    FACE_MTL_HOME/jobs/<job id>/job.json        written by the trainer alone
    FACE_MTL_HOME/jobs/<job id>/progress.json   written by the worker process alone
    FACE_MTL_HOME/jobs/<job id>/work            what the worker makes; removed when the job has ended

Each file is replaced as a whole, so that whoever reads it finds the state before or after. No torch here.
"""

import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..bundle.files import write_atomically
from ..paths import home

State = Literal["queued", "training", "evaluating", "installing", "done", "cancelled", "failed"]
ENDED: Final = ("done", "cancelled", "failed")
JOB_FILE: Final = "job.json"
PROGRESS_FILE: Final = "progress.json"
WORK: Final = "work"
TRAINER_PID: Final = "FACE_MTL_TRAINER_PID"  # environment variable that tells a worker whose it is
BUNDLE: Final = "bundle"  # in WORK: what the worker has made
NO_SOURCES: Final = "none"
Number = Annotated[float, Field(allow_inf_nan=True)]


class OnsiteError(ValueError):
    """What is asked for cannot be done; the message names the thing, the value and the remedy."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="constants")


class TrainRequest(_Record):
    """What to train; the fields of face_mtl_msgs/srv/TrainColumn, where 0 and empty mean the same as there."""

    task: str
    kind: str = ""
    labels: list[str] = Field(default_factory=list)
    values: list[float] = Field(default_factory=list)
    sources: list[str] = Field(default_factory=list)
    recipe: str = ""
    time_budget_s: float = 0.0
    min_samples: int = 0
    seed: int = 1
    activate: bool = True
    requested_by: str = ""
    descriptor: str = Field(
        default="", description="foreign descriptor of identity columns: the trainer's parameter, not in the message"
    )


class Order(_Record):
    """A request with everything decided: what the worker gets.

    Attributes:
        base: folder of the bundle that the column is added to, which is never written to.
        labels, sources: of the column, in its order.
        descriptor: name of the installed foreign descriptor that it draws on as well; empty: none.
        sample_ids: numbers of the samples, so that a job that goes on has the very same.
        store: the sample store's file.
    """

    task: str
    kind: Literal["classification", "identity"]
    labels: list[str]
    values: list[float]
    sources: list[str]
    descriptor: str = ""
    recipe: str
    time_budget_s: float
    seed: int
    requested_by: str
    base: Path
    sample_ids: list[int]
    store: Path
    threads: int
    nice: int


class Progress(_Record):
    """How far the worker is; what is not known is NaN."""

    state: State = "queued"
    message: str = "starting"
    epoch: int = 0
    epochs: int = 0
    loss: Number = math.nan
    validation_accuracy: Number = math.nan
    time_left_s: Number = math.nan
    resumed: bool = False
    accuracy: Number = math.nan
    known_named: Number = math.nan
    strangers_refused: Number = math.nan


class JobRecord(_Record):
    """What the trainer keeps of a job; times are wall-clock in seconds since 1970."""

    job_id: str
    order: Order
    activate: bool
    state: State = "queued"
    message: str = ""
    created_at: float
    finished_at: float = 0.0
    spent_s: float = Field(default=0.0, description="run time of earlier attempts, interruptions not counted")
    duration_s: float = Field(default=0.0, description="from the request to the end")
    attempts: int = Field(default=0, description="those that a kill of the trainer cut short, and the one at work")
    progress: Progress = Field(default_factory=Progress, description="the last one, once the job has ended")
    model_version: str = ""


class JobStatus(_Record):
    """A job as face_mtl_msgs/msg/JobStatus and the result of the action Train tell of it; times as of JobRecord."""

    job_id: str
    task: str
    kind: str
    state: State
    message: str
    epoch: int
    epochs: int
    loss: Number
    validation_accuracy: Number
    time_left_s: Number
    elapsed_s: float
    sample_count: int
    resumed: bool
    created_at: float
    finished_at: float
    accuracy: Number
    known_named: Number
    strangers_refused: Number
    duration_s: float
    model_version: str

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class JobBook:
    """The jobs on disk. Any process may read it; one trainer writes.

    Args:
        root: default FACE_MTL_HOME/jobs.
    """

    def __init__(self, root: Path | None = None):
        self.root = root or home() / "jobs"

    def create(self, order: Order, activate: bool) -> JobRecord:
        """Note a new job; OSError where the disk does not take it."""
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        job = JobRecord(
            job_id=f"{order.task}-{stamp}-{uuid.uuid4().hex[:6]}", order=order, activate=activate, created_at=now
        )
        self.save(job)
        return job

    def save(self, job: JobRecord) -> None:
        write_atomically(self.folder(job.job_id) / JOB_FILE, _json(job))

    def folder(self, job_id: str) -> Path:
        return self.root / job_id

    def work(self, job_id: str) -> Path:
        return self.folder(job_id) / WORK

    def load(self, job_id: str) -> JobRecord:
        """A job by its id; OnsiteError where there is none."""
        if not job_id or "/" in job_id or job_id.startswith("."):
            raise OnsiteError(f"job '{job_id[:60]}' is no job's id")
        try:
            return JobRecord.model_validate_json((self.folder(job_id) / JOB_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            known = ", ".join(job.job_id for job in self.jobs()[:5]) or "none"
            raise OnsiteError(f"there is no job '{job_id[:60]}'; the latest are: {known}") from error

    def jobs(self) -> list[JobRecord]:
        """All that are remembered, newest first; what is not readable is left out."""
        return sorted(self._readable(), key=lambda job: (job.created_at, job.job_id), reverse=True)

    def status(self, job: JobRecord) -> JobStatus:
        """A job as it is at this moment."""
        ended = job.state in ENDED
        progress = job.progress if ended else self.progress(job.job_id) or job.progress
        state = job.state
        if state == "training" and progress.state in ("training", "evaluating"):
            state = progress.state
        elapsed = job.spent_s if ended or state == "queued" else job.spent_s + self.running_s(job.job_id)
        return JobStatus(
            job_id=job.job_id,
            task=job.order.task,
            kind=job.order.kind,
            state=state,
            message=job.message if ended or state == "installing" else progress.message,
            epoch=progress.epoch,
            epochs=progress.epochs,
            loss=progress.loss,
            validation_accuracy=progress.validation_accuracy,
            time_left_s=0.0 if ended else progress.time_left_s,
            elapsed_s=elapsed,
            sample_count=len(job.order.sample_ids),
            resumed=progress.resumed,
            created_at=job.created_at,
            finished_at=job.finished_at,
            accuracy=progress.accuracy if state == "done" else math.nan,
            known_named=progress.known_named if state == "done" else math.nan,
            strangers_refused=progress.strangers_refused if state == "done" else math.nan,
            duration_s=job.duration_s,
            model_version=job.model_version,
        )

    def progress(self, job_id: str) -> Progress | None:
        """What the worker last said; None before it said anything."""
        return read_progress(self.folder(job_id))

    def end(self, job: JobRecord, state: State, message: str) -> None:
        """Note that a job has ended, and remove what it worked with: it holds what faces look like."""
        job.progress = self.progress(job.job_id) or job.progress
        job.state, job.message, job.finished_at = state, message, time.time()
        job.duration_s = max(0.0, job.finished_at - job.created_at)
        try:
            self.save(job)
        except OSError:  # a full disk: what the job worked with makes room
            self.tidy(job)
            self.save(job)
        self.tidy(job)

    def tidy(self, job: JobRecord) -> None:
        shutil.rmtree(self.work(job.job_id), ignore_errors=True)
        (self.folder(job.job_id) / PROGRESS_FILE).unlink(missing_ok=True)

    def forget_old(self, keep: int) -> None:
        """Remove the record of all ended jobs but the newest."""
        for job in [job for job in self.jobs() if job.state in ENDED][keep:]:
            shutil.rmtree(self.folder(job.job_id), ignore_errors=True)

    def mark_started(self, job_id: str) -> None:
        write_atomically(self.work(job_id) / "started", str(time.monotonic()).encode())

    def running_s(self, job_id: str) -> float:
        """Seconds since the worker was started, by the clock that nobody sets back; 0 where it was not."""
        try:
            started = float((self.work(job_id) / "started").read_text())
        except (OSError, ValueError):
            return 0.0
        return max(0.0, time.monotonic() - started)

    def _readable(self) -> Iterator[JobRecord]:
        for file in self.root.glob(f"*/{JOB_FILE}"):
            try:
                yield JobRecord.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                continue


def read_progress(folder: Path) -> Progress | None:
    """The progress in a job's folder, if there is any."""
    try:
        return Progress.model_validate_json((folder / PROGRESS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace a job's progress as a whole; not forced to the disk."""
    partial = folder / f".{PROGRESS_FILE}.{os.getpid()}.partial"
    partial.write_bytes(_json(progress))
    partial.replace(folder / PROGRESS_FILE)


def _json(record: BaseModel) -> bytes:
    return record.model_dump_json(indent=1).encode() + b"\n"
