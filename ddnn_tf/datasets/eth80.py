"""ETH-80: photographs of 80 objects of 8 classes, six cameras standing around each.

The 16 views at elevation 90 stand 22.5 degrees apart. Device `d` of `n` sees the view `16 d / n`
steps further round than device 0; turning the object gives 16 samples of each, 1,280 in all. Test
and validation objects are never seen in training.

Source: Leibe and Schiele, "Analyzing Appearance and Contour Based Methods for Object
Categorization", CVPR 2003.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddnn_tf.datasets.files import read_npz
from ddnn_tf.datasets.multiview import MultiViewDataset, camera_views
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import split_by_instance
from ddnn_tf.documents import data_directory

__all__ = ["load_eth80"]

_FILE = "eth80_32.npz"
_ELEVATION = 90
_TEST_SHARE = 0.2


def load_eth80(
    path: str | Path | None = None,
    *,
    devices: int = 6,
    validation_share: float = 0.125,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads ETH-80 as a multi-view data set.

    Args:
        path: NPZ with `X` uint8 (classes, objects, views, height, width, 3), `classes` str and
            `views` int (views, 2): elevation and azimuth in degrees. Default: `eth80_32.npz` in
            `data_directory()`.
        devices: Number of cameras around the object, 1 to the number of azimuths (16).
        validation_share: Fraction of the training objects used for validation.
        seed: Seed of the split: of 10 objects of a class, 7 train, 1 validates, 2 test.

    Raises:
        FileNotFoundError: No file there.
        ValueError: Wrong keys, shapes or dtypes, or too many devices.
    """
    file = data_directory() / _FILE if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file '{file}': give the place of ETH-80 as an NPZ file with --path (keys X, "
            "classes, views), or put it into the directory that the environment variable DDNN_DATA names."
        )
    arrays = read_npz(file, {"X": "images", "classes": "class names", "views": "angles"})
    photographs, names, views = arrays["X"], arrays["classes"], arrays["views"]
    _check(file, photographs, names, views)

    ring = np.flatnonzero(views[:, 0] == _ELEVATION)
    ring = ring[np.argsort(views[ring, 1])]
    if not 1 <= devices <= len(ring):
        raise ValueError(
            f"Expected `devices` between 1 and {len(ring)} (the azimuths of ETH-80), but got {devices}."
        )
    offsets = np.round(np.arange(devices) * len(ring) / devices).astype(int)
    turns = ring[(np.arange(len(ring))[:, None] + offsets) % len(ring)]

    classes, objects = photographs.shape[:2]
    images = photographs[:, :, turns].reshape(-1, devices, *photographs.shape[3:])
    instances = np.repeat(np.arange(classes * objects), len(ring))
    labels = (instances // objects).astype(np.int64)
    return MultiViewDataset(
        name="eth80",
        views=camera_views(images),
        labels=labels,
        presence=np.ones(images.shape[:2], dtype=bool),
        class_names=tuple(str(name) for name in names),
        split=split_by_instance(
            instances,
            labels,
            test_share=_TEST_SHARE,
            validation_share=validation_share,
            seed=seed,
        ),
        split_rule=f"by object (test objects never seen in training), seed {seed}",
        instances=instances.astype(np.int64),
    )


def _check(file: Path, images: np.ndarray, names: np.ndarray, views: np.ndarray) -> None:
    if images.ndim != 6 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"'{file}': the key 'X' is {images.shape} {images.dtype}, expected (classes, objects, "
            "views, height, width, 3) uint8."
        )
    if names.shape != images.shape[:1] or names.dtype.kind != "U":
        raise ValueError(
            f"'{file}': the key 'classes' is {names.shape} {names.dtype}, expected one name for each "
            f"of {images.shape[0]} classes."
        )
    if views.shape != (images.shape[2], 2) or views.dtype.kind not in "iu":
        raise ValueError(
            f"'{file}': the key 'views' is {views.shape} {views.dtype}, expected ({images.shape[2]}, 2) "
            "integers."
        )
    if not (views[:, 0] == _ELEVATION).any():
        raise ValueError(f"'{file}': the key 'views' has no view at elevation {_ELEVATION}.")


def _from_source(source: DataSource) -> MultiViewDataset:
    return load_eth80(source.path, devices=source.cameras, seed=source.seed)


register_dataset(
    "eth80",
    _from_source,
    about="photographs of 80 objects from cameras all round (bring the file: --path)",
    options=("path", "devices"),
)
