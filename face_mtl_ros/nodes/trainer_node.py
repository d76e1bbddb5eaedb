"""The trainer node: collects faces that perception sees, trains columns from them and has perception take them."""

import os
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from ..bundle.files import BundleError
from ..runtime.descriptor import DescriptorError, verify_descriptor
from ..samples.errors import SampleStoreError
from ..samples.store import SampleStore
from ..site_model import SiteModel, SwapError
from ..training.onsite import OnsiteTrainer
from ..training.onsite_jobs import JobStatus, OnsiteError
from .background import Background, Pulse
from .collect_service import CollectService
from .interfaces import (
    CancelTraining,
    CollectSamples,
    ForgetSamples,
    ListColumns,
    ListSamples,
    MergeLabels,
    RemoveColumn,
    RenameLabel,
    Rollback,
    Train,
    TrainColumn,
    TrainingStatus,
)
from .job_services import JobServices
from .managed import ManagedNode
from .model_services import ModelServices
from .parameters import NodeParameters, SettingsError
from .perception_client import PerceptionClient
from .refusal import Refusal
from .sample_services import SampleServices
from .spinning import run
from .trainer_conversions import train_feedback, train_result
from .trainer_parameters import TrainerSettings

DAY_S = 86400.0
LOOK_S = 0.2  # how often a job is looked at for the action's feedback
# What a user can mend, so that the message says it all; anything else is a defect.
EXPECTED = (BundleError, OnsiteError, Refusal, SampleStoreError, SwapError, OSError)


@dataclass(frozen=True)
class _Desk:
    """All that answers while the node is active."""

    perception: PerceptionClient
    trainer: OnsiteTrainer
    collect: CollectService
    samples: SampleServices
    models: ModelServices
    jobs: JobServices

    def close(self) -> None:
        self.perception.give_up()
        self.collect.close()
        self.trainer.close()
        self.perception.close()


Answer = Callable[[_Desk, Any, Any], Awaitable[None]]


class TrainerNode(ManagedNode):
    """Lifecycle: configure finds model and store, activate answers and goes on with a job, deactivate interrupts it.

    The executor's thread only takes messages and looks at crops: what may block is done in threads, changes of the
    model one after the other, and trainings in a process of their own.
    """

    def __init__(self) -> None:
        super().__init__("trainer")
        self._declared = NodeParameters(self, TrainerSettings)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings = TrainerSettings()
        self._problem = "the trainer is not configured: configure and activate it"
        self._store = SampleStore()
        self._site: SiteModel | None = None
        self._desk: _Desk | None = None
        self._group = ReentrantCallbackGroup()  # while one callback awaits, all others go on
        self._changes = Background(self, 1, "change")
        self._looks = Background(self, 4, "look")
        self._offer_services()
        self._action = ActionServer(
            self,
            Train,
            "~/train",
            self._on_train,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=self._group,
        )
        self.create_timer(
            DAY_S,
            lambda: self._looks.begin(self._enforce_retention),
            callback_group=self._group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            settings = self._declared.read()
            _check_descriptor(settings.descriptor)
            site = SiteModel(settings.model, settings.keep_versions)
            version = site.bundle().version
        except Exception as error:
            return self.not_configured(error, (SettingsError, *EXPECTED))
        self._settings, self._site = settings, site
        self._problem = "the trainer is not active: activate it"
        self.get_logger().info(f"model {version}, samples in {self._store.file}")
        self._looks.begin(self._enforce_retention)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._desk = self._open_desk()
        except EXPECTED as error:
            self._problem = str(error)
            self.get_logger().error(f"not activated: {error}")
            return TransitionCallbackReturn.FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._site = None
        self._problem = "the trainer is not configured: configure and activate it"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where a corrected parameter can configure; the default would end the node."""
        self._stop()
        self._site = None
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Interrupt the training, which goes on at the next start; the process is about to end."""
        self._stop()
        self._changes.close()
        self._looks.close()

    def _open_desk(self) -> _Desk:
        settings, site = self._settings, self._site
        assert site is not None
        perception = PerceptionClient(self, settings.perception)
        site.swap = perception.swap
        try:
            threads = settings.threads or max(1, (os.cpu_count() or 2) // 2)
            trainer = OnsiteTrainer(self._store, site, threads=threads, nice=settings.nice)
        except EXPECTED:
            perception.close()
            raise
        for job in trainer.jobs():
            if not job.ended:
                self.get_logger().info(f"job {job.job_id} of '{job.task}' goes on")
            elif job.job_id in trainer.given_up:
                self.get_logger().warning(f"job {job.job_id} of '{job.task}' failed: {job.message}")
        jobs = JobServices(trainer, lambda: self._settings)
        return _Desk(
            perception,
            trainer,
            CollectService(self, self._store, site, lambda: self._settings, self._looks),
            SampleServices(self._store, site, jobs),
            ModelServices(self._store, site, jobs),
            jobs,
        )

    def _stop(self) -> None:
        if self._desk is not None:
            desk, self._desk = self._desk, None
            desk.close()

    # Services

    def _offer_services(self) -> None:
        async def collect(desk: _Desk, request: Any, response: Any) -> None:
            await desk.collect.collect_samples(request, response)

        def in_threads(threads: Background, method: Callable[[_Desk], Callable[[Any, Any], None]]) -> Answer:
            async def answer(desk: _Desk, request: Any, response: Any) -> None:
                await threads.run(lambda: method(desk)(request, response))

            return answer

        looks, changes = self._looks, self._changes
        services: list[tuple[Any, str, Answer]] = [
            (CollectSamples, "collect_samples", collect),
            (ListSamples, "list_samples", in_threads(looks, lambda desk: desk.samples.list_samples)),
            (ForgetSamples, "forget_samples", in_threads(looks, lambda desk: desk.samples.forget_samples)),
            (RenameLabel, "rename_label", in_threads(changes, lambda desk: desk.samples.rename_label)),
            (MergeLabels, "merge_labels", in_threads(changes, lambda desk: desk.samples.merge_labels)),
            (ListColumns, "list_columns", in_threads(looks, lambda desk: desk.models.list_columns)),
            (RemoveColumn, "remove_column", in_threads(changes, lambda desk: desk.models.remove_column)),
            (Rollback, "rollback", in_threads(changes, lambda desk: desk.models.rollback)),
            (TrainColumn, "train_column", in_threads(changes, lambda desk: desk.jobs.train_column)),
            (TrainingStatus, "training_status", in_threads(looks, lambda desk: desk.jobs.training_status)),
            (CancelTraining, "cancel_training", in_threads(looks, lambda desk: desk.jobs.cancel_training)),
        ]
        for kind, name, answer in services:
            self.create_service(kind, f"~/{name}", self._answering(name, answer), callback_group=self._group)

    def _answering(self, name: str, answer: Answer) -> Callable[[Any, Any], Any]:
        """A service's callback: what the answer raises becomes its message."""

        async def callback(request: Any, response: Any) -> Any:
            try:
                await answer(self._opened(), request, response)
            except Exception as error:
                response.success = False
                response.message = self._said(name, error)
            return response

        return callback

    def _opened(self) -> _Desk:
        if self._desk is None:
            raise Refusal(self._problem)
        return self._desk

    def _said(self, name: str, error: Exception) -> str:
        """What to answer where something was raised; a defect is written down, and must not end the node."""
        if isinstance(error, EXPECTED):
            line = " ".join(str(error).split())  # a request's own line breaks may be in it
            self.get_logger().warning(f"{name}: {line}")
            return line
        self.get_logger().error(f"{name}: {traceback.format_exc()}")
        return f"{type(error).__name__}: {error}; see the log of the trainer node"

    # The action

    async def _on_train(self, goal: ServerGoalHandle) -> Train.Result:
        result = Train.Result(accuracy=float("nan"), known_named=float("nan"), strangers_refused=float("nan"))
        pulse = Pulse(self, LOOK_S)
        try:
            job = await self._run_job(goal, pulse)
        except Exception as error:
            result.message = self._said("train", error)
            goal.abort()
            return result
        finally:
            pulse.close()
        if job.state == "done":
            goal.succeed()
        elif job.state == "cancelled" and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return train_result(job)

    async def _run_job(self, goal: ServerGoalHandle, pulse: Pulse) -> JobStatus:
        """Start a job and report of it until it has ended; Refusal where the node is deactivated meanwhile."""
        desk = self._opened()
        job = await self._changes.run(lambda: desk.jobs.start(goal.request))
        look = partial(desk.trainer.status, job.job_id)
        cancel = partial(desk.trainer.cancel, job.job_id)
        cancelled = False
        while not job.ended:
            goal.publish_feedback(train_feedback(job))
            await pulse.wait()
            if self._desk is not desk:
                raise Refusal(f"the trainer was deactivated: job {job.job_id} goes on when it is active again")
            if goal.is_cancel_requested and not cancelled:
                cancelled = True
                with suppress(OnsiteError):  # too late: it is being taken into use, or has ended
                    await self._looks.run(cancel)
            job = await self._looks.run(look)
        return job

    # Parameters and retention

    def _on_set_parameters(self, parameters: list) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in self._declared}
        try:
            self._declared.check(changes, may_change_all=self._site is None)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._site is not None:
            self._settings = self._settings.model_copy(update=changes)
        return SetParametersResult(successful=True)

    def _enforce_retention(self) -> None:
        try:
            forgotten = self._store.enforce_retention()
        except (SampleStoreError, OSError) as error:
            self.get_logger().error(f"retention: {error}")
            return
        if forgotten.count:
            self.get_logger().info(f"retention: erased {forgotten.count} samples whose time was over")


def _check_descriptor(name: str) -> None:
    """SettingsError where the parameter `descriptor` names one that is not installed or cannot be run."""
    try:
        if name:
            verify_descriptor(name)
    except DescriptorError as error:
        raise SettingsError(f"parameter 'descriptor' is '{name}': {error}") from error


def main(args: list[str] | None = None) -> None:
    run(TrainerNode, args)


if __name__ == "__main__":
    main()
