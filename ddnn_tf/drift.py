"""Drift: whether the samples of today make a network as unsure as those that it was validated on.

Their entropies are compared by the two-sample test of Kolmogorov and Smirnov, which assumes no distribution
and no labels:

    >>> random = np.random.default_rng(0)
    >>> validation, today = random.beta(1, 5, 500), random.beta(1, 5, 500)
    >>> compare(validation, today).p_value > 0.05, compare(validation, today + 0.2).p_value < 0.001
    (True, True)

Source: Smirnov 1948; the p-value is Stephens' (1970).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["LEAST_P_VALUE", "Drift", "DriftWatch", "compare"]

LEAST_P_VALUE = 0.001
"""A lower p-value is a warning. Gauges are read again and again, so chance would often pass 0.05."""

# Enough for a difference of 0.15, and soon over after a change; with fewer samples, the p-value is not exact.
_WINDOW, _FEWEST = 500, 50

# Terms of a series that converges at once where the p-value is of interest. At short distances it does not,
# but is 1 to twelve digits.
_TERMS, _NO_DISTANCE = 100, 0.2


class Drift(NamedTuple):
    """How far two samples are apart.

    Attributes:
        statistic: The largest difference of their distribution functions, 0..1.
        p_value: How probable so large a difference is if nothing has changed. Equal values, such as entropies
            rounded to 0, make it larger than it should be: it warns too rarely rather than too often.
    """

    statistic: float
    p_value: float


def compare(reference: ArrayLike, recent: ArrayLike) -> Drift:
    """Compares two samples of one distribution, or of two.

    Args:
        reference: `(samples,)`, such as the entropies of validation samples.
        recent: `(samples,)`, such as those of the last samples.

    Returns:
        The statistic and its p-value; 0 and 1 if there is no sample to compare.
    """
    first, second = np.sort(np.asarray(reference, float)), np.sort(np.asarray(recent, float))
    if not first.size or not second.size:
        return Drift(0.0, 1.0)
    values = np.concatenate([first, second])
    shares = [np.searchsorted(each, values, side="right") / each.size for each in (first, second)]
    statistic = float(np.abs(shares[0] - shares[1]).max())
    root = math.sqrt(first.size * second.size / (first.size + second.size))
    distance = (root + 0.12 + 0.11 / root) * statistic
    if distance < _NO_DISTANCE:
        return Drift(statistic, 1.0)
    k = np.arange(1, _TERMS + 1)
    series = 2 * float(((-1.0) ** (k - 1) * np.exp(-2 * (k * distance) ** 2)).sum())
    return Drift(statistic, min(1.0, max(0.0, series)))


class DriftWatch:
    """Compares the last entropies at an exit with those of validation, for each set of present devices.

    Args:
        references: `(samples,)` entropies of validation samples, by set of devices.
    """

    def __init__(self, references: Mapping[frozenset[str], Sequence[float]]) -> None:
        self._references = references
        self._recent: dict[frozenset[str], collections.deque[float]] = {}
        self._last: frozenset[str] = frozenset()

    def see(self, devices: Iterable[str], entropy: float) -> None:
        """Notes a sample.

        Args:
            devices: The devices that took part; others than those of the references are left out.
            entropy: Its entropy at the exit.
        """
        present = frozenset(devices)
        if present in self._references:
            self._last = present
            self._recent.setdefault(present, collections.deque(maxlen=_WINDOW)).append(entropy)

    @property
    def drift(self) -> Drift:
        """That of the last 500 samples with the devices that took part in the last one; none before 50."""
        recent: Collection[float] = self._recent.get(self._last, ())
        if len(recent) < _FEWEST:
            return Drift(0.0, 1.0)
        return compare(self._references[self._last], list(recent))

    @property
    def has_drifted(self) -> bool:
        """Whether the p-value is below `LEAST_P_VALUE`."""
        return self.drift.p_value < LEAST_P_VALUE
