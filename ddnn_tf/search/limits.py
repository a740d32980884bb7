"""Limits of a search: what a network may take at most, and give at least.

The flash and the RAM of a device depend on its blocks alone, and so does a lower bound of the bytes per
sample: a candidate that breaks one of these limits is never trained.

>>> Limits(max_bytes=10).refusal(Topology.devices_cloud(devices=2), {})
'12 bytes per sample and device even if all samples left at the lowest exit'
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from ddnn_tf.communication import bytes_at_exit
from ddnn_tf.documents import Document
from ddnn_tf.export.c.source import Footprint, footprint
from ddnn_tf.folding import fold
from ddnn_tf.network import build
from ddnn_tf.parts import Cloud, Devices
from ddnn_tf.sections import cut
from ddnn_tf.topology import Topology

__all__ = ["Limits", "device_footprints"]


class Limits(Document):
    """Limits that every network on the front keeps; None: no limit.

    Attributes:
        max_device_flash: Bytes of flash of any device's C (`export.c.source.Footprint`).
        max_device_ram: Bytes of RAM of any device's C.
        max_bytes: Bytes per sample and device, Eq. (1).
        min_accuracy_any_one_missing: Accuracy with any one of the devices missing, whichever it is.
    """

    subject: ClassVar[str] = "set of limits"

    max_device_flash: PositiveInt | None = None
    max_device_ram: PositiveInt | None = None
    max_bytes: Annotated[float, Field(gt=0)] | None = None
    min_accuracy_any_one_missing: Annotated[float, Field(ge=0, le=1)] | None = None

    def refusal(self, topology: Topology, footprints: Mapping[str, Footprint]) -> str | None:
        """Why no training can bring a network within the limits; None: it may.

        Args:
            topology: The network.
            footprints: `device_footprints` of it.
        """
        lowest = min(bytes_at_exit(topology))
        if self.max_bytes is not None and lowest > self.max_bytes:
            return f"{lowest:g} bytes per sample and device even if all samples left at the lowest exit"
        for name, taken in footprints.items():
            if self.max_device_flash is not None and taken.flash_bytes > self.max_device_flash:
                return f"{taken.flash_bytes} bytes of flash for '{name}'"
            if self.max_device_ram is not None and taken.ram_bytes > self.max_device_ram:
                return f"{taken.ram_bytes} bytes of RAM for '{name}'"
        return None

    def excess(self, bytes_per_sample: float, worst_accuracy: float | None) -> dict[str, float]:
        """By how much a trained network breaks each limit that only training tells; 0 or less: it does not.

        Args:
            bytes_per_sample: Its bytes per sample and device.
            worst_accuracy: Its accuracy without the device whose absence costs most; None: it has one device.
        """
        excess = {}
        if self.max_bytes is not None:
            excess["max_bytes"] = bytes_per_sample - self.max_bytes
        if self.min_accuracy_any_one_missing is not None:
            excess["min_accuracy_any_one_missing"] = self.min_accuracy_any_one_missing - (worst_accuracy or 0)
        return excess

    def to_text(self) -> str:
        """The limits that are set, as options of the command line."""
        given = self.model_dump(exclude_none=True)
        return ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in given.items())


def device_footprints(topology: Topology) -> dict[str, Footprint]:
    """Flash and RAM of the C of each device, as drawn at random: training does not change them.

    Args:
        topology: The network; its devices are binary.

    Returns:
        By device; without those that have no blocks.

    Raises:
        ValueError: A device that does not fold to integers, with the reason.
    """
    members = {name: group for group in topology.devices for name in group.names}
    return {
        node.name: _footprint(_alone(members[node.name]), topology.classes)
        for node in topology.hierarchy.devices
        if node.has_section
    }


def _alone(group: Devices) -> Devices:
    """A device under a name of its own: those that are alike take the same."""
    return group.model_copy(update={"name": "device", "count": None})


@functools.cache
def _footprint(device: Devices, classes: int) -> Footprint:
    # The smallest cloud: only the device is looked at.
    topology = Topology(devices=(device,), cloud=Cloud(adapter=(1,), units=(1,)), classes=classes)
    return footprint(fold(cut(build(topology), topology)[device.name].model))
