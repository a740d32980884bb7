"""Who is heard when nodes fail: out of which nodes are up, what reaches each receiver.

A node is up or down. Its receiver hears it if it is up and, for an edge, if the edge itself hears anybody. A
skip sender, which sends past its receiver to the receiver of that one, is heard there only while its own
receiver is not. One function says so for masks of numpy and for tensors of TensorFlow alike:

    >>> import numpy as np
    >>> receivers = (("edge", ("camera", "microphone"), ()), ("cloud", ("edge",), ("camera", "microphone")))
    >>> up = {name: np.array([True, False]) for name in ("camera", "microphone")}
    >>> heard = hear({**up, "edge": np.array([False, True])}, receivers)
    >>> [mask.tolist() for mask in heard.senders["cloud"]]
    [[False, False], [True, False], [True, False]]

Source: our generalisation of Section IV-G of Teerapittayanon et al. 2017 to any node; skip links after
Yousefpour et al., ResiliNet (arXiv 2002.07386).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Heard", "Hearing", "hear"]

Mask = TypeVar("Mask", bound=Any)
"""What has `&`, `|` and `~`: a bool array `(samples,)` of numpy, or such a tensor."""

Hearing = tuple[str, Sequence[str], Sequence[str]]
"""A receiver: its name, its senders, and its skip senders."""


@dataclass(frozen=True)
class Heard(Generic[Mask]):
    """Who is heard.

    Attributes:
        nodes: By node: whether there is anything to hear of it. A receiver that cannot fail, such as the
            cloud, is heard if it hears anybody.
        senders: By receiver: whether it hears each of its senders and then of its skip senders, in order.
    """

    nodes: Mapping[str, Mask]
    senders: Mapping[str, tuple[Mask, ...]]


def hear(up: Mapping[str, Mask], receivers: Iterable[Hearing]) -> Heard[Mask]:
    """Who is heard.

    Args:
        up: `(samples,)` bool by node that may fail, whether it is up; every device is among them.
        receivers: The nodes above the devices, senders before receivers.
    """
    nodes = dict(up)
    senders: dict[str, tuple[Mask, ...]] = {}
    below: dict[str, Sequence[str]] = {}
    for name, direct, skips in receivers:
        masks = [nodes[sender] for sender in direct]
        for skip in skips:
            parent = next(sender for sender in direct if skip in below.get(sender, ()))
            masks.append(nodes[skip] & ~nodes[parent])
        anybody = functools.reduce(operator.or_, masks)
        nodes[name] = up[name] & anybody if name in up else anybody
        senders[name] = tuple(masks)
        below[name] = direct
    return Heard(nodes, senders)
