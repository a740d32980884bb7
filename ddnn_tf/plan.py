"""A deployment plan: which process of a hierarchy runs on which unit, and where each listens.

`ddnn place RUN --network FILE` writes a plan; `ddnn serve plan BUNDLE PLAN --unit NAME` starts the processes
that a unit holds:

    >>> plan = Plan.from_yaml('''
    ... network: 2 devices, 3 classes
    ... processes:
    ... - {name: device_0, unit: camera_0, address: 10.0.0.10:7000}
    ... - {name: device_1, unit: camera_1, address: 10.0.0.11:7001}
    ... - {name: aggregator, unit: hub, address: 10.0.0.2:7002}
    ... - {name: cloud, unit: hub, address: 10.0.0.2:7003}
    ... ''')
    >>> plan.of_unit("hub")
    ['aggregator', 'cloud']

The plan is a document only: reading it needs neither TensorFlow nor the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import model_validator

from ddnn_tf.documents import Document, Strict
from ddnn_tf.hierarchy import AGGREGATOR, Hierarchy, Role

__all__ = ["Plan", "PlannedProcess", "serve_arguments"]


class PlannedProcess(Strict):
    """A process, its unit and its address.

    Attributes:
        name: One of `Hierarchy.process_names`.
        unit: The unit that runs it.
        address: `host:port` at which it listens.
    """

    name: str
    unit: str
    address: str


class Plan(Document):
    """The unit and the address of every process of a hierarchy.

    Attributes:
        network: The hierarchy in words, for readers.
        latency_s: Decision latency that the placement expects, seconds.
        processes: All processes of the hierarchy.

    Raises:
        ValueError: A process or an address occurs twice, or a field is unknown.
    """

    subject: ClassVar[str] = "plan"

    network: str = ""
    latency_s: float | None = None
    processes: tuple[PlannedProcess, ...]

    @model_validator(mode="after")
    def _check(self) -> Plan:
        for field in ("name", "address"):
            values = [getattr(process, field) for process in self.processes]
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"'processes' have the {field} {twice[0]!r} twice")
        return self

    def check_fits(self, hierarchy: Hierarchy) -> None:
        """Checks that the plan names exactly the processes of a hierarchy.

        Raises:
            ValueError: It lacks a process, or names one that the hierarchy does not have.
        """
        names = set(hierarchy.process_names)
        planned = {process.name for process in self.processes}
        for name in sorted(names ^ planned):
            finding = f"it lacks {name!r}" if name in names else f"{name!r} is none of these"
            raise ValueError(
                f"Expected a plan for {', '.join(sorted(names))}, but {finding}: it was made for another "
                "network, so place this one."
            )

    def of_unit(self, unit: str) -> list[str]:
        """Names of the processes that run on a unit.

        Raises:
            ValueError: The plan assigns no process to that unit.
        """
        names = [process.name for process in self.processes if process.unit == unit]
        if not names:
            units = ", ".join(dict.fromkeys(process.unit for process in self.processes))
            raise ValueError(
                f"Expected --unit out of {units}, but got {unit!r}: the plan gives it nothing to do."
            )
        return names

    def arguments(self, name: str, hierarchy: Hierarchy) -> list[str]:
        """Arguments of `ddnn serve` for a process, without the bundle: its role, its name and its peers.

        Args:
            name: One of `Hierarchy.process_names`.
            hierarchy: The hierarchy that the plan fits (`check_fits`).
        """
        address = {process.name: process.address for process in self.processes}
        return [*serve_arguments(hierarchy, name, address), "--listen", address[name]]


def serve_arguments(hierarchy: Hierarchy, process: str, address: Mapping[str, str]) -> list[str]:
    """Arguments of `ddnn serve` for a process: its role, its name and its peers.

    Args:
        hierarchy: The hierarchy.
        process: One of `Hierarchy.process_names`.
        address: `host:port` of the processes that it calls, by name.
    """
    if process == AGGREGATOR:
        uppers = [("--upper", f"{node.name}={address[node.name]}") for node in hierarchy.uppers]
        return [AGGREGATOR, *(part for option in uppers for part in option)]
    node = hierarchy[process]
    if node is hierarchy.cloud:
        return [node.role.value]
    arguments = [node.role.value, "--name", process]
    if node.role is Role.DEVICE:
        arguments += ["--aggregator", address[AGGREGATOR]]
        if node.aggregator is not None and hierarchy.process_of(node.aggregator) != AGGREGATOR:
            arguments += ["--local", address[node.aggregator]]
    if node.receiver is not None:
        arguments += ["--upper", address[node.receiver]]
    if node.skip_receiver is not None:
        arguments += ["--skip", address[node.skip_receiver]]
    return arguments
