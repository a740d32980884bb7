"""Whom to ask, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.communication import bytes_per_link, device_bytes
from ddnn_tf.exits import softmax
from ddnn_tf.offload import bytes_of_asked, certainty, check_asked, highest, influence, ranked_devices, surest
from ddnn_tf.topology import Topology

C = Topology.figure_2("c", 6, image_shape=(8, 8, 1))


def test_the_surest_devices_are_asked() -> None:
    vectors = [[[0, 0, 0], [9, 0, 0], [0, 2, 0]], [[5, 0, 0], [1, 1, 1], [0, 0, 4]]]
    assert highest(certainty(softmax(vectors)), 2).tolist() == [[False, True, True], [True, False, True]]


def test_the_surest_of_one_sample_by_name() -> None:
    vectors = {"b": [[0.0, 0, 0]], "a": [[0, 9.0, 0]], "c": [[3.0, 0, 0]]}
    assert surest(vectors, 1) == ("a",)
    assert surest(vectors, 2) == ("a", "c")
    assert surest(vectors, 9) == ("b", "a", "c")


def test_absent_devices_are_not_asked_and_of_equal_ones_the_first() -> None:
    scores = np.array([[3.0, 2, 1], [1, 1, 1]])
    present = [[False, True, True], [True, True, True]]
    assert highest(scores, 1, present).tolist() == [[False, True, False], [True, False, False]]
    assert highest(scores, 3, present).tolist() == present


@given(st.integers(0, 10**6), st.integers(1, 7))
def test_the_asked_are_so_many_and_no_other_has_a_higher_score(seed: int, number: int) -> None:
    random = np.random.default_rng(seed)
    scores, present = random.integers(0, 4, (5, 6)), random.random((5, 6)) < 0.7
    asked = highest(scores, number, present)
    assert not (asked & ~present).any()
    assert asked.sum(axis=1).tolist() == np.minimum(present.sum(axis=1), number).tolist()
    for row, chosen, up in zip(scores, asked, present, strict=True):
        assert row[chosen].min(initial=9) >= row[up & ~chosen].max(initial=-9)


def test_nobody_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="`number` to be at least 1, but got 0: ask one device or more"):
        highest([[1.0]], 0)


def test_influence_is_how_far_the_answer_moves() -> None:
    assert influence([[0.5, 0.5]], [[[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]]).tolist() == [[0, 0.5, 0.25]]


def test_influence_of_other_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`without` to be of shape .*, but got \(1, 2\) for \(1, 2\)"):
        influence([[0.5, 0.5]], [[0.5, 0.5]])


def test_without_one_local_exit_nobody_can_be_ranked() -> None:
    with pytest.raises(ValueError, match="one local exit"):
        ranked_devices(Topology.figure_2("a", 3, image_shape=(8, 8, 1)).hierarchy)


@pytest.mark.parametrize("number", [0, 7])
def test_as_many_as_there_are_can_be_asked(number: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 6 devices, but got {number}"):
        check_asked(number, C.hierarchy)
    check_asked(6, C.hierarchy)


@pytest.mark.parametrize("letter", "cef")
def test_with_all_asked_it_is_what_communication_says(letter: str) -> None:
    topology = Topology.figure_2(letter, 3, image_shape=(8, 8, 1))
    tiers = len(topology.hierarchy.exit_tiers)
    exits = np.random.default_rng(0).integers(0, tiers, 50)
    shares = np.bincount(exits, minlength=tiers) / 50
    asked = np.ones((50, len(topology.hierarchy.devices)), bool)
    expected = bytes_per_link(topology, shares)
    assert bytes_of_asked(topology, exits, asked) == pytest.approx(expected)


def test_only_the_asked_devices_send_feature_maps() -> None:
    """Eq. (1) with m of the n devices in its second term."""
    exits = np.array([0, 1, 1, 1])
    asked = np.tile([True, True, False, False, False, False], (4, 1))
    asked[3] = [False, True, False, False, False, False]
    sizes = bytes_of_asked(C, exits, asked)
    assert sizes["device_0 -> cloud"] == 2 / 4 * 8
    assert sizes["device_1 -> cloud"] == 3 / 4 * 8
    assert sizes["device_2 -> cloud"] == 0
    assert all(sizes[f"device_{number} -> local"] == 12 for number in range(6))
    everybody = sum(bytes_of_asked(C, exits, np.ones((4, 6), bool)).values()) / 6
    assert everybody == device_bytes(1 / 4, 3, 4, 16)


def test_a_device_that_is_down_sends_nothing() -> None:
    up = np.tile([False, True, True, True, True, True], (2, 1))
    sizes = bytes_of_asked(C, [0, 1], np.ones((2, 6), bool), up)
    assert sizes["device_0 -> local"] == sizes["device_0 -> cloud"] == 0
    assert sizes["device_1 -> cloud"] == 4


def test_an_edge_none_of_whose_devices_is_asked_sends_nothing() -> None:
    topology = Topology.figure_2("f", 6, image_shape=(8, 8, 1))
    hierarchy = topology.hierarchy
    first = hierarchy.devices_below("edge_0")
    asked = np.ones((1, len(hierarchy.devices)), bool)
    asked[0, list(first)] = False
    sizes = bytes_of_asked(topology, [2], asked)
    assert sizes["edge_0 -> cloud"] == 0
    assert sizes["edge_1 -> cloud"] > 0
