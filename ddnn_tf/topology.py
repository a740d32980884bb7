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
`adapter`. A receiver may also name `skips`: nodes that send to it past one of its senders while that one is
down; `Topology.with_skips` names all there can be.

The six configurations of Figure 2 of the paper are the constructors `cloud_only`, `device_cloud`,
`devices_cloud`, `device_edge_cloud`, `devices_edge_cloud` and `devices_edges_cloud`;
`Topology.figure_2("e")` picks one by its letter.

Source: Teerapittayanon et al. 2017 (arXiv 1709.01921), Sections III-A and III-B, Figures 2 and 4.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from ddnn_tf.documents import Document, Strict
from ddnn_tf.hierarchy import Hierarchy, Precision
from ddnn_tf.parts import Cloud, Devices, Edge, Local
from ddnn_tf.specs import Coding
from ddnn_tf.wiring import make_hierarchy, map_shape

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

_ADAPTER = (64,)


def _listed(value: Any) -> Any:
    """One mapping stands for a list of one."""
    return [value] if isinstance(value, Mapping | Strict) else value


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
    edges: Annotated[tuple[Edge, ...], BeforeValidator(_listed)] = ()
    cloud: Cloud = Cloud(filters=(64, 128))
    classes: Annotated[int, Field(ge=2)] = 3
    codings: dict[str, Coding] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_form(cls, fields: Any) -> Any:
        devices = fields.get("devices") if isinstance(fields, Mapping) else None
        is_old = isinstance(fields, Mapping) and "exits" in fields
        if is_old or (isinstance(devices, Mapping) and "image_shape" in devices):
            raise ValueError(
                "it is in the form of version 0.1 ('exits', 'devices.image_shape'): write 'devices' with "
                "'input' and a list of 'filters', 'local', and 'edges' with 'name' and 'senders'; train old "
                "runs again"
            )
        return fields

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

    def with_skips(self) -> Topology:
        """The same topology with every skip link there can be: each node also sends to its grandparent.

        Raises:
            ValueError: A node then receives feature maps of unlike shapes, and has no `adapter`.
        """
        hierarchy = self.hierarchy

        def skips(name: str) -> tuple[str, ...]:
            parents = hierarchy[name].senders
            return tuple(node.name for node in hierarchy.failable if node.receiver in parents)

        edges = [edge.model_copy(update={"skips": skips(edge.name)}) for edge in self.edges]
        return self.replace(edges=edges, cloud=self.cloud.model_copy(update={"skips": skips("cloud")}))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Topology:
        """As `replace`: pydantic's own copy would keep the hierarchy of the original."""
        return self.replace(**(update or {}))

    @functools.cached_property
    def hierarchy(self) -> Hierarchy:
        """Nodes and links of this topology."""
        return make_hierarchy(self)

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
        if configuration in ONE_DEVICE:
            if isinstance(devices, int):
                devices = 1
            elif sum(len(group.names) for group in devices) != 1:
                names = ", ".join(name for group in devices for name in group.names)
                raise ValueError(
                    f"Expected one device for configuration ({configuration}), but got {names}: choose "
                    "another configuration, or one of the devices."
                )
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
    shape = map_shape(devices.input, devices.filters, devices.units)
    return shape, len(shape)
