"""Augmentation of pictures in training: shift, scale, brightness and contrast of a view, a mirror for all.

>>> augmentation = Augmentation(shift=0.1, mirror=True)
>>> views = {"left": tf.zeros((4, 8, 8, 3)), "right": tf.zeros((4, 8, 8, 1))}
>>> {name: tuple(view.shape) for name, view in augmentation(views, tf.ones((4, 2), bool), (0, 1)).items()}
{'left': (4, 8, 8, 3), 'right': (4, 8, 8, 1)}

Each view is changed by itself, as cameras differ: a crop that sits a little off, another exposure. Only the
mirror goes through all views of a sample together, because half of a mirrored scene is no scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ddnn_tf.specs import HIGHEST_CODE

__all__ = ["Augmentation"]

_LARGEST = 0.5
# Dimensions of a picture: height, width and channels.
_PICTURE = 3


@dataclass(frozen=True)
class Augmentation:
    """How the pictures of a batch are changed in training; 0 and False leave them as they are.

    Absent views, and what is no picture, stay as they are.

    Attributes:
        shift: Up to which share of width and height a view is moved, edges repeated.
        scale: Up to which share a view is enlarged or reduced.
        brightness: Up to which share of the range 0..255 is added or taken off.
        contrast: Up to which share the distance from the view's mean grows or shrinks.
        mirror: Whether half of the samples are mirrored left to right, all views together.

    Raises:
        ValueError: A share outside 0..0.5.
    """

    shift: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        for name in ("shift", "scale", "brightness", "contrast"):
            share = getattr(self, name)
            if not 0 <= share <= _LARGEST:
                raise ValueError(f"Expected `{name}` of an augmentation in 0..{_LARGEST}, but got {share}.")

    def check_fit(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses data without pictures, of which nothing would be changed.

        Args:
            shapes: The shape of each device's view, without the samples.

        Raises:
            ValueError: No view has height, width and channels.
        """
        if all(len(shape) != _PICTURE for shape in shapes.values()):
            got = ", ".join(f"{shape} for '{device}'" for device, shape in shapes.items())
            raise ValueError(
                f"Expected a view with height, width and channels to augment, but got {got}: train without "
                "augmentation."
            )

    def __call__(
        self, views: Mapping[str, tf.Tensor], presence: tf.Tensor, seed: Any
    ) -> dict[str, tf.Tensor]:
        """A batch, changed.

        Args:
            views: `(batch, ...)` float32 by device, codes 0..255; those with height, width and channels are
                pictures.
            presence: `(batch, devices)` bool, in the order of the views.
            seed: Two integers: same seed, same changes.

        Returns:
            `(batch, ...)` float32 by device, whole codes 0..255.
        """
        batch = tf.shape(presence)[0]
        seeds = tf.random.split(seed, len(views) + 1)
        is_mirrored = tf.random.stateless_uniform((batch,), seeds[0]) < (0.5 if self.mirror else 0.0)
        changed = {}
        for column, (device, view) in enumerate(views.items()):
            if view.shape.rank == 1 + _PICTURE:
                picture = self._changed(view, is_mirrored, seeds[column + 1])
                view = tf.where(presence[:, column, None, None, None], picture, view)
            changed[device] = view
        return changed

    def _changed(self, view: tf.Tensor, is_mirrored: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        batch = tf.shape(view)[0]
        drawn = tf.random.stateless_uniform((5, batch), seed, -1.0, 1.0)
        size = tf.cast(tf.shape(view)[1:3], tf.float32)
        zoom = 1.0 + self.scale * drawn[0]
        # Where in the source an output pixel is read: the middle stays, times the zoom, plus the shift.
        flip = tf.where(is_mirrored, -1.0, 1.0)
        middle = (size - 1.0) / 2.0
        across, down = zoom * flip, zoom
        offset_x = middle[1] - across * middle[1] + self.shift * size[1] * drawn[1]
        offset_y = middle[0] - down * middle[0] + self.shift * size[0] * drawn[2]
        zero = tf.zeros_like(zoom)
        transforms = tf.stack([across, zero, offset_x, zero, down, offset_y, zero, zero], axis=1)
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=view,
            transforms=transforms,
            output_shape=tf.shape(view)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )
        mean = tf.reduce_mean(moved, axis=(1, 2, 3), keepdims=True)
        gain = 1.0 + self.contrast * drawn[3][:, None, None, None]
        added = self.brightness * HIGHEST_CODE * drawn[4][:, None, None, None]
        answer = tf.round(mean + gain * (moved - mean) + added)
        return tf.ensure_shape(tf.clip_by_value(answer, 0.0, float(HIGHEST_CODE)), view.shape)
