"""The two-sample test of Kolmogorov and Smirnov."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ddnn_tf.drift import DriftWatch, compare


@pytest.mark.parametrize("shift", [0, 0.1, 0.3])
@pytest.mark.parametrize("sizes", [(68, 500), (1000, 200)])
def test_it_agrees_with_scipy(shift: float, sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    first, second = random.beta(1, 3, sizes[0]), random.beta(1, 3, sizes[1]) + shift
    expected = ks_2samp(first, second, method="asymp")
    assert compare(first, second).statistic == pytest.approx(expected.statistic)
    assert compare(first, second).p_value == pytest.approx(expected.pvalue, abs=0.05)


def test_samples_of_one_distribution_are_rarely_told_apart() -> None:
    random = np.random.default_rng(2)
    p_values = np.array([compare(random.random(200), random.random(300)).p_value for _ in range(500)])
    for level in (0.01, 0.1, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=0.08)


def test_ties_make_it_careful() -> None:
    random = np.random.default_rng(3)
    p_values = [compare(*(random.random((2, 300)) > 0.5)).p_value for _ in range(200)]
    assert np.mean(np.array(p_values) <= 0.05) < 0.05


def test_equal_samples_and_none() -> None:
    assert compare([0.1, 0.2], [0.1, 0.2]) == (0, 1)
    assert compare([], [0.1]) == (0, 1)
    assert compare([0.0] * 50, [1.0] * 50).statistic == 1
    assert compare([0.0] * 50, [1.0] * 50).p_value < 1e-9


def test_a_watch_compares_the_last_samples_of_the_set_of_devices_that_is_there() -> None:
    random = np.random.default_rng(4)
    both, alone = frozenset("ab"), frozenset("a")
    watch = DriftWatch({both: random.beta(1, 5, 200).tolist(), alone: random.beta(2, 2, 200).tolist()})
    assert watch.drift == (0, 1)
    for entropy in random.beta(1, 5, 49):
        watch.see("ab", entropy)
    assert watch.drift == (0, 1)  # too few
    for entropy in random.beta(1, 5, 500):
        watch.see("ba", entropy)
    assert watch.drift.p_value > 0.01
    assert not watch.has_drifted
    for entropy in random.beta(2, 2, 500):
        watch.see("a", entropy)  # as unsure as a single device is
    assert not watch.has_drifted
    for entropy in random.beta(2, 2, 500):
        watch.see("ab", entropy)
    assert watch.has_drifted
    watch.see("c", 0.5)  # nothing to compare with
    assert watch.has_drifted
    for entropy in random.beta(1, 5, 500):
        watch.see("ab", entropy)  # over again
    assert not watch.has_drifted
