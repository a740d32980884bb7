"""The things in a scene: cars, buses and persons with random looks, and the place's furniture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState

from ddnn_tf.datasets.scenes.geometry import Floats, Part, Solid, box, ellipsoid

__all__ = ["BUILDINGS", "CLASSES", "MAKERS", "RADII", "SCENERY"]

CLASSES = ("car", "bus", "person")

RADII = (2.6, 6.3, 0.7)
"""Radius in metres of the ground that an object of each class takes up."""

_Colour = tuple[float, float, float]
_GLASS: _Colour = (0.10, 0.12, 0.15)
_TYRE: _Colour = (0.05, 0.05, 0.05)
_PAINTS: list[_Colour] = [
    (0.75, 0.75, 0.77),
    (0.08, 0.08, 0.10),
    (0.35, 0.36, 0.38),
    (0.60, 0.08, 0.08),
    (0.08, 0.15, 0.45),
    (0.85, 0.85, 0.82),
    (0.10, 0.30, 0.15),
    (0.75, 0.60, 0.12),
    (0.45, 0.35, 0.25),
]
_LIVERIES: list[_Colour] = [
    (0.80, 0.80, 0.78),
    (0.70, 0.10, 0.10),
    (0.85, 0.65, 0.10),
    (0.15, 0.30, 0.55),
    (0.80, 0.82, 0.85),
    (0.20, 0.45, 0.25),
]
_SHIRTS: list[_Colour] = [*_PAINTS, (0.8, 0.3, 0.3), (0.3, 0.5, 0.7)]
_TROUSERS: list[_Colour] = [
    (0.10, 0.10, 0.18),
    (0.15, 0.15, 0.15),
    (0.35, 0.30, 0.22),
    (0.2, 0.25, 0.4),
]
_SKINS: list[_Colour] = [(0.80, 0.62, 0.52), (0.55, 0.40, 0.30), (0.35, 0.24, 0.18)]
_HAIRS: list[_Colour] = [(0.10, 0.08, 0.06), (0.35, 0.25, 0.15), (0.5, 0.45, 0.4)]


def _pick(random: RandomState, choices: Sequence[_Colour]) -> _Colour:
    return choices[int(random.uniform() * len(choices))]


def _tint(random: RandomState, colour: _Colour, spread: float = 0.08) -> Floats:
    return np.clip(np.array(colour) + random.uniform(-spread, spread, 3), 0.02, 0.95)


def _wheels(xs: Sequence[float], half_width: float, inset: float, radius: float, width: float) -> list[Part]:
    return [
        ellipsoid((x, side * (half_width - inset), radius), (radius, width, radius), _TYRE)
        for x in xs
        for side in (-1, 1)
    ]


def _car(random: RandomState) -> list[Part]:
    """A saloon, hatchback or van."""
    length = random.uniform(3.7, 4.8) / 2
    width = random.uniform(1.65, 1.9) / 2
    height = random.uniform(1.35, 1.55)
    colour = _tint(random, _pick(random, _PAINTS))
    kind = random.uniform()
    floor, body = 0.22, random.uniform(0.58, 0.70)
    is_van = kind >= 0.80
    if kind < 0.45:
        rear, front, lean_front, lean_back = -length * 0.62, length * 0.42, 0.75, 0.55
    elif not is_van:
        rear, front, lean_front, lean_back = -length * 0.92, length * 0.40, 0.75, 0.30
    else:
        rear, front, lean_front, lean_back = -length * 0.97, length * 0.72, 0.55, 0.12
        height += 0.45
    cabin = height - floor - body
    middle, half = (rear + front) / 2, (front - rear) / 2
    level = floor + body + cabin / 2
    parts: list[Part] = [
        box((0, 0, floor + body / 2), (length, width, body / 2), colour, (0.10, 0.05, 0.05)),
        box((middle, 0, level), (half, width - 0.06, cabin / 2), _GLASS, (lean_front, lean_back, 0.18)),
        box(
            (middle + (lean_back - lean_front) / 2 * 0.95, 0, height),
            (half - (lean_front + lean_back) / 2 * 0.9, width - 0.22, 0.05),
            colour,
        ),
    ]
    if is_van:
        parts.append(
            box(
                (middle - half * 0.35, 0, level),
                (half * 0.55, width - 0.02, cabin / 2),
                colour,
                (0, lean_back, 0.12),
            )
        )
    parts += _wheels((-length * 0.62, length * 0.62), width, 0.08, 0.31, 0.13)
    for side in (-1, 1):
        parts.append(
            ellipsoid((length, side * width * 0.68, floor + body * 0.6), (0.08, 0.18, 0.10), (0.9, 0.9, 0.8))
        )
        parts.append(
            ellipsoid(
                (-length, side * width * 0.7, floor + body * 0.65), (0.06, 0.16, 0.10), (0.6, 0.05, 0.05)
            )
        )
    return parts


def _bus(random: RandomState) -> list[Part]:
    length = random.uniform(6.8, 12.0) / 2
    width = random.uniform(2.3, 2.55) / 2
    height = random.uniform(2.7, 3.15)
    colour = _tint(random, _pick(random, _LIVERIES))
    stripe = _tint(random, _pick(random, _PAINTS))
    floor = 0.30
    parts: list[Part] = [
        box((0, 0, (floor + height) / 2), (length, width, (height - floor) / 2), colour, (0.15, 0.05, 0.06)),
        box((0, 0, floor + 0.22), (length + 0.01, width + 0.01, 0.22), stripe),
        box((length - 0.05, 0, height * 0.62), (0.12, width - 0.15, height * 0.20), _GLASS, (0.08, 0, 0)),
        box((-length + 0.02, 0, height * 0.68), (0.05, width - 0.3, height * 0.14), _GLASS),
    ]
    windows = int(3 + length)
    half = (2 * length - 1.2) / windows / 2
    for number in range(windows):
        parts.append(
            box(
                (-length + 0.5 + half * (2 * number + 1), 0, height * 0.66),
                (half * 0.86, width + 0.005, height * 0.15),
                _GLASS,
                (0, 0, 0.05),
            )
        )
    return parts + _wheels((-length * 0.58, length * 0.60), width, 0.10, 0.48, 0.16)


def _person(random: RandomState) -> list[Part]:
    """Somebody walking, perhaps with a backpack or a bag."""
    height = random.uniform(1.55, 1.92)
    scale = height / 1.75
    shoulder = random.uniform(0.19, 0.25) * scale
    step = random.uniform(-0.28, 0.28)
    shirt = _tint(random, _pick(random, _SHIRTS), 0.12)
    trousers = _tint(random, _pick(random, _TROUSERS))
    skin = _tint(random, _pick(random, _SKINS), 0.04)
    hair = _tint(random, _pick(random, _HAIRS), 0.04)
    parts: list[Part] = [
        ellipsoid((0, 0, 1.62 * scale), (0.11 * scale, 0.10 * scale, 0.13 * scale), skin),
        ellipsoid((-0.02, 0, 1.67 * scale), (0.115 * scale, 0.105 * scale, 0.10 * scale), hair),
        box((0, 0, 1.16 * scale), (0.12 * scale, shoulder, 0.29 * scale), shirt, (0.02, 0.02, -0.03)),
        box((0, 0, 0.86 * scale), (0.12 * scale, shoulder * 0.85, 0.08 * scale), trousers),
    ]
    for side, swing in ((-1, step), (1, -step)):
        leg = side * 0.09 * scale
        parts += [
            ellipsoid((swing * 0.45, leg, 0.62 * scale), (0.10, 0.085, 0.26 * scale), trousers),
            ellipsoid((swing * 0.9, leg, 0.24 * scale), (0.085, 0.075, 0.25 * scale), trousers),
            ellipsoid(
                (-swing * 0.6, side * (shoulder + 0.05), 1.12 * scale), (0.065, 0.06, 0.31 * scale), shirt
            ),
        ]
    if random.uniform() < 0.35:
        parts.append(
            box((-0.20 * scale, 0, 1.18 * scale), (0.09, 0.15, 0.20), _tint(random, _pick(random, _PAINTS)))
        )
    if random.uniform() < 0.10:
        side = 1 if random.uniform() < 0.5 else -1
        parts.append(box((0.1, 0.3 * side, 0.30), (0.22, 0.10, 0.28), _tint(random, _pick(random, _PAINTS))))
    return parts


MAKERS = (_car, _bus, _person)
"""Makes the parts of an object of each class from a random state."""


def _building(x: float, y: float, half: tuple[float, float, float], colour: _Colour) -> Solid:
    return Solid([box((0, 0, half[2]), half, colour)], x, y, 0.0, 99)


def _tree(x: float, y: float) -> Solid:
    trunk = ellipsoid((0, 0, 1.4), (0.22, 0.22, 1.6), (0.25, 0.18, 0.12))
    crown = ellipsoid((0, 0, 3.6), (1.5, 1.5, 1.3), (0.16, 0.28, 0.10))
    return Solid([trunk, crown], x, y, 0.0, 1.0)


BUILDINGS = (
    _building(-30, 26, (9, 6, 6), (0.55, 0.50, 0.45)),
    _building(12, 36, (16, 5, 7), (0.62, 0.60, 0.55)),
    _building(36, 4, (5, 14, 6), (0.50, 0.42, 0.38)),
    _building(16, -34, (14, 5, 6), (0.58, 0.58, 0.60)),
    _building(-34, -14, (5, 13, 7), (0.52, 0.47, 0.42)),
)

_SHELTER = Solid(
    [
        box((0, 0, 2.45), (2.2, 0.8, 0.08), (0.3, 0.32, 0.35)),
        box((0, 0.75, 1.2), (2.1, 0.05, 1.2), (0.35, 0.42, 0.45)),
        box((-2.1, 0, 1.2), (0.06, 0.7, 1.2), (0.35, 0.42, 0.45)),
    ],
    2.5,
    8.6,
    0.05,
    2.4,
)
_PLANTER = Solid([box((0, 0, 0.55), (1.1, 0.5, 0.55), (0.45, 0.42, 0.35))], -8.5, -6.0, 0.4, 1.3)

SCENERY = (
    *BUILDINGS,
    *(_tree(x, y) for x, y in ((-6.5, 6.5), (6.0, 7.5), (8.5, -5.5), (-3.0, -9.0), (-10.0, -1.0))),
    _SHELTER,
    _PLANTER,
)
"""What always stands in the place: the buildings first, then trees, a bus shelter and a planter."""
