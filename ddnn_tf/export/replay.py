"""A section's Keras graph run again with other layers in the place of some.

What the formats cannot express as Keras does is replaced: signs by saturation (`saturating`), dense layers by
convolutions (`targets.lce`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ddnn_tf.sections import Section

__all__ = ["reads_codes", "replay"]

Replacement = Callable[[tf.keras.layers.Layer, Any], tf.Tensor]
"""A layer and its input (a list, if it takes several) to what stands for its output."""


def replay(
    section: Section, inputs: Mapping[str, tf.Tensor], replacement: Replacement
) -> dict[str, tf.Tensor]:
    """Runs the layers of a section in their order, each by what stands for it.

    Args:
        section: The section.
        inputs: `(batch, ...)` by sender, symbolic Keras tensors or values.
        replacement: Takes each layer but the inputs.

    Returns:
        `(batch, ...)` by output.
    """
    tensors: dict[int, tf.Tensor] = {}
    for layer in section.model.layers:
        if isinstance(layer, tf.keras.layers.InputLayer):
            tensors[id(layer.output)] = inputs[layer.name]
            continue
        taken = [tensors[id(tensor)] for tensor in tf.nest.flatten(layer.input)]
        tensors[id(layer.output)] = replacement(layer, taken if len(taken) > 1 else taken[0])
    return {name: tensors[id(tensor)] for name, tensor in section.model.output.items()}


def reads_codes(section: Section, layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer's input is the 8-bit codes of a sensor, at most reshaped."""
    layers = tf.keras.layers
    kinds = {sender: spec.kind for sender, spec in zip(section.inputs, section.node.inputs, strict=True)}
    source = layer.input._keras_history.layer
    while isinstance(source, layers.Flatten | layers.Reshape):
        source = source.input._keras_history.layer
    return isinstance(source, layers.InputLayer) and kinds[source.name] == "bytes"
