"""MVMC, the paper's data set: cars, buses and persons seen by six cameras.

The file is the authors' `MVMC.npz`, which they prepared from the multi-view multi-class recordings
of Roig et al. (ICCV 2011); bring it yourself. Its images are channels first, each divided by its
own maximum, and an absent view is all zeros: absence is read off the labels, never off the pixels.
Because the same object stands in many frames, a random split (the authors' too) has the same
objects in training and test.

Source: Teerapittayanon et al. 2017, Section IV-A.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np

from ddnn_tf.datasets.files import read_npz
from ddnn_tf.datasets.multiview import ABSENT, MultiViewDataset, camera_views
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import hold_out

__all__ = ["AUTHORS_BLOB", "load_mvmc"]

AUTHORS_BLOB = "112d2b50d2a4ca64f50347bd81519f065b2c8870"
"""Git blob id (sha1 of `blob <size>\\0` and the bytes) of the authors' file."""

_SAMPLES, _DEVICES, _SHAPE = 851, 6, (3, 32, 32)
_CLASSES = ("car", "bus", "person")
_FILE_ABSENT = 3
_TRAIN_SHARE = 0.8


def load_mvmc(
    path: str | Path | None,
    *,
    split_file: str | Path | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads the paper's file.

    Args:
        path: Where `MVMC.npz` is.
        split_file: JSON with the key `order`, a permutation of the samples: its first 80 % train,
            the rest test (the authors' split). Without it a random order is drawn.
        validation_share: Fraction of the training samples used for validation.
        seed: Seed of the random order.

    Raises:
        FileNotFoundError: No file there.
        ValueError: Wrong keys, shapes, dtypes, pixels or labels.
    """
    if path is None:
        raise ValueError(
            "The data set 'mvmc' is the authors' file, which is not part of this package: give its "
            "place with --path MVMC.npz."
        )
    file = Path(path)
    arrays = read_npz(file, {"X": "images", "y": "labels"})
    images, labels = arrays["X"], arrays["y"]
    _check(file, images, labels)
    if git_blob_id(file) != AUTHORS_BLOB:
        warnings.warn(
            f"'{file}' has the keys and shapes of MVMC, but is not the authors' file (git blob "
            f"{AUTHORS_BLOB}): results may differ from the paper's.",
            stacklevel=2,
        )
    presence = labels != _FILE_ABSENT
    truth = np.where(presence, labels, ABSENT).max(axis=1)
    if (truth == ABSENT).any():
        sample = int(np.flatnonzero(truth == ABSENT)[0])
        raise ValueError(f"'{file}': the key 'y' marks sample {sample} absent from every camera.")

    if split_file is None:
        order = np.random.default_rng(seed).permutation(len(truth))
        rule = f"random, seed {seed}"
    else:
        order = _read_order(Path(split_file), len(truth))
        rule = f"order of {Path(split_file).name}"
    train = int(len(truth) * _TRAIN_SHARE)
    return MultiViewDataset(
        name="mvmc",
        views=camera_views(np.rint(images.transpose(0, 1, 3, 4, 2) * 255).astype(np.uint8)),
        labels=truth.astype(np.int64),
        presence=presence,
        class_names=_CLASSES,
        split=hold_out(order[:train], order[train:], validation_share),
        split_rule=f"{rule} (objects may stand in training and test)",
    )


def git_blob_id(path: Path) -> str:
    """The name that git gives a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _check(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    wanted = (_SAMPLES, _DEVICES, *_SHAPE)
    if images.shape != wanted or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"'{file}': the key 'X' is {images.shape} {images.dtype}, expected {wanted} float32."
        )
    if labels.shape != wanted[:2] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"'{file}': the key 'y' is {labels.shape} {labels.dtype}, expected {wanted[:2]} int32."
        )
    if not np.isfinite(images).all():
        raise ValueError(f"'{file}': the key 'X' holds NaN or infinity.")
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"'{file}': the key 'X' ranges from {images.min():g} to {images.max():g}, expected 0 to 1 "
            "(each image divided by its own maximum)."
        )
    if labels.min() < 0 or labels.max() > _FILE_ABSENT:
        raise ValueError(
            f"'{file}': the key 'y' ranges from {labels.min()} to {labels.max()}, expected 0 car, "
            "1 bus, 2 person, 3 absent."
        )


def _read_order(file: Path, samples: int) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"There is no split file '{file}'.")
    try:
        order = np.asarray(json.loads(file.read_text(encoding="utf-8"))["order"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{file}' is not JSON with the key 'order': {error!r}.") from None
    if order.dtype.kind != "i" or not np.array_equal(np.sort(order), np.arange(samples)):
        raise ValueError(f"'{file}': 'order' is not a permutation of the {samples} samples.")
    return order.astype(np.int64)


def _from_source(source: DataSource) -> MultiViewDataset:
    data = load_mvmc(source.path, split_file=source.split_file, seed=source.seed)
    return data.first_devices(source.devices)


register_dataset(
    "mvmc",
    _from_source,
    about="the paper's file MVMC.npz (bring it: --path)",
    options=("path", "devices", "split_file"),
)
