"""What a Keras model demands, layer by layer: million operations, KB of weights, KB of output.

    >>> import tensorflow as tf
    >>> image = tf.keras.Input((8, 8, 3))
    >>> features = tf.keras.layers.Conv2D(4, 3, name="first")(image)
    >>> logits = tf.keras.layers.Dense(10, name="second")(tf.keras.layers.Flatten()(features))
    >>> cnn = profile(tf.keras.Model(image, logits, name="tiny"))
    >>> cnn.layers, cnn.output_kb
    (('first', 'second'), (0.576, 0.04))

The model is divided wherever a single tensor passes from the layers before to the layers behind, and a layer
with weights follows. The layers between two divisions, branches included, are one layer of the profile: a
convolution comes with its pooling, normalization and activation, and a residual block is one layer. Further
outputs are early exits: each is a layer of its own behind the layer that feeds it, and passes the trunk's
tensor on.

An operation is a multiplication with addition, binary or not. Weights and outputs take the bits that Larq
counts: 1 for a binary weight, 1 for an output of signs, 32 otherwise. KB are 1,000 bytes, as in the
reference's profiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddnn_tf.placement.instance import Cnn
from ddnn_tf.schemes import SCHEMES

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Demand", "demand_of", "profile"]

_KB = 8 * 1000
"""Bits of a KB."""
_FLOAT_BITS = 32


@dataclass(frozen=True)
class Demand:
    """What some layers demand together.

    Attributes:
        mop: Million operations for a sample.
        memory_kb: KB of weights.
    """

    mop: float
    memory_kb: float


@dataclass
class _Part:
    """A layer of the profile: its Keras layers, the one whose tensor it passes on, and its exit."""

    label: str
    layers: list[str]
    end: str
    output: str = ""


def demand_of(layers: Sequence[tf.keras.layers.Layer], model: tf.keras.Model) -> Demand:
    """Counts what layers of a model demand together.

    Args:
        layers: Some of the model's layers.
        model: The model, built.

    Raises:
        ValueError: The operations of a layer are unknown.
    """
    import larq as lq

    profiles = {each.name: each for each in lq.models.ModelProfile(model).layer_profiles}
    bits = sum(profiles[layer.name].memory for layer in layers)
    return Demand(sum(_operations(layer, profiles[layer.name]) for layer in layers) / 1e6, bits / _KB)


def profile(
    model: tf.keras.Model, name: str | None = None, *, exits: Mapping[str, float] | None = None
) -> Cnn:
    """The profile of a Keras model with one input.

    Args:
        model: The model; its last output is that of the final layer, the others are early exits.
        name: Name of the profile; None: that of the model.
        exits: Share of the decisions that leave at each output, by its name; the shares sum to 1. Required if
            the model has several outputs.

    Returns:
        A CNN for a `Workload`. Each of its layers has the name of its first Keras layer with weights.

    Raises:
        ValueError: The model has several inputs, shared layers, no weights or layers whose operations are
            unknown, or `exits` does not name its outputs.
    """
    _check(model, exits)
    names, feeders = list(model.output_names), _feeders(model)
    before = _parents(model)
    layers = {layer.name: layer for layer in model.layers}
    trunk = set(_ancestors(feeders[-1], before))
    parts = [
        _Part(_first_weights(part, layers), part, part[-1])
        for part in _parts([layer.name for layer in model.layers if layer.name in trunk], before, layers)
    ]
    parts[-1].output = names[-1]
    for output, feeder in zip(names[:-1], feeders[:-1], strict=True):
        head = [name for name in _ancestors(feeder, before) if name not in trunk]
        roots = {parent for name in head for parent in before[name] if parent in trunk} or {feeder}
        feeding = [number for number, part in enumerate(parts) if {part.end} == roots]
        if not feeding:
            raise ValueError(
                f"Expected the exit '{output}' to hang on the end of one layer, but it hangs on "
                f"{', '.join(sorted(roots))}: attach it where a single tensor passes."
            )
        taken = {part.label for part in parts}
        label = output if output not in taken else f"{output}_exit"
        parts.insert(feeding[-1] + 1, _Part(label, head, parts[feeding[-1]].end, output))
    demands = [demand_of([layers[name] for name in part.layers], model) for part in parts]
    shares = {names[-1]: 1.0} if exits is None else dict(exits)
    return Cnn(
        name=name or model.name,
        demand_mop=tuple(each.mop for each in demands),
        memory_kb=tuple(each.memory_kb for each in demands),
        output_kb=tuple(_output_kb(layers[part.end]) for part in parts),
        exit_probability=tuple(float(shares.get(part.output, 0.0)) for part in parts),
        layers=tuple(part.label for part in parts),
    )


def _check(model: tf.keras.Model, exits: Mapping[str, float] | None) -> None:
    if not model.built or not model.inputs or len(model.inputs) != 1:
        finding = f"{len(model.inputs)} inputs" if model.built and model.inputs else "no known input"
        raise ValueError(
            f"Expected a built Sequential or functional model with one input, but '{model.name}' has "
            f"{finding}."
        )
    for tensor in (*model.inputs, *model.outputs):
        if None in tensor.shape[1:]:
            raise ValueError(
                f"Expected tensors of fixed size, but '{model.name}' has one of {tuple(tensor.shape)}: build "
                "it for the size of its images."
            )
    for layer in model.layers:
        if len(layer.inbound_nodes) > 1:
            raise ValueError(f"Expected layers that are called once, but '{layer.name}' is shared.")
    if not any(layer.weights for layer in model.layers):
        raise ValueError(f"Expected a model with weights, but '{model.name}' has none.")
    names = list(model.output_names)
    if exits is None and len(names) > 1:
        raise ValueError(f"Expected `exits` with the share of decisions at each of {', '.join(names)}.")
    if exits is not None and set(exits) != set(names):
        raise ValueError(f"Expected `exits` for {', '.join(names)}, but got {', '.join(exits) or 'none'}.")


def _feeders(model: tf.keras.Model) -> list[str]:
    """Names of the layers that give the outputs."""
    return [tensor._keras_history.layer.name for tensor in model.outputs]


def _parents(model: tf.keras.Model) -> dict[str, list[str]]:
    """Names of the layers that feed each layer; a `Sequential` does not count its input among them."""
    known = {layer.name for layer in model.layers}
    before: dict[str, list[str]] = {}
    for layer in model.layers:
        parents = [parent.name for node in layer.inbound_nodes for parent, *_ in node.iterate_inbound()]
        before[layer.name] = [name for name in parents if name in known]
    return before


def _ancestors(name: str, before: Mapping[str, list[str]]) -> list[str]:
    """A layer and all layers that lead to it."""
    reached = {name: None}
    to_visit = [name]
    while to_visit:
        for parent in before[to_visit.pop()]:
            if parent not in reached:
                reached[parent] = None
                to_visit.append(parent)
    return list(reached)


def _parts(order: list[str], before: Mapping[str, list[str]], layers: Mapping[str, Any]) -> list[list[str]]:
    """Layers in order, divided where a single tensor passes and a layer with weights follows."""
    last_use = {parent: index for index, name in enumerate(order) for parent in before[name]}
    parts: list[list[str]] = [[]]
    for index, name in enumerate(order):
        alive = [each for each in order[:index] if last_use.get(each, -1) >= index]
        has_weights = any(_has_kernel(each, layers) for each in parts[-1])
        if has_weights and alive == [parts[-1][-1]] and _begins(order[index:], last_use, index, layers):
            parts.append([])
        parts[-1].append(name)
    return parts


def _begins(rest: list[str], last_use: Mapping[str, int], index: int, layers: Mapping[str, Any]) -> bool:
    """Whether a layer with a kernel, or a branch in which there is one, comes next."""
    name = rest[0]
    return _has_kernel(name, layers) or (
        last_use.get(name, index) > index + 1 and any(_has_kernel(each, layers) for each in rest[1:])
    )


def _has_kernel(name: str, layers: Mapping[str, Any]) -> bool:
    """Whether a layer has weights besides those of normalization and biases."""
    return any(len(weight.shape) >= 2 for weight in layers[name].weights)


def _first_weights(part: list[str], layers: Mapping[str, Any]) -> str:
    return next((name for name in part if _has_kernel(name, layers)), part[0])


def _operations(layer: tf.keras.layers.Layer, counted: Any) -> float:
    """Multiplications of a layer for a sample; `counted` is Larq's profile of it."""
    operations = counted.op_count("mac")
    if operations is not None or not layer.weights:
        return float(operations or 0)
    kernels = [weight for weight in layer.weights if len(weight.shape) >= 2]
    if kernels and not _aggregates(layer):
        raise ValueError(
            f"Expected layers whose operations Larq counts, but '{layer.name}' is a {type(layer).__name__}: "
            "write down its demand in a `Cnn` of your own."
        )
    # An aggregation applies its kernels at every position of the output.
    positions = math.prod(layer.output_shape[1:-1])
    return float(sum(math.prod(weight.shape) for weight in kernels) * positions)


def _aggregates(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer is that of a registered aggregation scheme."""
    name = f"{type(layer).__module__}:{type(layer).__qualname__}"
    return any(SCHEMES[scheme].layer == name for scheme in SCHEMES)


def _output_kb(layer: tf.keras.layers.Layer) -> float:
    """KB of a layer's output for a sample."""
    activation = getattr(layer, "activation", None)
    is_binary = any(getattr(each, "precision", None) == 1 for each in (layer, activation))
    return math.prod(layer.output_shape[1:]) * (1 if is_binary else _FLOAT_BITS) / _KB
