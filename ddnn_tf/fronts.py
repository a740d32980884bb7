"""Pareto fronts: which of several alternatives no other one beats in both cost and gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["pareto_front"]


def pareto_front(cost: ArrayLike, gain: ArrayLike, *, tolerance: float = 0.0) -> NDArray[np.int64]:
    """Indices of the alternatives on the front, by rising cost and rising gain.

    Args:
        cost: `(alternatives,)` finite numbers; less is better.
        gain: `(alternatives,)` finite numbers; more is better.
        tolerance: Relative gain that a costlier alternative must add to count; 0: any.

    Returns:
        `(front,)` int64. Of equal alternatives the first.

    Raises:
        ValueError: `cost` and `gain` differ in length.

    Example:

        >>> pareto_front([3.0, 1.0, 2.0, 4.0], [0.9, 0.5, 0.5, 0.8]).tolist()
        [1, 0]
    """
    costs, gains = np.asarray(cost, np.float64), np.asarray(gain, np.float64)
    if costs.shape != gains.shape or costs.ndim != 1:
        raise ValueError(
            f"Expected `cost` and `gain` to be two arrays of one length, but got shapes {costs.shape} and "
            f"{gains.shape}."
        )
    front: list[int] = []
    for index in np.lexsort((-gains, costs)):
        if not front or gains[index] > gains[front[-1]] + tolerance * abs(gains[front[-1]]):
            front.append(int(index))
    return np.array(front, np.int64)
