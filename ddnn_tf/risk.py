"""Thresholds by risk: as many samples as possible leave early, and few of those that leave are wrong.

Accuracy decides for the best mean over all samples. Risk makes a promise about those that leave: the share of
wrong answers among them is at most `risk`, for instance 2 %. A threshold is chosen on samples, so the promise
can fail by bad luck in their draw; it does so with probability at most `delta`:

    >>> random = np.random.default_rng(0)
    >>> confidence = random.uniform(0.5, 1, 2000)
    >>> labels = random.random(2000) > confidence  # right as often as it is sure
    >>> local = np.stack([confidence, 1 - confidence], axis=1)
    >>> promise = risk_thresholds([local], labels, risk=0.05, delta=0.1)[0]
    >>> 0.1 < promise.share < 0.25, promise.needed
    (True, 72)

**How.** Sort the n samples by entropy. If the error of those with an entropy of at most T were above `risk`,
then so few errors among m of them as were seen would have a probability of at most P(B <= errors) with B
binomial(m, risk): a p-value. T rises from one entropy to the next as long as the p-value is at most `delta`,
and stops at the first that is not (fixed-sequence testing: no correction for many tests). Where the walk
begins is decided by n, `risk` and `delta` alone: at the smallest number of leaving samples that can show
anything, `needed`. With four times as many samples, a second walk begins at half of them, with three
quarters of `delta`, and the first keeps one quarter; the larger T of both counts.

**What is assumed.** (1) The samples are drawn independently from what the network will meet, and had no part
in its training. Validation samples that chose the epoch bend this a little. (2) The error of those that leave
does not fall as T rises: the less sure the network, the more often it is wrong. Without that, each time that
the error crosses `risk` from below adds `delta`. (3) With several early exits, each has an equal part of
`delta`, and is judged on the samples that reach it. No distribution is assumed.

Equal entropies, such as many that were rounded to 0, leave together or not at all.

Sources: Angelopoulos et al. 2021, "Learn then Test" (fixed-sequence testing of risks); Geifman and El-Yaniv
2017, "Selective Classification for Deep Neural Networks" (binomial bound on the error of accepted samples).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.exits import is_confident, normalized_entropy

__all__ = ["RiskSimulation", "RiskThreshold", "risk_thresholds", "samples_needed", "simulate_risk"]

# The second walk: from half of the samples if there are enough, with three quarters of delta. A walk that
# begins late survives an early error; one that begins early helps where most samples must not leave.
_LATE_START, _LATE_SHARE, _ENOUGH = 0.5, 0.75, 4
# Numbers that are sorted at a time in a simulation.
_PIECE = 1 << 21


@dataclass(frozen=True)
class RiskThreshold:
    """The threshold of one early exit, and what it was chosen on.

    Attributes:
        threshold: T; 0 ("never") if nothing can be promised.
        share: Fraction of the calibration samples that left here.
        samples: Number of calibration samples that reached this exit.
        needed: Number of samples that must leave, all answered right, before anything can be promised.
    """

    threshold: float
    share: float
    samples: int
    needed: int


@dataclass(frozen=True)
class RiskSimulation:
    """How often the promise failed.

    Attributes:
        draws: Number of draws of calibration samples.
        exceeded: Fraction of the draws after which an early exit's error exceeded the risk.
        share: Fraction of the population that left early, mean over the draws.
        error: Fraction of those that were wrong, mean over the draws; 0 where none left.
    """

    draws: int
    exceeded: float
    share: float
    error: float


def samples_needed(risk: float, delta: float) -> int:
    """How many samples, all answered right, show that the error is at most `risk`.

    Args:
        risk: Largest share of wrong answers, between 0 and 1.
        delta: Largest probability of an error above it, between 0 and 1.

    Returns:
        The smallest m with (1 - risk)^m <= delta.

    Raises:
        ValueError: A number that is not between 0 and 1.
    """
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"Expected `{name}` between 0 and 1, but got {value}: 0.02 is 2 %.")
    # A little less, so that rounding does not ask for one sample more.
    return math.ceil(math.log(delta) / math.log1p(-risk) - 1e-9)


def risk_thresholds(
    probabilities: Sequence[ArrayLike], labels: ArrayLike, risk: float, delta: float
) -> tuple[RiskThreshold, ...]:
    """Thresholds with which most samples leave early while few of those that leave are wrong.

    Args:
        probabilities: One `(samples, classes)` per early exit, lowest tier first, of calibration samples.
        labels: `(samples,)` int, their classes.
        risk: Largest share of wrong answers among the samples that leave at an exit, between 0 and 1.
        delta: Largest probability, over the draw of the samples, that any exit exceeds it, between 0 and 1.

    Returns:
        T of every early exit, and what it was chosen on.

    Raises:
        ValueError: A number that is not between 0 and 1, or shapes that do not fit each other.

    Source: see the module.
    """
    entropies, is_wrong = _judged(probabilities, labels)
    thresholds = _thresholds(entropies, is_wrong, risk, delta)
    remaining = np.ones(is_wrong.shape[-1], dtype=bool)
    chosen = []
    for entropy, threshold in zip(entropies, thresholds, strict=True):
        leaves = remaining & is_confident(entropy, threshold)
        share = float(leaves.mean()) if leaves.size else 0.0
        reached = int(remaining.sum())
        needed = _first_start(reached, risk, delta / len(entropies))
        chosen.append(RiskThreshold(float(threshold), share, reached, needed))
        remaining &= ~leaves
    return tuple(chosen)


def simulate_risk(
    probabilities: Sequence[ArrayLike],
    labels: ArrayLike,
    risk: float,
    delta: float,
    *,
    samples: int,
    draws: int = 1000,
    seed: int = 0,
) -> RiskSimulation:
    """Takes samples as the population, and counts how often thresholds of a draw from it break the promise.

    Args:
        probabilities: One `(samples, classes)` per early exit, lowest tier first, of the population.
        labels: `(samples,)` int, their classes.
        risk: As for `risk_thresholds`.
        delta: As for `risk_thresholds`; the promise holds if `exceeded` is at most this, but for chance.
        samples: Size of a draw, with replacement.
        draws: Number of draws.
        seed: Of the draws.

    Returns:
        What came of them.

    Raises:
        ValueError: As `risk_thresholds`; no early exit, or no sample.
    """
    entropies, is_wrong = _judged(probabilities, labels)
    population = is_wrong.shape[-1]
    if not len(entropies) or not population or samples < 1 or draws < 1:
        raise ValueError(
            f"Expected an early exit, and at least one sample and draw, but got {len(entropies)} exits, "
            f"a population of {population}, {samples} samples and {draws} draws."
        )
    random = np.random.default_rng(seed)
    exceeded, share, error = 0, 0.0, 0.0
    step = max(1, _PIECE // max(samples, population))
    for start in range(0, draws, step):
        rows = random.integers(0, population, (min(step, draws - start), samples))
        thresholds = _thresholds(entropies[:, rows], is_wrong[:, rows], risk, delta)
        remaining = np.ones((len(rows), population), dtype=bool)
        breaks = np.zeros(len(rows), dtype=bool)
        errors = np.zeros(len(rows), dtype=np.int64)
        for entropy, wrong, threshold in zip(entropies, is_wrong, thresholds, strict=True):
            leaves = remaining & is_confident(entropy, threshold[:, None])
            found = (leaves & wrong).sum(axis=1)
            breaks |= found > risk * leaves.sum(axis=1)
            errors += found
            remaining &= ~leaves
        left = population - remaining.sum(axis=1)
        exceeded += int(breaks.sum())
        share += float(left.sum()) / population
        error += float((errors / np.maximum(left, 1)).sum())
    return RiskSimulation(draws, exceeded / draws, share / draws, error / draws)


def _judged(
    probabilities: Sequence[ArrayLike], labels: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Entropies and whether the answers are wrong, both `(exits, samples)`."""
    truth = np.asarray(labels)
    exits = [np.asarray(exit_, dtype=np.float64) for exit_ in probabilities]
    if any(exit_.ndim != 2 or exit_.shape[:1] != truth.shape for exit_ in exits):
        raise ValueError(
            f"Expected `probabilities` of shape (samples, classes) for labels of shape {truth.shape}, but "
            f"got {[exit_.shape for exit_ in exits]}."
        )
    if not exits:
        return np.zeros((0, len(truth)), np.float32), np.zeros((0, len(truth)), bool)
    stacked = np.stack(exits)
    return normalized_entropy(stacked), stacked.argmax(axis=-1) != truth


def _thresholds(
    entropies: NDArray[np.float32], is_wrong: NDArray[np.bool_], risk: float, delta: float
) -> list[NDArray[np.float64]]:
    """T `(...)` of every early exit.

    Args:
        entropies: `(exits, ..., samples)`.
        is_wrong: Whether the answers are wrong, of that shape.
        risk: As for `risk_thresholds`.
        delta: As for `risk_thresholds`.
    """
    samples_needed(risk, delta)  # refuses what is out of range
    remaining = np.ones(is_wrong.shape[1:], dtype=bool)
    chosen = []
    for entropy, wrong in zip(entropies, is_wrong, strict=True):
        threshold = _largest(np.where(remaining, entropy, np.inf), wrong, risk, delta / len(entropies))
        remaining &= ~is_confident(entropy, threshold[..., None])
        chosen.append(threshold)
    return chosen


def _largest(
    entropies: NDArray[np.floating], is_wrong: NDArray[np.bool_], risk: float, delta: float
) -> NDArray[np.float64]:
    """The largest T `(...)` that can be promised for `(..., samples)`; of infinite entropy: not here."""
    order = np.argsort(entropies, axis=-1, kind="stable")
    rising = np.take_along_axis(entropies, order, axis=-1)
    errors = np.take_along_axis(is_wrong, order, axis=-1).cumsum(axis=-1)
    size = rising.shape[-1]
    number = np.isfinite(rising).sum(axis=-1, keepdims=True)
    leaving = np.arange(1, size + 1)
    # Equal entropies leave together: only the last of them is a candidate.
    is_candidate = np.isfinite(rising)
    is_candidate[..., :-1] &= rising[..., :-1] != rising[..., 1:]
    needed = samples_needed(risk, delta)
    has_two = number >= _ENOUGH * needed
    is_shown = np.zeros(rising.shape, dtype=bool)
    late = np.ceil(_LATE_START * number)
    for part, begins, walks in (
        (1.0, np.ones_like(number), ~has_two),
        (1 - _LATE_SHARE, np.ones_like(number), has_two),
        (_LATE_SHARE, late, has_two),
    ):
        if not walks.any():
            continue
        most = _most_errors(size, risk, delta * part)
        is_tested = is_candidate & (leaving >= begins) & (most[leaving] >= 0) & walks
        has_failed = np.logical_or.accumulate(is_tested & (errors > most[leaving]), axis=-1)
        is_shown |= is_tested & ~has_failed
    last = np.where(is_shown, leaving, 0).max(axis=-1, initial=0)
    if not size:
        return np.zeros(last.shape)
    # Half-way to the next entropy, where the same samples leave: an engine that rounds otherwise than Keras
    # would else keep the very sample whose entropy T is.
    neighbours = np.stack([np.maximum(last - 1, 0), np.minimum(last, size - 1)], axis=-1)
    below, above = np.moveaxis(np.take_along_axis(rising, neighbours, axis=-1).astype(np.float64), -1, 0)
    return np.where(last == 0, 0.0, np.where(last == number[..., 0], 1.0, (below + above) / 2))


def _first_start(number: int, risk: float, delta: float) -> int:
    """How many of a number of samples must leave, all right, before the first walk shows anything."""
    needed = samples_needed(risk, delta)
    if number < _ENOUGH * needed:
        return needed
    late = max(math.ceil(_LATE_START * number), samples_needed(risk, delta * _LATE_SHARE))
    return min(late, samples_needed(risk, delta * (1 - _LATE_SHARE)))


@functools.lru_cache(maxsize=64)
def _most_errors(samples: int, risk: float, delta: float) -> NDArray[np.int64]:
    """Most errors among m samples, for m = 0..samples, of which P(B <= errors) <= delta; -1: none has that.

    Args:
        samples: The largest m.
        risk: Probability of an error in the binomial distribution of B.
        delta: Largest probability.
    """
    # Row after row of Pascal's triangle: P(m samples have i errors), for i from 0 to the mean and a bit more.
    chances = np.zeros(int(samples * risk) + 2)
    chances[0] = 1.0
    most = np.full(samples + 1, -1, dtype=np.int64)
    for number in range(1, samples + 1):
        chances[1:] = (1 - risk) * chances[1:] + risk * chances[:-1]
        chances[0] *= 1 - risk
        most[number] = np.searchsorted(chances.cumsum(), delta * (1 + 1e-9), side="right") - 1
    return most
