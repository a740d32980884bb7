"""Recipes: how a network is trained so that it is worth deploying.

    paper    Adam with the paper's parameters and nothing else
    robust   devices that are absent in training, a learning rate that falls along a cosine

A recipe is data; `TrainingOptions(recipe=...)` takes one, and `ddnn train --recipe NAME` one of `RECIPES`:

    >>> RECIPES["robust"].drop
    0.5
    >>> dataclasses.replace(RECIPES["robust"], distillation=0.5).differences()["distillation"]
    0.5

Networks stand in `network`; what a recipe changes for training alone (gradients, real values at first) in
`twins`. Whatever the recipe, the trained network is the one of `build(topology)`, and exports as such.

Source: Teerapittayanon et al. 2017, Section IV-B for `paper`; of each field of `Recipe` below.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import create_model, model_validator

from ddnn_tf.documents import Document
from ddnn_tf.registry import Registry
from ddnn_tf.schemes import SCHEMES

__all__ = ["RECIPES", "Recipe", "find_recipe", "make_recipe", "recipe_yaml", "register_recipe"]

Gradient = Literal["ste_sign", "approx_sign", "swish_sign"]
"""A sign whose gradient is that of a clipped line, of a parabola (Bi-Real Net), or of a swish (BNN+)."""


@dataclass(frozen=True)
class Recipe:
    """How to train a network; the defaults are the paper's.

    Attributes:
        name: Its name.
        upper: Aggregation at edges and cloud that it goes with, where the user chooses none.
        learning_rate: Adam's alpha, at its highest.
        schedule: `constant`, or `cosine`: falling to 0 along half a cosine.
        warm_up: Share of the epochs in which the learning rate rises from 0; with `cosine` only.
        drop: Share of the samples from which a random number of devices, but never all, is absent.
        mask_absent: Devices that do not see the object are absent as well in these samples.
        survival: By node: how likely it is up, each sample anew; nodes that are left out are always up.
            Source: Yousefpour et al. 2020, ResiliNet, "failout".
        distillation: Weight of the cross-entropy of each lower exit against the highest one's answer. Source:
            Hinton et al. 2015; Phuong and Lampert 2019 for exits.
        weight_shift: How far the loss weights move from lower to upper exits over the training, 0..1: the
            lowest exit's starts at 1 + shift times its own and ends at 1 - shift times it, the highest one's
            the other way round.
        branch_gradient: What an exit below the highest hands on of its gradient to the feature map that it
            shares with those above. Source: Li et al. 2019, gradient equilibrium.
        label_smoothing: Share of the target that is spread evenly over the classes.
        averaging: Decay of a moving average of the weights, which is what is validated and kept, with batch
            statistics of its own; 0: none. Source: Izmailov et al. 2018, as a moving average.
        real_epochs: Share of the epochs, the first ones, in which weights and activations are real.
        activation_gradient: Gradient of the sign of activations.
        kernel_gradient: Gradient of the sign of weights: `ste_sign`, or `magnitude_aware_sign`, which scales
            each filter's by the mean of its real weights. Source: Liu et al. 2018, Bi-Real Net.
        optimizer: `adam`, or `bop` for the binary weights. Source: Helwegen et al. 2019.

    Raises:
        ValueError: A number out of its range, or fields that contradict each other.
    """

    name: str = "own"
    upper: str = "CC"
    learning_rate: float = 0.001
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: float = 0.0
    drop: float = 0.0
    mask_absent: bool = False
    survival: Mapping[str, float] = field(default_factory=dict, hash=False)
    distillation: float = 0.0
    weight_shift: float = 0.0
    branch_gradient: float = 1.0
    label_smoothing: float = 0.0
    averaging: float = 0.0
    real_epochs: float = 0.0
    activation_gradient: Gradient = "ste_sign"
    kernel_gradient: Literal["ste_sign", "magnitude_aware_sign"] = "ste_sign"
    optimizer: Literal["adam", "bop"] = "adam"

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not math.isfinite(self.learning_rate):
            raise ValueError(f"Expected `learning_rate` to be positive, but got {self.learning_rate}.")
        shares = {name: getattr(self, name) for name in ("drop", "weight_shift", "branch_gradient")}
        shares |= {f"survival of {node}": rate for node, rate in self.survival.items()}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"Expected `{name}` in 0..1, but got {value}.")
        for name in ("warm_up", "label_smoothing", "averaging", "real_epochs"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` in 0..1, 1 excluded, but got {getattr(self, name)}.")
        if not 0 <= self.distillation < math.inf:
            raise ValueError(f"Expected `distillation` not to be negative, but got {self.distillation}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected `{name}` to be one of {', '.join(choices)}, but got {getattr(self, name)!r}."
                )
        if self.warm_up and self.schedule != "cosine":
            raise ValueError(f"Expected `warm_up` with the schedule 'cosine', but got {self.schedule!r}.")
        if self.mask_absent and not self.drop:
            raise ValueError("Expected `mask_absent` with a positive `drop`, but got a `drop` of 0.")
        if self.averaging and self.optimizer == "bop":
            raise ValueError("Expected `averaging` with the optimizer 'adam': Bop has no real weights.")

    @property
    def fails_nodes(self) -> bool:
        """Whether nodes are absent in training, so that the network needs the input `present`."""
        return self.drop > 0 or bool(self.survival)

    @property
    def changes_layers(self) -> bool:
        """Whether training needs other layers than the network has (`twins`)."""
        paper = Recipe()
        names = ("activation_gradient", "kernel_gradient", "real_epochs", "branch_gradient")
        return any(getattr(self, name) != getattr(paper, name) for name in names)

    def check_nodes(self, names: Sequence[str]) -> None:
        """Checks that `survival` is that of nodes which may fail.

        Args:
            names: Names of the nodes that may fail (`Hierarchy.failable_names`).

        Raises:
            ValueError: It has a rate of another node.
        """
        for name in self.survival:
            if name not in names:
                raise ValueError(
                    f"Expected `survival` of nodes out of {', '.join(names)}, but got '{name}': correct its "
                    "name."
                )

    def alone(self) -> Recipe:
        """The recipe for devices that are trained alone, each with an exit of its own."""
        return dataclasses.replace(
            self,
            drop=0.0,
            mask_absent=False,
            survival={},
            distillation=0.0,
            weight_shift=0.0,
            branch_gradient=1.0,
        )

    def shares(self, exits: int, epochs: int) -> NDArray[np.float32]:
        """How `weight_shift` changes the loss weights.

        Args:
            exits: Number of exits, the lowest first.
            epochs: Epochs of the training.

        Returns:
            `(epochs, exits)` float32, factors of the loss weights; their mean over the training is 1.
        """
        progress = np.linspace(-1, 1, epochs) if epochs > 1 else np.zeros(1)
        height = np.linspace(-1, 1, exits) if exits > 1 else np.zeros(1)
        return (1 + self.weight_shift * progress[:, None] * height).astype(np.float32)

    def differences(self) -> dict[str, Any]:
        """The fields that are not the paper's, by name: plain data for records."""
        paper = Recipe()
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value != getattr(paper, name)}


_CHOICES = {
    "schedule": ("constant", "cosine"),
    "activation_gradient": ("ste_sign", "approx_sign", "swish_sign"),
    "kernel_gradient": ("ste_sign", "magnitude_aware_sign"),
    "optimizer": ("adam", "bop"),
}

RECIPES: Registry[Recipe] = Registry("recipe")
"""Every recipe by its name."""


def register_recipe(recipe: Recipe, module: str = __name__) -> None:
    """Makes a recipe known by its name, on the command line as well.

    Args:
        recipe: The recipe.
        module: Whose it is: your module's `__name__`.

    Raises:
        ValueError: Another one has that name.
    """
    RECIPES.register(recipe.name, recipe, module)


class _Document(Document):
    subject: ClassVar[str] = "recipe"

    @model_validator(mode="before")
    @classmethod
    def _refuse_yes_for_a_number(cls, fields: Any) -> Any:
        hints = get_type_hints(Recipe)
        for name, value in fields.items() if isinstance(fields, Mapping) else ():
            # pydantic takes `yes` for 1.0.
            if isinstance(value, bool) and hints.get(name) is float:
                raise ValueError(f"'{name}' is {str(value).lower()}, but it takes a number")
        return fields


# The fields of a recipe as YAML has them: each with its type and the paper's value.
_Written: type[Document] = create_model(
    "_Written",
    __base__=_Document,
    **{name: (hint, getattr(Recipe(), name)) for name, hint in get_type_hints(Recipe).items()},  # type: ignore[call-overload]
)


def make_recipe(fields: Mapping[str, Any]) -> Recipe:
    """A recipe of plain data, such as YAML holds; fields that are left out are the paper's.

    Raises:
        ValueError: An unknown field, a value of another type, or one that `Recipe` refuses.
    """
    written = _Written(**fields)
    recipe = Recipe(**{name: getattr(written, name) for name in type(written).model_fields})
    SCHEMES[recipe.upper]  # refuses an unknown one
    return recipe


def recipe_yaml(recipe: Recipe) -> str:
    """A recipe as YAML, which `find_recipe` reads back: what differs from the paper's."""
    return yaml.safe_dump(recipe.differences(), sort_keys=False)


def find_recipe(name: str) -> Recipe:
    """A recipe by its name, or out of a file.

    Args:
        name: One of `RECIPES`, or a path that ends in `.yaml` or `.yml`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No recipe of that name, or as `make_recipe`, with the path in front.
    """
    if Path(name).suffix.lower() not in (".yaml", ".yml"):
        return RECIPES[name]
    written = _Written.load(name)
    try:
        return make_recipe(written.model_dump())
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


register_recipe(Recipe("paper"))
register_recipe(Recipe("robust", upper="WCC", learning_rate=0.003, schedule="cosine", drop=0.5))
