"""What a stream of samples through a cluster came to: outcomes, exits, bytes, latencies."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ddnn_tf.communication import bytes_per_link, bytes_per_sample, raw_bytes
from ddnn_tf.runtime.bounded import Bounded
from ddnn_tf.runtime.client import Answer
from ddnn_tf.topology import Topology

__all__ = ["ClusterResult", "percentiles", "show"]

_PERCENTILES = (50, 90, 99)
_REMEMBERED = 200_000  # samples whose latencies and tickets are kept, so that a stream without end may run


def _latencies() -> collections.deque[float]:
    return collections.deque(maxlen=_REMEMBERED)


@dataclass
class ClusterResult:
    """What a stream of samples came to.

    Attributes:
        topology: The hierarchy.
        submitted: Samples.
        answered: Samples with an answer.
        errors: Samples without, by gRPC status.
        duplicates: Answers beyond one a sample.
        degraded: Answers of a lower exit for want of a higher one.
        right: Answers that are right.
        exits: Answers by exit.
        payload: Payload bytes by link, of all answers.
        wire: Bytes over each link, up and down, all in all; empty where the system does not count them.
        latencies: Seconds of each answer, as the client sees it.
        by_tier: Seconds of each answer at each tier.
        seconds: From the first to the last.
    """

    topology: Topology
    submitted: int = 0
    answered: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    duplicates: int = 0
    degraded: int = 0
    right: int = 0
    exits: collections.Counter[str] = field(default_factory=collections.Counter)
    payload: collections.Counter[str] = field(default_factory=collections.Counter)
    wire: dict[str, tuple[int, int]] = field(default_factory=dict)
    latencies: collections.deque[float] = field(default_factory=_latencies)
    by_tier: dict[str, collections.deque[float]] = field(
        default_factory=lambda: collections.defaultdict(_latencies)
    )
    seconds: float = 0.0
    _tickets: Bounded[int, None] = field(default_factory=lambda: Bounded(_REMEMBERED))

    def add(self, answer: Answer, label: int | None, seconds: float) -> None:
        """Counts an answer."""
        self.answered += 1
        self.duplicates += answer.ticket in self._tickets
        self._tickets[answer.ticket] = None
        self.degraded += answer.degraded
        self.right += answer.label == label
        self.exits[answer.exit] += 1
        self.payload.update(answer.payload_bytes)
        self.latencies.append(seconds)
        for tier, value in answer.seconds.items():
            self.by_tier[tier].append(value)

    @property
    def exit_shares(self) -> dict[str, float]:
        """Share of the answers by tier."""
        tiers = self.topology.hierarchy.exit_tier_names
        return {tier: self.exits[tier] / max(1, self.answered) for tier in tiers}

    def expected_bytes(self) -> dict[str, float]:
        """What Eq. (1) and its generalisation say for these exit shares, bytes per sample and link."""
        if not self.answered:
            return {}
        return bytes_per_link(self.topology, list(self.exit_shares.values()))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; bytes per sample are per device too, as in Eq. (1), times in milliseconds."""
        answered, devices = max(1, self.answered), len(self.topology.hierarchy.devices)
        shares = self.exit_shares
        links = {link: size / answered for link, size in self.payload.items()}
        # Other connections carry questions rather than payloads.
        carrying = {link.name for link in self.topology.hierarchy.links}
        wire = {link: up / answered for link, (up, _) in self.wire.items() if link in carrying}
        return {
            "submitted": self.submitted,
            "answered": self.answered,
            "errors": sum(self.errors.values()),
            "errors_by_status": dict(self.errors),
            "duplicates": self.duplicates,
            "degraded": self.degraded,
            "accuracy": self.right / answered,
            "exit_shares": shares,
            "payload_bytes_per_sample": sum(links.values()) / devices,
            "equation_1_bytes_per_sample": (
                bytes_per_sample(self.topology, list(shares.values())) if self.answered else None
            ),
            "wire_bytes_per_sample": sum(wire.values()) / devices if wire else None,
            "wire_bytes_down_per_sample": (
                sum(down for _, down in self.wire.values()) / answered / devices if wire else None
            ),
            "raw_bytes_per_sample": raw_bytes(self.topology),
            "payload_bytes_per_link": links,
            "equation_1_bytes_per_link": self.expected_bytes(),
            "wire_bytes_per_link": wire,
            "latency_ms": percentiles(self.latencies),
            "tier_latency_ms": {tier: percentiles(values) for tier, values in self.by_tier.items()},
            "throughput": self.answered / self.seconds if self.seconds else 0.0,
            "seconds": self.seconds,
        }


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """Milliseconds at some percentiles."""
    taken = np.array(list(seconds)) * 1000
    if not taken.size:
        return {}
    values = np.percentile(taken, _PERCENTILES)
    return {f"p{rank}": float(value) for rank, value in zip(_PERCENTILES, values, strict=True)}


def show(result: ClusterResult) -> None:
    """Prints a result as tables."""
    found = result.to_dict()
    console = Console()
    table = Table(title=f"{found['submitted']} samples", title_justify="left")
    table.add_column("outcome")
    table.add_column("", justify="right")
    rows = {
        "answered": found["answered"],
        "errors": found["errors"],
        "degraded": found["degraded"],
        "accuracy": f"{found['accuracy']:.1%}",
        **{f"left at {tier}": f"{share:.1%}" for tier, share in found["exit_shares"].items()},
        "throughput": f"{found['throughput']:.0f} samples/s",
        **{f"latency {rank}": f"{value:.1f} ms" for rank, value in found["latency_ms"].items()},
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    links = Table(title="Bytes per sample, up", title_justify="left")
    for column in ("link", "payload", "Eq. (1)", "on the wire"):
        links.add_column(column, justify="left" if column == "link" else "right")
    for link, expected in found["equation_1_bytes_per_link"].items():
        wire = found["wire_bytes_per_link"].get(link)
        links.add_row(
            link,
            f"{found['payload_bytes_per_link'].get(link, 0):.1f}",
            f"{expected:.1f}",
            "" if wire is None else f"{wire:.0f}",
        )
    links.add_section()
    total = found["wire_bytes_per_sample"]
    links.add_row(
        "a device, on average",
        f"{found['payload_bytes_per_sample']:.1f}",
        "" if found["equation_1_bytes_per_sample"] is None else f"{found['equation_1_bytes_per_sample']:.1f}",
        "" if total is None else f"{total:.0f}",
    )
    links.add_row("raw input", f"{found['raw_bytes_per_sample']:g}")
    console.print(links)
