"""What stands where in a distributed deep neural network, before any weight exists.

A `Topology` names the end devices, the optional edges with the group of devices that each
serves, the cloud, and the exits between them. It is validated when made, its fields cannot be
set afterwards, and it is read from and written to YAML:

    >>> topology = Topology.devices_cloud(devices=6, filters=4, classes=3)
    >>> topology.exit_names
    ('local', 'cloud')
    >>> Topology.from_yaml(topology.to_yaml()) == topology
    True

The six configurations of Figure 2 of the paper are the constructors `cloud_only`,
`device_cloud`, `devices_cloud`, `device_edge_cloud`, `devices_edge_cloud` and
`devices_edges_cloud`; `Topology.figure_2("e")` picks one by its letter.

Source: Teerapittayanon et al. 2017 (arXiv 1709.01921), Sections III-A and III-B, Figures 2 and 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

__all__ = ["CONFIGURATIONS", "ONE_DEVICE", "Cloud", "Devices", "Edge", "Exit", "Scheme", "Tier", "Topology"]

_T = TypeVar("_T")

Scheme = Literal["MP", "AP", "CC"]
Precision = Literal["binary", "float"]

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


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Devices(_Strict):
    """The end devices, all built alike, each with its own sensor and its own weights.

    Attributes:
        count: Number of devices.
        image_shape: `(height, width, channels)` of the image that each sees.
        filters: Filters of each ConvP block: the channels of the feature map that is sent up.
        blocks: ConvP blocks on a device. 0 sends the raw image up, and there is no local exit.
        precision: `binary` weights and activations, or their `float` twins.
    """

    count: PositiveInt = 6
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 32, 3)
    filters: PositiveInt = 4
    blocks: Annotated[int, Field(ge=0)] = 1
    precision: Precision = "binary"


class Tier(_Strict):
    """The blocks of an edge or of the cloud.

    Attributes:
        filters: Filters of each ConvP block, from input to output.
        hidden: Units of each FC block between the last ConvP block and the exit.
        precision: `binary` weights and activations, or their `float` twins.
    """

    filters: tuple[PositiveInt, ...] = ()
    hidden: tuple[PositiveInt, ...] = ()
    precision: Precision = "binary"


class Edge(Tier):
    """An edge, which serves a group of devices.

    Attributes:
        devices: Indices of the devices in its group.
    """

    filters: tuple[PositiveInt, ...] = (32,)
    devices: tuple[Annotated[int, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _check(self) -> Edge:
        if not self.devices:
            raise ValueError("'devices' is empty: an edge must serve at least one device")
        if not self.filters:
            raise ValueError("'filters' is empty: an edge needs at least one ConvP block")
        return self


class Cloud(Tier):
    """The cloud, which always gives an answer."""

    filters: tuple[PositiveInt, ...] = (64, 128)


class Exit(_Strict):
    """An exit, and the aggregation of what reaches its tier.

    Attributes:
        aggregation: `MP` (max pooling), `AP` (average pooling) or `CC` (concatenation). At the
            local exit it joins class vectors, at an edge or the cloud feature maps. Left out, a
            `Topology` fills in MP for the local exit and CC for all others, the scheme that the
            paper finds best.
        loss_weight: Weight of this exit's loss in joint training.
    """

    aggregation: Scheme = "CC"
    loss_weight: Annotated[float, Field(ge=0), AfterValidator(_finite)] = 1.0


class Topology(_Strict):
    """A whole hierarchy: devices, edges (none, one or several), cloud, exits and classes.

    Args:
        devices: The end devices.
        edges: The edges. Every device belongs to exactly one of them, when there are any.
        cloud: The cloud.
        classes: Number of classes, at least 2.
        exits: Aggregation and loss weight by exit name; what is left out gets its default.

    Raises:
        ValueError: A field is out of its range or contradicts another (the message names it).
    """

    devices: Devices = Devices()
    edges: tuple[Edge, ...] = ()
    cloud: Cloud = Cloud()
    classes: Annotated[int, Field(ge=2)] = 3
    exits: dict[str, Exit] = Field(default_factory=dict, validate_default=True)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(one_sentence(error, "topology")) from None

    @model_validator(mode="after")
    def _check(self) -> Topology:
        self._check_edges()
        names = self.exit_names
        for name in self.exits:
            if name not in names:
                raise ValueError(f"'exits.{name}' names no exit of this hierarchy: it has {', '.join(names)}")
        complete = {}
        for name in names:
            given = self.exits.get(name, Exit())
            is_default = "aggregation" not in given.model_fields_set
            scheme: Scheme = "MP" if name == "local" and is_default else given.aggregation
            complete[name] = Exit(aggregation=scheme, loss_weight=given.loss_weight)
        if not any(exit_.loss_weight for exit_ in complete.values()):
            raise ValueError("'exits': every loss_weight is 0, at least one must be positive")
        object.__setattr__(self, "exits", complete)
        return self

    def _check_edges(self) -> None:
        if self.edges and self.devices.blocks == 0:
            raise ValueError(
                "'devices.blocks' is 0, but edges take feature maps: give the devices at least "
                "one ConvP block"
            )
        edge_of: dict[int, int] = {}
        for number, edge in enumerate(self.edges):
            for device in edge.devices:
                if device >= self.devices.count:
                    raise ValueError(
                        f"'edges.{number}.devices' names device {device}, but 'devices.count' is "
                        f"{self.devices.count}: indices run from 0 to {self.devices.count - 1}"
                    )
                if device in edge_of:
                    raise ValueError(
                        f"'edges.{number}.devices' names device {device}, which is in "
                        f"'edges.{edge_of[device]}.devices' too: a device belongs to one edge"
                    )
                edge_of[device] = number
        shapes = {self.edge_feature_shape(number) for number in range(len(self.edges))}
        if len(shapes) > 1:
            raise ValueError(
                "'edges' send feature maps of different shapes to the cloud "
                f"({', '.join(map(str, sorted(shapes)))}): give every edge the same number of blocks "
                "and the same filters in the last one"
            )
        lost = sorted(set(range(self.devices.count)) - set(edge_of))
        if self.edges and lost:
            raise ValueError(
                f"'edges': device {lost[0]} belongs to no edge, so nothing of it reaches the "
                "cloud: add it to an edge's 'devices'"
            )

    @property
    def device_names(self) -> tuple[str, ...]:
        """`device_0`, `device_1`, ...: the model's inputs."""
        return tuple(f"device_{number}" for number in range(self.devices.count))

    @property
    def edge_names(self) -> tuple[str, ...]:
        """`edge_0`, `edge_1`, ...: empty without edges."""
        return tuple(f"edge_{number}" for number in range(len(self.edges)))

    @property
    def exit_names(self) -> tuple[str, ...]:
        """The model's outputs from the lowest tier to the highest, e.g. `local`, `edge_0`, `cloud`."""
        local = ("local",) if self.devices.blocks else ()
        return (*local, *self.edge_names, "cloud")

    @property
    def exit_tiers(self) -> tuple[str, ...]:
        """The tiers at which a sample may stop, lowest first: of `local`, `edge`, `cloud`."""
        return tuple(dict.fromkeys(name.split("_")[0] for name in self.exit_names))

    @property
    def loss_weights(self) -> dict[str, float]:
        """Loss weight by exit name, as `model.compile` takes it."""
        return {name: exit_.loss_weight for name, exit_ in self.exits.items()}

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of what a device sends up: feature map, or raw image."""
        height, width, channels = self.devices.image_shape
        if self.devices.blocks == 0:
            return height, width, channels
        return (*convp_size((height, width), self.devices.blocks), self.devices.filters)

    def edge_feature_shape(self, edge: int) -> tuple[int, int, int]:
        """`(height, width, channels)` of the feature map that an edge sends to the cloud."""
        filters = self.edges[edge].filters
        height, width, _ = self.feature_shape
        return (*convp_size((height, width), len(filters)), filters[-1])

    @classmethod
    def cloud_only(cls, devices: int = 1, **options: Any) -> Topology:
        """Configuration (a): raw images go to the cloud, which alone classifies."""
        for option in ("filters", "local", "blocks"):
            if option in options:
                raise ValueError(
                    f"Expected no `{option}` in configuration (a), but got {options[option]!r}: its "
                    "devices have no blocks and no local exit."
                )
        return cls._of(devices, blocks=0, **options)

    @classmethod
    def device_cloud(cls, **options: Any) -> Topology:
        """Configuration (b): one device with a local exit, and the cloud."""
        return cls._of(1, **options)

    @classmethod
    def devices_cloud(cls, devices: int = 6, **options: Any) -> Topology:
        """Configuration (c): several devices, a local aggregator with its exit, and the cloud."""
        return cls._of(devices, **options)

    @classmethod
    def device_edge_cloud(cls, **options: Any) -> Topology:
        """Configuration (d): one device, one edge and the cloud, an exit at each."""
        return cls._of(1, groups=1, **options)

    @classmethod
    def devices_edge_cloud(cls, devices: int = 6, **options: Any) -> Topology:
        """Configuration (e): several devices, one edge and the cloud, an exit at each."""
        return cls._of(devices, groups=1, **options)

    @classmethod
    def devices_edges_cloud(cls, devices: int = 6, edges: int = 2, **options: Any) -> Topology:
        """Configuration (f): several devices in neighbouring groups, an edge for each, and the cloud."""
        if edges < 1:
            raise ValueError(f"Expected `edges` to be at least 1, but got {edges}.")
        return cls._of(devices, groups=edges, **options)

    @classmethod
    def figure_2(cls, configuration: str, devices: int = 6, **options: Any) -> Topology:
        """A configuration of the paper's Figure 2 by its letter.

        Args:
            configuration: `a` to `f`.
            devices: Number of devices; (b) and (d) have one, whatever is said here.
            options: `filters`, `blocks`, `image_shape`, `precision` (of the devices), `classes`,
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
        constructor = getattr(cls, CONFIGURATIONS[configuration])
        if configuration in ONE_DEVICE:
            return constructor(**options)
        return constructor(devices=devices, **options)

    @classmethod
    def _of(
        cls,
        count: int,
        *,
        groups: int = 0,
        blocks: int = 1,
        filters: int = 4,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        precision: str = "binary",
        cloud_precision: str = "binary",
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
        if groups > count:
            raise ValueError(
                f"Expected `edges` to be at most `devices` ({count}), but got {groups}: an edge "
                "without devices has nothing to do."
            )
        bounds = [round(count * group / groups) for group in range(groups + 1)] if groups else []
        edges = [
            {"devices": tuple(range(start, stop)), "precision": cloud_precision}
            for start, stop in itertools.pairwise(bounds)
        ]
        exits = {f"edge_{number}": {"aggregation": upper} for number in range(groups)}
        exits["cloud"] = {"aggregation": upper}
        if blocks:
            exits["local"] = {"aggregation": local}
        return cls(
            devices={
                "count": count,
                "image_shape": image_shape,
                "filters": filters,
                "blocks": blocks,
                "precision": precision,
            },
            edges=edges,
            # An edge holds the first upper block, so the cloud above it starts one block later.
            cloud={"precision": cloud_precision, "filters": (64,) if groups else (64, 128)},
            classes=classes,
            exits=exits,
        )

    def to_yaml(self) -> str:
        """The topology as YAML text, which `from_yaml` reads back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, default_flow_style=None)

    @classmethod
    def from_yaml(cls, text: str) -> Topology:
        """Reads a topology from YAML text.

        Raises:
            ValueError: Not YAML, not a mapping, or a contradiction (the message names the field).
        """
        return cls(**yaml_mapping(text, "topology", "`devices`, `cloud`, `classes`"))

    @classmethod
    def load(cls, path: str | Path) -> Topology:
        """Reads a topology from a YAML file.

        Raises:
            FileNotFoundError: No such file.
            ValueError: As `from_yaml`, with the path in front.
        """
        return read_text(path, cls.from_yaml)


def convp_size(size: tuple[int, int], blocks: int) -> tuple[int, int]:
    """Height and width after a number of ConvP blocks, each of which halves them, rounding up."""
    height, width = size
    for _ in range(blocks):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def read_text(path: str | Path, read: Callable[[str], _T]) -> _T:
    """What `read` makes of a text file, with the path in front of its errors.

    Raises:
        FileNotFoundError: No such file.
        ValueError: As `read`, or the file is no text.
    """
    try:
        return read(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def yaml_mapping(text: str, subject: str, known: str) -> dict[str, Any]:
    """Reads a mapping from YAML (of which JSON is a part).

    Args:
        text: The YAML.
        subject: What it is to be, for the error message: `topology`.
        known: Fields that it has, for the error message.

    Raises:
        ValueError: Not YAML, or not a mapping.
    """
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"The {subject} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ValueError(
            f"Expected the {subject} to be a YAML mapping with {known}, but got {type(fields).__name__}."
        )
    return {str(key): value for key, value in fields.items()}


def one_sentence(error: ValidationError, subject: str) -> str:
    """The first finding of pydantic, as a sentence that names the field, the value and the remedy.

    Args:
        error: What pydantic found.
        subject: What it was looking at: `topology`.
    """
    finding = error.errors()[0]
    field = ".".join(str(part) for part in finding["loc"])
    message = finding["msg"].removeprefix("Value error, ").rstrip(".")
    if not field or (finding["type"] == "value_error" and message.startswith("'")):
        inside = f"{field}: " if field else ""
        return f"The {subject} contradicts itself: {inside}{message}."
    if finding["type"] == "missing":
        return f"The {subject} lacks the field '{field}'."
    if finding["type"] == "extra_forbidden":
        return f"The {subject} has no field '{field}': remove it or correct its spelling."
    return f"The {subject}'s field '{field}' is {finding['input']!r}: {message[0].lower()}{message[1:]}."
