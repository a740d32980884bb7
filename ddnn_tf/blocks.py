"""The fused blocks that every tier is made of: ConvP and FC, binary and float.

    ConvP   3x3 convolution, stride 1, padding 1 -> 3x3 max pool, stride 2, padding 1
            -> batch normalization -> activation; on a series, 3x1 in place of 3x3
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

from collections.abc import Callable, Sequence
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
    """3x3 max pooling with stride 2 and padding 1 on all four sides; 3x1 along the first axis for series.

    TensorFlow's "same" padding of a stride-2 pool pads an even-sized image at the bottom and the
    right only, which moves every window by one pixel against the paper's. Here the border is
    mirrored instead of filled with minus infinity: the mirrored pixels stand in the same window as
    their originals, so the maximum is the same, and no huge number spoils a later quantization.

    Args:
        is_series: Pool along the first axis only, for series as `(batch, steps, 1, channels)`.

    Call: `(batch, height, width, channels)` to
    `(batch, ceil(height / 2), ceil(width / 2), channels)`, dtype kept.

    In training the same maximum, and the same gradient down to which of equal pixels receives it,
    is computed by a loop that XLA compiles (`_compiled_pool`): TensorFlow's own gradient of a pool took
    up to half of a training step.

    Source: Section III-A, Figure 3.
    """

    def __init__(self, is_series: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.is_series = is_series

    @property
    def margin(self) -> tuple[int, int]:
        """Padding on each side along height and width; the window is one more than twice that."""
        return (1, 0) if self.is_series else (1, 1)

    @property
    def window(self) -> tuple[int, int]:
        """Window along height and width."""
        return (3, 1) if self.is_series else (3, 3)

    @property
    def strides(self) -> tuple[int, int]:
        """Strides along height and width."""
        return (2, 1) if self.is_series else (2, 2)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training and not self.is_series and tf.test.is_built_with_xla():
            return _compiled_pool(inputs)
        margins = [[0, 0], *([margin, margin] for margin in self.margin), [0, 0]]
        padded = tf.pad(inputs, margins, mode="SYMMETRIC")
        return tf.nn.max_pool2d(padded, ksize=self.window, strides=self.strides, padding="VALID")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "is_series": self.is_series}


@tf.function(jit_compile=True)
@tf.custom_gradient
def _compiled_pool(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """`PaddedMaxPool2D` along one axis after the other; the gradient goes to the first maximum."""
    across = _windows(inputs, axis=2)
    rows = _maximum(across)
    down = _windows(rows, axis=1)

    # First along the columns, then along the rows: so the first of equal pixels in reading order is
    # the one that TensorFlow's pool gives the gradient to.
    def gradient(outputs: tf.Tensor) -> tf.Tensor:
        on_rows = _to_first(down, _maximum(down), outputs, axis=1, size=inputs.shape[1])
        return _to_first(across, rows, on_rows, axis=2, size=inputs.shape[2])

    return _maximum(down), gradient


def _windows(inputs: tf.Tensor, axis: int) -> list[tf.Tensor]:
    """First, second and third element of each window of 3 with stride 2 along an axis."""
    size = inputs.shape[axis]
    margins = [[0, 0]] * 4
    margins[axis] = [1, size % 2]
    padded = tf.pad(inputs, margins, constant_values=inputs.dtype.min)
    windows = (size + 1) // 2
    begins = [slice(None)] * 4
    parts = []
    for start in range(3):
        begins[axis] = slice(start, start + 2 * windows - 1, 2)
        parts.append(padded[tuple(begins)])
    return parts


def _maximum(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.maximum(tf.maximum(parts[0], parts[1]), parts[2])


def _to_first(
    parts: Sequence[tf.Tensor], highest: tf.Tensor, gradient: tf.Tensor, axis: int, size: int
) -> tf.Tensor:
    """Hands the gradient of each window to its first element that equals the maximum."""
    zero = tf.zeros_like(gradient)
    is_first, is_second = tf.equal(parts[0], highest), tf.equal(parts[1], highest)
    to_first = tf.where(is_first, gradient, zero)
    to_second = tf.where(is_first, zero, tf.where(is_second, gradient, zero))
    to_third = tf.where(is_first | is_second, zero, gradient)
    # The third element of a window is the first one of the next; window 0 starts in the margin.
    margins = [[0, 0]] * 4
    margins[axis] = [0, 1]
    begins = [slice(None)] * 4
    begins[axis] = slice(1, None)
    shared = to_third + tf.pad(to_first[tuple(begins)], margins)
    shape = list(gradient.shape)
    shape[axis] *= 2
    both = tf.reshape(tf.stack([to_second, shared], axis=axis + 1), [-1, *shape[1:]])
    begins[axis] = slice(size)
    return both[tuple(begins)]


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
        inputs: `(batch, height, width, channels)` float32: pixels 0..255, or feature maps; or a series,
            `(batch, steps, channels)`, along which kernel and pool are one-dimensional (3x1).
        filters: Output channels.
        name: Prefix of the names of the block's layers.
        precision: `binary` or `float`.
        binary_input: The inputs are -1 or +1. A binary convolution then quantizes its input (which
            changes nothing, but lets Larq Compute Engine keep it binary) and pads with +1.

    Returns:
        `(batch, ceil(height / 2), ceil(width / 2), filters)`, or `(batch, ceil(steps / 2), filters)`,
        float32, -1 or +1 if binary, else not negative.

    Source: Section III-A, Figure 3; the form for series is ours.
    """
    layers = tf.keras.layers
    is_series = len(inputs.shape) == 3
    if is_series:
        steps, channels = inputs.shape[1:]
        inputs = layers.Reshape((steps, 1, channels), name=f"{name}_column")(inputs)
    kernel = (3, 1) if is_series else (3, 3)
    if precision == "binary":
        convolution = lq.layers.QuantConv2D(
            filters,
            kernel,
            padding="same",
            pad_values=1.0 if binary_input else 0.0,
            input_quantizer="ste_sign" if binary_input else None,
            name=f"{name}_conv",
            **_BINARY,
        )
    else:
        convolution = layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=f"{name}_conv")
    pooled = PaddedMaxPool2D(is_series, name=f"{name}_pool")(convolution(inputs))
    outputs = _activation(_norm(pooled, name), name, precision)
    if is_series:
        outputs = layers.Reshape((outputs.shape[1], filters), name=f"{name}_series")(outputs)
    return outputs


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
