"""Aggregation schemes as facts: how a node joins what its senders send.

    MP   element-wise maximum
    AP   element-wise average
    CC   concatenation, and a linear layer back to the dimension of one input
    WCC  wide concatenation: all channels side by side, without a linear layer

A scheme says whether bits stay bits, what stands in for an absent sender, and which Keras layer computes
it. Exported sections take an input from every sender and no mask. An absent sender's input is replaced by
what leaves the aggregate of the others as it is, so any engine serves any subset of the senders, and
answers as the Keras layer does with these senders masked.

A scheme of a user's own, in one file:

    >>> ddnn_tf.register_scheme(  # doctest: +SKIP
    ...     Scheme("GATED", False, absent_as_zero, "my_package.gated:GatedAggregation")
    ... )

Source: Teerapittayanon et al. 2017, Sections III-B and IV-G; the substitution and WCC are ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.registry import Registry
from ddnn_tf.specs import Shape

__all__ = ["SCHEMES", "Scheme", "StandIn", "one", "register_scheme", "zero"]

StandIn = Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float32]]
"""The inputs that are present, `(samples, ...)` each, to the input that stands in for an absent one."""


@dataclass(frozen=True)
class Scheme:
    """An aggregation scheme.

    Attributes:
        name: Its name in a topology.
        keeps_bits: Whether the aggregate of bits (-1 and +1) is bits.
        stand_in: What stands in for an absent sender.
        layer: The Keras layer, as `module:Class`, so that nothing imports TensorFlow before a network is
            built. The layer takes a list of tensors `(batch, ...)` of one shape, and an optional `present`,
            `(batch, inputs)` bool.
        is_wide: Whether the aggregate holds the channels of all inputs, in place of the shape of one. What
            has such a shape needs blocks behind it, so a local aggregator cannot join class vectors so.
    """

    name: str
    keeps_bits: bool
    stand_in: StandIn
    layer: str
    is_wide: bool = False

    def joined_shape(self, shape: Shape, inputs: int) -> Shape:
        """Shape of the aggregate of a number of inputs of one shape."""
        return (*shape[:-1], inputs * shape[-1]) if self.is_wide else shape

    @property
    def layer_class(self) -> type[Any]:
        """The class of its Keras layer."""
        module, _, name = self.layer.partition(":")
        layer: type[Any] | None = getattr(importlib.import_module(module), name, None)
        if layer is None:
            raise ValueError(f"The scheme '{self.name}' names the layer '{self.layer}', but there is none.")
        return layer

    def make_layer(self, **options: Any) -> Any:
        """A new Keras layer; `options` are those of any Keras layer, e.g. `name`."""
        return self.layer_class(**options)

    @property
    def module(self) -> str:
        """The module of its layer."""
        return self.layer.partition(":")[0]

    def complete(
        self, senders: Sequence[str], given: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[np.float32]]:
        """The inputs of all senders, out of those that are present.

        Args:
            senders: The names of all.
            given: `(samples, ...)` float32 of those that are present, by name.

        Returns:
            `(samples, ...)` float32 for every sender.

        Raises:
            ValueError: No sender is present.
        """
        if not given:
            raise ValueError(f"Expected an input of at least one of {', '.join(senders)}, but got none.")
        if len(given) == len(senders):
            return {name: given[name] for name in senders}
        substitute = self.stand_in(list(given.values()))
        return {name: given.get(name, substitute) for name in senders}


def zero(present: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Zero, which adds nothing to a linear layer's sum."""
    return np.zeros_like(present[0])


def one(present: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One, which is a bit where the others are bits."""
    return np.ones_like(present[0])


def _copy(present: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A copy of one that is present, which changes no maximum."""
    return present[0]


def _average(present: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The average of those present, which changes no average."""
    return np.asarray(np.mean(present, axis=0, dtype=np.float32))


SCHEMES: Registry[Scheme] = Registry("aggregation scheme")
"""Every scheme by its name."""


def register_scheme(scheme: Scheme) -> None:
    """Makes a scheme known by its name, in topologies and on the command line.

    Raises:
        ValueError: Another scheme has that name, or `layer` is not `module:Class`.
    """
    if not all(scheme.layer.partition(":")):
        raise ValueError(f"Expected `layer` to be 'module:Class', but got {scheme.layer!r}.")
    SCHEMES.register(scheme.name, scheme, scheme.module)


register_scheme(Scheme("MP", True, _copy, "ddnn_tf.aggregation:MaxAggregation"))
register_scheme(Scheme("AP", False, _average, "ddnn_tf.aggregation:AverageAggregation"))
register_scheme(Scheme("CC", False, zero, "ddnn_tf.aggregation:ConcatAggregation"))
register_scheme(Scheme("WCC", True, one, "ddnn_tf.aggregation:WideConcatAggregation", is_wide=True))
