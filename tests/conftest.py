"""Fixtures shared by all tests. `ddnn_tf` comes first: it selects Keras 2."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

import ddnn_tf
from ddnn_tf.datasets import DATASETS, DataSource, MultiViewDataset
from ddnn_tf.datasets.multiview import camera_views
from ddnn_tf.datasets.source import DatasetKind
from ddnn_tf.topology import ONE_DEVICE, Cloud, Devices, Topology

if TYPE_CHECKING:
    from random_networks import RandomNetwork

# A test never fails for the time that it takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Plug-ins of `test_outside`: collecting their doctests would register them in this process.
collect_ignore = ["outside"]
# Before any test imports gRPC: its native code reports each broken connection.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The workplace's data directory, which a user's clone does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not on this machine")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_directories(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the tests out of the user's cache, and lets data sets be found; subprocesses inherit it."""
    patch = pytest.MonkeyPatch()
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # One cache for all workers: scenes are rendered once.
        session = session.parent
    patch.setenv("XDG_CACHE_HOME", str(session / "cache"))
    patch.setenv("DDNN_DATA", str(SHARED / "data"))


@pytest.fixture
def tiny_topology() -> Topology:
    """Two devices with 8x8 images and two classes: trains in a moment."""
    return Topology(
        devices=Devices(count=2, input=(8, 8, 1), filters=(2,)), cloud=Cloud(filters=(8,)), classes=2
    )


@pytest.fixture
def tiny_data() -> MultiViewDataset:
    """Bright against dark left halves, half of the second device's views absent."""
    random = np.random.default_rng(0)
    samples = 60
    labels = np.arange(samples) % 2
    images = random.integers(0, 80, (samples, 2, 8, 8, 1))
    images[labels == 1, :, :, :4] += 150
    presence = np.ones((samples, 2), dtype=bool)
    presence[::4, 1] = presence[1::4, 1] = False
    images[~presence] = 128
    return MultiViewDataset(
        name="tiny",
        views=camera_views(images.astype(np.uint8)),
        labels=labels.astype(np.int64),
        presence=presence,
        class_names=("dark", "bright"),
        split={"train": np.arange(36), "validation": np.arange(36, 44), "test": np.arange(44, 60)},
        split_rule="in order",
    )


@pytest.fixture
def tiny_source(tiny_data: MultiViewDataset, monkeypatch: pytest.MonkeyPatch) -> DataSource:
    """A data source that gives `tiny_data`."""
    monkeypatch.setitem(DATASETS._parts, "tiny", DatasetKind(lambda _: tiny_data, "for tests", ("path",)))
    return DataSource(name="tiny")


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """A context in which no file can grow beyond 2,000 bytes, as if the disk were full."""

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def network_of() -> Callable[..., RandomNetwork]:
    """An untrained network of a configuration of Figure 2, on the scenes of three devices."""
    from random_networks import RandomNetwork

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


assert ddnn_tf.__version__
