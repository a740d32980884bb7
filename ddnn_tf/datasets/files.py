"""Arrays in files: read without ever unpickling, with errors that name the key, and written atomically."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.documents import atomic_write

__all__ = ["read_idx", "read_npz", "write_npz"]

_IDX_DTYPES = {0x08: np.dtype(np.uint8)}


def read_npz(path: Path, keys: Mapping[str, str], *, others: bool = False) -> dict[str, NDArray[Any]]:
    """Reads arrays from an NPZ file.

    Args:
        path: The file.
        keys: What each required key holds, in words, for the error messages.
        others: Whether to read all other keys, too; then the arrays are in the file's order.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not an NPZ file, a missing key, or an array that could only be unpickled.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError(f"'{path}' is a single array, not an NPZ file with {', '.join(keys)}.")
        with archive:
            for key, meaning in keys.items():
                if key not in archive.files:
                    raise ValueError(
                        f"'{path}' has no key '{key}' ({meaning}): it holds "
                        f"{', '.join(archive.files) or 'nothing'}."
                    )
            return {key: _member(archive, key, path) for key in (archive.files if others else keys)}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"'{path}' is not a readable NPZ file: {error}.") from None
    except ValueError as error:
        if "pickle" in str(error).lower() and str(path) not in str(error):
            raise ValueError(f"'{path}' is not an NPZ file, and pickled data is refused.") from None
        raise


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays to an NPZ file, whole or not at all; raises as `atomic_write`."""
    content = io.BytesIO()  # on a full disk, NumPy would leave a zip file that Python cannot close
    np.savez(content, **arrays)
    with atomic_write(path) as aside:
        aside.write_bytes(content.getbuffer())


def _member(archive: Mapping[str, NDArray[Any]], key: str, path: Path) -> NDArray[Any]:
    try:
        return archive[key]
    except ValueError as error:
        raise ValueError(
            f"'{path}': the key '{key}' cannot be read without unpickling, which is refused ({error})."
        ) from None


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads an IDX file of bytes (the format of MNIST), gzipped or not.

    Args:
        path: The file.
        dimensions: The number of dimensions expected: 3 for images, 1 for labels.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not an IDX file of bytes, of other dimensions, or of another length than it says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        with open_maybe_gzip(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"'{path}' is not a readable gzip file: {error}.") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise ValueError(f"'{path}' is not an IDX file of unsigned bytes.")
    if content[3] != dimensions:
        raise ValueError(f"'{path}' has {content[3]} dimensions, expected {dimensions}.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    if len(content) - header != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(
            f"'{path}' says that it holds an array of shape {shape}, but has {len(content) - header} "
            "bytes of data: it is damaged or cut short."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def open_maybe_gzip(path: Path) -> BinaryIO:
    """Opens a file for reading bytes, through gzip if it begins like a gzip file."""
    with open(path, "rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")  # type: ignore[return-value]
