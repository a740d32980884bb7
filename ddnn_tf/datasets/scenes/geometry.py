"""Solids made of boxes and ellipsoids, and where rays meet them.

Everything is float64 and element-wise NumPy (no BLAS), so that the same seed renders the same bytes
on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Box", "Ellipsoid", "Part", "Solid", "box", "ellipsoid", "normalized"]

Floats = NDArray[np.float64]

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
_AXES = np.concatenate([np.eye(3), -np.eye(3)])
_NEAREST = 1e-4
"""Distance in metres below which a hit counts as the ray's own origin."""


@dataclass(frozen=True)
class Box:
    """A convex part bounded by six planes: `normals` (6, 3), `offsets` (6,), n.x <= offset."""

    normals: Floats
    offsets: Floats
    colour: Floats
    outline: Floats


@dataclass(frozen=True)
class Ellipsoid:
    """A part bounded by an axis-parallel ellipsoid."""

    centre: Floats
    radii: Floats
    colour: Floats
    outline: Floats


Part = Box | Ellipsoid


def normalized(vectors: ArrayLike) -> Floats:
    """Vectors `(..., 3)` scaled to length 1."""
    array = np.asarray(vectors, np.float64)
    return array / np.sqrt((array * array).sum(-1, keepdims=True))


def box(
    centre: ArrayLike,
    half_size: ArrayLike,
    colour: ArrayLike,
    lean: tuple[float, float, float] = (0, 0, 0),
) -> Box:
    """A box whose upper part may lean inwards.

    Args:
        centre: `(3,)` metres, x ahead, z up.
        half_size: `(3,)` metres.
        colour: `(3,)` linear RGB, 0..1.
        lean: How far the top edge stands in at the front, the back and the sides, in metres.
    """
    middle = np.array(centre, np.float64)
    half = np.array(half_size, np.float64)
    front, back, side = lean
    height = 2 * half[2]
    normals = np.array(
        [
            [1, 0, front / height],
            [-1, 0, back / height],
            [0, 1, side / height],
            [0, -1, side / height],
            [0, 0, 1],
            [0, 0, -1],
        ],
        np.float64,
    )
    offsets = np.array(
        [
            half[0] - front / 2,
            half[0] - back / 2,
            half[1] - side / 2,
            half[1] - side / 2,
            half[2],
            half[2],
        ]
    )
    length = np.sqrt((normals * normals).sum(1))
    normals = normals / length[:, None]
    offsets = offsets / length + (normals * middle).sum(1)
    corners = _CORNERS * half
    is_top = _CORNERS[:, 2] > 0
    corners[is_top & (_CORNERS[:, 0] > 0), 0] -= front
    corners[is_top & (_CORNERS[:, 0] < 0), 0] += back
    corners[is_top, 1] -= _CORNERS[is_top, 1] * side
    return Box(normals, offsets, np.array(colour, np.float64), corners + middle)


def ellipsoid(centre: ArrayLike, radii: ArrayLike, colour: ArrayLike) -> Ellipsoid:
    """An ellipsoid; its outline are its six poles and eight points near its diagonals."""
    middle = np.array(centre, np.float64)
    size = np.array(radii, np.float64)
    outline = np.concatenate([_AXES * size, 0.58 * _CORNERS * size]) + middle
    return Ellipsoid(middle, size, np.array(colour, np.float64), outline)


class Solid:
    """An object of several parts, standing somewhere on the ground.

    Args:
        parts: Its parts, in its own frame (x ahead, z up, origin on the ground).
        x: Position in metres.
        y: Position in metres.
        yaw: Heading in radians.
        radius: Radius in metres of the ground that it takes up.
    """

    def __init__(self, parts: Sequence[Part], x: float, y: float, yaw: float, radius: float) -> None:
        boxes = [part for part in parts if isinstance(part, Box)]
        ellipsoids = [part for part in parts if isinstance(part, Ellipsoid)]
        self._has_boxes, self._has_ellipsoids = bool(boxes), bool(ellipsoids)
        if boxes:
            self._normals = np.stack([part.normals for part in boxes])
            self._offsets = np.stack([part.offsets for part in boxes])
            self._box_colours = np.stack([part.colour for part in boxes])
        if ellipsoids:
            self._centres = np.stack([part.centre for part in ellipsoids])
            self._radii = np.stack([part.radii for part in ellipsoids])
            self._ellipsoid_colours = np.stack([part.colour for part in ellipsoids])
        self._outline = np.concatenate([part.outline for part in parts])
        self.radius = radius
        heights = self._outline[:, 2]
        self._middle = (heights.max() + heights.min()) / 2
        self._reach = np.sqrt((((self._outline - (0, 0, self._middle)) ** 2).sum(1)).max()) + 0.05
        self.place(x, y, yaw)

    def place(self, x: float, y: float, yaw: float) -> None:
        """Moves the object."""
        self.x, self.y = x, y
        self._cos, self._sin = np.cos(yaw), np.sin(yaw)

    def outline(self) -> Floats:
        """Points on the object's hull, `(points, 3)` in metres."""
        local = self._outline
        return np.stack(
            [
                self.x + local[:, 0] * self._cos - local[:, 1] * self._sin,
                self.y + local[:, 0] * self._sin + local[:, 1] * self._cos,
                local[:, 2],
            ],
            1,
        )

    def near(self, origins: Floats, directions: Floats) -> NDArray[np.int64]:
        """Indices of the rays that come near enough to the object to be worth casting."""
        to_x, to_y, to_z = ((self.x, self.y, self._middle)[axis] - origins[..., axis] for axis in range(3))
        along = to_x * directions[:, 0] + to_y * directions[:, 1] + to_z * directions[:, 2]
        distance = to_x * to_x + to_y * to_y + to_z * to_z
        return np.flatnonzero((distance - along * along < self._reach**2) & (along > -self._reach))

    def distances(self, origins: Floats, directions: Floats) -> Floats:
        """Distance along each ray to the object, infinite where it misses.

        Args:
            origins: `(3,)`, or `(rays, 3)`.
            directions: `(rays, 3)`, length 1.

        Returns:
            `(rays,)` metres.
        """
        result = np.full(len(directions), np.inf)
        rays = self.near(origins, directions)
        if len(rays):
            origin, direction = self._local(origins, directions, rays)
            found = np.full(len(rays), np.inf)
            if self._has_boxes:
                found = self._box_hits(origin, direction)[0]
            if self._has_ellipsoids:
                found = np.minimum(found, self._ellipsoid_hits(origin, direction)[0])
            result[rays] = found
        return result

    def hits(self, origin: Floats, directions: Floats) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
        """What the rays from one point see of the object.

        Args:
            origin: `(3,)`.
            directions: `(rays, 3)`, length 1.

        Returns:
            Indices of the rays that come near, `(n,)`, and for those distance `(n,)` (infinite
            where it misses), colour `(n, 3)` and outward normal `(n, 3)`.
        """
        rays = self.near(origin, directions)
        nothing = np.zeros((len(rays), 3))
        if not len(rays):
            return rays, np.zeros(0), nothing, nothing
        start, direction = self._local(origin, directions, rays)
        distance = np.full(len(rays), np.inf)
        colour, normal = nothing, nothing.copy()
        if self._has_boxes:
            distance, box_, face = self._box_hits(start, direction)
            colour, normal = self._box_colours[box_], self._normals[box_, face]
        if self._has_ellipsoids:
            nearest, which = self._ellipsoid_hits(start, direction)
            closer = nearest < distance
            if closer.any():
                point = start.T[closer] if start.shape[1] > 1 else start.T
                point = point + direction.T[closer] * nearest[closer, None]
                at = which[closer]
                colour, normal = colour.copy(), normal.copy()
                colour[closer] = self._ellipsoid_colours[at]
                normal[closer] = normalized((point - self._centres[at]) / self._radii[at] ** 2)
            distance = np.where(closer, nearest, distance)
        turned = np.stack(
            [
                normal[:, 0] * self._cos - normal[:, 1] * self._sin,
                normal[:, 0] * self._sin + normal[:, 1] * self._cos,
                normal[:, 2],
            ],
            1,
        )
        return rays, distance, colour, turned

    def _local(self, origins: Floats, directions: Floats, rays: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Rays in the object's own frame: `(3, n)` or `(3, 1)` origins and `(3, n)` directions."""
        start = origins[rays] if origins.ndim == 2 else origins[None]
        direction = directions[rays]
        dx, dy = start[:, 0] - self.x, start[:, 1] - self.y
        return (
            np.stack([dx * self._cos + dy * self._sin, -dx * self._sin + dy * self._cos, start[:, 2]]),
            np.stack(
                [
                    direction[:, 0] * self._cos + direction[:, 1] * self._sin,
                    -direction[:, 0] * self._sin + direction[:, 1] * self._cos,
                    direction[:, 2],
                ]
            ),
        )

    def _box_hits(
        self, origin: Floats, direction: Floats
    ) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Nearest box along each ray: distance, index of the box, index of its face."""
        normals = self._normals[..., None]
        speed = normals[:, :, 0] * direction[0] + normals[:, :, 1] * direction[1]
        speed += normals[:, :, 2] * direction[2]
        gap = self._offsets[..., None] - (
            normals[:, :, 0] * origin[0] + normals[:, :, 1] * origin[1] + normals[:, :, 2] * origin[2]
        )
        speed[np.abs(speed) < 1e-9] = 1e-9
        crossing = gap / speed
        enters = speed < 0
        entry = np.where(enters, crossing, -np.inf)
        first = entry.max(1)
        last = np.where(enters, np.inf, crossing).min(1)
        distance = np.where((first < last) & (first > _NEAREST), first, np.inf)
        nearest = distance.argmin(0)
        rays = np.arange(direction.shape[1])
        face = entry[nearest, :, rays].argmax(1)
        return distance[nearest, rays], nearest, face

    def _ellipsoid_hits(self, origin: Floats, direction: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Nearest ellipsoid along each ray: distance, index of the ellipsoid."""
        a: Floats | float = 0.0
        b: Floats | float = 0.0
        c: Floats | float = -1.0
        for axis in range(3):
            radius = self._radii[:, axis, None]
            u = direction[axis] / radius
            v = (origin[axis] - self._centres[:, axis, None]) / radius
            a = a + u * u
            b = b + u * v
            c = c + v * v
        root = b * b - a * c
        distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        distance = np.where(distance > _NEAREST, distance, np.inf)
        nearest = distance.argmin(0)
        return distance[nearest, np.arange(direction.shape[1])], nearest
