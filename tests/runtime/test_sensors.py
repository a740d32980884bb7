"""Where a device's readings come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from unlike import UNLIKE

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.runtime.sensors import (
    DatasetSensor,
    DirectorySensor,
    FileSensor,
    as_codes,
    is_image,
    open_sensor,
)
from ddnn_tf.specs import Coding
from ddnn_tf.topology import Topology


def test_a_data_sets_view_is_that_of_its_test_part(tiny_data: MultiViewDataset) -> None:
    sensor = DatasetSensor(tiny_data, "device_1")
    np.testing.assert_array_equal(sensor.read(3), tiny_data.views["device_1"][47])
    assert sensor.read(16) is None


def test_images_of_a_directory_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    for name, image in zip(("b.tiff", "c.bmp", "a.PNG"), images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    sensor = DirectorySensor(tmp_path, (8, 6, 3))
    for sample, at in enumerate((2, 0, 1)):
        np.testing.assert_array_equal(sensor.read(sample), images[at])
    assert sensor.read(3) is None
    assert DirectorySensor(tmp_path, (8, 6, 3)).read(0) is not None


def test_grey_images(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(8, 6)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(DirectorySensor(tmp_path, (8, 6, 1)).read(0), image[..., None])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no image in"):
        DirectorySensor(tmp_path / "none", (8, 6, 3))
    (tmp_path / "a.png").write_bytes(b"\x89PNG garbage")
    with pytest.raises(ValueError, match=r"a\.png' is no image that can be read"):
        DirectorySensor(tmp_path, (8, 6, 3))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png' is 4x4 with 3 channels, but the network takes 6x8 with 3"):
        DirectorySensor(tmp_path, (8, 6, 3))


def test_images_are_brought_to_the_networks_size_as_in_training(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 40), 200, np.uint8)).save(tmp_path / "a.png")
    padded = DirectorySensor(tmp_path, (8, 16, 3), fit="pad").read(0)
    assert padded is not None
    assert padded.shape == (8, 16, 3)
    assert not padded[0].any()
    stretched = DirectorySensor(tmp_path, (8, 16, 1), fit="stretch").read(0)
    assert stretched is not None
    assert (stretched == 200).all()
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png' is no image that can be read: the file is empty"):
        DirectorySensor(tmp_path, (8, 16, 3), fit="pad")


CODING = Coding(scale=(0.5, 2.0), offset=(-10.0, 0.0))


@pytest.mark.parametrize("suffix", ["csv", "names.csv", "npy"])
@pytest.mark.parametrize("shape", [(3, 2), (2,)])
def test_physical_readings_of_a_file_become_codes(
    tmp_path: Path, shape: tuple[int, ...], suffix: str
) -> None:
    readings = np.random.default_rng(0).uniform(-10, 100, (5, *shape))
    file = tmp_path / f"readings.{suffix}"
    if file.suffix == ".npy":
        np.save(file, readings)
    else:
        header = ",".join(f"name {number}" for number in range(readings[0].size))
        rows = readings.reshape(5, -1)
        np.savetxt(file, rows, delimiter=",", header=header if "names" in suffix else "", comments="")
        lines = [line for line in file.read_text().splitlines() if line]
        file.write_text("\n".join(lines) + "\n")
    sensor = FileSensor(file, shape, CODING)
    for sample in range(5):
        np.testing.assert_array_equal(sensor.read(sample), CODING.encode(readings[sample]))
    assert sensor.read(5) is None


def test_readings_without_a_coding_are_codes_already(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.array([[0, 255], [3, 4]]))
    codes = FileSensor(tmp_path / "codes.npy", (2,), None).read(1)
    assert codes is not None
    assert (codes.tolist(), codes.dtype) == ([3, 4], np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1,2", r"in a \.csv or \.npy file"),
        ("a.csv", "1,2,3\n", r"holds \(1, 3\) numbers, but the network takes \(samples, 2\)"),
        ("a.csv", "1,x\n2,y\n", "holds no readings"),
        ("a.csv", "1,nan\n", "got NaN"),
        ("a.npy", "garbage", "holds no readings"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        FileSensor(tmp_path / name, (2,), CODING)
    with pytest.raises(FileNotFoundError, match="no file of readings"):
        FileSensor(tmp_path / "none.csv", (2,), CODING)


def test_codes_are_whole_numbers_of_a_byte() -> None:
    assert as_codes([[0, 255.0]]).dtype == np.uint8
    for wrong in (-1, 256, 0.5, np.nan):
        with pytest.raises(ValueError, match=r"whole numbers 0\.\.255"):
            as_codes([wrong])


def test_a_device_opens_the_sensor_that_fits_it(tmp_path: Path) -> None:
    class Network:
        hierarchy = Topology.from_yaml(UNLIKE).hierarchy
        picture_fit = "pad"

    network: Any = Network()
    assert [is_image(node) for node in network.hierarchy.devices] == [True, True, False, False]
    np.save(tmp_path / "air.npy", np.array([[1, 2]]))
    reading = open_sensor(str(tmp_path / "air.npy"), network, "co2").read(0)
    assert reading is not None
    assert reading.tolist() == [1, 2]
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "b.png")
    camera = open_sensor(str(tmp_path), network, "camera_1")
    assert isinstance(camera, DirectorySensor)
    shape = network.hierarchy["camera_1"].sensor.shape
    pictures = [camera.read(sample) for sample in (0, 1)]
    assert [picture.shape for picture in pictures if picture is not None] == [shape, shape]
    with pytest.raises(ValueError, match="--name out of camera_0, camera_1, microphone, co2, but got 'x'"):
        open_sensor("push", network, "x")
