"""Units that run layers, and the radio network between them.

Units are linked when closer than a range, or as a list of links says; distance is the number of hops on
the shortest path.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ddnn_tf.placement.catalogue import DATA_RATE_KB_S, known_unit_type
from ddnn_tf.topology import one_sentence

__all__ = ["Place", "Point", "Positive", "Size", "Strict", "Unit", "UnitNetwork", "check_installed"]

Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[_Coordinate, _Coordinate]
"""A place in the plane, in metres."""
Place = str | Point
"""A unit by its name, or a point with a radio of its own."""


def check_installed(*modules: str) -> None:
    """Raises ImportError, with the remedy, if one of the modules that placement needs is missing."""
    for module in modules:
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'ddnn_tf[placement]'.")


class Strict(BaseModel):
    """Fields that cannot be set afterwards, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Unit(Strict):
    """A unit that can run layers. With a built-in `type`, what is left out comes from there.

    Attributes:
        name: Its name; unique in an instance.
        type: What it is, for tables and figures.
        memory_kb: Memory for the layers that it holds, KB.
        compute_limit_mop: Most that its layers may demand together, million operations.
        speed_mop_s: Million operations a second.
        position: `(x, y)` in metres, if the network goes by range.
        energy_j_mop: Joules per million operations.
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
    def _of_type(cls, fields: Any) -> Any:
        # A full set of numbers needs no type that is built in.
        if isinstance(fields, dict) and "type" in fields and not {"memory_kb", "speed_mop_s"} <= set(fields):
            return {**known_unit_type(str(fields["type"])), **fields}
        return fields


class UnitNetwork(Strict):
    """Units, and who hears whom.

    Attributes:
        units: The units.
        range_m: Units closer than this are linked, metres.
        links: Pairs of unit names that are linked, in place of positions and a range.
        data_rate_kb_s: KB a second over a hop.

    Raises:
        ValueError: A field is out of its range or contradicts another, or the network is not connected.
    """

    units: Annotated[tuple[Unit, ...], Field(min_length=1)]
    range_m: Positive | None = None
    links: tuple[tuple[str, str], ...] | None = None
    data_rate_kb_s: Positive = DATA_RATE_KB_S

    def __init__(self, **fields: Any) -> None:
        check_installed("scipy", "highspy")
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(one_sentence(error, self._subject())) from None

    @classmethod
    def _subject(cls) -> str:
        """What it is, for error messages."""
        return "network of units"

    def places(self) -> tuple[Place, ...]:
        """Units and points besides the units that have to do with the network."""
        return ()

    @model_validator(mode="after")
    def _check_network(self) -> UnitNetwork:
        names = self.unit_names
        known = set(names)
        if len(known) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise ValueError(f"'units' names {twice!r} twice: every unit needs a name of its own")
        for place in self.places():
            if isinstance(place, str) and place not in known:
                raise ValueError(f"{place!r} is to be a source, sink or sensor, but there is no such unit")
        if (self.range_m is None) == (self.links is None) and len(names) > 1:
            raise ValueError("'range_m' and 'links': give one of them, to say which units hear each other")
        if self.range_m is not None:
            for unit in self.units:
                if unit.position is None:
                    raise ValueError(f"'units': {unit.name!r} has no 'position', which 'range_m' needs")
        elif any(not isinstance(place, str) for place in self.places()):
            raise ValueError("a source or sink at a place [x, y] needs 'range_m'; without it, name a unit")
        for pair in self.links or ():
            for name in pair:
                if name not in known:
                    raise ValueError(f"'links' names {name!r}, but there is no such unit")
        lost = np.flatnonzero(~np.isfinite(self._all_hops[0]))
        if len(lost):
            raise ValueError(
                f"'units': the network is not connected, {names[0]!r} cannot reach "
                f"{self._nodes[int(lost[0])]!r}: raise 'range_m' (or add a link)"
            )
        return self

    def __eq__(self, other: object) -> bool:
        # pydantic would compare the arrays that are kept as well.
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

    def hops_from(self, place: Place) -> NDArray[np.float64]:
        """Hops from a source or to a sink, `(units,)` float64."""
        return self._all_hops[self._nodes.index(place), : len(self.units)]

    @functools.cached_property
    def adjacency(self) -> NDArray[np.bool_]:
        """`(nodes, nodes)`: which units, and after them points, hear each other."""
        nodes = self._nodes
        linked = np.zeros((len(nodes), len(nodes)), bool)
        if self.range_m is not None:
            positions = [*(unit.position for unit in self.units), *nodes[len(self.units) :]]
            at = np.array(positions, np.float64)
            linked = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)) < self.range_m
        for pair in self.links or ():
            first, second = (nodes.index(name) for name in pair)
            linked[first, second] = linked[second, first] = True
        np.fill_diagonal(linked, False)
        return linked

    @functools.cached_property
    def _nodes(self) -> list[Place]:
        """Units, then points."""
        points = dict.fromkeys(place for place in self.places() if not isinstance(place, str))
        return [*self.unit_names, *points]

    @functools.cached_property
    def _all_hops(self) -> NDArray[np.float64]:
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import shortest_path

        return shortest_path(csr_matrix(self.adjacency), method="D", directed=False, unweighted=True)
