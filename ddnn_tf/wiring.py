"""From the parts of a topology to its hierarchy: who sends to whom, in topological order, checked.

Source: Teerapittayanon et al. 2017, Sections III-A and III-B, Figures 2 and 4.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from ddnn_tf.hierarchy import AGGREGATOR, Block, Exit, Hierarchy, Node, Role, Tier, convp_shape
from ddnn_tf.parts import Cloud, Devices, Edge, Local, Upper
from ddnn_tf.schemes import SCHEMES
from ddnn_tf.specs import Coding, Kind, Shape, Spec

__all__ = ["Written", "make_hierarchy", "map_shape"]

# Names of processes and inputs that no node may have.
_RESERVED = (AGGREGATOR, "ca", "client", "present", "presence")


# What the Keras layers of a node are called after its name (`network`, `blocks`).
_LAYER = re.compile(r"_((convp|units|fc)_\d+_[a-z]+|exit_[a-z]+|aggregation|presence|logits|shape)$")


class Written(Protocol):
    """What a topology says, as `topology.Topology` holds it."""

    @property
    def devices(self) -> tuple[Devices, ...]:
        """Groups of alike devices."""

    @property
    def local(self) -> tuple[Local, ...] | None:
        """Local aggregators."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Edges of any number of levels."""

    @property
    def cloud(self) -> Cloud:
        """The cloud."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def codings(self) -> Mapping[str, Coding]:
        """How physical readings become codes, by device."""


def make_hierarchy(written: Written) -> Hierarchy:
    """The hierarchy of a topology.

    Raises:
        ValueError: Parts that contradict each other; the message names the field.
    """
    return _Maker(written).make()


def map_shape(shape: Shape, filters: Sequence[int], units: Sequence[int]) -> Shape:
    """Shape of a feature map after ConvP and FC blocks."""
    for size in filters:
        shape = convp_shape(shape, size)
    return (units[-1],) if units else tuple(shape)


def _blocks(filters: Sequence[int], units: Sequence[int]) -> tuple[Block, ...]:
    return (*(Block("convp", size) for size in filters), *(Block("fc", size) for size in units))


class _Maker:
    """Makes the hierarchy of a topology, and refuses what contradicts itself."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._vector = Spec((written.classes,), "floats")
        self._groups: dict[str, tuple[str, ...]] = {}
        self._field_of: dict[str, str] = {}
        self._nodes: dict[str, Node] = {}
        self._adapters: list[Node] = []
        self._skip_receivers: dict[str, str] = {}

    def make(self) -> Hierarchy:
        devices = self._devices()
        self._check_codings(devices)
        locals_ = self._locals(devices)
        edges = self._edges_in_order()
        levels = self._levels(edges)
        top = max(levels.values(), default=1) + 1
        receiver = self._receivers(devices, edges)
        skips = {
            name: self._skips(name, upper, receiver)
            for name, upper in [*((edge.name, edge) for edge in edges), ("cloud", self._written.cloud)]
        }
        self._skip_receivers = {skip: name for name, skipping in skips.items() for skip in skipping}
        aggregator = {device: local.name for local, served in locals_ for device in served}
        for name, group in devices.items():
            self._nodes[name] = self._device(name, group, receiver[name], aggregator.get(name))
        for local, served in locals_:
            self._nodes[local.name] = Node(
                name=local.name,
                role=Role.LOCAL,
                level=1,
                senders=served,
                inputs=(self._vector,) * len(served),
                scheme=SCHEMES[local.aggregation],
                exit=Exit(local.name, "local", local.loss_weight),
            )
        names = self._tier_names(edges, levels)
        for edge in edges:
            senders = tuple(self._expanded(edge.senders))
            exit_ = Exit(edge.name, names[levels[edge.name]], edge.loss_weight) if edge.exit else None
            self._nodes[edge.name] = self._upper(
                edge,
                edge.name,
                Role.EDGE,
                levels[edge.name],
                senders,
                skips[edge.name],
                receiver[edge.name],
                exit_,
            )
        below = tuple(name for name, above in receiver.items() if above == "cloud")
        exit_ = Exit("cloud", "cloud", self._written.cloud.loss_weight)
        self._nodes["cloud"] = self._upper(
            self._written.cloud, "cloud", Role.CLOUD, top, below, skips["cloud"], None, exit_
        )
        self._check_layers()
        # Devices first, then by level; nodes of a level in the order in which they are written.
        nodes = sorted(self._nodes.values(), key=lambda node: node.level)
        named = {1: "local", **names, top: "cloud"}
        tiers = tuple(
            Tier(named[level], level, tuple(group))
            for level, group in itertools.groupby((node for node in nodes if node.level), lambda n: n.level)
        )
        return Hierarchy(tuple(nodes), tiers, self._written.classes, tuple(self._adapters))

    def _devices(self) -> dict[str, Devices]:
        """The group of every device, by name; fills `_groups`."""
        found: dict[str, Devices] = {}
        for number, group in enumerate(self._written.devices):
            self._claim(group.name, f"devices.{number}")
            self._groups[group.name] = group.names
            for name in group.names:
                if name != group.name:
                    self._claim(name, f"devices.{number}")
                found[name] = group
        return found

    def _check_layers(self) -> None:
        """Refuses names that Keras would find twice: of a node, and of a layer of another one."""
        for name, field in self._field_of.items():
            if _LAYER.sub("", name) != name and _LAYER.sub("", name) in self._nodes:
                raise ValueError(
                    f"'{field}.name' is '{name}', which is a layer of '{_LAYER.sub('', name)}': choose "
                    "another name"
                )

    def _check_codings(self, devices: Mapping[str, Devices]) -> None:
        for name, coding in self._written.codings.items():
            if name not in devices:
                raise ValueError(f"'codings.{name}' names no device: known are {', '.join(devices)}")
            channels = devices[name].input[-1]
            if len(coding.scale) != channels:
                raise ValueError(
                    f"'codings.{name}' has {len(coding.scale)} channels, but the input of '{name}' has "
                    f"{channels}: give a scale and an offset for each"
                )

    def _claim(self, name: str, field: str) -> None:
        """Notes which field, e.g. `edges.0`, a name stands for."""
        if name in (*_RESERVED, "cloud"):
            raise ValueError(f"'{field}.name' is '{name}', which is reserved: choose another name")
        if name in self._field_of:
            raise ValueError(
                f"'{field}.name' is '{name}', which '{self._field_of[name]}.name' names too: every node "
                "needs a name of its own"
            )
        self._field_of[name] = field

    def _expanded(self, names: Sequence[str]) -> list[str]:
        """Names of nodes, those of groups of devices by those of their members."""
        return [member for name in names for member in self._groups.get(name, (name,))]

    def _locals(self, devices: Mapping[str, Devices]) -> list[tuple[Local, tuple[str, ...]]]:
        able = [name for name, group in devices.items() if group.filters or group.units]
        found: list[tuple[Local, tuple[str, ...]]] = []
        served_by: dict[str, int] = {}
        for number, local in enumerate(self._written.local or ()):
            self._claim(local.name, f"local.{number}")
            if SCHEMES[local.aggregation].is_wide:
                raise ValueError(
                    f"'local.{number}.aggregation' is '{local.aggregation}', which makes no class vector of "
                    "class vectors: use it at edges and the cloud, and e.g. 'MP' here"
                )
            members = able if local.devices is None else self._expanded(local.devices)
            field = f"local.{number}.devices"
            for name in members:
                if name not in devices:
                    raise ValueError(
                        f"'{field}' names '{name}', but there is no such device: known are "
                        f"{', '.join(devices)}"
                    )
                if name not in able:
                    raise ValueError(
                        f"'{field}' names '{name}', which has no blocks and so no class vector: give it "
                        "'filters' or 'units'"
                    )
                if name in served_by:
                    raise ValueError(
                        f"'{field}' names '{name}', which is in 'local.{served_by[name]}.devices' too: a "
                        "device has one local aggregator"
                    )
                served_by[name] = number
            if not members:
                raise ValueError(f"'{field}' is empty: no device has a class vector to send")
            found.append((local, tuple(name for name in devices if name in members)))
        return found

    def _edges_in_order(self) -> list[Edge]:
        """The edges, senders before receivers, otherwise as they are written."""
        edges = self._written.edges
        for number, edge in enumerate(edges):
            self._claim(edge.name, f"edges.{number}")
        by_name = {edge.name: edge for edge in edges}
        done: dict[str, Edge] = {}

        def visit(edge: Edge, path: tuple[str, ...]) -> None:
            if edge.name in path:
                circle = " -> ".join((*path[path.index(edge.name) :], edge.name))
                raise ValueError(f"'edges' send to each other in a cycle ({circle}): a hierarchy is a tree")
            for name in edge.senders:
                if name in by_name and name not in done:
                    visit(by_name[name], (*path, edge.name))
            done[edge.name] = edge

        for edge in edges:
            if edge.name not in done:
                visit(edge, ())
        return list(done.values())

    def _levels(self, edges: Sequence[Edge]) -> dict[str, int]:
        """The level of each edge: one above the highest of its senders."""
        levels: dict[str, int] = {}
        for edge in edges:
            levels[edge.name] = 1 + max(levels.get(name, 1) for name in edge.senders)
        return levels

    def _receivers(self, devices: Mapping[str, Devices], edges: Sequence[Edge]) -> dict[str, str]:
        """Who gets the feature map of each device and edge."""
        nodes = [*devices, *(edge.name for edge in self._written.edges)]
        receiver: dict[str, str] = {}
        for edge in edges:
            field = f"{self._field_of[edge.name]}.senders"
            for name in self._expanded(edge.senders):
                if name not in nodes:
                    raise ValueError(
                        f"'{field}' names '{name}', but there is no such device or edge: known are "
                        f"{', '.join(nodes)}"
                    )
                if name in receiver:
                    raise ValueError(
                        f"'{field}' names '{name}', which sends to '{receiver[name]}' already: a node sends "
                        "its feature map to one receiver"
                    )
                receiver[name] = edge.name
        return {name: receiver.get(name, "cloud") for name in nodes}

    def _skips(self, name: str, upper: Upper, receiver: Mapping[str, str]) -> tuple[str, ...]:
        """Who sends to a node past one of its senders."""
        field = f"{self._field_of.get(name, name)}.skips"
        grandchildren = [node for node, parent in receiver.items() if receiver.get(parent) == name]
        skips = self._expanded(upper.skips)
        for skip in skips:
            if skip not in grandchildren:
                known = ", ".join(grandchildren) or "none"
                reason = "there is no such device or edge"
                if skip in receiver:
                    parent = receiver[skip]
                    reason = f"it sends to '{parent}', which does not send to '{name}'"
                    if parent == name:
                        reason = f"it sends to '{name}' anyway"
                raise ValueError(
                    f"'{field}' names '{skip}', but {reason}: nodes that can send to '{name}' past their "
                    f"receiver are {known}"
                )
            if skips.count(skip) > 1:
                raise ValueError(f"'{field}' names '{skip}' twice: name each node once")
        return tuple(skips)

    def _tier_names(self, edges: Sequence[Edge], levels: Mapping[str, int]) -> dict[int, str]:
        names: dict[int, str] = {}
        for level in sorted(set(levels.values())):
            default = "edge" if level == 2 else f"edge_level_{level - 1}"
            given = dict.fromkeys(
                edge.tier for edge in edges if levels[edge.name] == level and edge.tier is not None
            )
            if len(given) > 1:
                raise ValueError(f"'tier' is {' and '.join(given)} for edges of one level: give one name")
            names[level] = next(iter(given), default)
        taken = ["local", "cloud", *names.values()]
        twice = next((name for name in taken if taken.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"'tier' is '{twice}' on two levels: give each level a name of its own")
        return names

    def _device(self, name: str, group: Devices, receiver: str, aggregator: str | None) -> Node:
        sensor = Spec(group.input, "bytes")
        blocks = _blocks(group.filters, group.units)
        kind: Kind = "bits" if group.precision == "binary" else "floats"
        shape = map_shape(group.input, group.filters, group.units)
        return Node(
            name=name,
            role=Role.DEVICE,
            level=0,
            inputs=(sensor,),
            blocks=blocks,
            precision=group.precision,
            output=Spec(shape, kind) if blocks else sensor,
            class_vector=None if aggregator is None else self._vector,
            receiver=receiver,
            skip_receiver=self._skip_receivers.get(name),
            aggregator=aggregator,
            coding=self._written.codings.get(name),
        )

    def _upper(
        self,
        upper: Upper,
        name: str,
        role: Role,
        level: int,
        senders: tuple[str, ...],
        skips: tuple[str, ...],
        receiver: str | None,
        exit_: Exit | None,
    ) -> Node:
        field = "cloud" if role is Role.CLOUD else self._field_of[name]
        joining = (*senders, *skips)
        inputs = tuple(self._output(sender) for sender in joining)
        shapes = {spec.shape for spec in inputs}
        if len(shapes) > 1 and upper.adapter is None:
            listed = ", ".join(f"{each} {self._output(each).shape}" for each in joining)
            raise ValueError(
                f"'{field}.adapter' is left out, but '{name}' receives feature maps of unlike shapes "
                f"({listed}): give it a shape to bring them to, e.g. [64]"
            )
        kind: Kind = "bits" if upper.precision == "binary" else "floats"
        if upper.adapter is not None:
            adapted = Spec(upper.adapter, kind)
            for sender, spec in zip(joining, inputs, strict=True):
                self._adapters.append(self._adapter(field, upper, name, level, sender, spec, adapted))
            inputs = (adapted,) * len(joining)
        scheme = SCHEMES[upper.aggregation]
        joined = scheme.joined_shape(inputs[0].shape, len(inputs))
        if upper.filters and len(joined) == 1:
            raise ValueError(
                f"'{field}.filters' are ConvP blocks, but what '{name}' joins are vectors: give 'units' in "
                "their place"
            )
        shape = map_shape(joined, upper.filters, upper.units)
        return Node(
            name=name,
            role=role,
            level=level,
            senders=senders,
            skips=skips,
            inputs=inputs,
            scheme=scheme,
            blocks=_blocks(upper.filters, upper.units),
            hidden=_blocks((), upper.hidden),
            precision=upper.precision,
            output=None if receiver is None else Spec(shape, kind),
            receiver=receiver,
            skip_receiver=self._skip_receivers.get(name),
            exit=exit_,
        )

    def _adapter(
        self, field: str, upper: Upper, receiver: str, level: int, sender: str, given: Spec, adapted: Spec
    ) -> Node:
        name = f"{receiver}_from_{sender}"
        self._claim(name, f"{field}.adapter")
        return Node(
            name=name,
            role=Role.ADAPTER,
            level=level,
            senders=(sender,),
            inputs=(given,),
            blocks=(Block("fc", adapted.elements),),
            precision=upper.precision,
            output=adapted,
            receiver=receiver,
        )

    def _output(self, name: str) -> Spec:
        output = self._nodes[name].output
        assert output is not None
        return output
