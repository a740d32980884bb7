from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.datasets import DataSource
from ddnn_tf.recipes import Recipe, find_recipe
from ddnn_tf.search import Found, Limits, Measures, Point, Space, open_search
from ddnn_tf.search.results import Objective, Settings
from ddnn_tf.topology import Topology

TOPOLOGY = Topology.devices_cloud(devices=2)


def found(numbers: list[tuple[float, float, float, bool]], objective: Objective = "accuracy") -> Found:
    """Networks with bytes, accuracy, accuracy with one device missing, and whether they keep the limits."""
    points = [
        Point(
            number=number,
            topology=TOPOLOGY,
            recipe=Recipe("search", drop=0.5),
            thresholds={"local": 0.5},
            device_flash_bytes=1000,
            device_ram_bytes=400,
            keeps_limits=keeps,
            validation=Measures(
                accuracy=accuracy,
                accuracy_one_missing=robust,
                worst_accuracy_one_missing=robust,
                worst_device="device_0",
                bytes_per_sample=size,
            ),
        )
        for number, (size, accuracy, robust, keeps) in enumerate(numbers)
    ]
    settings = Settings(
        version="0",
        data=DataSource(name="scenes"),
        data_sha256="",
        space=Space(),
        limits=Limits(),
        objective=objective,
        epochs=1,
        seed=0,
    )
    return Found(settings, points, 0)


_share = st.floats(0, 1)
_networks = st.lists(st.tuples(st.floats(1, 100), _share, _share, st.booleans()), max_size=12)


@given(_networks, st.sampled_from(["accuracy", "robust"]))
def test_nothing_within_the_limits_beats_the_front(
    numbers: list[tuple[float, float, float, bool]], objective: Objective
) -> None:
    results = found(numbers, objective)
    able = [point for point in results.points if point.keeps_limits]
    assert bool(results.front) == bool(able)
    for point in results.front:
        assert point.keeps_limits
        for other in able:
            size, score = other.validation.bytes_per_sample, other.score(objective)
            is_as_good = size <= point.validation.bytes_per_sample and score >= point.score(objective)
            is_equal = size == point.validation.bytes_per_sample and score == point.score(objective)
            assert not is_as_good or is_equal
    sizes = [point.validation.bytes_per_sample for point in results.front]
    assert sizes == sorted(sizes)


def test_the_files_hold_the_front_and_its_most_accurate_network(tmp_path: Path) -> None:
    results = found([(10, 0.8, 0.7, True), (20, 0.9, 0.8, True), (30, 0.85, 0.9, True), (5, 1, 1, False)])
    results.save(tmp_path)
    written = json.loads((tmp_path / "front.json").read_text())
    assert [point["number"] for point in written["front"]] == [0, 1]
    assert written["front"][1]["recipe"] == {"name": "search", "drop": 0.5}
    assert Topology.load(tmp_path / "topology.yaml") == TOPOLOGY
    assert find_recipe(str(tmp_path / "recipe.yaml")) == results.front[-1].recipe
    assert (tmp_path / "front.svg").read_text().startswith("<?xml")


def test_no_search_is_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make one with `ddnn search"):
        open_search(tmp_path)
