from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.recipes import RECIPES, Recipe, find_recipe, make_recipe, recipe_yaml


def test_paper_is_nothing_but_the_papers_training() -> None:
    assert RECIPES["paper"].differences() == {"name": "paper"}
    assert not RECIPES["paper"].fails_nodes


def test_what_differs_from_the_paper_is_plain_data() -> None:
    recipe = Recipe("mine", drop=0.5, survival={"edge_0": 0.9})
    assert recipe.differences() == {"name": "mine", "drop": 0.5, "survival": {"edge_0": 0.9}}


def test_devices_alone_train_without_what_concerns_the_whole() -> None:
    alone = replace(RECIPES["robust"], distillation=1, weight_shift=0.5).alone()
    assert not alone.fails_nodes
    assert (alone.distillation, alone.weight_shift) == (0, 0)
    assert alone.schedule == "cosine"


def test_loss_weights_move_from_the_lowest_exit_to_the_highest() -> None:
    shares = Recipe(weight_shift=1.0).shares(exits=3, epochs=5)
    assert shares[0].tolist() == [2, 1, 0]
    assert shares[-1].tolist() == [0, 1, 2]
    assert np.allclose(shares.mean(axis=0), 1)
    assert (Recipe().shares(2, 1) == 1).all()
    assert (Recipe(weight_shift=1.0).shares(1, 4) == 1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 0}, "`learning_rate` to be positive, but got 0"),
        ({"drop": 1.5}, r"`drop` in 0\.\.1, but got 1\.5"),
        ({"survival": {"edge_0": -1}}, r"`survival of edge_0` in 0\.\.1, but got -1"),
        ({"averaging": 1.0}, r"`averaging` in 0\.\.1, 1 excluded, but got 1"),
        ({"distillation": -1}, "`distillation` not to be negative"),
        ({"schedule": "step"}, "`schedule` to be one of constant, cosine, but got 'step'"),
        ({"warm_up": 0.1}, "`warm_up` with the schedule 'cosine', but got 'constant'"),
        ({"mask_absent": True}, "`mask_absent` with a positive `drop`"),
        ({"optimizer": "bop", "averaging": 0.9}, "`averaging` with the optimizer 'adam'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)  # type: ignore[arg-type]


def test_an_unknown_recipe_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"recipe to be one of paper, robust.*, but got 'bold'"):
        RECIPES["bold"]


def test_a_recipe_in_a_file_is_the_same_recipe(tmp_path: Path) -> None:
    for recipe in (RECIPES["paper"], Recipe("mine", drop=0.5, survival={"edge_0": 0.9}, mask_absent=True)):
        (tmp_path / "recipe.yaml").write_text(recipe_yaml(recipe))
        assert find_recipe(str(tmp_path / "recipe.yaml")) == recipe
    assert find_recipe("robust") == RECIPES["robust"]
    assert make_recipe({}) == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop: often", "recipe's field 'drop' is 'often'"),
        ("dropp: 0.5", "recipe has no field 'dropp'"),
        ("drop: 2", "Expected `drop` in 0..1, but got 2"),
        ("drop: yes", "'drop' is true, but it takes a number"),
        ("upper: FOO", "aggregation scheme to be one of .*, but got 'FOO'"),
        ("schedule: linear", "recipe's field 'schedule' is 'linear'"),
    ],
)
def test_a_file_with_a_bad_recipe_is_named_with_the_field(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        find_recipe(str(tmp_path / "recipe.yaml"))
    assert str(error.value).startswith(str(tmp_path))
