"""Which objects pass through the place, and what the cameras record of them.

A *track* is one object moving for one to twelve samples; its samples share looks and light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from ddnn_tf.datasets.scenes.camera import CAMERAS, draw_light
from ddnn_tf.datasets.scenes.catalogue import BUILDINGS, MAKERS, RADII, SCENERY
from ddnn_tf.datasets.scenes.geometry import Solid
from ddnn_tf.datasets.scenes.render import SIDE, crop

__all__ = ["Moment", "record", "schedule"]

_SHARES = (0.47, 0.17, 0.36)
"""Share of each class among the samples: unbalanced, as in the paper."""

_MEAN_LENGTH, _LONGEST = 4.0, 12
_MOST_BYSTANDERS = 6
_BLANK = 128
_CAR, _BUS, _PERSON = range(3)

_Taken = list[tuple[float, float, float]]


@dataclass(frozen=True)
class Moment:
    """One sample of a track.

    Attributes:
        label: Class of the object.
        looks: Seed of its looks.
        course: Seed of where it starts and moves.
        light: Seed of the light.
        step: Number of the sample within the track.
        track: Number of the track.
    """

    label: int
    looks: int
    course: int
    light: int
    step: int
    track: int


def schedule(number: int, seed: int) -> list[Moment]:
    """Plans samples so that in every prefix the classes stand near their shares."""
    random = RandomState(seed)
    moments: list[Moment] = []
    counts = [0, 0, 0]
    track = 0
    while len(moments) < number:
        label = max(range(3), key=lambda k: _SHARES[k] * (len(moments) + 1) - counts[k])
        length = 1 + int(-np.log(1 - random.uniform()) * (_MEAN_LENGTH - 1))
        length = min(length, _LONGEST)
        looks, course, light = (int(value * 2**31) for value in random.uniform(0, 1, 3))
        moments += [Moment(label, looks, course, light, step, track) for step in range(length)]
        counts[label] += length
        track += 1
    return moments[:number]


def record(moment: Moment) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What all cameras record at one moment.

    Returns:
        Images `(6, 32, 32, 3)` uint8, grey where the object is not to be seen, and presence
        `(6,)` bool.
    """
    light = draw_light(RandomState(moment.light))
    scene = [*SCENERY, _target(moment)]
    target = len(SCENERY)
    scene += _bystanders(moment, scene[target])
    images = np.full((len(CAMERAS), SIDE, SIDE, 3), _BLANK, np.uint8)
    presence = np.zeros(len(CAMERAS), dtype=bool)
    for number, camera in enumerate(CAMERAS):
        random = RandomState((moment.course + 101 * moment.step + 7 * number + 3) % 2**31)
        image = crop(camera, scene, target, light, random)
        if image is not None:
            images[number] = np.floor(image * 255 + 0.5).astype(np.uint8)
            presence[number] = True
    return images, presence


def _target(moment: Moment) -> Solid:
    """The object of interest where it is at this step of its course."""
    label = moment.label
    random = RandomState(moment.course)
    x, y, yaw = _spot(random, label, _furniture(), 9.5)
    speed = random.uniform(0.2, 0.9) if label == _PERSON else random.uniform(0.3, 1.6)
    speed *= 0 if random.uniform() < 0.15 else 1
    x += np.cos(yaw) * speed * moment.step
    y += np.sin(yaw) * speed * moment.step
    yaw += moment.step * random.uniform(-0.08, 0.08)
    return Solid(MAKERS[label](RandomState(moment.looks)), x, y, yaw, RADII[label])


def _bystanders(moment: Moment, target: Solid) -> list[Solid]:
    """Other objects that happen to be there and may hide the target."""
    random = RandomState((moment.course * 31 + moment.step * 7919 + 17) % 2**31)
    taken = [*_furniture(), (target.x, target.y, target.radius)]
    found = []
    for _ in range(int(random.uniform() * (_MOST_BYSTANDERS + 1))):
        draw = random.uniform()
        label = _CAR if draw < 0.4 else _BUS if draw < 0.5 else _PERSON
        x, y, yaw = _spot(random, label, taken, 12.0)
        if _is_free(x, y, RADII[label], taken):
            found.append(Solid(MAKERS[label](random), x, y, yaw, RADII[label]))
            taken.append((x, y, RADII[label]))
    return found


def _furniture() -> _Taken:
    return [(solid.x, solid.y, solid.radius) for solid in SCENERY[len(BUILDINGS) :]]


def _spot(
    random: RandomState, label: int, taken: Sequence[tuple[float, float, float]], area: float
) -> tuple[float, float, float]:
    """A place and heading that fit the class: vehicles mostly keep to their lane."""
    for _ in range(40):
        if label == _PERSON:
            x, y = random.uniform(-area, area), random.uniform(-area, area)
            yaw = random.uniform(0, 2 * np.pi)
        else:
            x = random.uniform(-area, area)
            lane = 1 if random.uniform() < 0.5 else -1
            y = 0.12 * x + 1 + lane * random.uniform(1.6, 2.6)
            yaw = np.arctan(0.12) + (0 if lane < 0 else np.pi) + random.uniform(-0.12, 0.12)
            if label == _CAR and random.uniform() < 0.35:
                y = random.uniform(-area, area)
                yaw = random.uniform(0, 2 * np.pi)
        if _is_free(x, y, RADII[label], taken):
            break
    return x, y, yaw


def _is_free(x: float, y: float, radius: float, taken: Sequence[tuple[float, float, float]]) -> bool:
    return all((x - a) ** 2 + (y - b) ** 2 > (radius * 0.75 + other * 0.75) ** 2 for a, b, other in taken)
