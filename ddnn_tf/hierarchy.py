"""Who sends what to whom: the one description of a hierarchy that everything else loops over.

A `Hierarchy` lists nodes and links in topological order. A device sends its class vector to its local
aggregator for every sample; its feature map goes one tier up for the samples that no exit below has
answered. Edges join feature maps and send their own further up; the cloud always answers.

    >>> print(Topology.devices_edge_cloud(devices=2).hierarchy)  # doctest: +SKIP
    cloud  exit, CC of 1, 64
    └─ edge_0  exit, CC of 2, 32 -> bits 8x8x32, 256 bytes
       ├─ device_0  bytes 32x32x3, 4 -> bits 16x16x4, 128 bytes
       └─ device_1  bytes 32x32x3, 4 -> bits 16x16x4, 128 bytes
    local  exit, MP of 2: device_0, device_1

Where a receiver's senders have feature maps of unlike shapes, an adapter for each brings them to one: a node
of its own that runs in the receiver's process, so nothing more goes over the wire.

A node may also send its feature map past its receiver to the receiver of that one, over a skip link, which
is used only while the node's own receiver is down.

Several exits of one tier speak through the surest; each of them then reports its class vector to the
process that coordinates, the local aggregator if there is one for all.

Source: Teerapittayanon et al. 2017, Section III-A and III-D, Figures 2 and 4.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.presence import Heard, Hearing, hear
from ddnn_tf.schemes import Scheme
from ddnn_tf.specs import Coding, Shape, Spec
from ddnn_tf.svg import Box, Line, draw

__all__ = [
    "AGGREGATOR",
    "LOCAL_LEVEL",
    "Block",
    "Exit",
    "Hierarchy",
    "Link",
    "Node",
    "Payload",
    "Precision",
    "Role",
    "Tier",
    "convp_shape",
    "link_name",
]

Precision = Literal["binary", "float"]

AGGREGATOR = "aggregator"
"""Name of the process that coordinates: it asks the devices, decides and answers clients."""

LOCAL_LEVEL = 1
"""Level of local aggregators: above the devices, below the edges."""


class Role(str, Enum):
    """What a node does."""

    DEVICE = "device"
    LOCAL = "local"
    ADAPTER = "adapter"
    EDGE = "edge"
    CLOUD = "cloud"


class Payload(str, Enum):
    """What a link carries."""

    CLASS_VECTOR = "class vector"
    FEATURES = "features"
    SKIP = "skip features"
    REPORT = "report"


@dataclass(frozen=True)
class Block:
    """A block of a node's section.

    Attributes:
        kind: `convp` (on images and series) or `fc`.
        size: Filters of a ConvP block, units of an FC block.
    """

    kind: Literal["convp", "fc"]
    size: int


@dataclass(frozen=True)
class Exit:
    """An exit, where a sample may stop.

    Attributes:
        name: That of its node, and of the model's output.
        tier: The tier whose threshold applies.
        loss_weight: Weight of its loss in joint training.
    """

    name: str
    tier: str
    loss_weight: float


@dataclass(frozen=True)
class Node:
    """A part of the hierarchy with a section of its own.

    Attributes:
        name: Its name.
        role: What it does.
        level: 0 for devices, 1 for local aggregators, then the edge levels, then the cloud.
        senders: Who sends to it, in order; empty for a device.
        skips: Who sends to it past one of its senders, while that one is down; in order.
        inputs: What it joins, by sender and then by skip sender; a device's is what its sensor gives.
        scheme: How it joins its inputs; None where there is one only, at devices and adapters.
        blocks: From input to feature map.
        hidden: FC blocks between feature map and exit.
        precision: Of its blocks.
        output: The feature map that it sends up; None at local aggregators and in the cloud.
        class_vector: The class vector that a device sends to its local aggregator; else None.
        receiver: Who gets its feature map; None at local aggregators and in the cloud.
        skip_receiver: The receiver of its receiver, if that gets its feature map while the receiver is down.
        aggregator: The local aggregator that gets a device's class vector; else None.
        exit: Its exit; None: it has none.
        coding: How a device's physical readings become 8-bit codes; None: its input is codes already.
    """

    name: str
    role: Role
    level: int
    senders: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()
    inputs: tuple[Spec, ...] = ()
    scheme: Scheme | None = None
    blocks: tuple[Block, ...] = ()
    hidden: tuple[Block, ...] = ()
    precision: Precision = "binary"
    output: Spec | None = None
    class_vector: Spec | None = None
    receiver: str | None = None
    skip_receiver: str | None = None
    aggregator: str | None = None
    exit: Exit | None = None
    coding: Coding | None = None

    @property
    def all_senders(self) -> tuple[str, ...]:
        """Its senders, then its skip senders: what its section has an input for."""
        return (*self.senders, *self.skips)

    @property
    def has_section(self) -> bool:
        """Whether it computes anything; a device without blocks sends its raw input."""
        return self.role is not Role.DEVICE or bool(self.blocks)

    @property
    def is_binary(self) -> bool:
        """Whether its blocks are binary."""
        return self.precision == "binary"

    @property
    def sensor(self) -> Spec:
        """What a device's sensor gives.

        Raises:
            ValueError: The node is no device.
        """
        if self.role is not Role.DEVICE:
            raise ValueError(f"Expected a device, but got '{self.name}', which has no sensor.")
        return self.inputs[0]

    @property
    def takes_bits(self) -> bool:
        """Whether what reaches its first block is bits."""
        keeps_bits = self.scheme is None or self.scheme.keeps_bits
        return keeps_bits and all(spec.kind == "bits" for spec in self.inputs)


@dataclass(frozen=True)
class Link:
    """A way from one node to another.

    Attributes:
        sender: Name of the sender.
        receiver: Name of the receiver.
        carries: What goes over it.
        spec: How that travels.
        level: It is used by the samples that reach this level.
    """

    sender: str
    receiver: str
    carries: Payload
    spec: Spec
    level: int

    @property
    def name(self) -> str:
        """`sender -> receiver`."""
        return link_name(self.sender, self.receiver)


@dataclass(frozen=True)
class Tier:
    """The nodes of one level above the devices.

    Attributes:
        name: `local`, `edge`, `edge_level_2`, ..., `cloud`, or as the topology says.
        level: Its level.
        nodes: Its nodes.
    """

    name: str
    level: int
    nodes: tuple[Node, ...]

    @property
    def exits(self) -> tuple[Exit, ...]:
        """The exits of its nodes; several speak through the surest."""
        return tuple(node.exit for node in self.nodes if node.exit is not None)


@dataclass(frozen=True)
class Hierarchy:
    """Nodes and tiers in topological order; a topology makes one (`Topology.hierarchy`).

    Attributes:
        nodes: Devices, local aggregators, edges from the lowest level up, the cloud.
        tiers: The levels above the devices that have a node.
        classes: Number of classes.
        adapters: The adapters, by receiver and sender; they are not among the nodes.
    """

    nodes: tuple[Node, ...]
    tiers: tuple[Tier, ...]
    classes: int
    adapters: tuple[Node, ...] = ()

    def __getitem__(self, name: str) -> Node:
        """The node of that name.

        Raises:
            ValueError: There is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise ValueError(f"Expected a node out of {known}, but got {name!r}.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __str__(self) -> str:
        """A small tree, the cloud at the top; local aggregators stand below it."""
        lines = self._tree(self.cloud, "", "")
        lines += [
            f"{node.name}  {_described(node)}: {', '.join(node.senders)}" for node in self.of(Role.LOCAL)
        ]
        return "\n".join(lines)

    def of(self, role: Role) -> tuple[Node, ...]:
        """The nodes of a role, in order."""
        return tuple(node for node in self.nodes if node.role is role)

    @functools.cached_property
    def devices(self) -> tuple[Node, ...]:
        """The devices, in the order of the model's inputs."""
        return self.of(Role.DEVICE)

    @property
    def device_names(self) -> tuple[str, ...]:
        """Names of the devices, the model's inputs."""
        return tuple(node.name for node in self.devices)

    @functools.cached_property
    def failable(self) -> tuple[Node, ...]:
        """The nodes that may fail, in the order of the model's input `present`: devices, then edges."""
        return (*self.devices, *self.of(Role.EDGE))

    @functools.cached_property
    def failable_names(self) -> tuple[str, ...]:
        """Names of the nodes that may fail."""
        return tuple(node.name for node in self.failable)

    @functools.cached_property
    def hearing(self) -> tuple[Hearing, ...]:
        """The receivers, as `presence.hear` takes them."""
        return tuple((node.name, node.senders, node.skips) for node in self.receivers)

    def presence(self, missing: Collection[str] = (), samples: int = 1) -> NDArray[np.bool_]:
        """Which nodes are up, if some are down for all samples.

        Args:
            missing: Names of the devices and edges that are down.
            samples: Number of samples.

        Returns:
            `(samples, failable)` bool, in the order of `failable`.

        Raises:
            ValueError: No device or edge has one of these names.
        """
        for name in missing:
            if name not in self.failable_names:
                raise ValueError(
                    f"Expected the missing nodes to be out of {', '.join(self.failable_names)}, but got "
                    f"'{name}': the others cannot fail."
                )
        is_up = np.array([name not in missing for name in self.failable_names])
        return np.tile(is_up, (samples, 1))

    def all_present(self, present: ArrayLike) -> NDArray[np.bool_]:
        """Which nodes are up, for all that may fail.

        Args:
            present: `(samples, failable)` bool, or `(samples, devices)` where all edges are up.

        Returns:
            `(samples, failable)` bool.

        Raises:
            ValueError: Another shape.
        """
        mask = np.asarray(present, dtype=bool)
        devices, failable = len(self.devices), len(self.failable)
        if mask.ndim != 2 or mask.shape[1] not in (devices, failable):
            widths = " or ".join(map(str, dict.fromkeys((devices, failable))))
            raise ValueError(
                f"Expected `present` to be of shape (samples, {widths}), but got {mask.shape}: give a column "
                f"for each of {', '.join(self.failable_names)}."
            )
        edges_up = np.ones((len(mask), failable - mask.shape[1]), bool)
        return np.concatenate([mask, edges_up], axis=1)

    def heard(self, present: ArrayLike) -> Heard[NDArray[np.bool_]]:
        """Who is heard: masks `(samples,)` bool by node, and by receiver and sender.

        Args:
            present: As for `all_present`.

        Raises:
            ValueError: As `all_present`.
        """
        columns = self.all_present(present).T
        return hear(dict(zip(self.failable_names, columns, strict=True)), self.hearing)

    @functools.cached_property
    def receivers(self) -> tuple[Node, ...]:
        """All nodes but the devices, in topological order."""
        return tuple(node for node in self.nodes if node.role is not Role.DEVICE)

    @functools.cached_property
    def sections(self) -> tuple[Node, ...]:
        """All that computes something, in topological order; adapters stand before their receiver."""
        found: list[Node] = []
        for node in self.nodes:
            found += self.adapters_of(node.name)
            if node.has_section:
                found.append(node)
        return tuple(found)

    def adapters_of(self, receiver: str) -> tuple[Node, ...]:
        """The adapters of a receiver, one for each of its senders and skip senders, or none."""
        return tuple(adapter for adapter in self.adapters if adapter.receiver == receiver)

    @property
    def cloud(self) -> Node:
        """The cloud."""
        return self.nodes[-1]

    @functools.cached_property
    def class_vector(self) -> Spec:
        """A class vector on its way: 4 bytes a class, as in Eq. (1)."""
        return Spec((self.classes,), "floats")

    @functools.cached_property
    def exits(self) -> tuple[Exit, ...]:
        """All exits, lowest first: the model's outputs."""
        return tuple(node.exit for node in self.nodes if node.exit is not None)

    @functools.cached_property
    def exit_tiers(self) -> tuple[Tier, ...]:
        """The tiers at which a sample may stop, lowest first."""
        return tuple(tier for tier in self.tiers if tier.exits)

    @property
    def exit_tier_names(self) -> tuple[str, ...]:
        """Names of the tiers at which a sample may stop, lowest first."""
        return tuple(tier.name for tier in self.exit_tiers)

    @property
    def early_tier_names(self) -> tuple[str, ...]:
        """Names of the tiers that have a threshold: all at which a sample may stop but the last."""
        return self.exit_tier_names[:-1]

    @functools.cached_property
    def local(self) -> Node | None:
        """The local aggregator that serves all class vectors, in the coordinating process; else None."""
        found = self.of(Role.LOCAL)
        return found[0] if len(found) == 1 else None

    @property
    def coordinator(self) -> str:
        """The receiver of reports, as links name it: the only local aggregator, or `AGGREGATOR`."""
        return AGGREGATOR if self.local is None else self.local.name

    @functools.cached_property
    def process_names(self) -> tuple[str, ...]:
        """The processes of a deployment: devices, the aggregator, all other nodes."""
        others = (node.name for node in self.receivers if node is not self.local)
        return (*self.device_names, AGGREGATOR, *others)

    def process_of(self, node: str) -> str:
        """Name of the process that a node, or the receiver of a link, runs in."""
        return AGGREGATOR if node == self.coordinator else node

    @functools.cached_property
    def uppers(self) -> tuple[Node, ...]:
        """The nodes that the aggregator asks: all that are in processes of their own, but devices."""
        return tuple(node for node in self.receivers if node is not self.local)

    @functools.cached_property
    def links(self) -> tuple[Link, ...]:
        """All links: of each device, then the reports and feature maps of each node above; skip links too."""
        found: list[Link] = []
        for node in self.nodes:
            if node.aggregator is not None and node.class_vector is not None:
                found.append(
                    Link(node.name, node.aggregator, Payload.CLASS_VECTOR, node.class_vector, LOCAL_LEVEL)
                )
            if node.exit is not None and self.reports(node):
                found.append(Link(node.name, self.coordinator, Payload.REPORT, self.class_vector, node.level))
            if node.receiver is not None and node.output is not None:
                level = self[node.receiver].level
                found.append(Link(node.name, node.receiver, Payload.FEATURES, node.output, level))
            if node.skip_receiver is not None and node.output is not None:
                level = self[node.skip_receiver].level
                found.append(Link(node.name, node.skip_receiver, Payload.SKIP, node.output, level))
        return tuple(found)

    def reports(self, node: Node) -> bool:
        """Whether a node tells the coordinator its class vector, because another one may be surer."""
        return node.exit is not None and len(self.tier_of(node).exits) > 1

    def tier_of(self, node: Node) -> Tier:
        """The tier of a node above the devices."""
        return next(tier for tier in self.tiers if tier.level == node.level)

    def passes_on(self, node: Node) -> bool:
        """Whether a node decides alone and asks its receiver by itself, without the coordinator.

        Where a skip link leads past it, or past its receiver, the coordinator sees to who is down.
        """
        if node.role is not Role.EDGE or node.receiver is None or node.exit is None:
            return False
        above = self[node.receiver]
        if above.skips or node.skip_receiver is not None:
            return False
        alone = all(len(self.tier_of(each).nodes) == 1 for each in (node, above))
        return alone and above.senders == (node.name,)

    def devices_below(self, name: str) -> tuple[int, ...]:
        """Indices of the devices that a node hears, directly or over others; of a device its own."""
        return self._below[name]

    def to_svg(self) -> str:
        """A drawing of nodes and links, devices at the bottom, as an SVG document."""
        rows: dict[int, list[Box]] = {}
        for node in self.nodes:
            rows.setdefault(node.level, []).append(Box(node.name, _caption(node), _FILL[node.role]))
        if any(link.receiver == AGGREGATOR for link in self.links):
            rows.setdefault(LOCAL_LEVEL, []).append(Box(AGGREGATOR, "decides", _FILL[Role.LOCAL]))
        lines = [
            Line(
                (link.sender, link.receiver),
                f"{link.name}: {link.carries.value}, {link.spec.size} bytes",
                _STROKE[link.carries],
                link.carries is not Payload.FEATURES,
            )
            for link in self.links
        ]
        title = "Hierarchy of a distributed deep neural network"
        return draw(title, [rows[level] for level in sorted(rows, reverse=True)], lines)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    @functools.cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in (*self.nodes, *self.adapters)}

    @functools.cached_property
    def _below(self) -> dict[str, tuple[int, ...]]:
        below: dict[str, tuple[int, ...]] = {name: (number,) for number, name in enumerate(self.device_names)}
        for node in self.receivers:
            heard = {device for sender in node.senders for device in below[sender]}
            below[node.name] = tuple(sorted(heard))
        return below

    def _tree(self, node: Node, first: str, others: str) -> list[str]:
        lines = [f"{first}{node.name}  {_described(node)}"]
        for sender in node.senders:
            is_last = sender == node.senders[-1]
            branch, stem = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            lines += self._tree(self[sender], others + branch, others + stem)
        return lines


def link_name(sender: str, receiver: str) -> str:
    """Name of a link in tables and reports: `sender -> receiver`."""
    return f"{sender} -> {receiver}"


def convp_shape(shape: Sequence[int], filters: int) -> Shape:
    """Shape of a feature map after a ConvP block, which halves each length, rounding up."""
    return (*((length + 1) // 2 for length in shape[:-1]), filters)


def _described(node: Node) -> str:
    """What a node does, in a few words."""
    parts = []
    if node.exit is not None:
        parts.append("exit")
    if node.scheme is not None:
        skips = f" and skips of {', '.join(node.skips)}" if node.skips else ""
        parts.append(f"{node.scheme.name} of {len(node.senders)}{skips}")
    if node.role is Role.DEVICE:
        parts.append(_spec_text(node.sensor))
    parts += [str(block.size) for block in (*node.blocks, *node.hidden)]
    sent = "" if node.output is None else f" -> {_spec_text(node.output)}, {node.output.size} bytes"
    return ", ".join(parts) + sent


def _spec_text(spec: Spec) -> str:
    """A spec in words, e.g. `bits 16x16x4`."""
    return f"{spec.kind} {'x'.join(map(str, spec.shape))}"


_FILL = {Role.DEVICE: "#e8f1fb", Role.LOCAL: "#fdf3d8", Role.EDGE: "#e6f4e6", Role.CLOUD: "#f3e8f7"}
_STROKE = {
    Payload.CLASS_VECTOR: "#b58900",
    Payload.FEATURES: "#2a6db0",
    Payload.SKIP: "#7fb0dd",
    Payload.REPORT: "#999999",
}


def _caption(node: Node) -> str:
    if node.role is Role.DEVICE:
        return _spec_text(node.sensor)
    scheme = "" if node.scheme is None else node.scheme.name
    return f"{scheme}, exit" if node.exit is not None else scheme
