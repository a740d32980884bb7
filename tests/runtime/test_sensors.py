"""Where a device's images come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.runtime.sensors import DatasetSensor, DirectorySensor


def test_a_data_sets_view_is_that_of_its_test_part(tiny_data: MultiViewDataset) -> None:
    sensor = DatasetSensor(tiny_data, 1)
    np.testing.assert_array_equal(sensor.image(3), tiny_data.images[47, 1])
    assert sensor.image(16) is None


def test_images_of_a_directory_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    for name, image in zip(("b.png", "c.bmp", "a.PNG"), images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    sensor = DirectorySensor(tmp_path, (8, 6, 3))
    for sample, at in enumerate((2, 0, 1)):
        np.testing.assert_array_equal(sensor.image(sample), images[at])
    assert sensor.image(3) is None
    assert DirectorySensor(tmp_path, (8, 6, 3)).image(0) is not None


def test_grey_images(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(8, 6)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(DirectorySensor(tmp_path, (8, 6, 1)).image(0), image[..., None])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no image in"):
        DirectorySensor(tmp_path / "none", (8, 6, 3))
    (tmp_path / "a.png").write_bytes(b"\x89PNG garbage")
    with pytest.raises(ValueError, match=r"a\.png' is no image that can be read"):
        DirectorySensor(tmp_path, (8, 6, 3))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png' is 4x4 with 3 channels, but the network takes 6x8 with 3"):
        DirectorySensor(tmp_path, (8, 6, 3))
