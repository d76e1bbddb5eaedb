"""What an experiment's report says: whether columns know anything, what a few runs can show, and what differs."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="evaluation needs torch, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")
pytest.importorskip("matplotlib", reason="plots need matplotlib, which the train extra installs")

from scipy import stats  # noqa: E402
from tiny_world import draw_pictures  # noqa: E402

from face_mtl_ros.training.evaluation import mean_and_error  # noqa: E402
from face_mtl_ros.training.experiments.cells import Cell  # noqa: E402
from face_mtl_ros.training.experiments.claims import findings  # noqa: E402
from face_mtl_ros.training.experiments.data import read_task, with_few  # noqa: E402
from face_mtl_ros.training.experiments.differences import differences  # noqa: E402
from face_mtl_ros.training.experiments.inference import adjust, detectable_difference, has_learned  # noqa: E402
from face_mtl_ros.training.experiments.report import write_report  # noqa: E402
from face_mtl_ros.training.experiments.statistics import by_cell, few_rows, speeds, table_rows  # noqa: E402
from face_mtl_ros.training.experiments.together import claims_together  # noqa: E402
from face_mtl_ros.training.recipe import PAPER, Recipe  # noqa: E402

PLAIN, LATERAL, RETRAINED = Cell("emotion"), Cell("emotion", ("age", "gender")), Cell("emotion", retrain_encoder=True)
FEW = tuple(Cell("emotion", sources, per_class=10) for sources in ((), ("age", "gender")))


def made(cell, accuracies, macro_f1=None, curve=(), **also):
    """Runs of a cell with the seeds from 0 on."""
    return [
        {
            **{"cell": cell.name, "task": cell.task, "sources": list(cell.sources), "per_class": cell.per_class},
            **{"retrain_encoder": cell.retrain_encoder, "seed": seed, "accuracy": accuracy},
            "macro_f1": macro_f1[seed] if macro_f1 else accuracy,
            **{"train": 80 if cell.per_class else 2000, "val": 300, "test": 3396},
            **{"epochs": 60.0 if cell.per_class else 12.0, "curve": list(curve), "device": "x86_64 in fp32"},
            **{"threads": 1, "package_version": "1", "torch_version": "2", "date": "today", "command": "face-mtl"},
            **also,
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def configuration(recipe=PAPER, **emotion):
    """An experiment's, of FER+ without its test split."""
    told = {"dataset": "ferplus", "train": 2000, "val": 300, "test": 3396, "tested_on": "val", **emotion}
    settings = {name: value for name, value in vars(recipe).items() if name != "seed"}
    encoder = {"name": "began", "sha256": "0" * 64, "command": "pretrain", "samples": {"lfw/train": 9}, "began": True}
    return {
        **{"preset": "compact", "encoder": encoder, "recipe": settings, "train_limit": 2000, "data": {"emotion": told}},
        **{"adapters": "layers", "column_width": None},
    }


def said(claim, results, of=None):
    """The sentences on a claim."""
    (found,) = (line for line in findings(of or configuration(), by_cell(results)) if line.startswith(f"*{claim}"))
    return found


# What a few runs can show


def test_p_is_adjusted_for_the_tests_that_there_were():
    assert adjust([0.01, float("nan"), 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


@pytest.mark.parametrize("runs", [(2, 2), (3, 3), (10, 10), (3, 10)])
def test_the_detectable_difference_is_found_in_four_of_five_trials(runs):
    first, second = (np.random.default_rng(n).normal(80, 3, n) for n in runs)
    found, freedom = detectable_difference(first, second), sum(runs) - 2
    pooled = np.sqrt(sum((len(values) - 1) * values.var(ddof=1) for values in (first, second)) / freedom)
    shift = found / (pooled * np.sqrt(sum(1 / n for n in runs)))
    assert stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, shift) == pytest.approx(0.8, abs=1e-3)
    assert detectable_difference(10 * first, 10 * second) == pytest.approx(10 * found)
    assert np.isnan(detectable_difference(first[:1], second))


def test_a_column_has_learned_that_is_clearly_better_than_the_majority_class():
    assert has_learned(mean_and_error([82.0, 83.0]), 456, 50.0)
    assert not has_learned(mean_and_error([45.6, 37.3, 28.4]), 3396, 36.57)  # by the spread of its runs
    assert not has_learned(mean_and_error([40.0]), 100, 36.57)  # by the number of pictures


def test_a_gain_is_over_the_seeds_that_both_have():
    found = by_cell(made(PLAIN, [0.46, 0.37, 0.28]) + made(RETRAINED, [0.36]))
    (row,) = (row for row in table_rows("table4", found) if row.cell == RETRAINED)
    assert row.gain == pytest.approx(-10) and np.isnan(row.p) and np.isnan(row.detectable)
    (alone,) = (row for row in table_rows("table4", by_cell(made(RETRAINED, [0.36]))) if row.cell == RETRAINED)
    assert np.isnan(alone.gain) and alone.ours.mean == pytest.approx(36)


# Verdicts


def test_what_could_not_be_tested_gives_no_verdict():
    text = said("Re-training", made(PLAIN, [0.46, 0.37, 0.28]) + made(RETRAINED, [0.36], device="x86_64 in bf16"))
    assert "No verdict: none of 1 cells could be tested" in text and "significantly" not in text
    assert "On another device, or in another precision, than their plain column: 1." in text


def test_a_verdict_says_what_the_runs_could_have_shown():
    results = made(PLAIN, [0.36, 0.46, 0.28]) + made(LATERAL, [0.40, 0.44, 0.35])
    text = said("Lateral connections from emotion", results, configuration(majority=0.3657))
    assert "No verdict: of 1 cells 1 could be tested, and none differs significantly by itself" in text
    assert "With 3 runs a test would show gains of" in text and "the paper's own gain is that large in 0 of 1" in text
    assert "Resting on a plain column that has not learned: 1." in text
    sure = made(PLAIN, [0.70, 0.71, 0.70]) + made(LATERAL, [0.80, 0.81, 0.80])
    text = said("Lateral connections from emotion", sure, configuration(majority=0.3657))
    assert "1 are significantly higher and 0 significantly lower" in text and "not learned" not in text


def test_small_gains_of_many_cells_are_told_together_over_the_seeds():
    other = Cell("emotion", ("age",))
    runs = made(PLAIN, [0.60, 0.70, 0.50]) + made(LATERAL, [0.62, 0.73, 0.52]) + made(other, [0.61, 0.72, 0.52])
    (claim,) = claims_together(configuration(), by_cell(runs))
    assert claim.what == "connections among emotion, age and gender" and (claim.cells, claim.gain.n) == (2, 3)
    assert (claim.gain.mean, claim.gain.error) == pytest.approx((2.0, 0.5 / np.sqrt(3)))  # of 1.5, 2.5 and 2.0
    assert claim.p == claim.adjusted == pytest.approx(0.0202, abs=1e-4)  # t = 6.93, two degrees of freedom
    assert claim.paper == pytest.approx(((90.41 - 83.66) + (85.70 - 83.66)) / 2)
    few = claims_together(configuration(), by_cell(runs + made(Cell("emotion", ("gender",)), [0.9])))[0]
    assert (few.cells, few.gain.n) == (3, 1) and np.isnan(few.p)  # the seed that all have


def test_what_the_paper_excepts_from_a_claim_is_not_counted():
    runs = [run for task in ("emotion", "gender") for run in made(Cell(task), [0.50, 0.60])]
    runs += made(RETRAINED, [0.51, 0.62]) + made(Cell("gender", retrain_encoder=True), [0.70, 0.90])
    (claim,) = claims_together(configuration(), by_cell(runs))
    assert claim.what.endswith("but for gender") and (claim.cells, claim.gain.mean) == (1, pytest.approx(1.5))
    people = [Cell("identity"), Cell("identity", ("emotion", "gender"))]
    runs = [run for cell, start in zip(people, (0.1, 0.5), strict=True) for run in made(cell, [0.6] * 2, curve=[start])]
    assert [claim.what for claim in claims_together(configuration(), by_cell(runs))] == [
        "connections from these to identity"
    ]


def test_few_labels_are_held_against_more():
    def pair(per_class, gain):
        cells = [Cell("emotion", sources, per_class=per_class) for sources in ((), ("age", "gender"))]
        return made(cells[0], [0.5, 0.5]) + made(cells[1], [0.5 + gain, 0.52 + gain])

    few = {claim.what: claim for claim in claims_together(configuration(), by_cell(pair(10, 0.06) + pair(1000, 0.01)))}
    assert few["few labels, in macro F1"].gain.mean == pytest.approx(4.5)
    contrast = few["up to 50 pictures of a class against more, in macro F1"]
    assert contrast.gain.mean == pytest.approx(5.0) and np.isnan(contrast.p)  # no spread


def test_plain_columns_are_held_against_the_majority_class():
    results = made(PLAIN, [0.36, 0.46, 0.28], [0.17, 0.18, 0.16]) + made(LATERAL, [0.40, 0.44, 0.35])
    text = said("What the plain columns know", results, configuration(majority=0.3657))
    assert "Not learned: emotion" in text and "emotion 36.7 % ± 5.2 against 36.6 (macro F1 17.0)" in text
    assert "Not on record" in said("What the plain columns know", results)  # a folder from before it was kept


def test_convergence_is_told_with_p_and_only_of_columns_that_learn():
    lateral = made(LATERAL, [0.5] * 3)
    for seed, run in enumerate(lateral):
        run["curve"] = [0.4 + 0.01 * seed, 0.6, 0.7]
    learns, dull = ([*made(PLAIN, [0.5] * 3, curve=curve), *lateral] for curve in ([0.3, 0.5, 0.7], [0.3, 0.31, 0.32]))
    of = configuration(val_majority=0.31)
    (speed,) = speeds(by_cell(learns))
    assert speed.start_adjusted == pytest.approx(speed.start_p)  # epochs are the same in all runs: no second test
    text = said("Lateral connections speed up", learns, of)
    assert "Of 1 tests 1 are significant" in text and "30.0 % and 41.0 % (p < 0.01)" in text
    text = said("Lateral connections speed up", dull, of)
    assert "No verdict: nothing could be tested." in text
    assert "Not learned, so without a speed: emotion ends with 32.0 % ± 0.0 against 31.0" in text


def test_few_labels_are_compared_by_macro_f1():
    few = [*made(FEW[0], [0.10, 0.12], [0.07, 0.08]), *made(FEW[1], [0.20, 0.19], [0.12, 0.11])]
    results = by_cell(few + made(PLAIN, [0.4, 0.5], [0.17, 0.19]) + made(LATERAL, [0.4, 0.5], [0.18, 0.18]))
    row, natural = few_rows(results, {"emotion": 36.57})
    assert row.gain == pytest.approx(4) and [seeds.mean for seeds in row.accuracies] == pytest.approx([11, 19.5])
    assert (row.of_a_class, natural.of_a_class) == ("10", "2000, natural proportion")
    assert row.adjusted == pytest.approx(min(1, 2 * row.p))
    text = said("Lateral connections help when", few, configuration(majority=0.3657))
    assert "2 of the 2 columns are no more accurate than the majority class." in text and "emotion +4.0 (10)" in text


# Documents


@pytest.fixture
def experiment(tmp_path):
    """Write an experiment's folder; returns where its report is."""

    def write(results, of):
        out = tmp_path / "out"
        (out / "results").mkdir(parents=True)
        (out / "experiment.json").write_text(json.dumps(of))
        for run in results:
            (out / "results" / f"{run['cell']}-seed{run['seed']}.json").write_text(json.dumps(run))
        return write_report(out, tmp_path / "docs")

    return write


def test_pictures_epochs_and_device_stand_beside_each_number(experiment):
    curve = [0.3, 0.4]
    results = [run for cell in (PLAIN, LATERAL, *FEW) for run in made(cell, [0.4, 0.5, 0.45], curve=curve)]
    document = experiment(results, configuration(majority=0.3657, val_majority=0.31))
    files = {
        name: list(csv.DictReader((document.parent / "experiments" / f"{name}.csv").open()))
        for name in ("table5", "figure5", "labels")
    }
    few, natural = files["labels"]
    assert (few["train"], few["epochs"], few["device"], few["majority"]) == ("80", "60", "x86_64 in fp32", "36.57")
    assert (natural["per_class"], natural["train"], natural["epochs"]) == ("all", "2000", "12")
    assert {(line["train"], line["val"], line["epochs"]) for line in files["figure5"]} == {("2000", "300", "12")}
    (row,) = (line for line in files["table5"] if line["cell"] == LATERAL.name)
    assert (row["majority"], row["device"]) == ("36.57", "x86_64 in fp32") and float(row["detectable_gain"]) > 1
    text = document.read_text()
    assert "| emotion | age, gender | 2000, natural proportion | 2000 | 12 |" in text
    assert "columns pass over them more often: 60 epochs" in text


def test_a_folder_from_before_majorities_were_kept_is_reported(experiment):
    text = experiment(made(PLAIN, [0.4]) + made(LATERAL, [0.5]), configuration()).read_text()
    assert "Not on record" in text and "| emotion | age, gender | 90.41 | 50.00 |  | 50.00 |" in text


def test_each_departure_from_the_paper_is_told():
    of = configuration(Recipe(**{**vars(PAPER), "epochs": 12.0, "learning_rate": 1e-3, "normalize": True}))
    of["encoder"]["epochs"] = 3.162
    told = "\n".join(differences(of, by_cell(made(PLAIN, [0.4] * 3) + made(RETRAINED, [0.4]))))
    assert "The recipe: epochs 12 instead of 35, learning rate 0.001 instead of 0.0001." in told
    assert "9 pictures of these datasets in 3.16 epochs instead of CelebA's" in told
    assert "Emotion is tested on the split `val` of ferplus, which also holds its 300 pictures for the curves" in told
    assert "Runs of a cell: 1 to 3 instead of 10." in told
    ten = "\n".join(differences(configuration(tested_on="test"), by_cell(made(PLAIN, [0.4] * 10))))
    assert not any(word in ten for word in ("recipe", "Runs of a cell", "split", " epochs"))


# Data


def test_a_seed_draws_few_pictures_and_the_first_is_as_before(tmp_path):
    draw_pictures(tmp_path / "age", ("disc", "noise"), 24)
    data = read_task("age", tmp_path, {"age": "folder=age"}, train_limit=None, val_limit=None)
    first, again, other = (with_few(data, 3, seed).train for seed in (0, 0, 1))
    assert first.ids == again.ids == with_few(data, 3).train.ids != other.ids
    assert first.counts("age") == other.counts("age") == {"disc": 3, "noise": 3}
    labels, drawn = data.train.labels["age"], np.random.default_rng(0).permutation(len(data.train))
    assert set(first.ids) == {data.train.ids[row] for label in (0, 1) for row in drawn[labels[drawn] == label][:3]}


def test_data_are_described_with_the_share_of_the_largest_class(tmp_path):
    draw_pictures(tmp_path / "age", ("disc", "noise"), 24)
    data = read_task("age", tmp_path, {"age": "folder=age"}, train_limit=None, val_limit=None)
    for name, dataset in (("majority", data.test), ("val_majority", data.val)):
        assert data.described[name] == np.bincount(dataset.labels["age"]).max() / len(dataset)
