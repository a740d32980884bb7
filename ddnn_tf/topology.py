"""What a person writes of a distributed deep neural network, before any weight exists.

A `Topology` names the end devices (alike or not), the local aggregators that join their class vectors, the
edges with who sends to each, the cloud, and the exits. It is validated when made, its fields cannot be set
afterwards, and it is read from and written to YAML:

    >>> topology = Topology.devices_cloud(devices=6, filters=4, classes=3)
    >>> topology.exit_names
    ('local', 'cloud')
    >>> Topology.from_yaml(topology.to_yaml()) == topology
    True

`Topology.hierarchy` is what everything else works with: nodes and links (`hierarchy.Hierarchy`).

Devices that are alike are written once with a count. An image `[height, width, channels]` and a series
`[steps, channels]` go through ConvP blocks (`filters`), in two dimensions or one, and then through FC blocks
(`units`); a vector `[features]` through FC blocks:

    devices:
    - {name: camera, count: 2, input: [32, 32, 3], filters: [4]}
    - {name: microphone, input: [64, 1], filters: [4]}
    cloud: {adapter: [64], units: [128]}
    classes: 3

Feature maps of unlike shapes are brought to one shape by an FC block for each sender, the receiver's
`adapter`.

The six configurations of Figure 2 of the paper are the constructors `cloud_only`, `device_cloud`,
`devices_cloud`, `device_edge_cloud`, `devices_edge_cloud` and `devices_edges_cloud`;
`Topology.figure_2("e")` picks one by its letter.

Source: Teerapittayanon et al. 2017 (arXiv 1709.01921), Sections III-A and III-B, Figures 2 and 4.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, StringConstraints, model_validator

from ddnn_tf.documents import Document, Strict
from ddnn_tf.hierarchy import (
    AGGREGATOR,
    Block,
    Exit,
    Hierarchy,
    Node,
    Precision,
    Role,
    Tier,
    convp_shape,
)
from ddnn_tf.schemes import SCHEMES
from ddnn_tf.specs import Coding, Kind, Shape, Spec

__all__ = ["CONFIGURATIONS", "ONE_DEVICE", "Cloud", "Devices", "Edge", "Local", "Topology"]

CONFIGURATIONS = {
    "a": "cloud_only",
    "b": "device_cloud",
    "c": "devices_cloud",
    "d": "device_edge_cloud",
    "e": "devices_edge_cloud",
    "f": "devices_edges_cloud",
}
"""Constructor of each configuration of the paper's Figure 2, by its letter."""

ONE_DEVICE = ("b", "d")
"""The configurations with exactly one device."""

# Names of processes and inputs that no node may have.
_RESERVED = (AGGREGATOR, "client", "present")
_ADAPTER = (64,)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _known_scheme(name: str) -> str:
    SCHEMES[name]
    return name


def _listed(value: Any) -> Any:
    """One mapping stands for a list of one."""
    return [value] if isinstance(value, Mapping | Strict) else value


_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_Scheme = Annotated[str, AfterValidator(_known_scheme)]
_Weight = Annotated[float, Field(ge=0), AfterValidator(_finite)]
_Sizes = tuple[PositiveInt, ...]


class Devices(Strict):
    """One end device, or several that are alike, each with its own sensor and its own weights.

    Attributes:
        name: Name of the device; with a `count`, of its members as well: `name_0`, `name_1`, ...
        count: Number of devices; left out, there is one, called by the name itself.
        input: Shape of what its sensor gives: an image `(height, width, channels)`, a series
            `(steps, channels)` or a vector `(features,)`, as 8-bit codes.
        filters: Filters of each ConvP block, for images and series.
        units: Units of each FC block, behind the ConvP blocks. Without any block the device sends its raw
            input up, and has no local exit.
        precision: `binary` weights and activations, or their `float` twins.
    """

    name: _Name = "device"
    count: PositiveInt | None = None
    input: Annotated[_Sizes, Field(min_length=1, max_length=3)]
    filters: _Sizes = ()
    units: _Sizes = ()
    precision: Precision = "binary"

    @model_validator(mode="after")
    def _check(self) -> Devices:
        if self.filters and len(self.input) == 1:
            raise ValueError(
                "'filters' are ConvP blocks, but 'input' is a vector: give 'units' in their place"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices."""
        if self.count is None:
            return (self.name,)
        return tuple(f"{self.name}_{number}" for number in range(self.count))


class Local(Strict):
    """A local aggregator, which joins the class vectors of devices; its exit is the lowest.

    Attributes:
        name: Its name, and that of its exit.
        devices: The devices that it serves, or names of groups; left out: all that have blocks.
        aggregation: How it joins their class vectors.
        loss_weight: Weight of its exit's loss in joint training.
    """

    name: _Name = "local"
    devices: tuple[_Name, ...] | None = None
    aggregation: _Scheme = "MP"
    loss_weight: _Weight = 1.0


class _Upper(Strict):
    """What edges and the cloud have in common.

    Attributes:
        aggregation: How it joins the feature maps that reach it.
        adapter: Shape to which an FC block for each sender brings its feature map first; needed where they
            differ.
        filters: Filters of each ConvP block, for feature maps of images and series.
        units: Units of each FC block behind them.
        hidden: Units of each FC block between the feature map and the exit.
        precision: `binary` weights and activations, or their `float` twins.
        loss_weight: Weight of its exit's loss in joint training.
    """

    aggregation: _Scheme = "CC"
    adapter: Annotated[_Sizes, Field(min_length=1, max_length=3)] | None = None
    filters: _Sizes = ()
    units: _Sizes = ()
    hidden: _Sizes = ()
    precision: Precision = "binary"
    loss_weight: _Weight = 1.0


class Edge(_Upper):
    """An edge, which serves a group of devices, or of edges below it.

    Attributes:
        name: Its name, and that of its exit.
        senders: The devices and edges that send to it, or names of groups of devices.
        exit: Whether it has an exit.
        tier: Name of its level, for thresholds and reports; `edge` for the first, `edge_level_2`, ...
    """

    name: _Name
    senders: tuple[_Name, ...]
    exit: bool = True
    tier: _Name | None = None

    @model_validator(mode="after")
    def _check(self) -> Edge:
        if not self.senders:
            raise ValueError("'senders' is empty, so nobody sends to this edge: name devices or other edges")
        if not self.filters and not self.units:
            raise ValueError("'filters' and 'units' are empty: an edge needs at least one block")
        return self


class Cloud(_Upper):
    """The cloud, which always gives an answer; all that no edge serves sends to it."""


class Topology(Document):
    """A whole hierarchy: devices, local aggregators, edges, cloud and classes.

    Args:
        devices: The end devices, alike or not.
        local: The local aggregators. Left out, one serves all devices that have blocks; empty: none.
        edges: The edges, of any number of levels.
        cloud: The cloud.
        classes: Number of classes, at least 2.
        codings: How physical readings become 8-bit codes, by device and channel; training fills it in from
            the data set, which chose them on training samples. Devices without one take codes, as pixels are.

    Raises:
        ValueError: A field is out of its range or contradicts another (the message names it).
    """

    subject: ClassVar[str] = "topology"

    devices: Annotated[tuple[Devices, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        Devices(count=6, input=(32, 32, 3), filters=(4,)),
    )
    local: Annotated[tuple[Local, ...] | None, BeforeValidator(_listed)] = None
    edges: tuple[Edge, ...] = ()
    cloud: Cloud = Cloud(filters=(64, 128))
    classes: Annotated[int, Field(ge=2)] = 3
    codings: dict[str, Coding] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Topology:
        if self.local is None:
            has_blocks = any(group.filters or group.units for group in self.devices)
            object.__setattr__(self, "local", (Local(),) if has_blocks else ())
        if not any(exit_.loss_weight for exit_ in self.hierarchy.exits):
            raise ValueError("every 'loss_weight' is 0, at least one must be positive")
        return self

    def __eq__(self, other: object) -> bool:
        # pydantic would compare the hierarchies that are kept as well.
        return isinstance(other, Topology) and other.model_dump() == self.model_dump()

    def __hash__(self) -> int:
        return hash((self.devices, self.local, self.edges, self.cloud, self.classes))

    def with_codings(self, codings: Mapping[str, Coding]) -> Topology:
        """The same topology with the codings of a data set, for the devices that it has.

        Raises:
            ValueError: It has other codings already, for a device of the data set.
        """
        merged = dict(self.codings)
        for name, coding in codings.items():
            if name not in self.hierarchy.device_names:
                continue
            if merged.setdefault(name, coding) != coding:
                raise ValueError(
                    f"The topology's 'codings.{name}' are not those of the data set: leave them out, "
                    "training fills them in."
                )
        return self.replace(codings=merged)

    def replace(self, **fields: Any) -> Topology:
        """The same topology with other fields, validated anew."""
        return Topology(**{**{name: getattr(self, name) for name in type(self).model_fields}, **fields})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Topology:
        """As `replace`: pydantic's own copy would keep the hierarchy of the original."""
        return self.replace(**(update or {}))

    @functools.cached_property
    def hierarchy(self) -> Hierarchy:
        """Nodes and links of this topology."""
        return _Maker(self).make()

    @property
    def exit_names(self) -> tuple[str, ...]:
        """The model's outputs from the lowest tier to the highest, e.g. `local`, `edge_0`, `cloud`."""
        return tuple(exit_.name for exit_ in self.hierarchy.exits)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Loss weight by exit name, as `model.compile` takes it."""
        return {exit_.name: exit_.loss_weight for exit_ in self.hierarchy.exits}

    @classmethod
    def cloud_only(cls, devices: int | Sequence[Devices] = 1, **options: Any) -> Topology:
        """Configuration (a): raw images go to the cloud, which alone classifies."""
        for option in ("filters", "local", "blocks"):
            if option in options:
                raise ValueError(
                    f"Expected no `{option}` in configuration (a), but got {options[option]!r}: its "
                    "devices have no blocks and no local exit."
                )
        if not isinstance(devices, int):
            devices = [each.model_copy(update={"filters": (), "units": ()}) for each in devices]
        return cls._of(devices, blocks=0, **options)

    @classmethod
    def device_cloud(cls, devices: int | Sequence[Devices] = 1, **options: Any) -> Topology:
        """Configuration (b): one device with a local exit, and the cloud."""
        return cls._of(devices, **options)

    @classmethod
    def devices_cloud(cls, devices: int | Sequence[Devices] = 6, **options: Any) -> Topology:
        """Configuration (c): several devices, a local aggregator with its exit, and the cloud."""
        return cls._of(devices, **options)

    @classmethod
    def device_edge_cloud(cls, devices: int | Sequence[Devices] = 1, **options: Any) -> Topology:
        """Configuration (d): one device, one edge and the cloud, an exit at each."""
        return cls._of(devices, groups=1, **options)

    @classmethod
    def devices_edge_cloud(cls, devices: int | Sequence[Devices] = 6, **options: Any) -> Topology:
        """Configuration (e): several devices, one edge and the cloud, an exit at each."""
        return cls._of(devices, groups=1, **options)

    @classmethod
    def devices_edges_cloud(
        cls, devices: int | Sequence[Devices] = 6, edges: int = 2, **options: Any
    ) -> Topology:
        """Configuration (f): several devices in neighbouring groups, an edge for each, and the cloud."""
        if edges < 1:
            raise ValueError(f"Expected `edges` to be at least 1, but got {edges}.")
        return cls._of(devices, groups=edges, **options)

    @classmethod
    def figure_2(cls, configuration: str, devices: int | Sequence[Devices] = 6, **options: Any) -> Topology:
        """A configuration of the paper's Figure 2 by its letter.

        Args:
            configuration: `a` to `f`.
            devices: Number of devices that are alike, or the devices; (b) and (d) have one, whatever number
                is given here.
            options: `filters`, `blocks`, `image_shape`, `precision` (of devices given by number), `classes`,
                `local` and `upper` (aggregation schemes at the local exit, and above), and
                `cloud_precision` (of edges and cloud).

        Raises:
            ValueError: Unknown letter, or a value that `Topology` refuses.
        """
        if configuration not in CONFIGURATIONS:
            raise ValueError(
                f"Expected `configuration` to be one of {', '.join(CONFIGURATIONS)}, but got "
                f"{configuration!r}: they are the letters of the paper's Figure 2."
            )
        constructor: Callable[..., Topology] = getattr(cls, CONFIGURATIONS[configuration])
        if configuration in ONE_DEVICE and isinstance(devices, int):
            devices = 1
        return constructor(devices=devices, **options)

    @classmethod
    def _of(
        cls,
        devices: int | Sequence[Devices],
        *,
        groups: int = 0,
        blocks: int = 1,
        filters: int = 4,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        precision: Precision = "binary",
        cloud_precision: Precision = "binary",
        classes: int = 3,
        local: str = "MP",
        upper: str = "CC",
        **unknown: Any,
    ) -> Topology:
        if unknown:
            raise TypeError(
                f"Expected options of a configuration, but got `{next(iter(unknown))}`: known are blocks, "
                "filters, image_shape, precision, cloud_precision, classes, local and upper; for all else "
                "make a `Topology` of its parts."
            )
        if isinstance(devices, int):
            alike = {"input": image_shape, "filters": (filters,) * blocks, "precision": precision}
            members: Sequence[Any] = [{"count": devices, **alike}]
            names = [f"device_{number}" for number in range(devices)]
            shapes = {(True, len(image_shape))}
        else:
            members = list(devices)
            names = [name for each in devices for name in each.names]
            shapes = {_sent_by(each) for each in devices}
        if groups > len(names):
            raise ValueError(
                f"Expected `edges` to be at most `devices` ({len(names)}), but got {groups}: an edge "
                "without devices has nothing to do."
            )
        # Maps of one shape go through ConvP blocks; unlike ones, and vectors, through FC blocks.
        is_alike = len(shapes) == 1
        has_maps = is_alike and next(iter(shapes))[-1] > 1
        size = "filters" if has_maps else "units"
        adapter = {} if is_alike else {"adapter": _ADAPTER}
        bounds = [round(len(names) * group / groups) for group in range(groups + 1)] if groups else []
        common = {"aggregation": upper, "precision": cloud_precision}
        edges = [
            {"name": f"edge_{number}", "senders": names[start:stop], **common, **adapter, size: (32,)}
            for number, (start, stop) in enumerate(itertools.pairwise(bounds))
        ]
        # An edge holds the first upper block, so the cloud above it starts one block later.
        cloud = {**common, size: (64,)} if groups else {**common, **adapter, size: (64, 128)}
        has_local = blocks > 0 and any(
            isinstance(each, Mapping) or each.filters or each.units for each in members
        )
        # As plain fields, so that a value out of range is one sentence about the topology.
        fields: dict[str, Any] = {
            "devices": members,
            "local": [{"aggregation": local}] if has_local else [],
            "edges": edges,
            "cloud": cloud,
            "classes": classes,
        }
        return cls(**fields)


def _sent_by(devices: Devices) -> tuple[Any, ...]:
    """What makes the feature maps of devices alike: their shape, and its dimensions last."""
    shape = _after(devices.input, devices.filters, devices.units)
    return shape, len(shape)


def _after(shape: Shape, filters: Sequence[int], units: Sequence[int]) -> Shape:
    """Shape of a feature map after ConvP and FC blocks."""
    for size in filters:
        shape = convp_shape(shape, size)
    return (units[-1],) if units else tuple(shape)


def _blocks(filters: Sequence[int], units: Sequence[int]) -> tuple[Block, ...]:
    return (*(Block("convp", size) for size in filters), *(Block("fc", size) for size in units))


class _Maker:
    """Makes the hierarchy of a topology, and refuses what contradicts itself."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._vector = Spec((topology.classes,), "floats")
        self._groups: dict[str, tuple[str, ...]] = {}
        self._field_of: dict[str, str] = {}
        self._nodes: dict[str, Node] = {}
        self._adapters: list[Node] = []

    def make(self) -> Hierarchy:
        topology = self._topology
        devices = self._devices()
        self._check_codings(devices)
        locals_ = self._locals(devices)
        edges = self._edges_in_order()
        levels = self._levels(edges)
        top = max(levels.values(), default=1) + 1
        receiver = self._receivers(devices, edges)
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
                edge, edge.name, Role.EDGE, levels[edge.name], senders, receiver[edge.name], exit_
            )
        below = tuple(name for name, above in receiver.items() if above == "cloud")
        exit_ = Exit("cloud", "cloud", topology.cloud.loss_weight)
        self._nodes["cloud"] = self._upper(topology.cloud, "cloud", Role.CLOUD, top, below, None, exit_)
        # Devices first, then by level; nodes of a level in the order in which they are written.
        nodes = sorted(self._nodes.values(), key=lambda node: node.level)
        named = {1: "local", **names, top: "cloud"}
        tiers = tuple(
            Tier(named[level], level, tuple(group))
            for level, group in itertools.groupby((node for node in nodes if node.level), lambda n: n.level)
        )
        return Hierarchy(tuple(nodes), tiers, topology.classes, tuple(self._adapters))

    def _devices(self) -> dict[str, Devices]:
        """The group of every device, by name; fills `_groups`."""
        found: dict[str, Devices] = {}
        for number, group in enumerate(self._topology.devices):
            self._claim(group.name, f"devices.{number}.name")
            self._groups[group.name] = group.names
            for name in group.names:
                if name != group.name:
                    self._claim(name, f"devices.{number}.name")
                found[name] = group
        return found

    def _check_codings(self, devices: Mapping[str, Devices]) -> None:
        for name, coding in self._topology.codings.items():
            if name not in devices:
                raise ValueError(f"'codings.{name}' names no device: known are {', '.join(devices)}")
            channels = devices[name].input[-1]
            if len(coding.scale) != channels:
                raise ValueError(
                    f"'codings.{name}' has {len(coding.scale)} channels, but the input of '{name}' has "
                    f"{channels}: give a scale and an offset for each"
                )

    def _claim(self, name: str, field: str) -> None:
        """Notes that a name is taken."""
        if name in (*_RESERVED, "cloud"):
            raise ValueError(f"'{field}' is '{name}', which is reserved: choose another name")
        if name in self._field_of:
            raise ValueError(
                f"'{field}' is '{name}', which '{self._field_of[name]}' names too: every node needs a name "
                "of its own"
            )
        self._field_of[name] = field

    def _expanded(self, names: Sequence[str]) -> list[str]:
        """Names of nodes, those of groups of devices by those of their members."""
        return [member for name in names for member in self._groups.get(name, (name,))]

    def _locals(self, devices: Mapping[str, Devices]) -> list[tuple[Local, tuple[str, ...]]]:
        able = [name for name, group in devices.items() if group.filters or group.units]
        found: list[tuple[Local, tuple[str, ...]]] = []
        served_by: dict[str, int] = {}
        for number, local in enumerate(self._topology.local or ()):
            self._claim(local.name, f"local.{number}.name")
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
        edges = self._topology.edges
        for number, edge in enumerate(edges):
            self._claim(edge.name, f"edges.{number}.name")
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
        nodes = [*devices, *(edge.name for edge in self._topology.edges)]
        receiver: dict[str, str] = {}
        for edge in edges:
            field = f"{self._field_of[edge.name].removesuffix('.name')}.senders"
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
        shape = _after(group.input, group.filters, group.units)
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
            aggregator=aggregator,
            coding=self._topology.codings.get(name),
        )

    def _upper(
        self,
        upper: _Upper,
        name: str,
        role: Role,
        level: int,
        senders: tuple[str, ...],
        receiver: str | None,
        exit_: Exit | None,
    ) -> Node:
        field = "cloud" if role is Role.CLOUD else self._field_of[name].removesuffix(".name")
        inputs = tuple(self._output(sender) for sender in senders)
        shapes = {spec.shape for spec in inputs}
        if len(shapes) > 1 and upper.adapter is None:
            listed = ", ".join(f"{each} {self._output(each).shape}" for each in senders)
            raise ValueError(
                f"'{field}.adapter' is left out, but '{name}' receives feature maps of unlike shapes "
                f"({listed}): give it a shape to bring them to, e.g. [64]"
            )
        kind: Kind = "bits" if upper.precision == "binary" else "floats"
        if upper.adapter is not None:
            adapted = Spec(upper.adapter, kind)
            for sender, spec in zip(senders, inputs, strict=True):
                self._adapters.append(self._adapter(upper, name, level, sender, spec, adapted))
            inputs = (adapted,) * len(senders)
        joined = inputs[0].shape
        if upper.filters and len(joined) == 1:
            raise ValueError(
                f"'{field}.filters' are ConvP blocks, but what '{name}' joins are vectors: give 'units' in "
                "their place"
            )
        shape = _after(joined, upper.filters, upper.units)
        return Node(
            name=name,
            role=role,
            level=level,
            senders=senders,
            inputs=inputs,
            scheme=SCHEMES[upper.aggregation],
            blocks=_blocks(upper.filters, upper.units),
            hidden=_blocks((), upper.hidden),
            precision=upper.precision,
            output=None if receiver is None else Spec(shape, kind),
            receiver=receiver,
            exit=exit_,
        )

    def _adapter(
        self, upper: _Upper, receiver: str, level: int, sender: str, given: Spec, adapted: Spec
    ) -> Node:
        name = f"{receiver}_from_{sender}"
        self._claim(name, "adapter")
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
