"""A deployment plan: which process of a hierarchy runs on which unit, and where each listens.

`ddnn place RUN --network FILE` writes one; `ddnn serve plan BUNDLE PLAN --unit NAME` starts, with the
commands of any deployment, the processes that a unit holds:

    network: 6 devices, 3 classes
    processes:
    - {name: device_0, unit: camera_0, address: 10.0.0.10:7000}
    - {name: aggregator, unit: hub, address: 10.0.0.2:7006}
    - {name: cloud, unit: server, address: 10.0.0.4:7007}
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.process import SUPERVISED
from ddnn_tf.topology import one_sentence, read_text, yaml_mapping

__all__ = ["Plan", "PlannedProcess", "serve_unit"]

_END = 10.0


class PlannedProcess(BaseModel):
    """A process, its unit and its address.

    Attributes:
        name: `device_0`, ..., `aggregator`, `edge_0`, ..., `cloud`.
        unit: Where it runs.
        address: `host:port` at which it listens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    address: str


class Plan(BaseModel):
    """Where all processes of a hierarchy run.

    Attributes:
        network: The hierarchy in words, for readers.
        processes: All of its processes.
        latency_s: Decision latency that the placement expects, seconds.

    Raises:
        ValueError: A process or an address twice, or a field that there is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = ""
    latency_s: float | None = None
    processes: tuple[PlannedProcess, ...]

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(one_sentence(error, "plan")) from None

    @model_validator(mode="after")
    def _check(self) -> Plan:
        for field in ("name", "address"):
            values = [getattr(process, field) for process in self.processes]
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"'processes' have the {field} {twice[0]!r} twice")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Reads a plan.

        Raises:
            FileNotFoundError: No such file.
            ValueError: No plan; the message names file and field.
        """
        return read_text(path, lambda text: cls(**yaml_mapping(text, "plan", "`processes`")))

    def to_yaml(self) -> str:
        """The plan as YAML."""
        return yaml.safe_dump(
            self.model_dump(mode="json", exclude_none=True),
            sort_keys=False,
            default_flow_style=None,
            width=1000,
        )

    def check_fits(self, network: Network) -> None:
        """Checks that it plans the processes of a network.

        Raises:
            ValueError: It lacks one, or has one that the network has not.
        """
        topology = network.topology
        names = {*topology.device_names, "aggregator", *topology.edge_names, "cloud"}
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
            ValueError: None does.
        """
        found = [process.name for process in self.processes if process.unit == unit]
        if not found:
            units = ", ".join(dict.fromkeys(process.unit for process in self.processes))
            raise ValueError(
                f"Expected --unit out of {units}, but got {unit!r}: the plan gives it nothing to do."
            )
        return found

    def arguments(self, name: str, network: Network) -> list[str]:
        """Arguments of `ddnn serve` for a process, without the bundle: its role, itself, and its peers."""
        address = {process.name: process.address for process in self.processes}
        if name == "cloud":
            return ["cloud", "--listen", address[name]]
        if name in network.topology.edge_names:
            return ["edge", "--name", name, "--listen", address[name], "--cloud", address["cloud"]]
        if name == "aggregator":
            uppers = [f"{upper}={address[upper]}" for upper in (*network.topology.edge_names, "cloud")]
            return [
                "aggregator",
                "--listen",
                address[name],
                *(x for upper in uppers for x in ("--upper", upper)),
            ]
        return [
            "device", "--name", name, "--listen", address[name],
            "--aggregator", address["aggregator"], "--upper", address[network.upper_of(name)],
        ]  # fmt: skip


async def serve_unit(bundle: Path, plan: Plan, unit: str, options: Mapping[str, Sequence[str]]) -> int:
    """Runs the processes of a unit until it is told to end, or one of them ends.

    Args:
        bundle: The bundle that they serve.
        plan: The plan.
        unit: The unit.
        options: More options of `ddnn serve` by role: `device`, `aggregator`, `edge`, `cloud`.

    Returns:
        0 if it was told to end; otherwise the exit code of the process that ended.

    Raises:
        ValueError: The plan is not for this bundle's network, or the unit has nothing to do.
    """
    network = Network.read(bundle)
    plan.check_fits(network)
    names = plan.of_unit(unit)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    running: list[asyncio.subprocess.Process] = []
    try:
        for name in names:
            role, *rest = plan.arguments(name, network)
            command = [sys.executable, "-m", "ddnn_tf.cli", "serve", role, str(bundle), *rest, *options[role]]
            running.append(
                # Its standard input ends with this process, however that ends, and so does it then.
                await asyncio.create_subprocess_exec(
                    *command, stdin=subprocess.PIPE, env={**os.environ, SUPERVISED: "1"}
                )
            )
        told = asyncio.ensure_future(ending.wait())
        waits = [asyncio.ensure_future(process.wait()) for process in running]
        done, pending = await asyncio.wait([told, *waits], return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        if told in done:
            return 0
        name, code = next((name, one.result()) for name, one in zip(names, waits, strict=True) if one in done)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        print(f"ddnn: {name} ended with {how}, and so does unit {unit}", file=sys.stderr, flush=True)
        return code if code >= 0 else 128 - code
    finally:
        for process in running:
            if process.returncode is None:
                process.terminate()
        for process in running:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), _END)
            if process.returncode is None:
                process.kill()
                await process.wait()
