"""The colours of all figures: eight that colour-blind readers can tell apart.

    >>> colour(0) == colour(8) == BLUE
    True

Source: Okabe and Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

__all__ = ["BLACK", "BLUE", "GREEN", "ORANGE", "PURPLE", "SKY", "VERMILION", "YELLOW", "colour"]

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
VERMILION = "#D55E00"
YELLOW = "#F0E442"
BLACK = "#000000"

_IN_ORDER = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, BLACK)


def colour(number: int) -> str:
    """The colour of a series by its number; they repeat after eight."""
    return _IN_ORDER[number % len(_IN_ORDER)]
