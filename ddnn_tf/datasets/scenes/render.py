"""From a scene to one camera's 32x32 crop: visibility, colour, shadows, noise, scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from ddnn_tf.datasets.scenes.camera import FRAME_HEIGHT, FRAME_WIDTH, Camera, Light
from ddnn_tf.datasets.scenes.catalogue import BUILDINGS
from ddnn_tf.datasets.scenes.geometry import Floats, Solid

__all__ = ["SIDE", "crop"]

SIDE = 32
"""Height and width of a crop in pixels."""

_FAR = 1e9
_HORIZON = 120.0
_LARGEST_GRID = 44
_SUPERSAMPLED_BELOW = 500
_MIN_INSIDE = 0.45
_MIN_PIXELS = 9
_MIN_VISIBLE = 0.30
_JITTER = 0.08
_NOISE = 1.2


@dataclass(frozen=True)
class _Window:
    """A rectangle of the frame and the grid of rays that samples it."""

    left: int
    top: int
    width: int
    height: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Rows, columns, and rays per row and column of a cell."""
        rows, columns = min(self.height, _LARGEST_GRID), min(self.width, _LARGEST_GRID)
        return rows, columns, 2 if rows * columns < _SUPERSAMPLED_BELOW else 1

    def rays(self, camera: Camera) -> Floats:
        rows, columns, fine = self.grid
        x = self.left + (np.arange(columns * fine) + 0.5) * self.width / (columns * fine)
        y = self.top + (np.arange(rows * fine) + 0.5) * self.height / (rows * fine)
        grid_x, grid_y = np.meshgrid(x, y)
        return camera.rays(grid_x.ravel(), grid_y.ravel())


def crop(
    camera: Camera, solids: Sequence[Solid], target: int, light: Light, random: RandomState
) -> Floats | None:
    """What a camera sees of an object.

    Args:
        camera: The camera.
        solids: All objects of the scene.
        target: Index of the object of interest.
        light: Sun and sky.
        random: Draws the jitter of the crop and the noise.

    Returns:
        `(32, 32, 3)` float64 in 0..1, or None when the object is out of the frame, too small or
        hidden.
    """
    jitter = random.uniform(-1, 1, 4)
    noise_seed = int(random.uniform() * 2**31)
    window = _window(camera, solids[target], jitter)
    if window is None:
        return None
    colour, seen, is_target = _shade(camera, window.rays(camera), solids, target, light)
    if not is_target.any() or ((seen == target) & is_target).sum() < _MIN_VISIBLE * is_target.sum():
        return None
    rows, columns, fine = window.grid
    averaged = colour.reshape(rows, fine, columns, fine, 3).mean((1, 3))
    image = np.sqrt(np.maximum(averaged * camera.gain * camera.cast, 0))
    noise = RandomState(noise_seed)
    grain = noise.uniform(-1, 1, image.shape) + noise.uniform(-1, 1, image.shape)
    image = image + _NOISE * camera.noise * grain * 1.2
    return np.clip(_resized(np.clip(image, 0, 1)), 0, 1)


def _window(camera: Camera, target: Solid, jitter: Floats) -> _Window | None:
    bounds = camera.bounds(target)
    if bounds is None:
        return None
    left, top, right, bottom = bounds
    width, height = right - left, bottom - top
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, FRAME_WIDTH), min(bottom, FRAME_HEIGHT)
    if right <= left or bottom <= top:
        return None
    if (right - left) * (bottom - top) < _MIN_INSIDE * width * height:
        return None
    if bottom - top < _MIN_PIXELS or right - left < 4:
        return None
    left += _JITTER * width * jitter[0]
    right += _JITTER * width * jitter[1]
    top += _JITTER * height * jitter[2]
    bottom += _JITTER * height * jitter[3]
    x, y = int(np.floor(max(left - 1, 0))), int(np.floor(max(top - 1, 0)))
    return _Window(
        x,
        y,
        int(np.ceil(min(right + 1, FRAME_WIDTH))) - x,
        int(np.ceil(min(bottom + 1, FRAME_HEIGHT))) - y,
    )


def _shade(
    camera: Camera, rays: Floats, solids: Sequence[Solid], target: int, light: Light
) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Linear colour `(rays, 3)`, index of the object seen (-1: none), rays that meet the target."""
    number = len(rays)
    distance = np.full(number, _FAR)
    seen = np.full(number, -1)
    colour = np.empty((number, 3))
    colour[:] = light.sky * (1 - 0.3 * np.clip(rays[:, 2], 0, 1)[:, None])
    normal = np.zeros((number, 3))
    normal[:, 2] = 1.0

    falls = rays[:, 2] < -1e-6
    to_ground = np.where(falls, -camera.position[2] / np.where(falls, rays[:, 2], -1), _FAR)
    falls &= to_ground < _HORIZON
    distance = np.where(falls, to_ground, distance)
    ground = camera.position + rays[falls] * distance[falls, None]
    colour[falls] = _ground(ground[:, 0], ground[:, 1])
    is_lit = falls.copy()
    is_target = np.zeros(number, bool)

    for index, solid in enumerate(solids):
        near, reach, tint, facing = solid.hits(camera.position, rays)
        if index == target:
            is_target[near] = reach < _FAR
        closer = reach < distance[near]
        hit = near[closer]
        distance[hit] = reach[closer]
        colour[hit], normal[hit], seen[hit] = tint[closer], facing[closer], index
        is_lit[hit] = True

    is_lit &= distance < _FAR
    point = camera.position + rays * distance[:, None]
    _paint_windows(colour, point, normal, is_lit & (seen >= 0) & (seen < len(BUILDINGS)))
    facing_sun = np.maximum((normal * light.direction).sum(1), 0)
    if light.sun > 0.15:
        _cast_shadows(facing_sun, is_lit, point, normal, solids[len(BUILDINGS) :], light)
    strength = light.ambient * (0.75 + 0.25 * normal[:, 2]) + light.sun * facing_sun
    tint = np.where((facing_sun > 0)[:, None], light.warm, light.cool)
    colour = np.where(is_lit[:, None], colour * strength[:, None] * tint, colour)
    return colour, seen, is_target


def _paint_windows(colour: Floats, point: Floats, normal: Floats, is_building: NDArray[np.bool_]) -> None:
    walls = np.flatnonzero(is_building & (np.abs(normal[:, 2]) < 0.5))
    x, y, z = point[walls].T
    across = np.where(np.abs(normal[walls, 0]) > 0.5, y, x)
    storey = z % 3.2
    is_pane = (np.floor(across / 1.1) % 2 == 0) & (storey > 1.2) & (storey < 2.6)
    colour[walls[is_pane]] *= 0.45


def _cast_shadows(
    facing_sun: Floats,
    is_lit: NDArray[np.bool_],
    point: Floats,
    normal: Floats,
    solids: Sequence[Solid],
    light: Light,
) -> None:
    """Sets `facing_sun` to 0 where an object stands between the point and the sun."""
    rays = np.flatnonzero(is_lit & (facing_sun > 0))
    for solid in solids:
        if not len(rays):
            return
        direction = np.broadcast_to(light.direction, (len(rays), 3))
        is_shaded = solid.distances(point[rays] + normal[rays] * 0.02, direction) < _FAR
        facing_sun[rays[is_shaded]] = 0
        rays = rays[~is_shaded]


def _hash(x: Floats, y: Floats, salt: int = 0) -> Floats:
    """Repeatable noise in 0..1 from integer-valued coordinates."""
    mixed = (x.astype(np.int64) * 73856093) ^ (y.astype(np.int64) * 19349663) ^ (salt * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177 & 0x7FFFFFFF
    return ((mixed ^ (mixed >> 16)) & 1023) / 1023.0


def _ground(x: Floats, y: Floats) -> Floats:
    """Colour of the ground: a road with a dashed line, paving, and a lawn."""
    off_axis = np.abs(y - 0.12 * x - 1.0)
    is_road = off_axis < 4.2
    base = np.where(is_road[:, None], (0.33, 0.33, 0.35), (0.52, 0.49, 0.45))
    is_line = is_road & (off_axis < 0.09) & (np.floor(x / 2.0) % 2 == 0)
    base = np.where(is_line[:, None], 0.85, base)
    is_lawn = (x < -9) & (y < -5)
    base = np.where(is_lawn[:, None], (0.24, 0.36, 0.15), base)
    grain = 0.82 + 0.18 * _hash(np.floor(x / 0.35), np.floor(y / 0.35))
    grain = grain + 0.12 * (_hash(np.floor(x / 1.9), np.floor(y / 1.9), 1) - 0.5)
    is_dark_tile = ~is_road & ~is_lawn & (((np.floor(x / 0.8) + np.floor(y / 0.8)) % 2) == 0)
    return base * (grain * np.where(is_dark_tile, 0.93, 1.0))[:, None]


def _triangle_weights(size: int) -> Floats:
    """`(SIDE, size)` weights of a triangle filter, widened on shrinking so that nothing aliases."""
    scale = size / SIDE
    support = max(scale, 1.0)
    centre = (np.arange(SIDE) + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs((np.arange(size)[None] - centre[:, None]) / support), 0)
    return weights / weights.sum(1, keepdims=True)


def _resized(image: Floats) -> Floats:
    """Scales to 32x32 without keeping the aspect ratio; no BLAS, for the same bytes everywhere."""
    rows, columns = _triangle_weights(image.shape[0]), _triangle_weights(image.shape[1])
    tall = np.einsum("ij,jkc->ikc", rows, image, optimize=False)
    return np.einsum("ij,kjc->kic", columns, tall, optimize=False)
