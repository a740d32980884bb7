"""Where a device's readings come from: a data set, files, or a client that pushes them.

A sensor gives 8-bit codes: pixels as they are, physical readings by the coding that the topology holds for
the device.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.csv_files import is_number
from ddnn_tf.hierarchy import Node
from ddnn_tf.runtime.bounded import Bounded
from ddnn_tf.specs import Coding, Shape

if TYPE_CHECKING:
    from ddnn_tf.datasets import MultiViewDataset
    from ddnn_tf.datasets.pictures import Fit
    from ddnn_tf.runtime.served import ServedNetwork

__all__ = [
    "ArraySensor",
    "DatasetSensor",
    "DirectorySensor",
    "FileSensor",
    "PushedSensor",
    "Sensor",
    "as_codes",
    "is_image",
    "open_sensor",
]

_KEPT = 1024
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_TABLES = (".csv", ".npy")


class Sensor(Protocol):
    """Gives the codes of a sample: an array of the device's input shape, uint8; None if it has none."""

    def read(self, sample: int) -> NDArray[np.uint8] | None:
        """The codes, if they are there at once."""


def open_sensor(source: str, network: ServedNetwork, device: str) -> Sensor:
    """The sensor that a person names on the command line.

    Args:
        source: `data` for the device's view of the test data, `push` for a client that pushes readings, else
            a path: a directory of images, or a .csv or .npy file of physical readings.
        network: The network.
        device: Name of the device.

    Raises:
        FileNotFoundError: No such file or directory, or no image in it.
        ValueError: No such device, or a file that does not fit its input.
        ImportError: Pillow is not installed.
    """
    names = network.hierarchy.device_names
    if device not in names:
        raise ValueError(f"Expected --name out of {', '.join(names)}, but got {device!r}.")
    if source == "data":
        return DatasetSensor(network.load_data(), device)
    if source == "push":
        return PushedSensor()
    node = network.hierarchy[device]
    if is_image(node) and node.coding is None:
        return DirectorySensor(source, node.sensor.shape, fit=network.picture_fit)
    return FileSensor(source, node.sensor.shape, node.coding)


def is_image(node: Node) -> bool:
    """Whether a device's readings are images `(height, width, channels)` that can be shown."""
    shape = node.sensor.shape
    return len(shape) == 3 and shape[-1] in (1, 3)


class ArraySensor:
    """Readings in an array; sample n is the n-th.

    Args:
        codes: `(samples, ...)` uint8.
    """

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self._codes = np.ascontiguousarray(codes)

    def read(self, sample: int) -> NDArray[np.uint8] | None:
        """As of every sensor; None beyond the last."""
        return self._codes[sample] if sample < len(self._codes) else None


class DatasetSensor(ArraySensor):
    """One device's view of a data set's test part; sample n is its n-th.

    Args:
        data: The data set.
        device: Name of the device.
    """

    def __init__(self, data: MultiViewDataset, device: str) -> None:
        super().__init__(data.views[device][data.split["test"]])


class DirectorySensor(ArraySensor):
    """The images of a directory, in the order of their names; sample n is the n-th.

    Args:
        directory: Where they are.
        shape: `(height, width, channels)` that the network takes.
        fit: How images are brought to that shape, `pad` or `stretch`; None: others are refused.

    Raises:
        FileNotFoundError: No such directory, or no image in it.
        ValueError: A file that cannot be read, or an image of another size.
        ImportError: Pillow is not installed.
    """

    def __init__(self, directory: str | Path, shape: Shape, *, fit: Fit | None = None) -> None:
        place = Path(directory)
        files = sorted(file for file in place.glob("*") if file.suffix.lower() in _IMAGES)
        if not files:
            raise FileNotFoundError(
                f"There is no image in '{place}': a device looks for {', '.join(_IMAGES)}."
            )
        super().__init__(np.stack([_image(file, shape, fit) for file in files]))


class FileSensor(ArraySensor):
    """Physical readings in a file; sample n is the n-th.

    A .npy file holds `(samples, ...)` numbers of the device's input shape; a .csv file a line for each
    sample, with as many numbers as the input has, the last axis fastest, and a first line of names or none.

    Args:
        path: The file.
        shape: `(steps, channels)` or `(features,)` that the network takes.
        coding: How readings become codes; None: they are codes already, whole numbers 0..255.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file of another kind or shape, or with values that are no numbers or no codes.
    """

    def __init__(self, path: str | Path, shape: Shape, coding: Coding | None) -> None:
        file = Path(path)
        if file.suffix.lower() not in _TABLES:
            raise ValueError(
                f"Expected readings in a {' or '.join(_TABLES)} file, but got '{file}': a device that takes "
                "no images reads no other."
            )
        if not file.is_file():
            raise FileNotFoundError(f"There is no file of readings '{file}'.")
        readings = _table(file)
        if readings.shape[1:] not in (shape, (math.prod(shape),)):
            raise ValueError(
                f"'{file}' holds {readings.shape} numbers, but the network takes (samples, "
                f"{', '.join(map(str, shape))}): one row for each sample."
            )
        readings = readings.reshape(-1, *shape)
        try:
            super().__init__(as_codes(readings) if coding is None else coding.encode(readings))
        except ValueError as error:
            raise ValueError(f"'{file}': {error}") from None


class PushedSensor:
    """Readings that a client pushes; the last 1,024 are kept."""

    def __init__(self) -> None:
        self._codes: Bounded[int, NDArray[np.uint8]] = Bounded(_KEPT)
        self._arrived = asyncio.Condition()

    def read(self, sample: int) -> NDArray[np.uint8] | None:
        """As of every sensor."""
        return self._codes.get(sample)

    async def push(self, sample: int, codes: NDArray[np.uint8]) -> None:
        """Takes a reading; a later one of the same sample replaces it."""
        async with self._arrived:
            self._codes[sample] = codes
            self._arrived.notify_all()

    async def wait(self, sample: int, timeout: float) -> NDArray[np.uint8] | None:
        """The reading as soon as it is there; None if it is not within `timeout` seconds."""
        async with self._arrived:
            try:
                await asyncio.wait_for(self._arrived.wait_for(lambda: sample in self._codes), timeout)
            except asyncio.TimeoutError:
                return None
        return self._codes.get(sample)


def as_codes(values: Any) -> NDArray[np.uint8]:
    """Codes as contiguous uint8.

    Args:
        values: Whole numbers 0..255, of any shape.

    Raises:
        ValueError: Others.
    """
    array = np.asarray(values)
    if not np.isin(array, np.arange(256)).all():
        raise ValueError(f"Expected codes, whole numbers 0..255, but got {array.shape} {array.dtype}.")
    return np.ascontiguousarray(array, np.uint8)


def _table(file: Path) -> NDArray[Any]:
    """The numbers of a .csv or .npy file."""
    try:
        if file.suffix.lower() == ".npy":
            return np.asarray(np.load(file, allow_pickle=False), np.float64)
        with open(file, encoding="utf-8") as lines:
            first = lines.readline()
        has_names = any(not is_number(cell) for cell in first.split(","))
        return np.loadtxt(file, delimiter=",", skiprows=int(has_names), ndmin=2)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"'{file}' holds no readings: {error}.") from None


def _image(file: Path, shape: Shape, fit: Fit | None) -> NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError

        from ddnn_tf.datasets.pictures import Format, read_pictures
    except ImportError:
        raise ImportError("Pillow is not installed: pip install 'ddnn_tf[runtime]'.") from None
    height, width, channels = shape
    if fit is not None:
        form = Format(width, height, fit, "grey" if channels == 1 else "colour")
        [content] = read_pictures([file], [form])
        if isinstance(content, ValueError):
            raise ValueError(f"'{file}' is no image that can be read: {content}.")
        return content
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"'{file}' is no image that can be read: {error}.") from None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape != shape:
        raise ValueError(
            f"'{file}' is {pixels.shape[1]}x{pixels.shape[0]} with {pixels.shape[2]} channels, but the "
            f"network takes {width}x{height} with {channels}: resize it."
        )
    return pixels
