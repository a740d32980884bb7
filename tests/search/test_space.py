from __future__ import annotations

import pytest

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.recipes import RECIPES, Recipe
from ddnn_tf.search import Range, Space

DRAWN = {
    "configuration": "c",
    "filters": "4",
    "local": "AP",
    "upper": "WCC",
    "cloud_precision": "float",
    "learning_rate": 0.002,
    "drop": 0.25,
    "distillation": 0.5,
    "averaging": 0.99,
    "label_smoothing": 0.0,
}


def test_the_default_space_draws_fields_of_topology_and_recipe() -> None:
    drawn = Space().distributions()
    assert set(drawn) == set(DRAWN)
    assert (drawn["learning_rate"].low, drawn["learning_rate"].log) == (0.0005, True)


def test_a_space_in_yaml_is_the_same_space() -> None:
    for space in (
        Space(),
        Space(filters=[4, [4, 8]], recipe={"drop": Range(low=0, high=0.5), "warm_up": [0]}),
    ):
        assert Space.from_yaml(space.to_yaml()) == space


def test_what_was_drawn_becomes_a_network_and_a_recipe(tiny_data: MultiViewDataset) -> None:
    candidate = Space(filters=[[2, 4]]).candidate({**DRAWN, "filters": "2,4"}, tiny_data)
    topology, recipe = candidate.topology, candidate.recipe
    assert [group.filters for group in topology.devices] == [(2, 4)]
    assert topology.local is not None
    assert topology.local[0].aggregation == "AP"
    assert (topology.cloud.aggregation, topology.cloud.precision) == ("WCC", "float")
    assert (recipe.drop, recipe.averaging, recipe.learning_rate) == (0.25, 0.99, 0.002)
    assert recipe.schedule == RECIPES["robust"].schedule


def test_raw_inputs_have_no_local_exit(tiny_data: MultiViewDataset) -> None:
    topology = Space(configuration=["a"]).candidate({**DRAWN, "configuration": "a"}, tiny_data).topology
    assert topology.exit_names == ("cloud",)


def test_fields_that_the_space_leaves_out_are_those_of_its_base(tiny_data: MultiViewDataset) -> None:
    recipe = Space(base="paper", recipe={}).candidate(DRAWN, tiny_data).recipe
    assert recipe == Recipe("search", upper="WCC")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filters: []", "field 'filters' is \\[\\]"),
        ("upper: [XY]", "aggregation scheme to be one of"),
        ("base: strong", "recipe to be one of"),
        ("recipe: {name: [a, b]}", "'recipe' names 'name', which is no field"),
        ("recipe: {drop: [often]}", "'recipe.drop' holds 'often', but it takes values of type float"),
        ("recipe: {drop: {low: 1, high: 0}}", "'low' must be below 'high'"),
        ("recipe: {learning_rate: {low: 0, high: 1, log: true}}", "'log' needs a positive 'low'"),
        ("recipe: {drop: [3.0]}", r"`drop` in 0\.\.1, but got 3\.0"),
        ("recipe: {optimizer: [adam, sgd]}", "recipe's field 'optimizer' is 'sgd'"),
        ("epochs: [1, 2]", "has no field 'epochs'"),
    ],
)
def test_a_bad_space_is_refused_with_its_field(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Space.from_yaml(text)
    assert "\n" not in str(error.value)
