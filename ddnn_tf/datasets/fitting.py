"""A hierarchy of Figure 2 that fits a data set: its devices are those of the data.

>>> from ddnn_tf.datasets import load_dataset
>>> data = load_dataset("scenes", devices=2)
>>> fitting_topology(data, "e").exit_names
('local', 'edge_0', 'cloud')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.hierarchy import Precision
from ddnn_tf.topology import Devices, Topology

__all__ = ["fitting_topology"]

_UNITS = 32


def fitting_topology(
    data: MultiViewDataset,
    configuration: str = "c",
    *,
    filters: int | Sequence[int] = 4,
    precision: Precision = "binary",
    **options: Any,
) -> Topology:
    """A configuration of the paper's Figure 2 for the devices, views and classes of a data set.

    Args:
        data: The data set.
        configuration: `a` to `f`; in (b) and (d) the data must have one device.
        filters: Filters of a device's ConvP block, or of each of several; a device that senses a vector gets
            an FC block of 32 units in their place.
        precision: Of the devices' blocks.
        options: As `Topology.figure_2`: `local`, `upper`, `cloud_precision`.

    Raises:
        ValueError: An unknown configuration, or a value that `Topology` refuses.
    """
    blocks = (filters,) if isinstance(filters, int) else tuple(filters)
    if not blocks or min(blocks) < 1:
        raise ValueError(f"Expected `filters` to be positive, one number for each block, but got {filters}.")
    devices = []
    for name, shape in data.shapes.items():
        is_vector = len(shape) == 1
        devices.append(
            Devices(
                name=name,
                input=shape,
                filters=() if is_vector else blocks,
                units=(_UNITS,) if is_vector else (),
                precision=precision,
            )
        )
    return Topology.figure_2(
        configuration, _written_once(devices), classes=len(data.class_names), **options
    ).with_codings(data.codings)


def _written_once(devices: list[Devices]) -> list[Devices]:
    """`device_0`, `device_1`, ... that are alike, as one group with a count."""
    group = devices[0].model_copy(update={"name": "device", "count": len(devices)})
    is_group = group.names == tuple(device.name for device in devices)
    is_alike = len({device.model_copy(update={"name": "device"}) for device in devices}) == 1
    return [group] if is_group and is_alike else devices
