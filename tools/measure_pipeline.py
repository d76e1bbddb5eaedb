#!/usr/bin/env python3
"""Measure two stages side by side: the faces of frame t are found while those of frame t-1 are read.

    source tools/env.sh && python tools/measure_pipeline.py

A stream of 640 x 480 with one face and with eight, all of them read in each frame, by ONNX Runtime with one thread and
with one a core. One line a way: milliseconds from frame to frame, CPU time of all threads, and for how long a frame
itself is under way.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from face_mtl_ros import FaceAnalyzer
from face_mtl_ros.vision.alignment import align
from face_mtl_ros.vision.portraits import PlacedFace, compose

WARM_UP, FRAMES, RATE = 10, 50, 30.0


def picture(faces: int, i: int) -> np.ndarray:
    """Frame i, in which the faces move a little."""
    if faces == 1:
        return compose((640, 480), [PlacedFace("astronaut", (320 + 2 * i % 40, 240), 160)])
    names = ("astronaut", "grace_hopper")
    places = [(85 + 155 * (k % 4) + i % 10, 130 + 210 * (k // 4)) for k in range(8)]
    return compose((640, 480), [PlacedFace(names[k % 2], place, 110) for k, place in enumerate(places)])


def measure(faces: int, pictures: list[np.ndarray], side_by_side: bool, threads: int) -> str:
    analyzer = FaceAnalyzer(detector="haar", engine="onnxruntime", threads=threads)

    def find(i: int) -> np.ndarray:
        found = analyzer.detector.detect(pictures[i], [track.detection for track in analyzer.tracker.tracks])
        tracks = [track for track in analyzer.tracker.update(found, i / RATE) if not track.predicted]
        return np.stack([align(pictures[i], track.detection.points) for track in tracks])

    for i in range(WARM_UP):
        analyzer.predictor.read(find(i), {})
    taken: list[float] = []

    def read(crops: np.ndarray, begun: float) -> None:
        analyzer.predictor.read(crops, {})
        taken.append(time.perf_counter() - begun)

    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(1) as pool:
        reading: Future | None = None
        for i in range(WARM_UP, WARM_UP + FRAMES):
            begun = time.perf_counter()
            crops = find(i)
            if not side_by_side:
                read(crops, begun)
                continue
            if reading:
                reading.result()
            reading = pool.submit(read, crops, begun)
    each, busy = (1e3 * spent / FRAMES for spent in (time.perf_counter() - wall, time.process_time() - cpu))
    way = "side by side" if side_by_side else "one after the other"
    return (
        f"{faces} faces, {way}, threads {threads or 'all'}: {each:.1f} ms, {busy:.1f} ms of CPU, "
        f"{np.median(taken) * 1e3:.1f} ms under way"
    )


if __name__ == "__main__":
    for faces in (1, 8):
        pictures = [picture(faces, i) for i in range(WARM_UP + FRAMES)]
        for side_by_side in (False, True):
            for threads in (0, 1):
                print(measure(faces, pictures, side_by_side, threads), flush=True)
