"""Units that run layers, and the radio network between them.

Two units are linked if they are closer than a range, or if a list of links names the pair; distance is the
number of hops on the shortest path.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ddnn_tf.documents import Document, Strict
from ddnn_tf.placement.cnn_catalogue import DATA_RATE_KB_S, known_unit_type

__all__ = ["Location", "Point", "Positive", "Size", "Unit", "UnitNetwork", "check_installed"]

Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number, 0 or more."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
_Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[_Coordinate, _Coordinate]
"""A point in the plane, metres."""
Location = str | Point
"""A unit by its name, or a point that has a radio but takes no layers."""


def check_installed(*modules: str) -> None:
    """Checks that the packages of the extra `placement` are there.

    Raises:
        ImportError: One of the modules is not installed; the message names the command that installs it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'ddnn_tf[placement]'.")


class Unit(Strict):
    """A unit that can run layers. A built-in `type` supplies the numbers that are left out.

    Attributes:
        name: Its name, unique in a network.
        type: Its type, for tables and figures, e.g. `stm32h7`.
        memory_kb: Memory for weights, KB.
        compute_limit_mop: Most operations that its layers may demand together, millions.
        speed_mop_s: Speed, million operations per second.
        position: `(x, y)` in metres; needed if a range says which units are linked.
        energy_j_mop: Energy of computing, joules per million operations.
    """

    name: str
    type: str = "unit"
    memory_kb: Size
    compute_limit_mop: Size = 1e6
    speed_mop_s: Positive
    position: Point | None = None
    energy_j_mop: Size = 0.0

    @model_validator(mode="before")
    @classmethod
    def _complete_from_type(cls, fields: Any) -> Any:
        # Where memory and speed are given, the type is a mere label and need not be a built-in one.
        if isinstance(fields, dict) and "type" in fields and not {"memory_kb", "speed_mop_s"} <= set(fields):
            return {**known_unit_type(str(fields["type"])), **fields}
        return fields


class UnitNetwork(Document):
    """Units and the links between them.

    Attributes:
        units: The units.
        range_m: Units closer than this are linked, metres.
        links: Pairs of names of linked units, in place of positions and a range.
        data_rate_kb_s: Data rate of a hop, KB per second.

    Raises:
        ValueError: A field is out of its range or contradicts another, or the network is not connected.
        ImportError: The extra `placement` is not installed.
    """

    subject: ClassVar[str] = "network of units"

    units: Annotated[tuple[Unit, ...], Field(min_length=1)]
    range_m: Positive | None = None
    links: tuple[tuple[str, str], ...] | None = None
    data_rate_kb_s: Positive = DATA_RATE_KB_S

    def __init__(self, **fields: Any) -> None:
        check_installed("scipy", "highspy")
        super().__init__(**fields)

    def locations(self) -> tuple[Location, ...]:
        """Sources, sinks and sensors: units, or points besides the units."""
        return ()

    @model_validator(mode="after")
    def _check_network(self) -> UnitNetwork:
        names = self.unit_names
        known = set(names)
        if len(known) < len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise ValueError(f"'units' names {twice!r} twice: every unit needs a name of its own")
        for location in self.locations():
            if isinstance(location, str) and location not in known:
                raise ValueError(f"{location!r} is to be a source, sink or sensor, but there is no such unit")
        if (self.range_m is None) == (self.links is None) and len(names) > 1:
            raise ValueError("'range_m' and 'links': give one of them, to say which units hear each other")
        if self.range_m is not None:
            for unit in self.units:
                if unit.position is None:
                    raise ValueError(f"'units': {unit.name!r} has no 'position', which 'range_m' needs")
        elif any(not isinstance(location, str) for location in self.locations()):
            raise ValueError("a source or sink at a point [x, y] needs 'range_m'; without it, name a unit")
        for pair in self.links or ():
            for name in pair:
                if name not in known:
                    raise ValueError(f"'links' names {name!r}, but there is no such unit")
        unreachable = np.flatnonzero(~np.isfinite(self._all_hops[0]))
        if len(unreachable):
            raise ValueError(
                f"'units': the network is not connected, {names[0]!r} cannot reach "
                f"{self._nodes[int(unreachable[0])]!r}: raise 'range_m' (or add a link)"
            )
        return self

    def __eq__(self, other: object) -> bool:
        # pydantic would compare the cached arrays as well.
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in type(self).model_fields
        )

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in ("units", "range_m", "links")))

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the units, in order."""
        return tuple(unit.name for unit in self.units)

    @functools.cached_property
    def hops(self) -> NDArray[np.float64]:
        """Hops on the shortest path between units, `(units, units)` float64."""
        return self._all_hops[: len(self.units), : len(self.units)]

    def hops_from(self, location: Location) -> NDArray[np.float64]:
        """Hops between a source or sink and every unit, `(units,)` float64."""
        return self._all_hops[self._nodes.index(location), : len(self.units)]

    @functools.cached_property
    def adjacency(self) -> NDArray[np.bool_]:
        """Which units, and after them points, hear each other: `(units + points, units + points)` bool."""
        nodes = self._nodes
        linked = np.zeros((len(nodes), len(nodes)), bool)
        if self.range_m is not None:
            positions = [*(unit.position for unit in self.units), *nodes[len(self.units) :]]
            points = np.array(positions, np.float64)
            linked = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) < self.range_m
        for pair in self.links or ():
            first, second = (nodes.index(name) for name in pair)
            linked[first, second] = linked[second, first] = True
        np.fill_diagonal(linked, False)
        return linked

    @functools.cached_property
    def _nodes(self) -> list[Location]:
        """Units, then points."""
        points = dict.fromkeys(each for each in self.locations() if not isinstance(each, str))
        return [*self.unit_names, *points]

    @functools.cached_property
    def _all_hops(self) -> NDArray[np.float64]:
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import shortest_path

        return shortest_path(csr_matrix(self.adjacency), method="D", directed=False, unweighted=True)
