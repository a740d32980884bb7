"""A binary device section as exact integer arithmetic: batch norm and sign folded to thresholds.

With integer-valued pixels 0..255 and weights of -1 and +1, a convolution gives integers, its pool
too, and a feature bit is a comparison of that integer v with a constant of its filter:

    rising filter (gamma > 0)     bit = v >= threshold
    falling filter (gamma < 0)    bit = v <= threshold

The comparison must fall as it does in Keras, also for an integer that batch norm maps to about zero
and whose side rounding decides. So the thresholds are not computed from the formula of batch norm:
the trained layers themselves are evaluated at every integer that the convolution can reach. Pixels
must not be scaled to 0..1: in float32 the sums would then be rounded, and bits near a threshold flip.

    >>> folded = fold(sections["device_0"], topology)
    >>> bits, vectors = folded.run(images)     # images (samples, height, width, channels) uint8

The exit's batch norm stays a scale and an offset for each class, on the integer sum of its FC block.

Source: Teerapittayanon et al. 2017, Section III-A, Figure 3; the folding is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.sections import Section
from ddnn_tf.topology import Topology

__all__ = ["FoldedBlock", "FoldedDevice", "FoldedExit", "affine", "fold", "fold_sign", "signs"]

_HIGHEST_PIXEL = 255


@dataclass(frozen=True)
class FoldedBlock:
    """A binary ConvP block in integers.

    Attributes:
        weights: `(3, 3, channels, filters)` int8, -1 or +1.
        padding: What surrounds the input of the convolution: 0 round pixels, +1 round feature bits.
        thresholds: `(filters,)` int32.
        rising: `(filters,)` bool: the bit is set from the threshold on upwards, else downwards.
    """

    weights: NDArray[np.int8]
    padding: int
    thresholds: NDArray[np.int32]
    rising: NDArray[np.bool_]

    def run(self, inputs: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Integers `(samples, h, w, channels)` to bits `(samples, ceil(h / 2), ceil(w / 2), filters)`."""
        pooled = _pool(_convolve(inputs, self.weights, self.padding))
        return np.where(self.rising, pooled >= self.thresholds, pooled <= self.thresholds)


@dataclass(frozen=True)
class FoldedExit:
    """A binary FC block before an exit: an integer sum for each class, scaled and shifted.

    Attributes:
        weights: `(features, classes)` int8, -1 or +1; features in the order height, width, filter.
        scale: `(classes,)` float32.
        offset: `(classes,)` float32.
    """

    weights: NDArray[np.int8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]

    def sums(self, bits: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The integer sums `(samples, classes)` of feature bits `(samples, ...)`."""
        signs = np.where(bits.reshape(len(bits), -1), 1, -1).astype(np.int32)
        return signs @ self.weights.astype(np.int32)

    def run(self, bits: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Class vectors `(samples, classes)` float32."""
        return self.sums(bits).astype(np.float32) * self.scale + self.offset


@dataclass(frozen=True)
class FoldedDevice:
    """A binary device section.

    Attributes:
        image_shape: `(height, width, channels)` of its pixels.
        blocks: Its ConvP blocks.
        exit: Its exit block.
    """

    image_shape: tuple[int, int, int]
    blocks: tuple[FoldedBlock, ...]
    exit: FoldedExit

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Runs it in integers.

        Args:
            images: `(samples, height, width, channels)` uint8.

        Returns:
            Feature bits `(samples, height, width, filters)` and class vectors `(samples, classes)`.

        Raises:
            ValueError: Images of another shape or type.
        """
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8:
            raise ValueError(
                f"Expected `images` to be (samples, {', '.join(map(str, self.image_shape))}) uint8, but got "
                f"{images.shape} {images.dtype}."
            )
        values = images.astype(np.int32)
        for block in self.blocks:
            bits = block.run(values)
            values = np.where(bits, 1, -1).astype(np.int32)
        return bits, self.exit.run(bits)


def fold(section: Section, topology: Topology) -> FoldedDevice:
    """Folds a device section with binary blocks.

    Args:
        section: A section `device_<n>` of `sections.cut`.
        topology: Its topology.

    Raises:
        ValueError: A section of another tier, or devices that are not binary.
    """
    devices = topology.devices
    if section.tier != "device":
        raise ValueError(f"Expected a device section, but got '{section.name}'.")
    if devices.precision != "binary":
        raise ValueError("'devices.precision' is 'float': only binary devices fold to integers.")
    layers = {layer.name: layer for layer in section.model.layers}
    blocks = []
    for number in range(devices.blocks):
        name = f"{section.name}_convp_{number}"
        weights = signs(layers[f"{name}_conv"])
        fan_in = int(np.prod(weights.shape[:3]))
        reach = fan_in * (_HIGHEST_PIXEL if number == 0 else 1)
        thresholds, rising = fold_sign(layers[f"{name}_norm"], layers[f"{name}_sign"], reach)
        blocks.append(FoldedBlock(weights, 0 if number == 0 else 1, thresholds, rising))
    scale, offset = affine(layers[f"{section.name}_exit_norm"])
    exit_ = FoldedExit(signs(layers[f"{section.name}_exit_dense"]), scale, offset)
    return FoldedDevice(devices.image_shape, tuple(blocks), exit_)


def signs(layer: tf.keras.layers.Layer) -> NDArray[np.int8]:
    """The binary weights of a layer, 0 counting as +1, as Larq's sign does."""
    return np.where(layer.kernel.numpy() >= 0, 1, -1).astype(np.int8)


def fold_sign(
    norm: tf.keras.layers.Layer, sign: tf.keras.layers.Layer, reach: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Threshold and direction of each filter, from the layers' answer to every integer within reach."""
    values = np.arange(-reach, reach + 1, dtype=np.int32)
    filters = norm.gamma.shape[0]
    shape = (1, len(values), 1, filters) if norm.input_spec.ndim == 4 else (len(values), filters)
    column = np.repeat(values, filters).reshape(shape).astype(np.float32)
    bits = sign(norm(column, training=False)).numpy().reshape(len(values), filters) > 0
    rising = bits[-1] >= bits[0]
    counts = bits.sum(axis=0)
    # As many bits are set as integers stand on the threshold's side; none or all, and it lies outside.
    thresholds = np.where(rising, reach + 1 - counts, counts - 1 - reach).astype(np.int32)
    expected = np.where(rising, values[:, None] >= thresholds, values[:, None] <= thresholds)
    if not np.array_equal(expected, bits):
        raise ArithmeticError(f"The batch norm '{norm.name}' is not monotone: its statistics are not finite.")
    return thresholds, rising


def affine(norm: tf.keras.layers.Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Batch norm as scale and offset, in float32 and in TensorFlow's order of operations."""
    gamma, beta, mean, variance = (tf.constant(weight) for weight in norm.get_weights())
    scale = tf.math.rsqrt(variance + norm.epsilon) * gamma
    return scale.numpy(), (beta - mean * scale).numpy()


def _convolve(inputs: NDArray[np.int32], weights: NDArray[np.int8], padding: int) -> NDArray[np.int32]:
    height, width = inputs.shape[1:3]
    padded = np.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=padding)
    total: Any = 0
    for y in range(3):
        for x in range(3):
            window = padded[:, y : y + height, x : x + width]
            total = total + np.tensordot(window, weights[y, x].astype(np.int32), axes=1)
    return total


def _pool(inputs: NDArray[np.int32]) -> NDArray[np.int32]:
    """3x3, stride 2, the border mirrored, as `blocks.PaddedMaxPool2D`."""
    padded = np.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="symmetric")
    rows, columns = ((size + 1) // 2 for size in inputs.shape[1:3])
    windows = [
        padded[:, y : y + 2 * rows - 1 : 2, x : x + 2 * columns - 1 : 2] for y in range(3) for x in range(3)
    ]
    return np.max(windows, axis=0)
