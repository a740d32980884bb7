"""The network on which a DDNN is to run: units with addresses, and which of them have the sensors.

>>> deployment = Deployment.from_yaml('''
... units:
... - {name: camera_0, type: stm32h7, position: [0, 0], host: 10.0.0.10}
... - {name: hub, type: raspberry_pi_3b_plus, position: [4, 1], host: 10.0.0.2}
... - {name: server, type: jetson, position: [9, 1], host: 10.0.0.4}
... range_m: 6
... sensors: {device_0: camera_0}
... ''')
>>> deployment.hops_from("camera_0").tolist()
[0.0, 1.0, 2.0]
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from ddnn_tf.placement.units import Location, Unit, UnitNetwork

__all__ = ["Deployment", "Host"]

_PORT = 7000


class Host(Unit):
    """A unit with the host name or IPv4 address under which the others reach it."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")] = "127.0.0.1"


class Deployment(UnitNetwork):
    """The network on which a DDNN is to run.

    Attributes:
        units: The units.
        sensors: The unit that carries each device's sensor, by device.
        sink: Unit that receives the decisions; None: the client of the aggregator, at no cost.
        sections_per_unit: Most sections on a unit; None: as many as its memory holds.
        port: Lowest port; the processes listen at consecutive ports from it on.
    """

    subject: ClassVar[str] = "deployment network"

    units: Annotated[tuple[Host, ...], Field(min_length=1)]
    sensors: dict[str, str]
    sink: str | None = None
    sections_per_unit: Annotated[int, Field(ge=1)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = _PORT

    def locations(self) -> tuple[Location, ...]:
        """The units with sensors, and the sink."""
        return (*self.sensors.values(), *([] if self.sink is None else [self.sink]))

    @model_validator(mode="after")
    def _check_sensors(self) -> Deployment:
        if not self.sensors:
            raise ValueError("'sensors' is empty: name the unit of each device's sensor")
        return self
