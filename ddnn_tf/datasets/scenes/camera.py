"""The six cameras, and the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike

from ddnn_tf.datasets.scenes.geometry import Floats, Solid, normalized

__all__ = ["CAMERAS", "FRAME_HEIGHT", "FRAME_WIDTH", "Camera", "Light", "draw_light"]

FRAME_WIDTH, FRAME_HEIGHT = 360, 288
"""Size in pixels of the frame that crops are cut from, as in the EPFL recordings."""

_NEAREST_VISIBLE = 2.0


class Camera:
    """A pinhole camera.

    Args:
        position: `(3,)` metres.
        target: `(3,)` metres, the point that it looks at.
        field_of_view: Horizontal, in degrees.
        gain: Exposure.
        cast: `(3,)` colour cast.
        noise: Strength of the sensor noise.
    """

    def __init__(
        self,
        position: ArrayLike,
        target: ArrayLike,
        field_of_view: float,
        gain: float,
        cast: ArrayLike,
        noise: float,
    ) -> None:
        self.position = np.array(position, np.float64)
        ahead = normalized(np.array(target, np.float64) - self.position)
        right = normalized(np.cross(ahead, (0.0, 0.0, 1.0)))
        self._axes = np.stack([right, np.cross(right, ahead), ahead])
        self._focal = FRAME_WIDTH / 2 / np.tan(np.radians(field_of_view) / 2)
        self.gain, self.cast, self.noise = gain, np.array(cast), noise

    def rays(self, x: Floats, y: Floats) -> Floats:
        """Directions `(pixels, 3)` of length 1 through points of the frame, in pixels."""
        a = (x - FRAME_WIDTH / 2) / self._focal
        b = (FRAME_HEIGHT / 2 - y) / self._focal
        return normalized(a[:, None] * self._axes[0] + b[:, None] * self._axes[1] + self._axes[2])

    def bounds(self, solid: Solid) -> tuple[float, float, float, float] | None:
        """The object's bounding box in the frame (left, top, right, bottom), None if behind."""
        offset = solid.outline() - self.position
        right, up, ahead = ((offset * axis).sum(1) for axis in self._axes)
        if ahead.min() < _NEAREST_VISIBLE:
            return None
        x = FRAME_WIDTH / 2 + self._focal * right / ahead
        y = FRAME_HEIGHT / 2 - self._focal * up / ahead
        return x.min(), y.min(), x.max(), y.max()


CAMERAS = (
    Camera((-22, -9, 4.6), (2.8, 7.8, 0.5), 21, 0.80, (1.00, 0.97, 0.90), 0.060),
    Camera((-15, 18, 5.2), (6.3, -4.0, 0.5), 26, 0.90, (0.95, 1.0, 1.04), 0.050),
    Camera((3, 24, 6.0), (-5.0, -1, 0.5), 37, 0.95, (1.03, 1.0, 0.95), 0.045),
    Camera((22, 12, 5.0), (-4, -3.4, 0.8), 25, 1.00, (0.98, 1.0, 1.00), 0.040),
    Camera((19, -16, 6.5), (0, 0.5, 0.8), 41, 1.0, (1.0, 1.0, 1.0), 0.030),
    Camera((-7, -22, 7.5), (0, 2, 0.5), 52, 1.05, (1.0, 1.02, 0.98), 0.030),
)


@dataclass(frozen=True)
class Light:
    """Sun and sky of one scene.

    Attributes:
        direction: `(3,)`, towards the sun.
        sun: Strength of the direct light.
        ambient: Strength of the light from everywhere.
        warm: `(3,)` tint of what the sun reaches.
        cool: `(3,)` tint of the shade.
        sky: `(3,)` colour of the sky.
    """

    direction: Floats
    sun: float
    ambient: float
    warm: Floats
    cool: Floats
    sky: Floats


def draw_light(random: RandomState) -> Light:
    """A sunny or overcast hour of the day."""
    azimuth = random.uniform(0, 2 * np.pi)
    elevation = np.radians(random.uniform(18, 65))
    is_overcast = random.uniform() < 0.35
    level = random.uniform(0.55, 1.1)
    flat = np.cos(elevation)
    return Light(
        direction=np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)]),
        sun=(0.1 if is_overcast else 0.75) * level,
        ambient=(0.85 if is_overcast else 0.45) * level,
        warm=np.array([1.04, 1.0, 0.93]),
        cool=np.array([0.94, 1.0, 1.08]),
        sky=np.array([0.70, 0.76, 0.82]) * min(level + 0.1, 1.0),
    )
