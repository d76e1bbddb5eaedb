"""What the sample store holds and says."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Picture:
    """A face to store, and where it came from.

    Attributes:
        crop: uint8 (160, 160) grey, the aligned crop with a margin of 16 pixels a side for augmentation
            (vision.alignment.align with margin=16), or (128, 128), the crop alone.
        face_id: its track.
        camera: frame_id of the camera's image; of an imported one the file's name.
        stamp_ns: stamp of the camera's image in nanoseconds.
        quality: fitness as a training sample, 0 to 1.
    """

    crop: np.ndarray
    face_id: str = ""
    camera: str = ""
    stamp_ns: int = 0
    quality: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One stored sample without its picture, for which ask SampleStore.crop.

    Attributes:
        id: its number, 1 and up, never used again; 0 before it is stored. Later samples have higher ones.
        task, label: what it is a sample of.
        display_name: what to call the label aloud; empty for the label itself.
        face_id, camera, stamp_ns, quality: as of a Picture.
        requested_by: who asked for it to be stored.
        collected_at: when it was, wall-clock time in seconds since 1970.
        keep_days: days after which it shall be erased; None: never.
        expires_at: when it will be, wall-clock time in seconds since 1970; None: never, or, with keep_days, where the
            clock was not to be trusted, so that its days begin when it is.
    """

    id: int
    task: str
    label: str
    display_name: str
    face_id: str
    camera: str
    stamp_ns: int
    quality: float
    requested_by: str
    collected_at: float
    keep_days: float | None
    expires_at: float | None


@dataclass(frozen=True)
class LabelCount:
    """How many samples a label has.

    Attributes:
        task, label: of the samples.
        display_name: what to call the label aloud; the label itself where none was given.
        count: how many there are.
        first, last: when the oldest and the newest was collected, wall-clock time in seconds since 1970.
        next_expiry: when the first of them will be erased, likewise; None: never.
    """

    task: str
    label: str
    display_name: str
    count: int
    first: float
    last: float
    next_expiry: float | None


@dataclass(frozen=True)
class Forgotten:
    """What was erased, or would be.

    Attributes:
        ids: numbers of the samples.
        counts: (task, label) to how many of it.
        remaining: samples left in the store.
    """

    ids: tuple[int, ...]
    counts: dict[tuple[str, str], int]
    remaining: int

    @property
    def count(self) -> int:
        """How many samples."""
        return len(self.ids)
