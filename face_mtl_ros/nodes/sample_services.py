"""The trainer's services that work on stored samples: list, forget, rename and merge."""

from collections.abc import Collection

from ..bundle.bundle import Bundle
from ..bundle.files import BundleError
from ..samples.checks import normal_label
from ..samples.store import SampleStore
from ..site_labels import rename_label
from ..site_model import SiteModel, find_column, tasks_that_know
from .interfaces import ForgetSamples, ListSamples, MergeLabels, RenameLabel
from .job_services import JobServices
from .refusal import Refusal, check_number
from .trainer_conversions import label_count, sample_info

LISTED = 100  # samples of an answer, where the request does not say
MAX_PICTURES = 1000  # of an answer: 16 MB


class SampleServices:
    """Each method fills an answer, in a thread that may block, or raises what its message shall be.

    Args:
        store: the samples.
        site: the model in use.
        jobs: the trainings.
    """

    def __init__(self, store: SampleStore, site: SiteModel, jobs: JobServices) -> None:
        self._store, self._site, self._jobs = store, site, jobs

    def list_samples(self, request: ListSamples.Request, response: ListSamples.Response) -> None:
        limit = request.limit or LISTED
        if request.with_images and not request.with_samples:
            raise Refusal("with_images: the pictures come with the samples, so with_samples must be true")
        if request.with_images and limit > MAX_PICTURES:
            raise Refusal(f"limit {limit}: at most {MAX_PICTURES} pictures fit into an answer; ask for more by offset")
        bundle = self._bundle()
        counts = self._store.counts(request.task, request.label)
        if request.with_samples:
            samples = self._store.find(request.task, request.label, offset=request.offset, limit=limit)
            pictures = [self._store.crop(sample.id) if request.with_images else None for sample in samples]
            response.samples = [sample_info(*pair) for pair in zip(samples, pictures, strict=True)]
        response.counts = [label_count(count, bundle.manifest if bundle else None) for count in counts]
        response.total = sum(count.count for count in counts)
        response.store_bytes = self._store.size_bytes()
        response.success = True
        response.message = f"{response.total} samples of {len(counts)} labels"

    def forget_samples(self, request: ForgetSamples.Request, response: ForgetSamples.Response) -> None:
        """Also cancels a training of the affected tasks, which would learn what is forgotten."""
        days = check_number("older_than_days", request.older_than_days)
        conditions = (request.task, request.label, list(request.sample_ids), days)
        chosen = self._store.forget(*conditions, everything=request.everything, dry_run=True)
        samples = self._store.find(ids=chosen.ids) if chosen.ids else []
        bundle = self._bundle()
        response.affected_tasks = tasks_that_know(bundle.manifest, samples) if bundle else []
        cancelled = []
        if chosen.count and not request.dry_run:
            cancelled = self._jobs.cancel_tasks({sample.task for sample in samples})
            chosen = self._store.forget(*conditions, everything=request.everything)
        response.forgotten, response.remaining = chosen.count, chosen.remaining
        response.success = True
        said = [f"{'would forget' if request.dry_run else 'forgot'} {chosen.count} samples, {chosen.remaining} remain"]
        said += [f"job {job_id} was cancelled, for it learned from them" for job_id in cancelled]
        if request.retrain and not request.dry_run:
            response.job_ids, more = self._retrain_all(response.affected_tasks)
            said += more
        elif response.affected_tasks:
            tasks = ", ".join(response.affected_tasks)
            said.append(f"the columns of {tasks} know them until they are trained anew or removed")
        response.message = "; ".join(said)

    def rename_label(self, request: RenameLabel.Request, response: RenameLabel.Response) -> None:
        response.model_version = self._site.bundle().version
        self._jobs.check_idle("rename a label")
        done = rename_label(
            self._store, self._site, request.task, request.label, request.new_label, request.display_name
        )
        response.changed, response.model_version = done.changed, done.model_version
        response.success = True
        name = request.display_name or request.new_label
        response.message = f"'{request.label}' of '{request.task}' is '{name}' now, with {done.changed} samples"

    def merge_labels(self, request: MergeLabels.Request, response: MergeLabels.Response) -> None:
        self._jobs.check_idle("merge labels")
        response.moved, response.total = self._store.merge(
            request.task, list(request.from_labels), request.into_label, request.display_name
        )
        response.success = True
        said = [f"{response.moved} samples became '{normal_label(request.into_label)}' of '{request.task}'"]
        if request.retrain:
            (response.job_id,), more = self._retrain_all([request.task])
            said += more
        elif (bundle := self._bundle()) and find_column(bundle.manifest, request.task):
            said.append("its column answers with the old labels until it is trained anew")
        response.message = "; ".join(said)

    def _retrain_all(self, tasks: Collection[str]) -> tuple[list[str], list[str]]:
        """A job a task, "" where there can be none, and what to tell of it."""
        job_ids, said = [], []
        for task in tasks:
            try:
                job_ids.append(self._jobs.retrain(task))
                said.append(f"job {job_ids[-1]} trains '{task}' anew")
            except ValueError as error:
                job_ids.append("")
                said.append(f"'{task}' is not trained anew, and knows what it knew until it is, or is removed: {error}")
        return job_ids, said

    def _bundle(self) -> Bundle | None:
        """The model in use; None where there is none, about which listing and forgetting need not care."""
        try:
            return self._site.bundle()
        except (BundleError, OSError):
            return None
