"""face-mtl analyze: pictures in, one line of JSON each out."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..bundle.locate import DEFAULT_MODEL
from ..runtime.engines import ENGINES
from ..vision.alignment import CROP_SIZE
from ..vision.detectors import DETECTORS
from ..vision.sources import PICTURE_SUFFIXES

if TYPE_CHECKING:  # imported by `run`: else every face-mtl command would wait for SciPy
    from ..analyzer import Attribute, Face, FaceAnalyzer

logger = logging.getLogger(__name__)


class PictureError(ValueError):
    """A file is no picture that can be read; the message names it and says why."""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "analyze",
        help="read the faces of pictures",
        description="Read the faces of pictures. A folder stands for the pictures in it.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="picture, or folder of pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="bundle, by folder or name (default: %(default)s)")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--crops", action="store_true", help="the pictures are aligned crops: no detection")
    parser.add_argument("--embedding", action="store_true", help="give the face descriptor too")
    parser.add_argument("--json", action="store_true", help="one line of JSON a picture on stdout")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write annotated pictures into a folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Analyse all files; one that fails is named on stderr, the others go on, and the exit status is 1."""
    from ..analyzer import FaceAnalyzer

    analyzer = FaceAnalyzer(model=args.model, detector=args.detector, engine=args.engine)
    failed = 0
    for path in args.paths:
        try:
            for file in _files(path):
                try:
                    _analyze(analyzer, file, args)
                except PictureError as error:
                    failed += 1
                    print(f"face-mtl analyze: {error}", file=sys.stderr)
        except PictureError as error:
            failed += 1
            print(f"face-mtl analyze: {error}", file=sys.stderr)
    return 1 if failed else 0


def read_picture(file: Path) -> np.ndarray:
    """A picture file as uint8 (h, w, 3) BGR, turned upright as its EXIF data say.

    Raises:
        PictureError: missing, empty, unreadable, no picture, or larger than OpenCV takes.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PictureError(f"{file}: {error.strerror}") from error
    if not data:
        raise PictureError(f"{file}: the file is empty")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureError(f"{file}: OpenCV refuses it: {error.err}") from error
    if picture is None:
        raise PictureError(f"{file}: not a picture that OpenCV can read")
    return picture


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        pictures = [file for file in sorted(path.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES]
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror}") from error
    if not pictures:
        raise PictureError(f"{path}: the folder has no pictures in it ({', '.join(PICTURE_SUFFIXES)})")
    return pictures


def _analyze(analyzer: FaceAnalyzer, file: Path, args: argparse.Namespace) -> None:
    picture = read_picture(file)
    faces = [_crop_as_face(analyzer, picture)] if args.crops else analyzer.analyze(picture)
    height, width = picture.shape[:2]
    if args.json:
        shown = [_face_json(face, args.embedding) for face in faces]
        print(json.dumps({"path": str(file), "width": width, "height": height, "faces": shown}), flush=True)
    else:
        print(f"{file}: {len(faces)} face{'' if len(faces) == 1 else 's'}", flush=True)
        for face in faces:
            said = ", ".join(f"{a.task} {a.label} {a.confidence:.2f}" for a in face.attributes)
            print(f"  {face.face_id}: {said}", flush=True)
    if args.draw:
        from ..vision.drawing import draw

        args.draw.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.draw / f"{file.stem}.annotated.jpg"), draw(picture, faces))


def _crop_as_face(analyzer: FaceAnalyzer, picture: np.ndarray) -> Face:
    """The whole picture as one face, aligned already."""
    from ..analyzer import Face

    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    shrinks = max(height, width) > CROP_SIZE
    crop = cv2.resize(grey, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    attributes, embeddings = analyzer.read_crops(crop[None])
    box = np.array([0, 0, width, height], np.float32)
    return Face("0", box, 1.0, np.empty((0, 2), np.float32), attributes[0], crop, embeddings[0])


def _face_json(face: Face, embedding: bool) -> dict:
    x, y, width, height = (int(round(float(value))) for value in face.box)
    shown = {
        "face_id": face.face_id,
        "roi": {"x_offset": x, "y_offset": y, "width": width, "height": height},
        "detection_confidence": round(float(face.detection_confidence), 4),
        "landmarks": [[round(float(px), 1), round(float(py), 1)] for px, py in face.landmarks],
        "attributes": [_attribute_json(attribute) for attribute in face.attributes],
    }
    if embedding:
        shown["embedding"] = [round(float(value), 6) for value in face.embedding]
    return shown


def _attribute_json(attribute: Attribute) -> dict:
    return {
        "task": attribute.task,
        "label": attribute.label,
        "confidence": round(attribute.confidence, 5),
        "labels": list(attribute.labels),
        "probabilities": [round(float(p), 5) for p in attribute.probabilities],
        # JSON has no NaN.
        "value": None if math.isnan(attribute.value) else round(attribute.value, 2),
    }
