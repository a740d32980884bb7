from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddnn_tf.exits import (
    cheapest_thresholds,
    default_grid,
    most_confident,
    normalized_entropy,
    search_thresholds,
    staged_inference,
)


@st.composite
def exits(draw: st.DrawFn, number: int | None = None) -> list[np.ndarray]:
    """Probabilities of several exits; steps of 1/8 make ties and certainties common."""
    count = number or draw(st.integers(1, 4))
    samples, classes = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    weights = draw(hnp.arrays(np.int64, (count, samples, classes), elements=st.integers(0, 8)))
    weights[..., 0] += weights.sum(-1) == 0
    return list(weights / weights.sum(-1, keepdims=True))


def test_entropy_of_known_vectors() -> None:
    assert normalized_entropy([1, 0, 0]) == 0
    assert normalized_entropy([1 / 3] * 3) == pytest.approx(1)
    assert normalized_entropy([0.5, 0.5, 0]) == pytest.approx(np.log(2) / np.log(3))
    assert normalized_entropy(np.full((2, 5, 4), 0.25)).shape == (2, 5)
    assert normalized_entropy([0.5, 0.5]).dtype == np.float32


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1.0], "two classes"),
        (1.0, "two classes"),
        ([0.5, 0.6], "sum of 1.1"),
        ([1.5, -0.5], "got -0.5"),
        ([np.nan, 1], "got nan"),
        ([3.2, -1.0, 0.4], "softmax"),
    ],
)
def test_entropy_refuses_what_is_no_probability(bad: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalized_entropy(bad)  # type: ignore[arg-type]


def walk(probabilities: list[np.ndarray], thresholds: list[float]) -> tuple[list[int], list[int]]:
    """Section III-D, one sample at a time."""
    labels, left_at = [], []
    for sample in range(len(probabilities[0])):
        for number, exit_ in enumerate(probabilities):
            entropy = normalized_entropy(exit_[sample])
            is_last = number == len(probabilities) - 1
            if is_last or (thresholds[number] > 0 and entropy <= thresholds[number]):
                labels.append(int(exit_[sample].argmax()))
                left_at.append(number)
                break
    return labels, left_at


@given(exits(), st.data())
def test_staged_inference_is_the_sample_by_sample_walk(
    probabilities: list[np.ndarray], data: st.DataObject
) -> None:
    choice = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
    thresholds = [data.draw(choice) for _ in probabilities[1:]]
    result = staged_inference(probabilities, thresholds)
    labels, left_at = walk(probabilities, thresholds)
    assert result.labels.tolist() == labels
    assert result.exits.tolist() == left_at
    assert result.shares.sum() == pytest.approx(1)
    assert np.array_equal(result.shares * len(labels), np.bincount(left_at, minlength=len(probabilities)))


@given(exits(number=3))
def test_zero_exits_nothing_and_one_everything(probabilities: list[np.ndarray]) -> None:
    assert (staged_inference(probabilities, [0, 0]).exits == 2).all()
    assert (staged_inference(probabilities, [1, 0]).exits == 0).all()
    assert (staged_inference(probabilities, [0, 1]).exits == 1).all()


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [1.5], [-0.1], [float("nan")]])
def test_bad_thresholds(thresholds: list[float]) -> None:
    two = [np.full((3, 2), 0.5)] * 2
    with pytest.raises(ValueError, match="threshold"):
        staged_inference(two, thresholds)


def test_exits_of_different_shapes() -> None:
    with pytest.raises(ValueError, match="one shape"):
        staged_inference([np.full((3, 2), 0.5), np.full((4, 2), 0.5)], [0.5])
    with pytest.raises(ValueError, match="one shape"):
        staged_inference([], [])


@given(exits(number=3), st.data())
def test_search_is_exhaustive(probabilities: list[np.ndarray], data: st.DataObject) -> None:
    samples, classes = probabilities[0].shape
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples)))
    grid = [0.0, 0.3, 0.7, 1.0]
    cost = np.array([12.0, 140.0, 396.0])

    def score(thresholds: tuple[float, ...]) -> tuple[int, float]:
        result = staged_inference(probabilities, thresholds)
        return int((result.labels == labels).sum()), -float(cost[result.exits].sum())

    found = search_thresholds(probabilities, labels, cost, grid)
    assert score(found) == max(map(score, itertools.product(grid, repeat=2)))


def test_search_prefers_fewer_bytes_among_equals() -> None:
    same = np.array([[0.9, 0.1], [0.2, 0.8]])
    (threshold,) = search_thresholds([same, same], [0, 1], [12, 140])
    assert staged_inference([same, same], [threshold]).shares.tolist() == [1, 0]


def test_search_with_a_single_exit() -> None:
    assert search_thresholds([np.full((2, 2), 0.5)], [0, 1], [3072]) == ()


@pytest.mark.parametrize(("early", "candidates"), [(1, 101), (2, 101), (3, 21), (4, 10), (5, 6), (9, 2)])
def test_the_default_grid_keeps_the_number_of_combinations(early: int, candidates: int) -> None:
    grid = default_grid(early)
    assert len(grid) == candidates
    assert candidates**early <= 101**2
    assert (grid[0], grid[-1]) == (0, 1)
    assert np.allclose(np.diff(grid), 1 / (candidates - 1))


def test_up_to_two_thresholds_are_hundredths() -> None:
    for early in (1, 2):
        assert default_grid(early).tolist() == [number / 100 for number in range(101)]


def test_a_search_over_four_tiers_is_quick() -> None:
    random = np.random.default_rng(0)
    probabilities = list(random.dirichlet(np.ones(3), (5, 40)))
    labels = random.integers(0, 3, 40)
    found = search_thresholds(probabilities, labels, [1, 2, 3, 4, 5])
    assert len(found) == 4
    result = staged_inference(probabilities, found)
    never = staged_inference(probabilities, [0.0] * 4)
    assert (result.labels == labels).sum() >= (never.labels == labels).sum()


def test_search_checks_its_input() -> None:
    two = [np.full((3, 2), 0.5)] * 2
    with pytest.raises(ValueError, match="labels"):
        search_thresholds(two, [0, 1], [1, 2])
    with pytest.raises(ValueError, match="bytes_at_exit"):
        search_thresholds(two, [0, 1, 0], [1])
    with pytest.raises(ValueError, match="bytes_at_exit"):
        search_thresholds(two, [0, 1, 0], [1, float("nan")])
    with pytest.raises(ValueError, match="`grid` to hold at least one"):
        search_thresholds(two, [0, 1, 0], [1, 2], grid=[])
    with pytest.raises(ValueError, match="between 0 and 1"):
        search_thresholds(two, [0, 1, 0], [1, 2], grid=[2.0])


def test_the_surest_edge_speaks() -> None:
    first = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    second = np.array([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])
    assert np.array_equal(most_confident([first, second]), [[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    present = [[False, True], [True, False], [False, False]]
    assert np.array_equal(most_confident([first, second], present), [[0.6, 0.4], [0.6, 0.4], [0.5, 0.5]])


def test_a_balanced_search_counts_every_class_alike() -> None:
    """The early exit is right for the common class, the last one for the rare class alone."""
    early = np.tile([0.6, 0.4], (10, 1))
    last = np.tile([0.1, 0.9], (10, 1))
    labels = np.array([0] * 8 + [1] * 2)
    # All leave early: 8 of 10 right, and half of the classes. All go on: 2 of 10, and half of the classes.
    early[8:] = [0.5, 0.5]  # less sure of the rare class, so a threshold can tell them apart
    assert search_thresholds([early, last], labels, [1, 10], [0, 1]) == (1.0,)
    (plain,) = search_thresholds([early, last], labels, [1, 10])
    assert 0.97 <= plain < 1
    early[4:8] = [0.5, 0.5]  # now no threshold keeps all of the common class from leaving with the rare one
    assert search_thresholds([early, last], labels, [1, 10]) == (1.0,)
    assert search_thresholds([early, last], labels, [1, 10], balanced=True) == (0.98,)


def test_cheapest_thresholds_weigh_errors_against_going_up() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    answers = np.where(random.random(200) < 0.7, labels, (labels + 1) % 3)
    sureness = random.uniform(0.4, 0.99, 200)[:, None]
    local = np.where(np.eye(3)[answers] == 1, sureness, (1 - sureness) / 2)
    cloud = np.eye(3)[labels]
    # Errors that cost nothing: all leave at once, whatever the cloud knows.
    assert cheapest_thresholds([local, cloud], labels, [1, 2], 0) == (1,)
    # Going up that costs nothing: the thresholds of best accuracy.
    assert cheapest_thresholds([local, cloud], labels, [1, 1], 5) == search_thresholds(
        [local, cloud], labels, [1, 1]
    )
    previous = 1.0
    for cost_of_error in (0.5, 2, 5, 20, 1000):
        threshold = cheapest_thresholds([local, cloud], labels, [1, 2], cost_of_error)[0]
        assert threshold <= previous
        previous = threshold
    assert previous < 0.2


@given(exits(), st.floats(0, 5), st.integers(0, 100))
def test_no_other_thresholds_are_cheaper(
    probabilities: list[np.ndarray], cost_of_error: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, probabilities[0].shape[1], len(probabilities[0]))
    cost = np.sort(random.random(len(probabilities)))
    grid = [0, 0.3, 0.7, 1]

    def expense(thresholds: tuple[float, ...]) -> float:
        staged = staged_inference(probabilities, thresholds)
        return float((cost_of_error * (staged.labels != labels) + cost[staged.exits]).sum())

    chosen = cheapest_thresholds(probabilities, labels, cost.tolist(), cost_of_error, grid)
    others = itertools.product(grid, repeat=len(probabilities) - 1)
    assert expense(chosen) == pytest.approx(min(map(expense, others)))


def test_a_cost_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="`cost_of_error` to be 0 or more, but got -1"):
        cheapest_thresholds([np.full((2, 2), 0.5)], [0, 1], [1], -1)
    with pytest.raises(ValueError, match="`cost_at_exit` to hold one finite number for each of 1"):
        cheapest_thresholds([np.full((2, 2), 0.5)], [0, 1], [1, 2], 1)
