"""The network that a DDNN is to run on: units with addresses, and which of them have the sensors.

units:
- {name: camera_0, type: stm32h7, position: [0, 0], host: 10.0.0.10}
- {name: hub, type: raspberry_pi_3b_plus, position: [4, 1], host: 10.0.0.2}
- {name: server, type: jetson, position: [9, 1], host: 10.0.0.4}
range_m: 6
sensors: {device_0: camera_0}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ddnn_tf.placement.units import Place, Unit, UnitNetwork
from ddnn_tf.topology import read_text, yaml_mapping

__all__ = ["Deployment", "Host"]

_PORT = 7000


class Host(Unit):
    """A unit with the name or IPv4 address by which the others reach it."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")] = "127.0.0.1"


class Deployment(UnitNetwork):
    """The network that a DDNN is to run on.

    Attributes:
        units: The units.
        sensors: Unit of each device's sensor.
        sink: Unit that wants the decisions; None: whoever asks the aggregator, at no cost.
        sections_per_unit: Most sections on a unit; None: as many as its memory holds.
        port: First of the ports that the processes listen at.
    """

    units: Annotated[tuple[Host, ...], Field(min_length=1)]
    sensors: dict[str, str]
    sink: str | None = None
    sections_per_unit: Annotated[int, Field(ge=1)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = _PORT

    @classmethod
    def _subject(cls) -> str:
        return "deployment network"

    def places(self) -> tuple[Place, ...]:
        """Sensors and sink."""
        return (*self.sensors.values(), *([] if self.sink is None else [self.sink]))

    @model_validator(mode="after")
    def _check_sensors(self) -> Deployment:
        if not self.sensors:
            raise ValueError("'sensors' is empty: name the unit of each device's sensor")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Deployment:
        """Reads a network from a YAML or JSON file.

        Raises:
            FileNotFoundError: No such file.
            ValueError: A contradiction; the message names file and field.
        """
        known = "`units`, `sensors` and `range_m`"
        return read_text(path, lambda text: cls(**yaml_mapping(text, cls._subject(), known)))
