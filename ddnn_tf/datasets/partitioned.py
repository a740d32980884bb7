"""MNIST, Fashion-MNIST and CIFAR-10 cut into tiles, one tile to a device.

A 32x32 image (28x28 is padded by 2 on each side) is cut into a grid of equal tiles, by default 2
rows and 3 columns of 16x10 pixels for six devices; pixels left over at the right and the bottom are
dropped. Tiles are numbered column by column: top-left, bottom-left, top-middle, bottom-middle,
top-right, bottom-right. Training and test images are padded and cut alike, and every device always
sees its tile.

Source: the partitioned MNIST and CIFAR-10 of the authors' second (PyTorch) code; there the test
images were cut without the padding, which is corrected here.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.files import read_idx, read_npz
from ddnn_tf.datasets.multiview import MultiViewDataset, camera_views
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import hold_out
from ddnn_tf.documents import data_directory

__all__ = ["SOURCES", "load_partitioned", "tiles"]

_SIDE = 32
_BUCKET = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_NPZ_KEYS = {
    "x_train": "training images",
    "y_train": "training labels",
    "x_test": "test images",
    "y_test": "test labels",
}
_CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_CIFAR_RECORD = 1 + 3 * _SIDE * _SIDE

_Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class _Source:
    class_names: tuple[str, ...]
    places: Callable[[], tuple[Path, ...]]
    files: str
    download: Callable[[], _Arrays]


def load_partitioned(
    source: str,
    path: str | Path | None = None,
    *,
    grid: tuple[int, int] = (2, 3),
    validation_share: float = 0.1,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads an image data set and cuts its images into device images.

    Args:
        source: `mnist`, `fashion_mnist` or `cifar10`.
        path: A directory with the original files (IDX, gzipped or not; for CIFAR-10 the *binary*
            version), or an NPZ file with `x_train`, `y_train`, `x_test`, `y_test`. Default: the
            usual places on this machine, then Keras's own download.
        grid: Rows and columns of tiles; their product is the number of devices.
        validation_share: Fraction of the training images used for validation.
        seed: Seed of the draw of the validation images.

    Raises:
        FileNotFoundError: No such path, or no file in the usual places and no network.
        ValueError: Unknown source, damaged files, or a grid finer than the image.
    """
    if source not in SOURCES:
        raise ValueError(f"Expected `source` to be one of {', '.join(SOURCES)}, but got {source!r}.")
    x_train, y_train, x_test, y_test = _read(source, None if path is None else Path(path))
    train_images = _checked_images(source, x_train, y_train)
    test_images = _checked_images(source, x_test, y_test)
    images = np.concatenate([tiles(train_images, grid), tiles(test_images, grid)])
    labels = np.concatenate([y_train.reshape(-1), y_test.reshape(-1)]).astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(train_images))
    return MultiViewDataset(
        name=source,
        views=camera_views(images),
        labels=labels,
        presence=np.ones(images.shape[:2], dtype=bool),
        class_names=SOURCES[source].class_names,
        split=hold_out(order, np.arange(len(train_images), len(labels)), validation_share),
        split_rule=f"as distributed, validation drawn from training with seed {seed}",
    )


def tiles(images: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Cuts images into device images.

    Args:
        images: `(samples, height, width, channels)` uint8.
        grid: `(rows, columns)`.

    Returns:
        `(samples, rows * columns, height // rows, width // columns, channels)`, column by column.

    Raises:
        ValueError: A grid with fewer than one row or column, or finer than the image.
    """
    rows, columns = grid
    samples, height, width, channels = images.shape
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise ValueError(
            f"Expected `grid` between 1x1 and {height}x{width} (the image), but got {rows}x{columns}."
        )
    high, wide = height // rows, width // columns
    cropped = images[:, : rows * high, : columns * wide]
    parts = cropped.reshape(samples, rows, high, columns, wide, channels)
    return parts.transpose(0, 3, 1, 2, 4, 5).reshape(samples, -1, high, wide, channels)


def _read(source: str, path: Path | None) -> _Arrays:
    if path is not None:
        return _read_local(source, path)
    for place in SOURCES[source].places():
        # A download that broke off leaves an empty or half-filled directory behind.
        with contextlib.suppress(FileNotFoundError):
            return _read_local(source, place)
    try:
        return SOURCES[source].download()
    except Exception as error:  # Keras wraps URLError, HTTPError and time-outs in a bare Exception
        raise FileNotFoundError(
            f"'{source}' is not on this machine and could not be downloaded ({_short(error)}): put "
            f"{SOURCES[source].files} into a directory and name it with --path, or into "
            f"'{SOURCES[source].places()[0]}'."
        ) from None


def _read_local(source: str, path: Path) -> _Arrays:
    if not path.exists():
        raise FileNotFoundError(f"There is no file or directory '{path}'.")
    if path.is_file():
        arrays = read_npz(path, _NPZ_KEYS)
        return arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"]
    if source == "cifar10":
        batches = [_cifar_batch(name, _found(path, name).read_bytes()) for name in _CIFAR_TRAIN]
        return _cifar_arrays(batches, _cifar_batch(_CIFAR_TEST, _found(path, _CIFAR_TEST).read_bytes()))
    x_train, y_train, x_test, y_test = (
        read_idx(_found(path, name, f"{name}.gz"), 3 if "images" in name else 1) for name in _IDX_FILES
    )
    return x_train, y_train, x_test, y_test


def _found(directory: Path, *names: str) -> Path:
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"'{directory}' holds no file {' or '.join(names)}.")


def _cifar_batch(name: str, content: bytes) -> NDArray[np.uint8]:
    if not content or len(content) % _CIFAR_RECORD:
        raise ValueError(
            f"'{name}' has {len(content)} bytes, not a multiple of {_CIFAR_RECORD}: it is not a batch "
            "of CIFAR-10's binary version."
        )
    return np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)


def _cifar_arrays(train: Sequence[NDArray[np.uint8]], test: NDArray[np.uint8]) -> _Arrays:
    def parted(records: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = records[:, 1:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        return images, records[:, 0]

    return (*parted(np.concatenate(train)), *parted(test))


def _checked_images(source: str, images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Images as `(samples, height, width, channels)` uint8, padded up to 32 pixels a side."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(
            f"'{source}': the images are {images.shape} {images.dtype}, expected (samples, height, "
            "width) or (samples, height, width, channels) uint8."
        )
    if labels.dtype.kind not in "iu" or labels.size != len(images):
        raise ValueError(
            f"'{source}': the labels are {labels.shape} {labels.dtype}, expected one integer for each "
            f"of {len(images)} images."
        )
    classes = len(SOURCES[source].class_names)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"'{source}': the labels range from {labels.min()} to {labels.max()}, expected 0 to "
            f"{classes - 1}."
        )
    if images.ndim == 3:
        images = images[..., None]
    margins = [max(0, _SIDE - size) for size in images.shape[1:3]]
    padding = [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)]
    return np.pad(images, padding)


def _download_mnist() -> _Arrays:
    file = _keras_file(
        "mnist.npz",
        _BUCKET + "mnist.npz",
        file_hash="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    )
    return _read_local("mnist", file)


def _download_fashion_mnist() -> _Arrays:
    for name in _IDX_FILES:
        file = _keras_file(f"{name}.gz", f"{_BUCKET}{name}.gz", cache_subdir="datasets/fashion-mnist")
    return _read_local("fashion_mnist", file.parent)


def _download_cifar10() -> _Arrays:
    # Keras's own loader takes the Python version, which is pickled; the binary one is not.
    file = _keras_file(
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        file_hash="c32a1d4ab5d03f1284b67883e8d87530",
    )
    batches = {}
    with tarfile.open(file) as archive:
        for member in archive:
            name = Path(member.name).name
            stream = archive.extractfile(member) if name in (*_CIFAR_TRAIN, _CIFAR_TEST) else None
            if stream is not None:
                batches[name] = _cifar_batch(name, stream.read())
    return _cifar_arrays([batches[name] for name in _CIFAR_TRAIN], batches[_CIFAR_TEST])


def _keras_file(name: str, origin: str, **options: Any) -> Path:
    import tensorflow as tf

    # Keras prints its progress on stdout, where a command's result belongs.
    with contextlib.redirect_stdout(sys.stderr):
        return Path(tf.keras.utils.get_file(name, origin=origin, **options))


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


_KERAS_CACHE = Path.home() / ".keras" / "datasets"

SOURCES: dict[str, _Source] = {
    "mnist": _Source(
        class_names=tuple("0123456789"),
        places=lambda: (data_directory() / "mnist", _KERAS_CACHE / "mnist.npz"),
        files="mnist.npz or the four IDX files (train-images-idx3-ubyte.gz, ...)",
        download=_download_mnist,
    ),
    "fashion_mnist": _Source(
        class_names=(
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        places=lambda: (
            data_directory() / "fashion_mnist",
            Path("/usr/share/datasets/fashion-mnist"),
            _KERAS_CACHE / "fashion-mnist",
        ),
        files="the four IDX files (train-images-idx3-ubyte.gz, ...)",
        download=_download_fashion_mnist,
    ),
    "cifar10": _Source(
        class_names=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        places=lambda: (data_directory() / "cifar10", _KERAS_CACHE / "cifar-10-batches-bin"),
        files="the files of CIFAR-10's binary version (data_batch_1.bin, ..., test_batch.bin)",
        download=_download_cifar10,
    ),
}
"""The image data sets that can be partitioned, by name."""


def _from_source(source: DataSource) -> MultiViewDataset:
    return load_partitioned(source.name, source.path, grid=_grid(source.cameras), seed=source.seed)


def _grid(tiles: int) -> tuple[int, int]:
    """Rows and columns of so many tiles, as square as can be: 2x3 for 6, 1x5 for 5."""
    rows = max(rows for rows in range(1, math.isqrt(tiles) + 1) if tiles % rows == 0)
    return rows, tiles // rows


for _name, _about in (
    ("mnist", "handwritten digits cut into tiles (local files or download)"),
    ("fashion_mnist", "clothes cut into tiles (local files or download)"),
    ("cifar10", "small photographs cut into tiles (local files or download)"),
):
    register_dataset(_name, _from_source, about=_about, options=("path", "devices"))
