#!/usr/bin/env python3
"""Measure what vision.quality says of LFW's faces, as they are and spoilt; its limits were chosen by these figures.

    python tools/measure_quality.py --data lfw_full [--pictures 300] [--json]

LFW's pictures are 250x250 with the named person's face at the centre. The face is found by YuNet
(face-mtl detector install), in the spoilt picture where the face is made smaller or turned, else in the picture as it
is. "most turned" are the tenth of the faces that the landmarks say are turned most.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from face_mtl_ros.vision.alignment import align
from face_mtl_ros.vision.detection import Detection, Detector
from face_mtl_ros.vision.detectors import DetectorError, make_detector
from face_mtl_ros.vision.quality import Quality, assess, sharpness, turn

SMALL = 32  # pixels, the width to which faces are shrunk


@dataclass(frozen=True, eq=False)
class Face:
    picture: np.ndarray
    found: Detection


def darkened(picture: np.ndarray, share: float) -> np.ndarray:
    return (picture * share).astype(np.uint8)


def brightened(picture: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(picture * float(factor), 0, 255).astype(np.uint8)


def moved(picture: np.ndarray, pixels: int) -> np.ndarray:
    """Blurred as by a movement to the side."""
    return cv2.blur(picture, (pixels, 1))


SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as is": lambda picture: picture,
    "blurred, sigma 2": lambda picture: cv2.GaussianBlur(picture, (0, 0), 2),
    "blurred, sigma 4": lambda picture: cv2.GaussianBlur(picture, (0, 0), 4),
    "moved by 13": lambda picture: moved(picture, 13),
    "dark, 50 %": lambda picture: darkened(picture, 0.5),
    "dark, 15 %": lambda picture: darkened(picture, 0.15),
    "bright, x 3": lambda picture: brightened(picture, 3),
}


def largest(detector: Detector, picture: np.ndarray) -> Detection | None:
    return max(detector.detect(picture), key=lambda found: float(found.box[2]), default=None)


def rolled(picture: np.ndarray, degrees: float) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.warpAffine(picture, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height))


def quality_of(picture: np.ndarray, found: Detection) -> Quality:
    return assess(align(picture, found.points), float(found.box[2:].min()), found.landmarks)


def line(condition: str, qualities: list[Quality]) -> dict:
    """Median of each part and quartiles of the whole."""
    parts = ("sharpness", "exposure", "pose", "size", "overall")
    medians = {part: round(float(np.median([getattr(q, part) for q in qualities])), 2) for part in parts}
    low, high = np.percentile([q.overall for q in qualities], [25, 75])
    good = np.mean([q.overall >= 0.5 for q in qualities])
    return {
        "condition": condition,
        "faces": len(qualities),
        **medians,
        "quartiles": [round(float(low), 2), round(float(high), 2)],
        "at_least_half_percent": round(100 * float(good), 1),
    }


def measure(faces: list[Face], detector: Detector) -> list[dict]:
    lines = [line(name, [quality_of(spoil(f.picture), f.found) for f in faces]) for name, spoil in SPOILT.items()]
    small, roll = [], []
    for face in faces:
        share = SMALL / float(face.found.box[2])
        shrunk = cv2.resize(face.picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        scaled = Detection(face.found.box * share, face.found.confidence, face.found.points * share)
        small.append(quality_of(shrunk, scaled))
        turned = rolled(face.picture, 20)
        if found := largest(detector, turned):
            roll.append(quality_of(turned, found))
    turns = np.array([turn(face.found.landmarks) for face in faces])
    most = turns >= np.quantile(turns, 0.9)
    lines += [line(f"small, {SMALL} pixels", small), line("rolled by 20 degrees", roll)]
    lines += [
        line("most turned", [quality_of(f.picture, f.found) for f, is_most in zip(faces, most, strict=True) if is_most])
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of LFW's uncropped pictures")
    parser.add_argument("--pictures", type=int, default=300, help="so many, spread evenly")
    parser.add_argument("--json", action="store_true", help="one object a line")
    args = parser.parse_args()
    paths = sorted(args.data.rglob("*.jpg"))
    if not paths:
        sys.exit(f"measure_quality: {args.data} holds no .jpg pictures; give LFW's folder with --data")
    try:
        detector = make_detector("yunet", min_face=48)
    except DetectorError as error:
        sys.exit(f"measure_quality: {error}")
    faces = []
    for path in paths[:: max(1, len(paths) // args.pictures)]:
        picture = cv2.imread(str(path))
        if (found := largest(detector, picture)) is not None:
            faces.append(Face(picture, found))
    for row in measure(faces, detector):
        print(json.dumps(row) if args.json else "  ".join(f"{name} {value}" for name, value in row.items()))
    figures = {
        "sharpness": [sharpness(align(face.picture, face.found.points)) for face in faces],
        "turn": [turn(face.found.landmarks) for face in faces],
    }
    for name, values in figures.items():
        shown = [round(float(value), 4) for value in np.percentile(values, [1, 5, 25, 50, 75, 95, 99])]
        row = {"figure": name, "percentiles_1_5_25_50_75_95_99": shown}
        print(json.dumps(row) if args.json else f"{name} at 1, 5, 25, 50, 75, 95, 99 %: {shown}")


if __name__ == "__main__":
    main()
