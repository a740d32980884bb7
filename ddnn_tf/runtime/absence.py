"""What an absent sender is replaced by, so that it changes nothing in the aggregation.

Exported sections take an input from every sender, and no mask. An absent one is given what leaves the
aggregate of the others as it is: under MP a copy of one that is there, under AP their average, under CC
zero, which adds nothing to the linear layer's sum. So any engine serves any subset of the devices, and
answers as the evaluation module does with those devices masked.

Source: Teerapittayanon et al. 2017, Sections III-B and IV-G; the substitution is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["complete"]


def complete(
    scheme: str, senders: Sequence[str], given: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """The inputs of all senders, out of those that are there.

    Args:
        scheme: `MP`, `AP` or `CC`.
        senders: The names of all.
        given: `(samples, ...)` float32 of those that are there, by name.

    Returns:
        `(samples, ...)` float32 for every sender.

    Raises:
        ValueError: Nobody is there.
    """
    if not given:
        raise ValueError(f"Expected an input of at least one of {', '.join(senders)}, but got none.")
    if len(given) == len(senders):
        return {name: given[name] for name in senders}
    present = list(given.values())
    if scheme == "MP":
        substitute = present[0]
    elif scheme == "AP":
        substitute = np.mean(present, axis=0, dtype=np.float32)
    else:
        substitute = np.zeros_like(present[0])
    return {name: given.get(name, substitute) for name in senders}
