"""Built-in unit types and CNN profiles, by name; cnn_catalogue.yaml holds their numbers.

Source: the code that accompanies Disabato, Roveri and Alippi, arXiv 1908.01656.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import yaml

__all__ = [
    "CNNS",
    "DATA_RATE_KB_S",
    "DEFAULT_MIX",
    "INPUT_KB",
    "UNIT_TYPES",
    "known_cnn",
    "known_unit_type",
]

DATA_RATE_KB_S = 9241.6
"""Data rate of a hop, KB per second: IEEE 802.11n at 72.2 Mb/s."""

INPUT_KB = 227 * 227 * 3 * 4 / 1024
"""KB of an image of 227 x 227 pixels and three channels in float32; 1,024 bytes each, as in the reference."""

DEFAULT_MIX = {"orange_pi_zero": 0.45, "beaglebone_ai": 0.45, "raspberry_pi_3b_plus": 0.1}
"""Probability of each unit type in the reference's experiments."""


@functools.cache
def _catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    text = resources.files("ddnn_tf.placement").joinpath("cnn_catalogue.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


UNIT_TYPES: tuple[str, ...] = tuple(_catalogue()["unit_types"])
"""Names of the built-in unit types."""

CNNS: tuple[str, ...] = tuple(_catalogue()["cnns"])
"""Names of the built-in CNN profiles."""


def known_unit_type(name: str) -> dict[str, float]:
    """`memory_kb`, `compute_limit_mop` and `speed_mop_s` of a built-in unit type.

    Raises:
        ValueError: No built-in type has that name.
    """
    if name not in UNIT_TYPES:
        raise ValueError(f"Expected a unit type out of {', '.join(UNIT_TYPES)}, but got {name!r}.")
    return dict(_catalogue()["unit_types"][name])


def known_cnn(name: str) -> dict[str, Any]:
    """The fields of a built-in `Cnn`.

    Raises:
        ValueError: No built-in CNN has that name.
    """
    if name not in CNNS:
        raise ValueError(f"Expected a CNN out of {', '.join(CNNS)}, but got {name!r}.")
    return {"name": name, **_catalogue()["cnns"][name]}
