"""Where a device's images come from: a data set, a directory, or a client that pushes them."""

from __future__ import annotations

import asyncio
import collections
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import MultiViewDataset

__all__ = ["DatasetSensor", "DirectorySensor", "PushedSensor", "Sensor"]

_KEPT = 1024
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".webp")


class Sensor(Protocol):
    """Gives the image of a sample: `(height, width, channels)` uint8, or None if there is none."""

    def image(self, sample: int) -> NDArray[np.uint8] | None:
        """The image, if it is there at once."""


class DatasetSensor:
    """One device's view of a data set's test part; sample n is its n-th.

    Args:
        data: The data set.
        device: Number of the device.
    """

    def __init__(self, data: MultiViewDataset, device: int) -> None:
        self._images = np.ascontiguousarray(data.images[data.split["test"], device])

    def image(self, sample: int) -> NDArray[np.uint8] | None:
        """As of every sensor; None beyond the test part."""
        return self._images[sample] if sample < len(self._images) else None


class DirectorySensor:
    """The images of a directory, in the order of their names; sample n is the n-th.

    Args:
        directory: Where they are.
        shape: `(height, width, channels)` that the network takes.

    Raises:
        FileNotFoundError: No such directory, or no image in it.
        ValueError: A file that cannot be read, or an image of another size.
        ImportError: Pillow is not installed.
    """

    def __init__(self, directory: str | Path, shape: tuple[int, int, int]) -> None:
        place = Path(directory)
        files = sorted(file for file in place.glob("*") if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise FileNotFoundError(
                f"There is no image in '{place}': a device looks for {', '.join(_SUFFIXES)}."
            )
        self._images = [_read(file, shape) for file in files]

    def image(self, sample: int) -> NDArray[np.uint8] | None:
        """As of every sensor; None beyond the last image."""
        return self._images[sample] if sample < len(self._images) else None


class PushedSensor:
    """Images that a client pushes; the last 1,024 are kept."""

    def __init__(self) -> None:
        self._images: collections.OrderedDict[int, NDArray[np.uint8]] = collections.OrderedDict()
        self._arrived = asyncio.Condition()

    def image(self, sample: int) -> NDArray[np.uint8] | None:
        """As of every sensor."""
        return self._images.get(sample)

    async def push(self, sample: int, image: NDArray[np.uint8]) -> None:
        """Takes an image; a later one of the same sample replaces it."""
        async with self._arrived:
            self._images[sample] = image
            self._images.move_to_end(sample)
            while len(self._images) > _KEPT:
                self._images.popitem(last=False)
            self._arrived.notify_all()

    async def wait(self, sample: int, timeout: float) -> NDArray[np.uint8] | None:
        """The image as soon as it is there; None if it is not within `timeout` seconds."""
        async with self._arrived:
            try:
                await asyncio.wait_for(self._arrived.wait_for(lambda: sample in self._images), timeout)
            except asyncio.TimeoutError:
                return None
        return self._images.get(sample)


def _read(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError("Pillow is not installed: pip install 'ddnn_tf[runtime]'.") from None
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if shape[2] == 1 else "RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"'{file}' is no image that can be read: {error}.") from None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape != shape:
        height, width, channels = shape
        raise ValueError(
            f"'{file}' is {pixels.shape[1]}x{pixels.shape[0]} with {pixels.shape[2]} channels, but the "
            f"network takes {width}x{height} with {channels}: resize it."
        )
    return pixels
