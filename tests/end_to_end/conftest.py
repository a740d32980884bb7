"""Data for the command line under test."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in MNIST's format with an easy task: the class is where the bright rows are."""
    directory = tmp_path_factory.mktemp("mnist")
    random = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 50)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 2 : 2 * label + 6] += 180
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (directory / name).write_bytes(header + array.tobytes())
    return directory
