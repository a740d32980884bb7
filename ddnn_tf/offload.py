"""Offloading fewer devices: whom to ask for a feature map when the local exit is unsure of a sample.

The class vectors of all devices are at the local aggregator already. By them it can rank the devices, ask
only the first few, and let the tiers above take the others for absent, as if they had failed; networks that
were trained with failures (`Recipe.drop`) are used to that. Two rankings, each a score by sample and device:

    certainty   how sure the device is by itself: the entropy of its own class vector
    influence   how far the local exit's answer moves without the device

    >>> highest(certainty([[[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]]), 2)
    array([[ True, False,  True]])

Certainty needs no more of the local exit, and is the better one by accuracy: where several devices see the
same, the answer does not change without any of them, so that influence ranks all of them last. The aggregator
of the runtime asks by certainty. Where classes are very unequal, look at balanced accuracy: the surest
devices may be those that see what is frequent.

Source: ours; Teerapittayanon et al. 2017, Section III-D, for the entropy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.communication import bytes_per_link
from ddnn_tf.exits import normalized_entropy, softmax
from ddnn_tf.hierarchy import Hierarchy, Payload
from ddnn_tf.topology import Topology

__all__ = ["bytes_of_asked", "certainty", "check_asked", "highest", "influence", "ranked_devices", "surest"]


def certainty(probabilities: ArrayLike) -> NDArray[np.float32]:
    """How sure each device is by itself: the lower its normalized entropy, the surer.

    Args:
        probabilities: `(samples, devices, classes)`: the softmax of its class vector.

    Returns:
        `(samples, devices)` float32, at most 0: the negative entropy, so that the surest are told apart
        where 1 minus their entropy would be rounded to 1.

    Raises:
        ValueError: As `normalized_entropy`.
    """
    return -normalized_entropy(probabilities)


def surest(vectors: Mapping[str, ArrayLike], number: int) -> tuple[str, ...]:
    """Whom to ask for one sample: the devices whose class vectors have the lowest entropy.

    Args:
        vectors: `(1, classes)` class vector by device.
        number: How many devices to ask, at least 1; all, if there are not so many.

    Returns:
        Their names, in the order of `vectors`.

    Raises:
        ValueError: As `highest`.
    """
    stacked = np.stack([np.asarray(vector) for vector in vectors.values()], axis=1)
    (asked,) = highest(certainty(softmax(stacked)), number)
    return tuple(name for name, is_asked in zip(vectors, asked, strict=True) if is_asked)


def influence(probabilities: ArrayLike, without: ArrayLike) -> NDArray[np.float64]:
    """How far the answer of the local exit moves without each device: the total variation distance.

    Args:
        probabilities: `(samples, classes)` of the local exit.
        without: `(samples, devices, classes)` of the same exit without each device.

    Returns:
        `(samples, devices)` float64, 0..1.

    Raises:
        ValueError: The shapes do not fit each other.
    """
    answers, others = np.asarray(probabilities, np.float64), np.asarray(without, np.float64)
    if answers.ndim != 2 or others.ndim != 3 or answers.shape != (len(others), others.shape[2]):
        raise ValueError(
            "Expected `without` to be of shape (samples, devices, classes) for `probabilities` of shape "
            f"(samples, classes), but got {others.shape} for {answers.shape}."
        )
    return np.abs(others - answers[:, None]).sum(axis=-1) / 2


def highest(scores: ArrayLike, number: int, present: ArrayLike | None = None) -> NDArray[np.bool_]:
    """The devices with the highest scores of each sample.

    Args:
        scores: `(samples, devices)`, e.g. `certainty`.
        number: How many devices to ask, at least 1; all of a sample's, if there are not so many.
        present: `(samples, devices)` bool, the devices that take part; None: all.

    Returns:
        `(samples, devices)` bool, whom to ask; of equal scores the first.

    Raises:
        ValueError: `number` below 1.
    """
    if number < 1:
        raise ValueError(f"Expected `number` to be at least 1, but got {number}: ask one device or more.")
    values = np.asarray(scores, np.float64)
    is_there = np.ones(values.shape, bool) if present is None else np.asarray(present, bool)
    order = np.argsort(np.where(is_there, -values, np.inf), axis=1, kind="stable")[:, :number]
    asked = np.zeros(values.shape, bool)
    np.put_along_axis(asked, order, True, axis=1)
    return asked & is_there


def ranked_devices(hierarchy: Hierarchy) -> tuple[str, ...]:
    """The devices that can be ranked: those whose class vectors are at the one local aggregator.

    Any others are asked always.

    Raises:
        ValueError: The hierarchy has no local exit, or several, none of which knows all class vectors.
    """
    if hierarchy.local is None:
        raise ValueError(
            "Expected a hierarchy with one local exit, where the class vectors of the devices are, but got "
            "one without or with several: ask all devices."
        )
    return hierarchy.local.senders


def check_asked(number: int, hierarchy: Hierarchy) -> None:
    """Checks how many devices are to be asked.

    Raises:
        ValueError: Not a number of the devices that can be ranked, or none can.
    """
    devices = len(ranked_devices(hierarchy))
    if not 1 <= number <= devices:
        raise ValueError(f"Expected to ask between 1 and {devices} devices, but got {number}.")


def bytes_of_asked(
    topology: Topology, exits: ArrayLike, asked: ArrayLike, present: ArrayLike | None = None
) -> dict[str, float]:
    """Average bytes per sample on every link, if only some devices are asked for their feature maps.

    With all devices asked it is `communication.bytes_per_link`.

    Args:
        topology: The hierarchy.
        exits: `(samples,)` int, the number of the exit tier at which each sample leaves
            (`exits.staged_inference`).
        asked: `(samples, failable)` bool, the nodes that take part above the local exit; or
            `(samples, devices)` where all edges are up. Only samples that go on count.
        present: The nodes that are up, of the same shape as `asked`; None: all.

    Returns:
        Bytes per sample by link.

    Source: Eq. (1), with the asked devices only in its second term.
    """
    hierarchy = topology.hierarchy
    leaves = np.asarray(exits)
    taking_part = hierarchy.all_present(asked)
    up = hierarchy.presence(samples=len(leaves)) if present is None else hierarchy.all_present(present)
    total = dict.fromkeys((link.name for link in hierarchy.links), 0.0)
    for tier in np.unique(leaves):
        rows = leaves == tier
        shares = np.eye(len(hierarchy.exit_tiers))[tier].tolist()
        below = bytes_per_link(topology, shares, up[rows])
        above = bytes_per_link(topology, shares, (taking_part & up)[rows])
        for link in hierarchy.links:
            # Class vectors are sent before anybody is chosen.
            sizes = below if link.carries is Payload.CLASS_VECTOR else above
            total[link.name] += sizes[link.name] * rows.mean()
    return total
