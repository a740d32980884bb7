"""Bytes on the wire per sample: Eq. (1) of the paper, and its generalisation to edges.

A device sends its class vector (4 bytes a class) to the local aggregator for every sample, and its
feature map one tier up for those that do not exit there: 1 bit an element if binary, 4 bytes if
float. An edge sends its feature map to the cloud for the samples that do not exit at the edge; where
there are several, each also reports its 4-byte class vector, because the surest edge speaks for the
tier. Without a local exit a device sends its raw image, one byte a channel and pixel.

Source: Teerapittayanon et al. 2017, Section III-E, Eq. (1), and Section IV-H for the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddnn_tf.topology import Topology

__all__ = ["bytes_at_exit", "bytes_per_link", "bytes_per_sample", "device_bytes", "raw_bytes"]

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


def raw_bytes(topology: Topology) -> int:
    """The baseline: bytes of one device's raw image (3072 for 32x32 RGB).

    Source: Section IV-H.
    """
    return math.prod(topology.devices.image_shape)


def bytes_per_link(topology: Topology, exit_shares: Sequence[float]) -> dict[str, float]:
    """Average bytes per sample on every link.

    Args:
        topology: The hierarchy.
        exit_shares: Fraction of the samples that leave at each of `topology.exit_tiers`; sums to 1.

    Returns:
        Bytes per sample by link, e.g. `{"device_0 -> local": 12.0, "device_0 -> cloud": 51.2, ...}`.

    Raises:
        ValueError: Not one share per tier, a share outside 0..1, or a sum that is not 1.
    """
    reach = _reach(topology, exit_shares)
    vector = float(_FLOAT_BYTES * topology.classes)
    links: dict[str, float] = {}
    above = {
        topology.device_names[device]: name
        for name, edge in zip(topology.edge_names, topology.edges, strict=True)
        for device in edge.devices
    }
    for device in topology.device_names:
        upper = above.get(device, "cloud")
        if "local" in topology.exit_tiers:
            links[f"{device} -> local"] = vector
        links[f"{device} -> {upper}"] = reach[upper.split("_")[0]] * _feature_bytes(topology)
    for number, (name, edge) in enumerate(zip(topology.edge_names, topology.edges, strict=True)):
        if len(topology.edges) > 1:
            links[f"{name} -> local"] = reach["edge"] * vector
        size = math.prod(topology.edge_feature_shape(number))
        links[f"{name} -> cloud"] = reach["cloud"] * _map_bytes(size, edge.precision)
    return links


def bytes_per_sample(topology: Topology, exit_shares: Sequence[float]) -> float:
    """Average bytes per sample and device over all links; without edges this is Eq. (1).

    Args:
        topology: The hierarchy.
        exit_shares: As for `bytes_per_link`.

    Raises:
        ValueError: As `bytes_per_link`.

    Source: Eq. (1), and our generalisation: all links' bytes divided by the number of devices.
    """
    return sum(bytes_per_link(topology, exit_shares).values()) / topology.devices.count


def bytes_at_exit(topology: Topology) -> tuple[float, ...]:
    """Bytes per device of a sample that leaves at each of `topology.exit_tiers`."""
    tiers = range(len(topology.exit_tiers))
    return tuple(bytes_per_sample(topology, [float(tier == chosen) for tier in tiers]) for chosen in tiers)


def _reach(topology: Topology, exit_shares: Sequence[float]) -> dict[str, float]:
    """Fraction of the samples that reach each tier."""
    tiers = topology.exit_tiers
    shares = [float(share) for share in exit_shares]
    if len(shares) != len(tiers) or not all(0 <= share <= 1 for share in shares):
        raise ValueError(
            f"Expected `exit_shares` to hold a fraction between 0 and 1 for each of "
            f"{', '.join(tiers)}, but got {shares}."
        )
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"Expected `exit_shares` to sum to 1, but got a sum of {sum(shares):.6g}.")
    return {tier: max(0.0, 1 - sum(shares[:number])) for number, tier in enumerate(tiers)}


def _feature_bytes(topology: Topology) -> float:
    if topology.devices.blocks == 0:
        return float(raw_bytes(topology))
    return _map_bytes(math.prod(topology.feature_shape), topology.devices.precision)


def _map_bytes(elements: int, precision: str) -> float:
    return elements / 8 if precision == "binary" else float(elements * _FLOAT_BYTES)
