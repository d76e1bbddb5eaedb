#!/usr/bin/env python3
"""Measure the face detectors on uncropped LFW pictures: what they find, what they find too much, what it costs.

    python tools/measure_detectors.py --data lfw_full [--detector haar yunet] [--json]

LFW's pictures are 250x250 with the named person's face at the centre, some 113 pixels wide. It counts as found if the
centre of a detection lies within a quarter of that of the picture's centre, at half to twice the size. A picture has a
surplus if there is any further detection, even if it is of a real person in the background.

Costs are CPU time of one thread. On a shared machine it, too, is disturbed by the neighbours: the median is the usual
cost, the minimum what the machine would do undisturbed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from face_mtl_ros.vision.detection import Detection, Detector
from face_mtl_ros.vision.detectors import DetectorError, make_detector
from face_mtl_ros.vision.tracking import Tracker

FACE = 113  # pixels, width of LFW's central face


def rolled(image: np.ndarray, degrees: float) -> np.ndarray:
    """The image turned clockwise about its centre, on a canvas of the same size."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    return cv2.warpAffine(image, turn, (width, height))


CONDITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as is": lambda image: image,
    "roll +20": lambda image: rolled(image, 20),
    "roll -20": lambda image: rolled(image, -20),
    "roll +35": lambda image: rolled(image, 35),
    "roll -35": lambda image: rolled(image, -35),
    "dark 15 %": lambda image: (image * 0.15).astype(np.uint8),
}


def is_central(detection: Detection, image: np.ndarray) -> bool:
    """Whether the detection is of the face at the centre of an LFW picture."""
    x, y, width, height = (float(value) for value in detection.box)
    off = np.hypot(x + width / 2 - image.shape[1] / 2, y + height / 2 - image.shape[0] / 2)
    return bool(off < FACE / 4 and FACE / 2 < (width * height) ** 0.5 < FACE * 2)


def measure_pictures(detector: Detector, images: Sequence[np.ndarray], condition: str) -> dict:
    """Search every picture as a still one: the shares found and with a surplus in percent, the cost in ms."""
    found, surplus, costs = 0, 0, []
    for image in images:
        image = CONDITIONS[condition](image)
        start = time.thread_time()
        detections = detector.detect(image)
        costs.append((time.thread_time() - start) * 1000)
        central = any(is_central(d, image) for d in detections)
        found += central
        surplus += len(detections) > central
    return {
        "condition": condition,
        "pictures": len(images),
        "found_percent": round(100 * found / len(images), 2),
        "surplus_percent": round(100 * surplus / len(images), 2),
        "cpu_ms_median": round(float(np.median(costs)), 2),
        "cpu_ms_min": round(min(costs), 2),
    }


def scene(faces: Sequence[np.ndarray], width: int, height: int, face: int, shift: int = 0) -> np.ndarray:
    """A frame with LFW faces of `face` pixels in a row or two on a background of smooth noise."""
    noise = np.random.default_rng(7).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), (0, 0), 3)
    side = round(250 * face / FACE)
    columns = min(len(faces), 4)
    rows = -(-len(faces) // 4)
    for i, image in enumerate(faces):
        x = (2 * (i % 4) + 1) * width // (2 * columns) - side // 2 + shift
        y = (2 * (i // 4) + 1) * height // (2 * rows) - side // 2
        patch = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < 250 else cv2.INTER_LINEAR)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        frame[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
    return frame


def measure_stream(detector: Detector, images: Sequence[np.ndarray], size: tuple[int, int], count: int) -> dict:
    """Run 60 frames in which `count` faces move sideways: the cost a frame in ms, the faces that the tracker sees."""
    width, height = size
    face = round((150 if count < 2 else 60) * height / 480)
    frames = [scene(images[:count], width, height, face, shift=round(10 * np.sin(i / 5))) for i in range(60)]
    tracker = Tracker()
    costs, seen = [], 0
    for i, frame in enumerate(frames):
        start = time.thread_time()
        found = detector.detect(frame, [track.detection for track in tracker.tracks])
        costs.append((time.thread_time() - start) * 1000)
        seen += len(tracker.update(found, i / 30))
    return {
        "width": width,
        "height": height,
        "faces": count,
        "seen_mean": round(seen / len(frames), 2),
        "cpu_ms_mean": round(float(np.mean(costs)), 2),
        "cpu_ms_median": round(float(np.median(costs)), 2),
    }


def read_pictures(folder: Path) -> list[np.ndarray]:
    """All <Name>/*.jpg of the folder, uint8 (250, 250, 3) BGR. Raises FileNotFoundError if there is none."""
    images = [cv2.imread(str(path)) for path in sorted(folder.glob("*/*.jpg"))]
    if not images:
        raise FileNotFoundError(f"--data {folder}: no pictures <Name>/*.jpg there, unpack uncropped LFW pictures")
    return images


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with <Name>/<Name>_NNNN.jpg, 250x250")
    parser.add_argument("--detector", nargs="+", default=["haar", "yunet"])
    parser.add_argument("--condition", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--limit", type=int, help="only so many pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        images = read_pictures(arguments.data)[: arguments.limit]
        report = {}
        for name in arguments.detector:
            pictures = [measure_pictures(make_detector(name), images, condition) for condition in arguments.condition]
            sizes_and_counts = [(size, count) for size in ((640, 480), (1280, 720)) for count in (0, 1, 8)]
            stream = [measure_stream(make_detector(name), images, size, count) for size, count in sizes_and_counts]
            report[name] = {"pictures": pictures, "stream": stream}
    except (DetectorError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(report))
        return 0
    for name, parts in report.items():
        for title, rows in parts.items():
            print(f"{name}, {title}")
            print("  ".join(f"{key:>16}" for key in rows[0]))
            for row in rows:
                print("  ".join(f"{value:>16}" for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
