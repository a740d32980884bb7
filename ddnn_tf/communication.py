"""Bytes on the wire per sample: Eq. (1) of the paper, and its generalisation to any hierarchy.

A device sends its class vector (4 bytes a class) to its local aggregator for every sample, and its
feature map one tier up for those that no exit below has answered: 1 bit an element if binary, 4 bytes if
float. An edge sends its feature map further up in the same way; where a tier has several exits, each also
reports its 4-byte class vector, because the surest speaks for the tier. A device without blocks sends its
raw input, one byte a number. A skip link carries a feature map while its sender's own receiver is down; the
links of nodes that are down, and to them, carry nothing.

Source: Teerapittayanon et al. 2017, Section III-E, Eq. (1), and Section IV-H for the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from ddnn_tf.hierarchy import Hierarchy, Link, Payload
from ddnn_tf.topology import Topology

__all__ = ["bytes_at_exit", "bytes_per_link", "bytes_per_sample", "device_bytes", "raw_bytes", "reach"]

_FLOAT_BYTES = 4


def device_bytes(local_exit_share: float, classes: int, filters: int, positions: int) -> float:
    """Eq. (1): average bytes that one device sends per sample, c = 4|C| + (1 - l) f o / 8.

    Args:
        local_exit_share: l, the fraction of samples that leave at the local exit, 0..1.
        classes: |C|, the number of classes.
        filters: f, the filters of the device's last block.
        positions: o, the positions of one filter's output (height * width).

    Returns:
        Bytes per sample and device.

    Raises:
        ValueError: `local_exit_share` outside 0..1 (the paper tabulates it in percent).

    Source: Eq. (1).
    """
    if not 0 <= local_exit_share <= 1:
        raise ValueError(
            f"Expected `local_exit_share` to be a fraction between 0 and 1, but got {local_exit_share}: "
            "divide a percentage by 100."
        )
    return _FLOAT_BYTES * classes + (1 - local_exit_share) * filters * positions / 8


def raw_bytes(topology: Topology) -> float:
    """The baseline: bytes of a device's raw input (3072 for 32x32 RGB), the mean over the devices.

    Source: Section IV-H.
    """
    devices = topology.hierarchy.devices
    return sum(node.sensor.size for node in devices) / len(devices)


def bytes_per_link(
    topology: Topology, exit_shares: Sequence[float], present: ArrayLike | None = None
) -> dict[str, float]:
    """Average bytes per sample on every link.

    Args:
        topology: The hierarchy.
        exit_shares: Fraction of the samples that leave at each of `Hierarchy.exit_tiers`; sums to 1.
        present: `(samples, failable)` bool, which nodes are up (`Hierarchy.presence` for names of those that
            are down), for a share of the samples independent of where they leave; None: all.

    Returns:
        Bytes per sample by link, e.g. `{"device_0 -> local": 12.0, "device_0 -> cloud": 51.2, ...}`.

    Raises:
        ValueError: Not one share per tier, a share outside 0..1, a sum that is not 1, or `present` of another
            shape.
    """
    hierarchy = topology.hierarchy
    shares = _checked(hierarchy, exit_shares)
    used = _use(hierarchy, hierarchy.presence() if present is None else present)
    return {
        link.name: reach(hierarchy, shares, link.level) * used[link] * link.spec.size
        for link in hierarchy.links
    }


def bytes_per_sample(
    topology: Topology, exit_shares: Sequence[float], present: ArrayLike | None = None
) -> float:
    """Average bytes per sample and device over all links; without edges this is Eq. (1).

    Args:
        topology: The hierarchy.
        exit_shares: As for `bytes_per_link`.
        present: As for `bytes_per_link`.

    Raises:
        ValueError: As `bytes_per_link`.

    Source: Eq. (1), and our generalisation: all links' bytes divided by the number of devices.
    """
    return sum(bytes_per_link(topology, exit_shares, present).values()) / len(topology.hierarchy.devices)


def bytes_at_exit(topology: Topology, present: ArrayLike | None = None) -> tuple[float, ...]:
    """Bytes per device of a sample that leaves at each of `Hierarchy.exit_tiers`.

    Args:
        topology: The hierarchy.
        present: As for `bytes_per_link`.
    """
    tiers = range(len(topology.hierarchy.exit_tiers))
    shares = [[float(tier == chosen) for tier in tiers] for chosen in tiers]
    return tuple(bytes_per_sample(topology, each, present) for each in shares)


def reach(hierarchy: Hierarchy, exit_shares: Sequence[float], level: int) -> float:
    """Fraction of the samples that reach a level: those that no tier below has answered.

    Args:
        hierarchy: The hierarchy.
        exit_shares: Fraction of the samples that leave at each of its `exit_tiers`.
        level: The level of a node or link.
    """
    below = sum(1 for tier in hierarchy.exit_tiers if tier.level < level)
    return max(0.0, 1 - sum(exit_shares[:below]))


def _use(hierarchy: Hierarchy, present: ArrayLike) -> dict[Link, float]:
    """The share of the samples in which a link is used, if the samples reach its level."""
    heard = hierarchy.heard(present)

    def is_used(link: Link) -> float:
        if link.carries is Payload.REPORT:
            return float(heard.nodes[link.sender].mean())
        receiver = hierarchy[link.receiver]
        used = heard.senders[receiver.name][receiver.all_senders.index(link.sender)]
        if receiver in hierarchy.failable:
            used = used & heard.nodes[receiver.name]
        return float(used.mean())

    return {link: is_used(link) for link in hierarchy.links}


def _checked(hierarchy: Hierarchy, exit_shares: Sequence[float]) -> list[float]:
    shares = [float(share) for share in exit_shares]
    names = ", ".join(hierarchy.exit_tier_names)
    if len(shares) != len(hierarchy.exit_tiers) or not all(0 <= share <= 1 for share in shares):
        raise ValueError(
            f"Expected `exit_shares` to hold a fraction between 0 and 1 for each of {names}, but got "
            f"{shares}."
        )
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"Expected `exit_shares` to sum to 1, but got a sum of {sum(shares):.6g}.")
    return shares
