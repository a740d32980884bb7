"""Pareto fronts: which of many points no other point beats.

>>> undominated([(3.0, 1.0), (1.0, 3.0), (2.0, 4.0)])
[1, 0]
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["undominated"]


def undominated(points: Sequence[tuple[float, float]], tolerance: float = 0.0) -> list[int]:
    """Finds the points that no other point beats, by rising first cost.

    Args:
        points: Two costs of each point; less is better in both. Negate what should be large.
        tolerance: Share by which a point's second cost must fall below that of the cheaper point before it
            to count as better; hides rounding.

    Returns:
        Indices of the points on the front; of equal points the first.
    """
    front: list[int] = []
    for number in sorted(range(len(points)), key=lambda index: points[index]):
        if front:
            best = points[front[-1]][1]
            if points[number][1] >= best - tolerance * abs(best):
                continue
        front.append(number)
    return front
