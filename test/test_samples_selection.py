"""Which pictures of a face are taken: those that a new picture of the person looks like."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_mtl_ros.datasets.crops import dataset_crop
from face_mtl_ros.datasets.registry import read_dataset
from face_mtl_ros.samples.selection import Selector
from face_mtl_ros.vision.alignment import align

ASSETS = Path(__file__).parents[1] / "face_mtl_ros" / "assets"
# Right and left eye in pixels, as the embedded detector has them.
PORTRAITS = {"astronaut.jpg": [[203, 96], [249, 99]], "grace_hopper.jpg": [[220, 190], [308, 190]]}


def portrait(name="grace_hopper.jpg", turn=0.0, shift=0.0, margin=0):
    """uint8 (128, 128): a face, turned by degrees and shifted by pixels."""
    crop = align(cv2.imread(str(ASSETS / name)), np.array(PORTRAITS[name], np.float32), margin=48)
    matrix = cv2.getRotationMatrix2D((111.5, 111.5), turn, 1.0)
    matrix[:, 2] += shift
    crop = cv2.warpAffine(crop, matrix, (224, 224))
    return crop[48 - margin : 176 + margin, 48 - margin : 176 + margin].copy()


def moved(crop, pixels, degrees=0.0):
    """Blurred as by a movement along one direction."""
    kernel = np.zeros((pixels, pixels), np.float32)
    kernel[pixels // 2] = 1
    centre = pixels // 2
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D((centre, centre), degrees, 1), (pixels, pixels))
    return cv2.filter2D(crop, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def test_a_sharp_large_well_lit_face_is_taken():
    selector = Selector(wanted=2)
    for name in PORTRAITS:
        verdict = selector.offer(portrait(name), face_pixels=90)
        assert verdict.taken and verdict.reason == "taken" and "sharpness" in verdict.message
    assert selector.done and selector.summary() == "took 2 of 2"
    verdict = selector.offer(portrait(turn=30), 90)
    assert (verdict.taken, verdict.reason) == (False, "enough")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda face: cv2.GaussianBlur(face, (0, 0), 4), "blurred"),
        (lambda face: moved(face, 17), "blurred"),
        (lambda face: moved(face, 17, 90), "blurred"),
        (lambda face: moved(face, 17, 45), "blurred"),
        (lambda face: (face * 0.2).astype(np.uint8), "light"),
        (lambda face: np.clip(face.astype(int) * 3, 0, 255).astype(np.uint8), "light"),
        (lambda face: (face // 16 + 120).astype(np.uint8), "light"),
        (lambda face: np.full_like(face, 128), "light"),
        (lambda face: (face * 0.6).astype(np.uint8), "taken"),
        (lambda face: (face // 2 + 60).astype(np.uint8), "taken"),
    ],
)
def test_what_is_refused_and_why(change, reason):
    for name in PORTRAITS:
        verdict = Selector().offer(change(portrait(name)), face_pixels=90)
        assert verdict.reason == reason, (name, verdict)
        assert verdict.taken == (reason == "taken")


@pytest.mark.parametrize("pixels", [47.9, 0, float("nan")])
def test_a_tiny_face_is_refused(pixels):
    assert Selector().offer(portrait(), pixels).reason == "small"
    assert Selector(min_face=20).offer(portrait(), 25).taken


def test_low_quality_is_refused_where_it_is_asked_for():
    selector = Selector(min_quality=0.5)
    assert selector.offer(portrait(), 90, quality=0.49).reason == "quality"
    assert selector.offer(portrait(), 90, quality=float("nan")).reason == "quality"
    assert selector.offer(portrait(), 90, quality=0.5).taken


def test_a_face_that_holds_still_is_taken_once():
    """Though its landmarks jitter, its light changes and the camera is noisy."""
    random = np.random.default_rng(0)
    selector = Selector()
    assert selector.offer(portrait(), 90).taken
    for turn, shift in [(0, 0), (1, 1), (-1, 2), (1.5, -2), (0, 8)]:
        noisy = portrait(turn=turn, shift=shift) * random.uniform(0.8, 1.1) + random.normal(0, 3, (128, 128))
        verdict = selector.offer(np.clip(noisy, 0, 255).astype(np.uint8), 90)
        assert verdict.reason == "duplicate" and "correlation with another" in verdict.message
    assert selector.offer(portrait(turn=15), 90).taken
    assert selector.offer(portrait("astronaut.jpg"), 90).taken


def test_what_is_stored_already_counts_and_the_margin_does_not():
    known = [portrait(margin=16)]
    assert Selector(known=known).offer(portrait(), 90).reason == "duplicate"
    assert Selector(known=[portrait()]).offer(known[0], 90).reason == "duplicate"


def test_the_summary_says_why_not_more_and_what_to_do():
    selector = Selector(wanted=3)
    assert selector.summary() == "took 0 of 3; no face was seen long enough"
    selector.offer(portrait(), 90)
    for _ in range(4):
        selector.offer(portrait(), 90)
    selector.offer(moved(portrait(), 17), 90)
    selector.offer(moved(portrait(), 17), 20)
    assert selector.counts == {"taken": 1, "duplicate": 4, "blurred": 1, "small": 1}
    assert selector.summary() == "took 1 of 3: 4 too like another, 1 too small, 1 blurred; turn the head a little"


def test_what_is_no_crop_is_an_error():
    for crop in (
        np.zeros((128, 127), np.uint8),
        np.zeros((128, 128, 3), np.uint8),
        np.zeros((128, 128)),
        np.zeros((64, 64), np.uint8),
    ):
        with pytest.raises(ValueError, match="uint8 .128, 128. is expected"):
            Selector().offer(crop, 90)
        with pytest.raises(ValueError, match="is expected"):
            Selector(known=[crop])
    with pytest.raises(ValueError, match="wanted is 0"):
        Selector(wanted=0)


@pytest.mark.slow
def test_the_limits_on_published_faces():
    """Prints the figures that selection.py tells of; its limits follow from them."""
    folder = Path(os.environ.get("FACE_MTL_DATA", "-")) / "lfw"
    if not folder.is_dir():
        pytest.skip("FACE_MTL_DATA names no folder with the published data of lfw")
    dataset = read_dataset("lfw", folder, "all")
    random = np.random.default_rng(0)
    people: dict[str, list[int]] = {}
    for i, path in enumerate(dataset.paths):
        people.setdefault(path.parent.name, []).append(i)
    pairs = [rows[:2] for rows in people.values() if len(rows) > 1]
    pairs = [pairs[i] for i in random.choice(len(pairs), 300, replace=False)]
    shown = [dataset_crop(dataset, first, margin=16) for first, _ in pairs]
    others = [dataset_crop(dataset, second) for _, second in pairs]
    faces = [crop[16:144, 16:144] for crop in shown] + others

    def refused(reason, change):
        return np.mean([Selector().offer(change(face), 90).reason == reason for face in faces])

    def like(crops):
        return np.mean(
            [Selector(known=[a]).offer(b, 90).reason == "duplicate" for a, b in zip(shown, crops, strict=True)]
        )

    def jittered(crop, by):
        matrix = cv2.getRotationMatrix2D((79.5, 79.5), random.normal(0, by), 1 + random.normal(0, by / 100))
        matrix[:, 2] += random.normal(0, by, 2)
        turned = cv2.warpAffine(crop, matrix, (160, 160), borderMode=cv2.BORDER_REPLICATE)[16:144, 16:144]
        noisy = turned * random.uniform(0.9, 1.1) + random.normal(0, 3, turned.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    figures = {
        "as published: blurred": refused("blurred", lambda face: face),
        "as published: light": refused("light", lambda face: face),
        "sigma 2": refused("blurred", lambda face: cv2.GaussianBlur(face, (0, 0), 2)),
        "sigma 3": refused("blurred", lambda face: cv2.GaussianBlur(face, (0, 0), 3)),
        "moved by 13": refused("blurred", lambda face: moved(face, 13, random.uniform(0, 180))),
        "copies, jitter 1": like([jittered(crop, 1) for crop in shown]),
        "copies, jitter 2": like([jittered(crop, 2) for crop in shown]),
        "other pictures": like(others),
    }
    print("\nrefused:", ", ".join(f"{name} {share:.1%}" for name, share in figures.items()))
    assert figures["as published: blurred"] < 0.05 and figures["as published: light"] < 0.01
    assert figures["sigma 2"] > 0.8 and figures["sigma 3"] > 0.99 and figures["moved by 13"] > 0.95
    assert figures["copies, jitter 1"] > 0.9 and figures["copies, jitter 2"] > 0.8 and figures["other pictures"] < 0.03
