"""FaceAnalyzer: an image in, faces with their attributes out. No ROS."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .bundle.bundle import load_bundle
from .bundle.locate import DEFAULT_MODEL, locate_bundle
from .bundle.manifest import ColumnRecord
from .bundle.shared import same_descriptors, shared_tasks
from .runtime.descriptor import load_descriptors
from .runtime.engines import make_engine
from .runtime.predictor import Predictor
from .runtime.track_descriptors import TrackDescriptors
from .vision.alignment import CROP_SIZE, align
from .vision.detection import Detection
from .vision.detectors import make_detector
from .vision.smoothing import NameAgreement, ProbabilitySmoother
from .vision.tracking import Track, Tracker

UNKNOWN = "unknown"  # what an open-set identity column calls a stranger


@dataclass(frozen=True, eq=False)
class Attribute:
    """What a column says of a face.

    Attributes:
        task: the column's name.
        label: the most probable label. Of an identity column UNKNOWN where its open set knows nobody like the face, and
            of a stream the label on which several frames of the face agree, UNKNOWN until they do.
        confidence: the label's probability; 0 for UNKNOWN, which has none.
        labels: all labels.
        probabilities: float32 (len(labels),), summing to 1.
        value: for a task with an order, the expectation of the labels' numbers (age: years); NaN otherwise.
    """

    task: str
    label: str
    confidence: float
    labels: tuple[str, ...]
    probabilities: np.ndarray
    value: float


@dataclass(frozen=True, eq=False)
class Face:
    """One face of an image.

    Attributes:
        face_id: stable while the face is tracked; in a still picture its number by size, from "0".
        box: float32 (4,): x, y, width, height in pixels, inside the image.
        detection_confidence: 0 to 1.
        landmarks: float32 (5, 2) pixels (right eye, left eye, nose tip, right and left corner of the mouth), or (0, 2).
        attributes: one a column, in the bundle's order; an embedding column has none.
        crop: uint8 (128, 128), the aligned grey crop that the network saw.
        embedding: float32 (d,) of length 1, the face's descriptor: of the model's embedding column, or where it has
            none of the encoder, which is not trained to tell people apart.
    """

    face_id: str
    box: np.ndarray
    detection_confidence: float
    landmarks: np.ndarray
    attributes: tuple[Attribute, ...]
    crop: np.ndarray
    embedding: np.ndarray

    def __getitem__(self, task: str) -> Attribute:
        """The attribute of a task; KeyError if the model has no such column."""
        for attribute in self.attributes:
            if attribute.task == task:
                return attribute
        raise KeyError(f"no column '{task}'; the model has {[attribute.task for attribute in self.attributes]}")


class FaceAnalyzer:
    """Finds the faces of pictures or of a camera stream and reads them, all faces of an image in one batch.

    Not thread-safe, but for the assignment of `predictor`, `max_faces`, `descriptor_every`, `detect_every`,
    `reads_per_frame`, `tracker.max_age_s` and the attributes of `smoother` and of `naming` (NameAgreement: when a
    tracked face is named), which take effect at the next image.

    Faces keep their ids when `predictor` is exchanged; what was averaged and agreed of them goes on in the columns that
    both models share unchanged, and begins anew in the others.

    Args:
        model: a bundle's folder or name.
        detector: "auto", "yunet" or "haar".
        engine, device, precision, threads: see runtime.engines.make_engine; foreign descriptors take as many threads.
        max_faces: so many at most, the largest first.
        min_face: pixels, the smallest face that is looked for.
        smoothing_s: time constant in seconds over which a tracked face's probabilities are averaged; 0 for none.
        max_age_s: seconds that a track survives without being seen.
        reads_per_frame: of a stream's faces, so many are read in a frame, by turns, and new ones; the others keep what
            was last read of them. So a crowd does not slow the stream down. 0: all.
        detect_every: a stream's faces are looked for in every so manyth frame; in those between, they are read where
            they are expected, and no new face is seen. At least 1.
        descriptor_every: where the model draws on foreign face descriptors, a stream's face is described in its first
            frames, and again once it was seen in so many further frames; at most one face a frame is described again,
            so in a crowd it takes longer. The mean of its latest descriptions counts; see TrackDescriptors. At least 1.

    Raises:
        BundleError, EngineError, DetectorError: what cannot be had, and the remedy.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        detector: str = "auto",
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        max_faces: int = 32,
        min_face: int = 48,
        smoothing_s: float = 0.5,
        max_age_s: float = 1.0,
        reads_per_frame: int = 4,
        descriptor_every: int = 15,
        detect_every: int = 1,
    ):
        self._threads = threads
        self._make_engine = partial(make_engine, name=engine, device=device, precision=precision, threads=threads)
        self.predictor = self.load_model(model)
        self.detector = make_detector(detector, min_face=min_face)
        self.tracker = Tracker(max_age_s=max_age_s)
        self.smoother = ProbabilitySmoother(smoothing_s)
        self.naming = NameAgreement()
        self.reads_per_frame = reads_per_frame
        self.descriptor_every = descriptor_every
        self.detect_every = detect_every
        self._frame = 0  # of the stream, counted
        self._readings: dict[str, _Reading] = {}  # the latest of each tracked face, in the order of reading
        self._described = TrackDescriptors()
        self._read_by = self.predictor  # whose readings these are
        self.max_faces = max_faces
        self.stage_ms: dict[str, float] = {}

    def load_model(self, model: str | Path) -> Predictor:
        """Load, verify, compile and warm up a bundle without using it yet: that is to assign it to `predictor`.

        Raises:
            BundleError, EngineError: what cannot be had, among it a foreign descriptor that the bundle draws on.
        """
        bundle = load_bundle(locate_bundle(model))
        predictor = Predictor(bundle, self._make_engine(bundle), load_descriptors(bundle, self._threads))
        predictor.warm_up()
        return predictor

    def analyze(self, image: np.ndarray) -> list[Face]:
        """Read the faces of a still picture, uint8 (h, w, 3) BGR or (h, w) grey, largest first."""
        stages = _Stopwatch()
        detections = _largest(self.detector.detect(image), self.max_faces)
        stages.lap("detect")
        crops = _crops(image, detections)
        stages.lap("align")
        predictor = self.predictor
        described = predictor.describe(image, [detection.points for detection in detections])
        if described:
            stages.lap("describe")
        attributes, embeddings = _read(predictor, crops, described)
        stages.lap("infer")
        self.stage_ms = stages.ms
        ids = (str(i) for i in range(len(detections)))
        return [_face(*parts, image) for parts in zip(ids, detections, attributes, crops, embeddings, strict=True)]

    def track(self, image: np.ndarray, stamp: float) -> tuple[list[Face], str]:
        """Read the faces of the next frame of a stream.

        Args:
            image: uint8 (h, w, 3) BGR or (h, w) grey.
            stamp: seconds, the frame's time; differences of stamps drive tracking and smoothing.

        Returns:
            The faces that this frame shows, with stable ids, longest seen first, and the version of the model.
        """
        stages = _Stopwatch()
        tracks = self._follow(image, stamp, stages)
        predictor = self.predictor  # read once: another thread may assign a new one
        if predictor is not self._read_by:
            self._forget_other_columns(predictor)
        alive = {track.face_id for track in self.tracker.tracks}
        self.smoother.forget(alive)
        self.naming.forget(alive)
        self._readings = {face_id: reading for face_id, reading in self._readings.items() if face_id in alive}
        self._described.forget(alive)
        stages.lap("track")
        detections = [track.detection for track in tracks]
        crops = _crops(image, detections)
        stages.lap("align")
        ids = [track.face_id for track in tracks]
        if predictor.descriptors:
            self._describe(predictor, image, tracks)
            stages.lap("describe")
        self._read(predictor, ids, crops, stamp)
        readings = [self._readings[face_id] for face_id in ids]
        columns = predictor.bundle.manifest.columns
        attributes = [_attributes(columns, reading.probabilities, reading.names) for reading in readings]
        embeddings = [reading.embedding for reading in readings]
        stages.lap("infer")
        self.stage_ms = stages.ms
        faces = [_face(*parts, image) for parts in zip(ids, detections, attributes, crops, embeddings, strict=True)]
        return faces, predictor.bundle.version

    def _follow(self, image: np.ndarray, stamp: float, stages: "_Stopwatch") -> list[Track]:
        """The faces that the frame shows: found in it, or where they are expected if it is not searched."""
        self._frame += 1
        if (self._frame - 1) % self.detect_every:
            return self.tracker.coast(stamp)
        found = self.detector.detect(image, [track.detection for track in self.tracker.tracks])
        stages.lap("detect")
        max_faces = self.max_faces  # read once: another thread may set it
        return [track for track in self.tracker.update(_largest(found, max_faces), stamp) if not track.predicted]

    def _forget_other_columns(self, predictor: Predictor) -> None:
        """Another model came: another column's labels must not enter the means, and what both share goes on."""
        before, after = self._read_by.bundle.manifest, predictor.bundle.manifest
        shared = shared_tasks(before, after)
        self.smoother.forget_tasks(shared | {_known(task) for task in shared})
        self.naming.forget_tasks(shared)
        self._readings.clear()
        if not same_descriptors(before, after):
            self._described.clear()
        self._read_by = predictor

    def _describe(self, predictor: Predictor, image: np.ndarray, tracks: Sequence[Track]) -> None:
        """Describe the faces whose turn it is by the foreign descriptors."""
        shown = {track.face_id: track.detection.points for track in tracks}
        due = self._described.due(list(shown), self.descriptor_every)
        found = predictor.describe(image, [shown[face_id] for face_id in due])
        for row, face_id in enumerate(due):
            self._described.add(face_id, {name: vectors[row] for name, vectors in found.items()})

    def _read(self, predictor: Predictor, ids: list[str], crops: np.ndarray, stamp: float) -> None:
        """Read the faces whose turn it is: those never read, then those not read for longest."""
        index = {face_id: i for i, face_id in enumerate(ids)}
        read_before = [index[face_id] for face_id in self._readings if face_id in index]  # longest ago first
        new = [i for i, face_id in enumerate(ids) if face_id not in self._readings]
        chosen = new + read_before[: max(0, (self.reads_per_frame or len(ids)) - len(new))]
        described = {
            name: np.array([self._described.mean(ids[i], name) for i in chosen], np.float32).reshape(
                len(chosen), descriptor.spec.dimensions
            )
            for name, descriptor in predictor.descriptors.items()
        }
        read = predictor.read(crops[chosen], described)

        def mean(face_id: str, name: str, value: np.ndarray) -> np.ndarray:
            return self.smoother.update(face_id, name, value, stamp)

        identities = [column.task for column in predictor.bundle.manifest.columns if column.kind == "identity"]
        for row, i in enumerate(chosen):
            means = {task: mean(ids[i], task, rows[row]) for task, rows in read.probabilities.items()}
            # A frame names nobody by chance: its own score and the mean of the face's must both be above the threshold.
            known = {
                task: bool(mean(ids[i], _known(task), rows[row : row + 1])[0] > 0 and rows[row] > 0)
                for task, rows in read.known.items()
            }
            names = {
                task: self.naming.update(ids[i], task, read.probabilities[task][row], known.get(task, True), stamp)
                for task in identities
            }
            self._readings.pop(ids[i], None)  # what is put in anew comes last
            self._readings[ids[i]] = _Reading(means, names, read.embeddings[row])

    def read_crops(self, crops: np.ndarray) -> tuple[list[tuple[Attribute, ...]], np.ndarray]:
        """Read aligned crops, uint8 (n, 128, 128), without detection: attributes and embedding of each.

        Where the model draws on foreign face descriptors, they see no more than the crops either.
        """
        return _read(self.predictor, crops, self.predictor.describe_crops(crops))


@dataclass(frozen=True, eq=False)
class _Reading:
    """What was last read of a tracked face: smoothed probabilities by task, the label agreed by identity, embedding."""

    probabilities: dict[str, np.ndarray]
    names: dict[str, int | None]
    embedding: np.ndarray


class _Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.ms[stage] = (now - self._last) * 1e3
        self._last = now


def _largest(detections: Sequence[Detection], count: int) -> list[Detection]:
    return sorted(detections, key=lambda found: float(found.box[2] * found.box[3]), reverse=True)[:count]


def _crops(image: np.ndarray, detections: Sequence[Detection]) -> np.ndarray:
    crops = [align(image, detection.points) for detection in detections]
    return np.stack(crops) if crops else np.empty((0, CROP_SIZE, CROP_SIZE), np.uint8)


def _read(
    predictor: Predictor, crops: np.ndarray, described: dict[str, np.ndarray]
) -> tuple[list[tuple[Attribute, ...]], np.ndarray]:
    """Attributes and embedding of each crop, not smoothed."""
    read = predictor.read(crops, described)
    attributes = [
        _attributes(
            predictor.bundle.manifest.columns,
            {task: rows[i] for task, rows in read.probabilities.items()},
            {task: None for task, rows in read.known.items() if not rows[i] > 0},
        )
        for i in range(len(crops))
    ]
    return attributes, read.embeddings


def _attributes(
    columns: Sequence[ColumnRecord], probabilities: Mapping[str, np.ndarray], names: Mapping[str, int | None]
) -> tuple[Attribute, ...]:
    """Of each classifier; `names` has the label of those whose label is not simply the most probable one."""
    return tuple(
        _attribute(column, probabilities[column.task], names.get(column.task, int(probabilities[column.task].argmax())))
        for column in columns
        if column.kind != "embedding"
    )


def _attribute(column: ColumnRecord, probabilities: np.ndarray, label: int | None) -> Attribute:
    return Attribute(
        task=column.task,
        label=UNKNOWN if label is None else column.labels[label],
        confidence=0.0 if label is None else float(probabilities[label]),
        labels=tuple(column.labels),
        probabilities=probabilities,
        value=float(probabilities @ np.array(column.values, np.float32)) if column.values else float("nan"),
    )


def _known(task: str) -> str:
    """Under which name the mean of a task's open-set score is kept; no task's name has a slash."""
    return f"{task}/known"


def _face(
    face_id: str,
    detection: Detection,
    attributes: tuple[Attribute, ...],
    crop: np.ndarray,
    embedding: np.ndarray,
    image: np.ndarray,
) -> Face:
    height, width = image.shape[:2]
    x, y, w, h = detection.box
    left, top = np.clip([x, y], 0, [width - 1, height - 1])
    right, bottom = np.clip([x + w, y + h], [left + 1, top + 1], [width, height])
    box = np.array([left, top, right - left, bottom - top], np.float32)
    return Face(face_id, box, detection.confidence, detection.landmarks, attributes, crop, embedding)
