"""Where a search looks: choices of topology, and choices or ranges of a recipe's fields.

>>> space = Space.from_yaml("{filters: [4, [4, 8]], recipe: {drop: {low: 0, high: 0.7}}}")
>>> space.filters
((4,), (4, 8))
>>> Space.from_yaml(space.to_yaml()) == space
True
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from ddnn_tf.datasets import MultiViewDataset, fitting_topology
from ddnn_tf.documents import Document, Strict
from ddnn_tf.hierarchy import Precision
from ddnn_tf.recipes import RECIPES, Recipe, make_recipe
from ddnn_tf.schemes import SCHEMES
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Candidate", "Range", "Space"]

# The name tells nothing, `upper` is a choice of topology, and rates by node are no single number.
_NOT_SEARCHED = ("name", "upper", "survival")
_SEARCHED = tuple(field.name for field in dataclasses.fields(Recipe) if field.name not in _NOT_SEARCHED)
_TOPOLOGY = ("configuration", "filters", "local", "upper", "cloud_precision")


class Range(Strict):
    """Numbers between two bounds, both included.

    Attributes:
        low: The lower bound.
        high: The upper bound.
        log: Whether their logarithms are equally likely, in place of the numbers.
    """

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"'low' is {self.low} and 'high' {self.high}: 'low' must be below 'high'")
        if self.log and self.low <= 0:
            raise ValueError(f"'log' needs a positive 'low', which is {self.low}")
        return self


def _known_scheme(name: str) -> str:
    SCHEMES[name]
    return name


def _known_recipe(name: str) -> str:
    RECIPES[name]
    return name


def _blocks(value: Any) -> Any:
    """A single number of filters is one block, and a single choice a list of one."""
    if isinstance(value, int):
        value = [value]
    if isinstance(value, list | tuple):
        return [each if isinstance(each, list | tuple) else (each,) for each in value]
    return value


_Blocks = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
_Scheme = Annotated[str, AfterValidator(_known_scheme)]
_Choices = Annotated[tuple[bool | float | str, ...], Field(min_length=1)]


_DEFAULT_RECIPE: dict[str, Range | tuple[bool | float | str, ...]] = {
    "learning_rate": Range(low=0.0005, high=0.01, log=True),
    "drop": (0.0, 0.25, 0.5, 0.75),
    "distillation": (0.0, 0.5),
    "averaging": (0.0, 0.99),
    "label_smoothing": (0.0, 0.1),
}


class Space(Document):
    """The candidates of a search. What has one choice is not searched.

    Args:
        configuration: Letters of the paper's Figure 2.
        filters: Filters of a device's ConvP block; of several blocks, a list: `[4, 16, [4, 8]]`.
        local: Aggregation schemes at the local exit.
        upper: Aggregation schemes at edges and cloud.
        cloud_precision: Precisions of the blocks of edges and cloud.
        base: The recipe that candidates take all fields from that `recipe` leaves out.
        recipe: Choices (a list) or a `Range`, by field of `Recipe`.

    Raises:
        ValueError: An unknown scheme, recipe or field, a choice of another type than the field, or no choice.
    """

    subject: ClassVar[str] = "search space"

    configuration: Annotated[tuple[Literal["a", "b", "c", "d", "e", "f"], ...], Field(min_length=1)] = ("c",)
    filters: Annotated[tuple[_Blocks, ...], BeforeValidator(_blocks), Field(min_length=1)] = (
        (4,),
        (8,),
        (16,),
    )
    local: Annotated[tuple[_Scheme, ...], Field(min_length=1)] = ("MP", "AP", "CC")
    upper: Annotated[tuple[_Scheme, ...], Field(min_length=1)] = ("MP", "CC", "WCC")
    cloud_precision: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("binary", "float")
    base: Annotated[str, AfterValidator(_known_recipe)] = "robust"
    recipe: dict[str, Range | _Choices] = _DEFAULT_RECIPE

    @model_validator(mode="after")
    def _check(self) -> Space:
        for field, choices in self.recipe.items():
            if field not in _SEARCHED:
                raise ValueError(
                    f"'recipe' names '{field}', which is no field of a recipe that can be searched: known "
                    f"are {', '.join(_SEARCHED)}"
                )
            for value in (choices.low, choices.high) if isinstance(choices, Range) else choices:
                if type(value) is not type(getattr(Recipe(), field)):
                    kind = type(getattr(Recipe(), field)).__name__
                    raise ValueError(f"'recipe.{field}' holds {value!r}, but it takes values of type {kind}")
                # With what other fields may ask for, so that each value is judged by itself.
                make_recipe({"schedule": "cosine", "drop": 0.5, field: value})
        return self

    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from, by name: the fields of topology and recipe.

        Raises:
            ImportError: Optuna is not installed.
        """
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        drawn: dict[str, BaseDistribution] = {
            name: CategoricalDistribution([_label(choice) for choice in getattr(self, name)])
            for name in _TOPOLOGY
        }
        for field, choices in self.recipe.items():
            if isinstance(choices, Range):
                drawn[field] = FloatDistribution(choices.low, choices.high, log=choices.log)
            else:
                drawn[field] = CategoricalDistribution(choices)
        return drawn

    def candidate(self, drawn: Mapping[str, Any], data: MultiViewDataset) -> Candidate:
        """The network and the recipe of what was drawn.

        Args:
            drawn: A value for each name of `distributions`.
            data: The data that the topology is to fit.

        Raises:
            ValueError: They contradict each other, or do not fit the data.
        """
        options = {name: drawn[name] for name in _TOPOLOGY}
        options["filters"] = [int(size) for size in options["filters"].split(",")]
        if options["configuration"] == "a":
            del options["local"]
        base = dataclasses.asdict(RECIPES[self.base])
        chosen = {field: drawn[field] for field in self.recipe}
        recipe = make_recipe({**base, **chosen, "name": "search", "upper": options["upper"]})
        return Candidate(fitting_topology(data, **options), recipe)


@dataclass(frozen=True)
class Candidate:
    """What a search may train.

    Attributes:
        topology: The network.
        recipe: How to train it.
    """

    topology: Topology
    recipe: Recipe


def _label(choice: Any) -> Any:
    """A choice as Optuna stores it."""
    return ",".join(map(str, choice)) if isinstance(choice, tuple) else choice
