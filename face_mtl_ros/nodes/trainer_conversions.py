"""Between the trainer's messages and the classes of samples, models and trainings."""

from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ..bundle.manifest import ColumnRecord, Manifest
from ..samples import sample as stored
from ..samples.collecting import SeenFace
from ..site_model import find_column, is_on_site, trained_at, validation_accuracy
from ..training import onsite_jobs
from ..vision.alignment import CROP_SIZE
from ..vision.encodings import ImageError, decode
from .conversions import task_info
from .interfaces import ColumnInfo, FaceCropArray, JobStatus, LabelCount, SampleInfo, Train

MAX_TIME_S = 2**31 - 1  # of builtin_interfaces/Time


def seen_faces(message: FaceCropArray) -> list[SeenFace]:
    """The tracked faces of a frame; ImageError where a crop is none."""
    return [
        SeenFace(face.face_id, _crop(face.image), float(min(face.roi.width, face.roi.height)), face.quality)
        for face in message.faces
    ]


def _crop(image: Image) -> np.ndarray:
    if (image.encoding, image.width, image.height) != ("mono8", CROP_SIZE, CROP_SIZE):
        found = f"{image.encoding} {image.width} x {image.height}"
        raise ImageError(f"a crop is {found}, mono8 {CROP_SIZE} x {CROP_SIZE} is expected")
    return decode(image.data, image.width, image.height, image.step, image.encoding, False, CROP_SIZE * CROP_SIZE)


def to_time(seconds: float | None) -> Time:
    """Seconds since 1970; 0 for None."""
    return to_time_ns(round((seconds or 0.0) * 1e9))


def to_time_ns(nanoseconds: int) -> Time:
    """Nanoseconds since 1970, within what the message holds."""
    sec, nanosec = divmod(max(nanoseconds, 0), 10**9)
    return Time(sec=min(sec, MAX_TIME_S), nanosec=nanosec)


def stamp_ns(stamp: Time) -> int:
    """A stamp in nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def label_count(count: stored.LabelCount, manifest: Manifest | None) -> LabelCount:
    """A label with its number of samples; `trained` is looked up in the model in use."""
    column = find_column(manifest, count.task) if manifest else None
    return LabelCount(
        task=count.task,
        label=count.label,
        display_name=count.display_name,
        count=count.count,
        first=to_time(count.first),
        last=to_time(count.last),
        next_expiry=to_time(count.next_expiry),
        trained=column is not None and count.label in column.labels,
    )


def sample_info(sample: stored.Sample, crop: np.ndarray | None) -> SampleInfo:
    """A sample, with its picture where that is given: uint8 (128, 128) or (160, 160)."""
    message = SampleInfo(
        sample_id=sample.id,
        task=sample.task,
        label=sample.label,
        face_id=sample.face_id,
        camera=sample.camera,
        stamp=to_time_ns(sample.stamp_ns),
        collected_at=to_time(sample.collected_at),
        expires_at=to_time(sample.expires_at),
        requested_by=sample.requested_by,
        quality=sample.quality,
    )
    if crop is not None:
        height, width = crop.shape
        message.image = Image(height=height, width=width, encoding="mono8", step=width)
        message.image.header = Header(stamp=message.stamp, frame_id=sample.camera)
        message.image.data.frombytes(crop.tobytes())  # the setter would check each byte in a Python loop
    return message


def job_status(job: onsite_jobs.JobStatus) -> JobStatus:
    """A job as it is."""
    return JobStatus(
        job_id=job.job_id,
        task=job.task,
        kind=job.kind,
        state=job.state,
        message=job.message,
        epoch=job.epoch,
        epochs=job.epochs,
        loss=job.loss,
        validation_accuracy=job.validation_accuracy,
        time_left_s=job.time_left_s,
        elapsed_s=job.elapsed_s,
        sample_count=job.sample_count,
        resumed=job.resumed,
        created_at=to_time(job.created_at),
        finished_at=to_time(job.finished_at),
        accuracy=job.accuracy,
        model_version=job.model_version,
    )


def train_feedback(job: onsite_jobs.JobStatus) -> Train.Feedback:
    """How far a job is."""
    return Train.Feedback(
        job_id=job.job_id,
        state=job.state,
        epoch=job.epoch,
        epochs=job.epochs,
        loss=job.loss,
        validation_accuracy=job.validation_accuracy,
        time_left_s=job.time_left_s,
    )


def train_result(job: onsite_jobs.JobStatus) -> Train.Result:
    """What came of a job that has ended."""
    return Train.Result(
        success=job.state == JobStatus.STATE_DONE,
        message=job.message,
        job_id=job.job_id,
        accuracy=job.accuracy,
        known_named=job.known_named,
        strangers_refused=job.strangers_refused,
        epochs=job.epoch,
        duration_s=job.duration_s,
        model_version=job.model_version,
    )


def column_info(column: ColumnRecord, manifest: Manifest, display_names: Mapping[tuple[str, str], str]) -> ColumnInfo:
    """A column of a model with what is known of its training.

    Args:
        display_names: as of task_info.
    """
    return ColumnInfo(
        info=task_info(column, display_names),
        built_in=not is_on_site(column),
        sha256=column.file.sha256,
        trained_at=to_time(trained_at(column)),
        recipe=str(column.provenance.recipe.get("name", "")),
        sample_count=sum(column.provenance.samples.values()),
        accuracy=validation_accuracy(column),
        used_by=[other.task for other in manifest.columns if column.task in other.sources],
    )
