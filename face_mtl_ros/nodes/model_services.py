"""The trainer's services that work on the model: list and remove columns, and go back."""

from ..samples.store import SampleStore
from ..site_model import SiteModel
from .interfaces import ListColumns, RemoveColumn, Rollback
from .job_services import JobServices
from .trainer_conversions import column_info


class ModelServices:
    """Each method fills an answer, in a thread that may block, or raises what its message shall be.

    Args:
        store: the samples.
        site: the model in use.
        jobs: the trainings.
    """

    def __init__(self, store: SampleStore, site: SiteModel, jobs: JobServices) -> None:
        self._store, self._site, self._jobs = store, site, jobs

    def list_columns(self, request: ListColumns.Request, response: ListColumns.Response) -> None:
        bundle = self._site.bundle()
        names = self._store.display_names()
        response.model_version = bundle.version
        response.columns = [column_info(column, bundle.manifest, names) for column in bundle.manifest.columns]
        response.versions = self._site.kept()
        response.success = True
        response.message = f"{len(response.columns)} columns, {len(response.versions)} versions"

    def remove_column(self, request: RemoveColumn.Request, response: RemoveColumn.Response) -> None:
        response.model_version = self._site.bundle().version
        self._jobs.check_idle("remove a column")
        response.removed, used = self._site.remove(request.task, request.remove_dependents)
        response.model_version = used.bundle.version
        response.message = f"removed {', '.join(response.removed)}: {used.message}"
        if request.forget_samples:
            response.forgotten = sum(self._store.forget(task).count for task in response.removed)
            response.message += f"; forgot {response.forgotten} samples"
        response.success = True

    def rollback(self, request: Rollback.Request, response: Rollback.Response) -> None:
        response.model_version = response.previous_model_version = self._site.bundle().version
        self._jobs.check_idle("go back")
        used = self._site.rollback(request.model_version)
        response.model_version = used.bundle.version
        response.success = True
        response.message = f"{used.bundle.version} is active: {used.message}"
