"""Networks for the tests of the runtime, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from random_networks import RandomNetwork

from ddnn_tf.datasets import DataSource
from ddnn_tf.topology import ONE_DEVICE, Topology


@pytest.fixture(scope="session")
def network_of() -> Callable[..., RandomNetwork]:
    """An untrained network of a configuration of Figure 2, on the scenes of three devices."""
    made: dict[tuple[str, str, str], RandomNetwork] = {}

    def make(letter: str, local: str = "MP", upper: str = "CC") -> RandomNetwork:
        key = (letter, local, upper)
        if key not in made:
            source = DataSource(name="scenes", devices=1 if letter in ONE_DEVICE else 3)
            options = {} if letter == "a" else {"local": local}
            topology = Topology.figure_2(letter, source.devices, upper=upper, **options)
            made[key] = RandomNetwork(topology, source.load(), source)
        return made[key]

    return make
