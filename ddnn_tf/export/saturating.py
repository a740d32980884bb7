"""A binary section without sign operators, exact also in 8-bit integers.

Quantized engines have no sign (TFLite Micro has none at all), and a batch norm rounded to 8 bits puts
feature bits on the wrong side. Here a binary ConvP block becomes

    convolution with weights of -6 and +6, and bias -> ReLU6 -> max pool -> a scale and an offset

The bias puts each filter's threshold (`folding`) between the integers that give 0 and those that
give 6: the 32-bit accumulator is exact and the ReLU6 saturates, so that every feature is one of two
values that 8 bits represent without error. Both are constant functions of the bit, and rising, so
the pool may follow (its border is 0, the lowest value); a falling filter is turned round by the
scale. Feature bits of an earlier block enter as (1 - x) / 2, where the padding by +1 is one by 0.

Where the input is real (after an average or a linear layer), there is no gap between integers: the
block is then steep, and right but for values next to the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ddnn_tf.folding import affine, fold_sign, signs
from ddnn_tf.sections import Section

__all__ = ["saturating"]

_TOP = 6.0
_STEEPNESS = 32.0
_FAR = 1e4
_HIGHEST_PIXEL = 255


def saturating(section: Section) -> Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """The section as a function for `tf.function`: inputs by sender to outputs by name.

    Layers that are not binary are called as they are.
    """
    layers = {layer.name: layer for layer in section.model.layers}
    blocks = {
        name.removesuffix("_sign"): _Saturated.of(section, layers, name.removesuffix("_sign"))
        for name in layers
        if name.endswith("_sign")
    }

    exits = {
        name.removesuffix("_dense"): _scaled(layer, layers[name.replace("_dense", "_norm")])
        for name, layer in layers.items()
        if isinstance(layer, lq.layers.QuantDense) and name.removesuffix("_dense") not in blocks
    }

    def run(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tensors: dict[int, tf.Tensor] = {}
        for layer in section.model.layers:
            if isinstance(layer, tf.keras.layers.InputLayer):
                tensors[id(layer.output)] = inputs[layer.name]
                continue
            found = [tensors[id(tensor)] for tensor in tf.nest.flatten(layer.input)]
            given = found if len(found) > 1 else found[0]
            tensors[id(layer.output)] = _replaced(layer, blocks, exits, given)
        return {name: tensors[id(tensor)] for name, tensor in section.model.output.items()}

    return run


@dataclass(frozen=True)
class _Saturated:
    """A binary block with a sign: its sum, ReLU6, then a scale and an offset that give -1 or +1."""

    weights: np.ndarray
    bias: np.ndarray
    turn: np.ndarray
    has_bits: bool

    @classmethod
    def of(cls, section: Section, layers: Mapping[str, Any], block: str) -> _Saturated:
        layer = layers.get(f"{block}_conv") or layers[f"{block}_dense"]
        norm, sign = layers[f"{block}_norm"], layers[f"{block}_sign"]
        weights = signs(layer).astype(np.float64)
        sums = weights.reshape(-1, weights.shape[-1]).sum(axis=0)
        takes_pixels = section.tier == "device" and block.endswith("_convp_0")
        has_bits = layer.input_quantizer is not None
        if takes_pixels or has_bits:
            reach = math.prod(weights.shape[:-1]) * (_HIGHEST_PIXEL if takes_pixels else 1)
            thresholds, rising = fold_sign(norm, sign, reach)
            steepness = _TOP
            bias = -_TOP * thresholds + np.where(rising, _TOP, 0.0)
        else:
            scale, offset = (part.astype(np.float64) for part in affine(norm))
            steepness, rising = _TOP * _STEEPNESS, scale >= 0
            # A filter of scale 0 is always on one side, far from its threshold.
            aside = np.where(offset >= 0, -_FAR, _FAR)
            edge = np.where(scale == 0, aside, -offset / np.where(scale == 0, 1, scale))
            bias = -steepness * edge + _TOP / 2
        if has_bits:
            # x = 1 - 2 z: the padding by x = +1 becomes one by z = 0.
            bias, steepness = bias + steepness * sums, -2 * steepness
        turn = np.where(rising, 1.0, -1.0)
        return cls(
            (steepness * weights).astype(np.float32),
            bias.astype(np.float32),
            turn.astype(np.float32),
            has_bits,
        )

    def total(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.has_bits:
            inputs = 0.5 - 0.5 * inputs
        if self.weights.ndim == 2:
            return tf.nn.relu6(tf.matmul(inputs, self.weights) + self.bias)
        return tf.nn.relu6(tf.nn.conv2d(inputs, self.weights, 1, "SAME") + self.bias)

    def bits(self, saturated: tf.Tensor) -> tf.Tensor:
        return saturated * (2 * self.turn / _TOP) - self.turn


def _scaled(dense: tf.keras.layers.Layer, norm: tf.keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """A binary dense layer before an exit and its batch norm, as real weights and an offset."""
    scale, offset = affine(norm)
    return signs(dense).astype(np.float32) * scale, offset


def _replaced(
    layer: tf.keras.layers.Layer,
    blocks: Mapping[str, _Saturated],
    exits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    given: Any,
) -> tf.Tensor:
    """What stands for a layer."""
    name, kind = layer.name.rsplit("_", 1) if "_" in layer.name else (layer.name, "")
    if name in exits and kind in ("dense", "norm"):
        weights, offset = exits[name]
        return tf.matmul(given, weights) + offset if kind == "dense" else given
    if name not in blocks:
        return layer(given, training=False)
    if kind in ("conv", "dense"):
        return blocks[name].total(given)
    if kind == "pool":
        return tf.nn.max_pool2d(tf.pad(given, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    if kind == "norm":
        return blocks[name].bits(given)
    return given if kind == "sign" else layer(given)
