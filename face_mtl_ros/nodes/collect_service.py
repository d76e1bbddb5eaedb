"""The trainer's service that stores faces."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from rclpy.node import Node

from ..bundle.files import BundleError
from ..samples.checks import check_display_name, check_label, check_source, check_task
from ..samples.collecting import Collecting
from ..samples.selection import Selector
from ..samples.store import SampleStore
from ..site_labels import check_label_of
from ..site_model import SiteModel, find_column
from .background import Background
from .crop_collector import collect
from .interfaces import CollectSamples
from .refusal import Refusal, check_number
from .trainer_parameters import TrainerSettings

MAX_COUNT = 1000  # samples of a call
MAX_TIME_S = 3600.0
KNOWN = 200  # of a label's stored samples, so many new ones are compared with, the newest


class CollectService:
    """Collects samples for a request.

    Args:
        node: subscribes to the crops.
        store: where the samples go.
        site: the model in use.
        settings: the node's parameters as they are.
        threads: what blocks is done there.
    """

    def __init__(
        self,
        node: Node,
        store: SampleStore,
        site: SiteModel,
        settings: Callable[[], TrainerSettings],
        threads: Background,
    ) -> None:
        self._node, self._store, self._site = node, store, site
        self._settings, self._threads = settings, threads
        self._open = True

    async def collect_samples(self, request: CollectSamples.Request, response: CollectSamples.Response) -> None:
        """Fill the answer when there are enough samples, or there will be no more."""
        settings = self._settings()
        label, time_limit_s = self._check(request), request.time_limit_s or settings.collect_time_s
        known = await self._threads.run(lambda: self._prepare(request, label))
        selector = Selector(
            request.count or settings.collect_count,
            known,
            settings.min_face,
            request.min_quality or settings.collect_quality,
        )
        collecting = Collecting(selector, request.face_id, settings.face_timeout_s)
        topic = f"{settings.perception}/crops"
        await collect(self._node, topic, collecting, time_limit_s, lambda: self._open)
        response.face_id = collecting.face_id
        counts = selector.counts
        response.refused_blurred, response.refused_small = counts["blurred"], counts["small"]
        response.refused_duplicate = counts["duplicate"]
        response.refused_quality = counts["light"] + counts["quality"]
        keep_days = _keep_days(request.retention_days, settings.retention_days)
        await self._threads.run(lambda: self._keep(request, label, collecting, keep_days, response))
        response.success = selector.done
        response.message = collecting.summary()
        if not self._open:
            response.message += "; the trainer was deactivated meanwhile"

    def close(self) -> None:
        """End the collections that go on; they keep what they have."""
        self._open = False

    def _check(self, request: CollectSamples.Request) -> str:
        """The label, normalised; Refusal or SampleStoreError where a field is wrong."""
        check_task(request.task)
        label = check_label(request.label, request.task)
        check_display_name(request.display_name)
        check_source("requested_by", request.requested_by)
        check_number("count", request.count, MAX_COUNT)
        check_number("time_limit_s", request.time_limit_s, MAX_TIME_S)
        check_number("min_quality", request.min_quality, 1.0)
        if not np.isfinite(request.retention_days):
            raise Refusal(f"retention_days {request.retention_days}: a number of days is expected")
        return label

    def _prepare(self, request: CollectSamples.Request, label: str) -> list[np.ndarray]:
        """The crops that the label has already. A store that cannot be written says so before anybody poses for it."""
        with suppress(BundleError):  # samples can be collected without a model
            check_label_of(find_column(self._site.bundle().manifest, request.task), label, request.task)
        self._store.enforce_retention()
        return [self._store.crop(sample.id) for sample in self._store.find(request.task, label, limit=KNOWN)]

    def _keep(
        self,
        request: CollectSamples.Request,
        label: str,
        collecting: Collecting,
        keep_days: float | None,
        response: CollectSamples.Response,
    ) -> None:
        if collecting.pictures:
            response.sample_ids = self._store.add(
                request.task,
                label,
                collecting.pictures,
                display_name=request.display_name,
                requested_by=request.requested_by,
                keep_days=keep_days,
            )
        response.collected = len(response.sample_ids)
        response.total = self._store.total(request.task, label)


def _keep_days(asked: float, otherwise: float) -> float | None:
    """Days to keep a sample; None: for ever."""
    days = asked or otherwise
    return days if days > 0 else None
