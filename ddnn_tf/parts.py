"""The parts of which a person makes a topology: devices, local aggregators, edges, the cloud.

Source: Teerapittayanon et al. 2017 (arXiv 1709.01921), Sections III-A and III-B, Figures 2 and 4.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints, model_validator

from ddnn_tf.documents import Strict
from ddnn_tf.hierarchy import Precision
from ddnn_tf.schemes import SCHEMES

__all__ = ["Cloud", "Devices", "Edge", "Local", "Upper"]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _known_scheme(name: str) -> str:
    SCHEMES[name]
    return name


_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,47}$")]
_Scheme = Annotated[str, AfterValidator(_known_scheme)]
_Weight = Annotated[float, Field(ge=0), AfterValidator(_finite)]
_Sizes = tuple[PositiveInt, ...]
# Each device has weights of its own; far more than this no single machine trains.
_MOST_ALIKE = 10_000


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
    count: Annotated[int, Field(ge=1, le=_MOST_ALIKE)] | None = None
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


class Upper(Strict):
    """What edges and the cloud have in common.

    Attributes:
        aggregation: How it joins the feature maps that reach it.
        skips: Devices, groups or edges that send to it past one of its senders while that one is down: nodes
            whose receiver sends to it.
        adapter: Shape to which an FC block for each sender brings its feature map first; needed where they
            differ.
        filters: Filters of each ConvP block, for feature maps of images and series.
        units: Units of each FC block behind them.
        hidden: Units of each FC block between the feature map and the exit.
        precision: `binary` weights and activations, or their `float` twins.
        loss_weight: Weight of its exit's loss in joint training.
    """

    aggregation: _Scheme = "CC"
    skips: tuple[_Name, ...] = ()
    adapter: Annotated[_Sizes, Field(min_length=1, max_length=3)] | None = None
    filters: _Sizes = ()
    units: _Sizes = ()
    hidden: _Sizes = ()
    precision: Precision = "binary"
    loss_weight: _Weight = 1.0


class Edge(Upper):
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
        if not self.exit and (self.hidden or self.loss_weight != 1):
            raise ValueError(
                "'exit' is false, but 'hidden' or 'loss_weight' is given: they belong to an exit"
            )
        if not self.filters and not self.units:
            raise ValueError("'filters' and 'units' are empty: an edge needs at least one block")
        return self


class Cloud(Upper):
    """The cloud, which always gives an answer; all that no edge serves sends to it."""
