"""Recipes: the paper's, to the letter, and values that are out of range."""

from dataclasses import asdict

import pytest

from face_mtl_ros.training.recipe import RECIPES, Recipe


def test_paper_is_section_iii_to_the_letter():
    paper = asdict(RECIPES["paper"])
    section_iii = {"optimizer": "adam", "learning_rate": 1e-4, "batch": 32, "epochs": 35, "schedule": "plateau"}
    assert {name: paper[name] for name in section_iii} == section_iii
    nothing_else = {"weight_decay": 0, "warmup": 0, "average": 0, "smoothing": 0, "class_weight": 0}
    assert {name: paper[name] for name in nothing_else} == nothing_else
    assert not paper["soft_labels"] and not paper["augment"] and paper["minutes"] is None


def test_best_is_what_a_recipe_is_without_further_words():
    assert RECIPES["best"] == Recipe()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", float("nan")),
        ("epochs", float("inf")),
        ("minutes", 0),
        ("batch", 1),
        ("learning_rate", 0),
        ("weight_decay", -0.1),
        ("warmup", 1),
        ("average", 1),
        ("smoothing", -0.01),
        ("class_weight", 1.1),
        ("views", -1),
        ("seed", -1),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: .*got {value}"):
        Recipe(**{field: value})
