"""The trainer's services that work on trainings: start, tell of and cancel."""

from collections.abc import Callable, Collection

from ..training.onsite import OnsiteTrainer
from ..training.onsite_jobs import JobStatus, TrainRequest
from .interfaces import CancelTraining, Train, TrainColumn, TrainingStatus
from .refusal import Refusal, check_number
from .trainer_conversions import job_status
from .trainer_parameters import TrainerSettings


class JobServices:
    """Each method fills an answer, in a thread that may block, or raises what its message shall be.

    Args:
        trainer: does the trainings.
        settings: the node's parameters as they are.
    """

    def __init__(self, trainer: OnsiteTrainer, settings: Callable[[], TrainerSettings]) -> None:
        self._trainer, self._settings = trainer, settings

    def train_column(self, request: TrainColumn.Request, response: TrainColumn.Response) -> None:
        job = self.start(request)
        response.job_id = job.job_id
        response.success = True
        response.message = f"job {job.job_id} trains '{job.task}' with {job.sample_count} samples"

    def training_status(self, request: TrainingStatus.Request, response: TrainingStatus.Response) -> None:
        jobs = [self._trainer.status(request.job_id)] if request.job_id else self._trainer.jobs()
        response.jobs = [job_status(job) for job in jobs]
        response.success = True
        running = [job.job_id for job in jobs if not job.ended]
        response.message = f"{len(jobs)} jobs, running: {', '.join(running) or 'none'}"

    def cancel_training(self, request: CancelTraining.Request, response: CancelTraining.Response) -> None:
        job_id = request.job_id or next((job.job_id for job in self._running()), "")
        if not job_id:
            raise Refusal("no job is running, so there is none to cancel")
        response.job_id = job_id
        before = self._trainer.status(job_id)
        response.state = before.state
        if before.ended:
            raise Refusal(f"job {job_id} has ended already: {before.message}")
        job = self._trainer.cancel(job_id)
        response.state = job.state
        response.success = job.state == "cancelled"
        response.message = f"job {job_id} of '{job.task}': {job.message}"

    def start(self, asked: TrainColumn.Request | Train.Goal) -> JobStatus:
        """Begin what a request or goal asks for, with the node's parameters for what it leaves open."""
        settings = self._settings()
        budget = check_number("time_budget_s", asked.time_budget_s) or settings.time_budget_s
        return self._trainer.start(
            TrainRequest(
                task=asked.task,
                kind=asked.kind,
                labels=list(asked.labels),
                values=list(asked.values),
                sources=list(asked.sources),
                recipe=asked.recipe or settings.recipe,
                time_budget_s=budget,
                min_samples=asked.min_samples or settings.min_samples,
                seed=asked.seed,
                activate=asked.activate,
                requested_by=asked.requested_by,
                descriptor=settings.descriptor,
            )
        )

    def retrain(self, task: str) -> str:
        """Begin to train a task's column anew, and return the job's id."""
        return self.start(TrainColumn.Request(task=task)).job_id

    def check_idle(self, what: str) -> None:
        """Refusal where a job is running, whose column would be made beside other ones than those in use."""
        for job in self._running():
            raise Refusal(f"job {job.job_id} trains '{job.task}': wait until it is done or cancel it, then {what}")

    def cancel_tasks(self, tasks: Collection[str]) -> list[str]:
        """Cancel the running jobs of these tasks, and return their ids."""
        return [self._trainer.cancel(job.job_id).job_id for job in self._running() if job.task in tasks]

    def _running(self) -> list[JobStatus]:
        return [job for job in self._trainer.jobs() if not job.ended]
