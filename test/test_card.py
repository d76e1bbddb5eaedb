"""The model card says what the manifest says, and what the model is not for."""

import pytest

from face_mtl_ros.bundle.bundle import load_bundle, write_manifest
from face_mtl_ros.bundle.manifest import OpenSet, Provenance
from face_mtl_ros.cli import main
from face_mtl_ros.runtime.random_bundle import write_random_bundle

MADE_BY = Provenance(
    command="face-mtl train --config config/training/gender.yaml",
    package_version="0.1.0",
    torch_version="2.13.0 x86_64",
    date="2026-01-02T03:04Z",
    seed=7,
    epochs=12.5,
    samples={"lfw-gender/train": 3100, "utkface/train": 16000},
    terms="LFW: published for research; UTKFace: non-commercial research",
)
METRICS = {
    "lfw-gender/val/n": 412,
    "lfw-gender/val/accuracy": 0.9512,
    "lfw-gender/val/accuracy/mean": 0.9487,
    "lfw-gender/val/accuracy/error": 0.0031,
    "lfw-gender/val/nll": 0.1234,
    "utkface/val/n": 2000,
    "utkface/val/accuracy": 0.9011,
    "utkface/val/sex/female": 0.8812,
    "utkface/val/sex/female/n": 950,
    "utkface/val/race/asian": 0.8654,
    "utkface/val/race/asian/n": 280,
    "utkface/val/sex/race/female/asian": 0.8421,
    "utkface/val/sex/race/female/asian/n": 140,
    "seeds": 3,
}


@pytest.fixture
def card(tmp_path, capsys):
    columns = {"gender": (["male", "female"], []), "guest": (["ann", "bob"], ["gender"])}
    root = write_random_bundle(tmp_path / "model", "compact", columns).root
    manifest = load_bundle(root).manifest
    gender, guest = manifest.columns
    gender = gender.model_copy(update={"provenance": MADE_BY, "metrics": METRICS, "temperature": 1.234})
    rule = OpenSet(method="energy", threshold=2.5, known_kept=0.91, strangers_refused=0.953, auroc=0.97)
    guest = guest.model_copy(update={"kind": "identity", "open_set": rule})
    write_manifest(root, manifest.model_copy(update={"columns": [gender, guest]}))
    assert main(["models", "card", str(root)]) == 0
    return capsys.readouterr().out


def row(card, start):
    return next(line for line in card.splitlines() if line.startswith(f"| {start} |"))


def test_it_tells_data_and_terms(card):
    data = next(line for line in card.splitlines() if line.startswith("- gender:"))
    for said in ("lfw-gender/train (3100 pictures)", "utkface/train (16000 pictures)", MADE_BY.terms, "torch 2.13.0"):
        assert said in data


def test_it_tells_how_to_make_it_again(card):
    assert row(card, "gender").endswith("| 1.234 | `face-mtl train --config config/training/gender.yaml` | 12.5 | 7 |")
    assert "male, female" in row(card, "gender") and row(card, "guest").startswith("| guest | gender | ann, bob |")


def test_it_tells_the_figures_with_their_errors(card):
    assert "### gender on lfw-gender, val, 412 pictures" in card and "### gender on utkface, val, 2000 pictures" in card
    assert row(card, "accuracy") == "| accuracy | 95.1% (94.9% ± 0.3% over 3 seeds) |"
    assert row(card, "nll") == "| nll | 0.123 |"


def test_it_tells_the_figures_by_group(card):
    assert row(card, "sex/female") == "| sex/female | 950 | 88.1% |"
    assert row(card, "race/asian") == "| race/asian | 280 | 86.5% |"
    assert row(card, "sex/race/female/asian") == "| sex/race/female/asian | 140 | 84.2% |"


def test_it_tells_how_strangers_are_refused(card):
    assert "`unknown` by energy, threshold 2.5: 91.0%" in card and "strangers refused: 95.3%" in card


def test_it_tells_what_it_is_not_for(card):
    section = card.split("## What it is not for")[1]
    for said in ("hiring", "policing", "Regulation 2024/1689", "two genders", "consent"):
        assert said in section
