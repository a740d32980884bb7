"""Early exits: how unsure a prediction is, who answers a sample, and which thresholds to use.

A sample leaves at the lowest exit whose normalized entropy is at most that exit's threshold T; the
last exit always answers. All functions work on probabilities computed beforehand, for many samples
at once, and need no TensorFlow:

    >>> local = np.array([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3]])
    >>> cloud = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    >>> staged_inference([local, cloud], thresholds=[0.5]).exits
    array([0, 1])

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "StagedResult",
    "cheapest_thresholds",
    "default_grid",
    "is_confident",
    "most_confident",
    "normalized_entropy",
    "search_thresholds",
    "softmax",
    "staged_inference",
]

_SUM_TOLERANCE = 1e-3
# Hundredths, and at most as many combinations as those of two exits: a search then takes about a second.
_FINEST = 101
_COMBINATIONS = _FINEST**2


@dataclass(frozen=True)
class StagedResult:
    """What staged inference decided.

    Attributes:
        labels: `(samples,)` int64, the answer of the exit at which each sample left.
        exits: `(samples,)` int64, the index of that exit, 0 the lowest.
        entropies: `(exits, samples)` float32, normalized entropy at every exit.
        shares: `(exits,)` float64, fraction of the samples that left at each exit.
    """

    labels: NDArray[np.int64]
    exits: NDArray[np.int64]
    entropies: NDArray[np.float32]
    shares: NDArray[np.float64]


def normalized_entropy(probabilities: ArrayLike) -> NDArray[np.float32]:
    """How unsure a probability vector is, between 0 (certain) and 1 (uniform).

    Args:
        probabilities: `(..., classes)`, non-negative, summing to 1 along the last axis.

    Returns:
        `(...)` float32.

    Raises:
        ValueError: Fewer than two classes, a negative or non-finite entry, or a row that does not
            sum to 1.

    Source: Section III-D, the definition of eta.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim == 0 or p.shape[-1] < 2:
        raise ValueError(
            f"Expected `probabilities` to have at least two classes on its last axis, but got shape "
            f"{p.shape}."
        )
    if not np.isfinite(p).all() or (p < 0).any():
        raise ValueError(
            "Expected `probabilities` to be finite and not negative, but got "
            f"{p[~np.isfinite(p) | (p < 0)][0]}: pass logits through a softmax first."
        )
    sums = p.sum(axis=-1)
    if p.size and np.abs(sums - 1).max() > _SUM_TOLERANCE:
        worst = sums.flat[np.abs(sums - 1).argmax()]
        raise ValueError(
            f"Expected `probabilities` to sum to 1 along the last axis, but got a sum of {worst:.6g}: "
            "pass logits through a softmax first."
        )
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    entropy = -(p * logs).sum(axis=-1) / math.log(p.shape[-1])
    return np.clip(entropy, 0, 1).astype(np.float32)


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Class probabilities `(..., classes)` float64 of logits of that shape."""
    values = np.asarray(logits, dtype=np.float64)
    odds = np.exp(values - values.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def is_confident(entropies: ArrayLike, thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Whether samples leave at an exit: where the entropy is at most T; T = 0 means "never".

    Args:
        entropies: Normalized entropies, any shape.
        thresholds: T in 0..1, of a shape that broadcasts to it.

    Source: Section III-D; T = 0 keeps even a sample whose entropy was rounded to 0.
    """
    limits = np.asarray(thresholds, dtype=np.float64)
    return (np.asarray(entropies) <= limits) & (limits > 0)


def most_confident(
    probabilities: Sequence[ArrayLike], present: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Joins parallel exits of one tier (several edges) into one: the surest speaks for the tier.

    Args:
        probabilities: One `(samples, classes)` per exit.
        present: `(samples, exits)` bool: exits that take part. None: all. Where none takes part,
            the tier knows nothing: the uniform distribution.

    Returns:
        `(samples, classes)` float64; of equally sure exits the first.

    Raises:
        ValueError: As `normalized_entropy`.
    """
    stacked = np.stack([np.asarray(p, dtype=np.float64) for p in probabilities])
    entropy = normalized_entropy(stacked).astype(np.float64)
    if present is not None:
        entropy = np.where(np.asarray(present, dtype=bool).T, entropy, np.inf)
    best = entropy.argmin(axis=0)
    chosen = stacked[best, np.arange(stacked.shape[1])]
    silent = np.isinf(entropy).all(axis=0)
    chosen[silent] = 1 / stacked.shape[-1]
    return chosen


def staged_inference(probabilities: Sequence[ArrayLike], thresholds: Sequence[float]) -> StagedResult:
    """Lets every sample leave at the first exit that is sure enough.

    Args:
        probabilities: One `(samples, classes)` per exit, lowest tier first.
        thresholds: T of every exit but the last, each in 0..1. A sample leaves where its normalized
            entropy is at most T, but T = 0 means "never" (so that it keeps every sample, even one
            whose entropy was rounded to 0), and T = 1 means "always".

    Returns:
        Labels and exits of all samples.

    Raises:
        ValueError: No exit, exits of different shapes, a wrong number of thresholds, or one
            outside 0..1.

    Source: Section III-D.
    """
    stacked = _stack(probabilities)
    limits = _check_thresholds(thresholds, len(stacked) - 1)
    entropies = normalized_entropy(stacked)
    leaves = is_confident(entropies[:-1], np.array(limits, dtype=np.float64)[:, None])
    exits = _first(leaves)
    samples = np.arange(stacked.shape[1])
    return StagedResult(
        labels=stacked.argmax(axis=-1)[exits, samples],
        exits=exits,
        entropies=entropies,
        shares=np.bincount(exits, minlength=len(stacked)) / max(len(samples), 1),
    )


def search_thresholds(
    probabilities: Sequence[ArrayLike],
    labels: ArrayLike,
    bytes_at_exit: Sequence[float],
    grid: ArrayLike | None = None,
    *,
    balanced: bool = False,
) -> tuple[float, ...]:
    """Finds the thresholds of best overall accuracy; of equally good ones, those with fewest bytes.

    Use it on validation data: a threshold chosen on the data it is then reported on flatters.

    Args:
        probabilities: One `(samples, classes)` per exit, lowest tier first.
        labels: `(samples,)` int, the true classes.
        bytes_at_exit: Bytes that a sample costs when it leaves at each exit
            (`communication.bytes_at_exit`).
        grid: Candidates for each T, in 0..1. Default: `default_grid`, by the number of early exits.
        balanced: Every class counts alike, whatever its share of the samples: balanced accuracy is best.

    Returns:
        T of every exit but the last; of equal ones in both respects, the lowest.

    Raises:
        ValueError: No sample, or shapes that do not fit each other.

    Source: Section IV-D chooses T for the best accuracy; the tie rule is ours.
    """
    stacked, truth = _checked(probabilities, labels)
    cost = _one_for_each(bytes_at_exit, len(stacked), "bytes_at_exit")
    _, classes, counts = np.unique(truth, return_inverse=True, return_counts=True)
    weights = 1 / counts[classes] if balanced else np.ones(len(truth))
    is_right = (stacked.argmax(axis=-1) == truth) * weights
    return _search(stacked, is_right, cost, grid)


def cheapest_thresholds(
    probabilities: Sequence[ArrayLike],
    labels: ArrayLike,
    cost_at_exit: Sequence[float],
    cost_of_error: float,
    grid: ArrayLike | None = None,
) -> tuple[float, ...]:
    """Finds the thresholds of least expected cost: that of errors, and that of going further up.

    Use it on validation data, as `search_thresholds`.

    Args:
        probabilities: One `(samples, classes)` per exit, lowest tier first.
        labels: `(samples,)` int, the true classes.
        cost_at_exit: Cost of a sample that leaves at each exit: weights times its bytes and seconds.
        cost_of_error: Cost of a wrong answer, in the same unit.
        grid: Candidates for each T, in 0..1. Default: `default_grid`, by the number of early exits.

    Returns:
        T of every exit but the last; of equally cheap ones those with the least cost of going up, then the
        lowest.

    Raises:
        ValueError: No sample, shapes that do not fit each other, or a cost of an error below 0.
    """
    stacked, truth = _checked(probabilities, labels)
    cost = _one_for_each(cost_at_exit, len(stacked), "cost_at_exit")
    if not 0 <= cost_of_error < math.inf:
        raise ValueError(f"Expected `cost_of_error` to be 0 or more, but got {cost_of_error}.")
    is_wrong = stacked.argmax(axis=-1) != truth
    return _search(stacked, -cost_of_error * is_wrong - cost[:, None], cost, grid)


def default_grid(early_exits: int) -> NDArray[np.float64]:
    """Candidates for the threshold of each early exit, evenly spaced from 0 to 1.

    A search tries every combination, so the grid becomes coarser with the number of early exits: 0, 0.01,
    ..., 1 for one or two (10,201 combinations), 0, 0.05, ..., 1 for three (9,261), ten candidates for four
    (10,000), and in general as many as keep the number of combinations at 10,201 or less, but at least two.

    Args:
        early_exits: Number of exits but the last.

    Returns:
        `(candidates,)` float64, rising.
    """
    candidates = _FINEST
    while candidates > 2 and candidates**early_exits > _COMBINATIONS:
        candidates -= 1
    return np.arange(candidates) / (candidates - 1)


def _search(
    probabilities: NDArray[np.float64],
    value: NDArray[np.float64],
    cost: NDArray[np.float64],
    grid: ArrayLike | None,
) -> tuple[float, ...]:
    """T of every exit but the last with the largest value; of equally good ones, those of least cost.

    Args:
        probabilities: `(exits, samples, classes)`.
        value: `(exits, samples)`, what it is worth that a sample leaves at an exit.
        cost: `(exits,)`, which decides between equal values.
        grid: Candidates for each T.
    """
    exits, samples, _ = probabilities.shape
    candidates = default_grid(exits - 1) if grid is None else np.unique(np.asarray(grid, float))
    if candidates.size == 0:
        raise ValueError("Expected `grid` to hold at least one candidate, but got none.")
    _check_thresholds(candidates.tolist(), len(candidates))
    leaves = is_confident(normalized_entropy(probabilities)[:-1, None], candidates[:, None])
    columns = np.arange(samples)
    best_score: tuple[float, float] = (-math.inf, 0.0)
    best_choice: tuple[int, ...] = ()
    for choice in itertools.product(range(len(candidates)), repeat=exits - 1):
        left_at = _first(leaves[np.arange(exits - 1), list(choice)])
        # Rounded, so that sums of the same weights in another order are a tie.
        score = (round(float(value[left_at, columns].sum()), 9), -float(cost[left_at].sum()))
        if score > best_score:
            best_score, best_choice = score, choice
    return tuple(float(candidates[at]) for at in best_choice)


def _checked(
    probabilities: Sequence[ArrayLike], labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities `(exits, samples, classes)` and labels `(samples,)` of at least one sample."""
    stacked, truth = _stack(probabilities), np.asarray(labels)
    samples = stacked.shape[1]
    if samples == 0 or truth.shape != (samples,):
        raise ValueError(
            f"Expected `labels` to have shape ({samples},) with at least one sample, but got {truth.shape}."
        )
    return stacked, truth


def _one_for_each(values: Sequence[float], exits: int, name: str) -> NDArray[np.float64]:
    """Values `(exits,)`, finite."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (exits,) or not np.isfinite(numbers).all():
        raise ValueError(
            f"Expected `{name}` to hold one finite number for each of {exits} exits, but got "
            f"{numbers.tolist()}."
        )
    return numbers


def _stack(probabilities: Sequence[ArrayLike]) -> NDArray[np.float64]:
    arrays = [np.asarray(p, dtype=np.float64) for p in probabilities]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 2:
        raise ValueError(
            "Expected `probabilities` to be one (samples, classes) array per exit, all of one shape, "
            f"but got {sorted(shapes)}."
        )
    return np.stack(arrays)


def _check_thresholds(thresholds: Sequence[float], number: int) -> list[float]:
    limits = [float(value) for value in thresholds]
    if len(limits) != number:
        raise ValueError(
            f"Expected {number} thresholds (one for each exit but the last), but got {len(limits)}."
        )
    for value in limits:
        if not 0 <= value <= 1:
            raise ValueError(f"Expected a threshold between 0 and 1, but got {value}.")
    return limits


def _first(leaves: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index of the first True along axis 0; their number where there is none."""
    always = np.ones((1, leaves.shape[1]), dtype=bool)
    return np.concatenate([leaves, always]).argmax(axis=0).astype(np.int64)
