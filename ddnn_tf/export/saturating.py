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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import larq as lq
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.blocks import PaddedMaxPool2D
from ddnn_tf.export.replay import reads_codes, replay
from ddnn_tf.folding import affine, fold_sign, signs
from ddnn_tf.sections import Section
from ddnn_tf.specs import HIGHEST_CODE

__all__ = ["saturating"]

_TOP = 6.0
# On real inputs a sum this much of a unit above the threshold (1 / 32) saturates.
_STEEPNESS = 32.0
# Farther from 0 than a sum of real inputs comes.
_FAR = 1e4

_Function = Callable[[tf.Tensor], tf.Tensor]


def saturating(section: Section) -> Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """The section as a function for `tf.function`: inputs by sender to outputs by name.

    Layers that are not of a binary block are called as they are.
    """
    stand_ins: dict[str, _Function] = {}
    for block in _binary_blocks(section):
        if block.sign is None:
            stand_ins |= _scaled(block)
        else:
            stand_ins |= _saturated(block, block.sign, section)

    def replacement(layer: tf.keras.layers.Layer, taken: tf.Tensor) -> tf.Tensor:
        if layer.name in stand_ins:
            return stand_ins[layer.name](taken)
        return layer(taken, training=False)

    return lambda inputs: replay(section, inputs, replacement)


@dataclass(frozen=True)
class _Block:
    """A binary layer and what follows it.

    Attributes:
        layer: A `QuantConv2D` or `QuantDense`.
        pool: Its pool, if it has one.
        norm: Its batch norm.
        sign: Its sign; None before an exit.
    """

    layer: tf.keras.layers.Layer
    pool: PaddedMaxPool2D | None
    norm: tf.keras.layers.Layer
    sign: tf.keras.layers.Layer | None


def _binary_blocks(section: Section) -> Iterator[_Block]:
    """The binary blocks of a section, in order."""
    followers = {
        id(tensor): layer for layer in section.model.layers for tensor in tf.nest.flatten(layer.input)
    }
    for layer in section.model.layers:
        if not isinstance(layer, lq.layers.QuantConv2D | lq.layers.QuantDense):
            continue
        follower = followers[id(layer.output)]
        pool = None
        if isinstance(follower, PaddedMaxPool2D):
            pool, follower = follower, followers[id(follower.output)]
        last = followers.get(id(follower.output))
        sign = last if isinstance(last, lq.quantizers.Quantizer) else None
        yield _Block(layer, pool, follower, sign)


def _saturated(block: _Block, sign: tf.keras.layers.Layer, section: Section) -> dict[str, _Function]:
    """A block with a sign: its sum and ReLU6, the pool, then a scale and an offset that give -1 or +1."""
    weights = signs(block.layer).astype(np.float64)
    sums = weights.reshape(-1, weights.shape[-1]).sum(axis=0)
    takes_codes = reads_codes(section, block.layer)
    takes_bits = block.layer.input_quantizer is not None
    if takes_codes or takes_bits:
        reach = math.prod(weights.shape[:-1]) * (HIGHEST_CODE if takes_codes else 1)
        thresholds, rising = fold_sign(block.norm, sign, reach)
        steepness = _TOP
        bias = -_TOP * thresholds + np.where(rising, _TOP, 0.0)
    else:
        scale, offset = (part.astype(np.float64) for part in affine(block.norm))
        steepness, rising = _TOP * _STEEPNESS, scale >= 0
        # A filter of scale 0 is always on one side, far from its threshold.
        aside = np.where(offset >= 0, -_FAR, _FAR)
        edge = np.where(scale == 0, aside, -offset / np.where(scale == 0, 1, scale))
        bias = -steepness * edge + _TOP / 2
    if takes_bits:
        # x = 1 - 2 z: the padding by x = +1 becomes one by z = 0.
        bias, steepness = bias + steepness * sums, -2 * steepness
    total = _linear((steepness * weights).astype(np.float32), bias.astype(np.float32))
    turn = np.where(rising, 1.0, -1.0).astype(np.float32)

    def saturated_sum(inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu6(total(0.5 - 0.5 * inputs if takes_bits else inputs))

    def bits(saturated: tf.Tensor) -> tf.Tensor:
        return saturated * (2 * turn / _TOP) - turn

    stand_ins: dict[str, _Function] = {
        block.layer.name: saturated_sum,
        block.norm.name: bits,
        sign.name: _unchanged,
    }
    if block.pool is not None:
        stand_ins[block.pool.name] = _pool_from_zero(block.pool)
    return stand_ins


def _scaled(block: _Block) -> dict[str, _Function]:
    """A binary layer before an exit and its batch norm, as real weights and an offset."""
    scale, offset = affine(block.norm)
    total = _linear(signs(block.layer).astype(np.float32) * scale, offset)
    return {block.layer.name: total, block.norm.name: _unchanged}


def _linear(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> _Function:
    """A dense layer or a convolution, padded with 0, by the rank of its weights."""
    if weights.ndim == 2:
        return lambda inputs: tf.matmul(inputs, weights) + bias
    return lambda inputs: tf.nn.conv2d(inputs, weights, 1, "SAME") + bias


def _pool_from_zero(pool: PaddedMaxPool2D) -> _Function:
    """The pool of numbers from 0 on, whose border is 0."""
    margins = [[0, 0], *([margin, margin] for margin in pool.margin), [0, 0]]
    return lambda inputs: tf.nn.max_pool2d(tf.pad(inputs, margins), pool.window, pool.strides, "VALID")


def _unchanged(inputs: tf.Tensor) -> tf.Tensor:
    return inputs
