"""Views that are larger than memory: one file for each device, of which only what is asked for is read.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as directory:
...     view = StoredView.create(Path(directory, "camera.npy"), (100, 8, 8, 1))
...     view[7] = np.full((8, 8, 1), 200, np.uint8)
...     int(view[[7, 8]].max()), view.shape
(200, (100, 8, 8, 1))

A `MultiViewDataset` takes such views in place of arrays. Above the budget of `memory_budget`, the data set
`folder` decodes its pictures into them once, under the cache directory.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["StoredView", "View", "memory_budget"]

_BUDGET = "DDNN_MEMORY_MB"
# Of the memory of the machine: training holds a copy of its part besides.
_SHARE = 4


class StoredView:
    """8-bit codes in a `.npy` file, in place of an array `(samples, ...)` uint8.

    What is read is a copy, and the file is open only meanwhile: an open memory map would count all that was
    ever read as memory of the process.

    Args:
        path: The file.
        rows: Which samples of the file the view has, in their order; None: all.

    Raises:
        ValueError: The file is no such array, or cut short.

    Attributes:
        path: The file.
        shape: `(samples, ...)`.
        dtype: uint8.
        ndim: Number of dimensions.
        nbytes: Size of the array in bytes.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, rows: NDArray[np.int64] | None = None) -> None:
        self.path = path
        with open(path, "rb") as stream:
            self._shape_of_file = _read_header(stream)
            self._offset = stream.tell()
        size = self._offset + math.prod(self._shape_of_file)
        if path.stat().st_size != size:
            raise ValueError(
                f"'{path}' has {path.stat().st_size} bytes, expected {size}: it is damaged or cut short."
            )
        self._rows = np.arange(self._shape_of_file[0]) if rows is None else rows
        self.shape = (len(self._rows), *self._shape_of_file[1:])
        self.ndim = len(self.shape)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64))

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...]) -> StoredView:
        """Makes a file of zeros; one that stands there is replaced."""
        with open(path, "wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            # Zeros take no room on the disk until they are written.
            stream.truncate(stream.tell() + int(np.prod(shape, dtype=np.int64)))
        return cls(path)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """The samples that an index, a slice or an array of indices selects."""
        mapped = np.memmap(self.path, np.uint8, "r", self._offset, self._shape_of_file)
        return np.array(mapped[self._rows[rows]])

    def take(self, rows: NDArray[np.int64]) -> StoredView:
        """Some of the samples, as a view in the same file: nothing is read."""
        return StoredView(self.path, self._rows[rows])

    def __setitem__(self, row: int, codes: NDArray[np.uint8]) -> None:
        """Writes one sample."""
        sample = np.ascontiguousarray(np.broadcast_to(codes, self.shape[1:]), np.uint8)
        with open(self.path, "r+b") as stream:
            stream.seek(self._offset + int(self._rows[row]) * sample.nbytes)
            stream.write(sample.data)

    def __array__(self, dtype: Any = None) -> NDArray[Any]:
        """The whole array, in memory."""
        return self[:] if dtype is None else self[:].astype(dtype)


View = NDArray[np.uint8] | StoredView
"""What a device senses: `(samples, ...)` 8-bit codes, in memory or in a file."""


def memory_budget() -> int:
    """Bytes that the views of a data set may take in memory: a quarter of the machine's.

    The environment variable `DDNN_MEMORY_MB` sets another number, in MB; 0 keeps all pictures on disk.

    Raises:
        ValueError: The variable is no number.
    """
    written = os.environ.get(_BUDGET)
    if written is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE
    if not written.isdecimal():
        raise ValueError(f"Expected the environment variable {_BUDGET} to be a number, but got {written!r}.")
    return int(written) * 1_000_000


def _read_header(stream: BinaryIO) -> tuple[int, ...]:
    np.lib.format.read_magic(stream)
    shape, _, _ = np.lib.format.read_array_header_1_0(stream)
    return shape
