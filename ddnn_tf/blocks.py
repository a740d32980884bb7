"""The fused blocks that every tier is made of: ConvP and FC, binary and float.

    ConvP   3x3 convolution, stride 1, padding 1 -> 3x3 max pool, stride 2, padding 1
            -> batch normalization -> activation
    FC      fully connected -> batch normalization -> activation (none before an exit)

Binary blocks have weights in {-1, +1} and the sign as activation; their float twins have real
weights and ReLU. The blocks are functions on Keras tensors that add plain Keras and Larq layers
under predictable names (`<name>_conv`, `<name>_pool`, `<name>_norm`, `<name>_sign`), so that
`larq.models.summary`, the converters and a reader see every layer:

    >>> pixels = tf.keras.Input((32, 32, 3))
    >>> features = convp(pixels, 4, name="device_0_convp_0")
    >>> logits = fc(features, 3, name="device_0_exit", activation=False)

The first block of a device takes pixels as integer-valued float32 0..255. They are not divided by
255: batch normalization absorbs the scale, and the convolution stays exact integer arithmetic.

Source: Teerapittayanon et al. 2017, Section III-A, Figure 3; binarization as in Larq.
"""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

__all__ = ["PaddedMaxPool2D", "convp", "fc"]

# Binary weights jump between batches, so statistics over many batches describe weights that are
# gone: a short memory here, and an exact recount in `callbacks.BatchStatistics`.
_NORM_MOMENTUM = 0.9
_BINARY: dict[str, Any] = {
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "use_bias": False,
}


@tf.keras.utils.register_keras_serializable("ddnn_tf")
class PaddedMaxPool2D(tf.keras.layers.Layer):
    """3x3 max pooling with stride 2 and padding 1 on all four sides.

    TensorFlow's "same" padding of a stride-2 pool pads an even-sized image at the bottom and the
    right only, which moves every window by one pixel against the paper's. Here the border is
    mirrored instead of filled with minus infinity: the mirrored pixels stand in the same window as
    their originals, so the maximum is the same, and no huge number spoils a later quantization.

    Call: `(batch, height, width, channels)` to
    `(batch, ceil(height / 2), ceil(width / 2), channels)`, dtype kept.

    Source: Section III-A, Figure 3.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        padded = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="SYMMETRIC")
        return tf.nn.max_pool2d(padded, ksize=3, strides=2, padding="VALID")


def convp(
    inputs: tf.Tensor,
    filters: int,
    *,
    name: str,
    precision: str = "binary",
    binary_input: bool = False,
) -> tf.Tensor:
    """Adds a ConvP block.

    Args:
        inputs: `(batch, height, width, channels)` float32: pixels 0..255, or feature maps.
        filters: Output channels.
        name: Prefix of the names of the block's layers.
        precision: `binary` or `float`.
        binary_input: The inputs are -1 or +1. A binary convolution then quantizes its input (which
            changes nothing, but lets Larq Compute Engine keep it binary) and pads with +1.

    Returns:
        `(batch, ceil(height / 2), ceil(width / 2), filters)` float32, -1 or +1 if binary, else
        not negative.

    Source: Section III-A, Figure 3.
    """
    layers = tf.keras.layers
    if precision == "binary":
        convolution = lq.layers.QuantConv2D(
            filters,
            3,
            padding="same",
            pad_values=1.0 if binary_input else 0.0,
            input_quantizer="ste_sign" if binary_input else None,
            name=f"{name}_conv",
            **_BINARY,
        )
    else:
        convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")
    pooled = PaddedMaxPool2D(name=f"{name}_pool")(convolution(inputs))
    return _activation(_norm(pooled, name), name, precision)


def fc(
    inputs: tf.Tensor,
    units: int,
    *,
    name: str,
    precision: str = "binary",
    binary_input: bool = False,
    activation: bool = True,
) -> tf.Tensor:
    """Adds an FC block, flattening its inputs first.

    Args:
        inputs: `(batch, ...)` float32.
        units: Outputs.
        name: Prefix of the names of the block's layers.
        precision: `binary` or `float`.
        binary_input: The inputs are -1 or +1; a binary layer then quantizes its input.
        activation: False before an exit: the block then gives logits.

    Returns:
        `(batch, units)` float32.

    Source: Section III-A, Figure 3.
    """
    layers = tf.keras.layers
    flat = layers.Flatten(name=f"{name}_flatten")(inputs)
    if precision == "binary":
        dense = lq.layers.QuantDense(
            units,
            input_quantizer="ste_sign" if binary_input else None,
            name=f"{name}_dense",
            **_BINARY,
        )
    else:
        dense = layers.Dense(units, use_bias=False, name=f"{name}_dense")
    outputs = _norm(dense(flat), name)
    return _activation(outputs, name, precision) if activation else outputs


def _norm(inputs: tf.Tensor, name: str) -> tf.Tensor:
    norm = tf.keras.layers.BatchNormalization(momentum=_NORM_MOMENTUM, name=f"{name}_norm")
    return norm(inputs)


def _activation(inputs: tf.Tensor, name: str, precision: str) -> tf.Tensor:
    if precision == "binary":
        return lq.quantizers.SteSign(name=f"{name}_sign")(inputs)
    return tf.keras.layers.ReLU(name=f"{name}_relu")(inputs)
