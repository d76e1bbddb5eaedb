"""What the tests of the sample store share."""

import contextlib
import multiprocessing
import sqlite3

import cv2
import numpy as np

from face_mtl_ros.samples.sample import Picture

DAY = 86400.0
NOW = 1800000000.0  # in 2027
FORK = multiprocessing.get_context("fork")


def crop(seed, side=160):
    """Noise: no part of it, nor of its PNG file, is anywhere else."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def pictures(*seeds):
    return [Picture(crop(seed)) for seed in seeds]


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


def bytes_in(folder):
    """All bytes of all files of a folder."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def has_pixels_of(data, picture):
    """Whether any of the PNG file's pieces is there: SQLite keeps it in pages of 4 KB."""
    whole = png(picture)
    return any(whole[start : start + 48] in data for start in range(100, len(whole) - 48, 1000))


def opened(store):
    """The store's file by SQLite itself, closed when the block ends."""
    return contextlib.closing(sqlite3.connect(store.file, isolation_level=None))
