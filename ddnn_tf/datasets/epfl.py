"""EPFL: real street crops of cars, buses and persons from six synchronised cameras.

The recordings are those that the paper's MVMC was cut from: 242 frames, in which parked cars stand all the
time. A split at random, as in the paper, therefore leaks: nearly every test sample has a near-identical one
in training. The split by time trains on frames up to 150, validates on 156 to 180 and tests on those after
185; what is parked stands in all three. There are 1,000 cars, 369 persons and 10 buses, of which 3 are in the
training part by time and none in its validation part: look at balanced accuracy beside accuracy.

Source: Roig, Boix, Ben Shitrit and Fua, "Conditional Random Fields for Multi-Camera Object Detection", ICCV
    2011.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import splits
from ddnn_tf.datasets.files import read_npz
from ddnn_tf.datasets.multiview import MultiViewDataset, camera_views
from ddnn_tf.datasets.recording import Recording
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.documents import data_directory

__all__ = ["SPLITS", "load_epfl"]

SPLITS = ("random", "time", "part", "holdout")

_FILE = "epfl_six_cameras.npz"
_KEYS = {
    "X": "images",
    "y": "labels",
    "classes": "class names",
    "present": "whether a camera sees the object",
    "frame": "frame numbers",
    "part": "parts of a split",
}
_TEST_SHARE = 0.2
# The last frames of test and training, and the frames between two parts.
_BORDERS, _GAP = (180, 150), 5
_PARTS = {
    "part": {"train": "train", "holdout": "validation", "test": "test"},
    "holdout": {"train": "train", "test": "validation", "holdout": "test"},
}


def load_epfl(
    path: str | Path | None = None,
    *,
    split: str = "random",
    validation_share: float = 0.1,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads the recordings; a view that is absent is black and marked.

    Args:
        path: NPZ with `X` uint8 (samples, cameras, height, width, 3), `y` int (samples,), `classes` str,
            `present` bool (samples, cameras), `frame` int (samples,) and `part` str (samples,): `train`,
            `holdout` or `test`. Default: `epfl_six_cameras.npz` in `data_directory()`.
        split: `random`, a fifth of each class for test, as the paper did; `time`; or `part`, as the file
            says, its `holdout` for validation; or `holdout`, as the file says, its `test` for validation and
            its `holdout` for test, as others did.
        validation_share: Fraction of the training samples used for validation by `random`.
        seed: Seed of `random`.

    Raises:
        FileNotFoundError: No file there.
        ValueError: Wrong keys, shapes, dtypes, labels or parts, or an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"Expected `split` to be one of {', '.join(SPLITS)}, but got {split!r}.")
    file = data_directory() / _FILE if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file '{file}': give the place of the EPFL recordings as an NPZ file with --path "
            f"(keys {', '.join(_KEYS)}), or put it into the directory that the environment variable "
            "DDNN_DATA names."
        )
    arrays = read_npz(file, _KEYS)
    _check(file, arrays)
    labels, presence = arrays["y"].astype(np.int64), arrays["present"]
    recording = Recording(
        name="epfl",
        views=camera_views(np.where(presence[..., None, None, None], arrays["X"], np.uint8(0))),
        labels=labels,
        presence=presence,
        class_names=tuple(map(str, arrays["classes"])),
        time=arrays["frame"],
    )
    if split in _PARTS:
        named = _PARTS[split]
        parts = {part: np.flatnonzero(arrays["part"] == name) for name, part in named.items()}
        validation = next(name for name, part in named.items() if part == "validation")
        return recording.in_parts(parts, f"as the file says, its {validation} for validation")
    shares = {"test_share": _TEST_SHARE, "validation_share": validation_share}
    if split == "time":
        by_time = splits.by_time(arrays["frame"], gap=_GAP, borders=_BORDERS)
        parts = splits.split(len(labels), by_time, **shares)
        return recording.in_parts(parts, "by time: frames up to 150, 156 to 180, after 185")
    parts = splits.split(len(labels), splits.at_random(labels, seed), **shares)
    return recording.in_parts(parts, f"at random (neighbouring frames stand in several parts), seed {seed}")


def _check(file: Path, arrays: dict[str, NDArray]) -> None:
    images = arrays["X"]
    if images.ndim != 5 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"'{file}': the key 'X' is {images.shape} {images.dtype}, expected (samples, cameras, height, "
            "width, 3) uint8."
        )
    samples = images.shape[:1]
    for key, shape, kinds, words in (
        ("y", samples, "iu", "integers"),
        ("present", images.shape[:2], "b", "bool"),
        ("frame", samples, "iu", "integers"),
        ("part", samples, "U", "names"),
    ):
        array = arrays[key]
        if array.shape != shape or array.dtype.kind not in kinds:
            raise ValueError(
                f"'{file}': the key '{key}' is {array.shape} {array.dtype}, expected {shape} {words}."
            )
    names, labels = arrays["classes"], arrays["y"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(f"'{file}': the key 'classes' is {names.shape} {names.dtype}, expected names.")
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"'{file}': the key 'y' ranges from {labels.min()} to {labels.max()}, expected 0 to "
            f"{len(names) - 1}."
        )
    known = _PARTS["part"]
    unknown = sorted(set(map(str, np.unique(arrays["part"]))) - set(known))
    if unknown:
        raise ValueError(f"'{file}': the key 'part' holds '{unknown[0]}', expected {', '.join(known)}.")


def _from_source(source: DataSource) -> MultiViewDataset:
    data = load_epfl(source.path, split=source.split or "random", seed=source.seed)
    return data.first_devices(source.devices)


register_dataset(
    "epfl",
    _from_source,
    about="real cars, buses and persons from six cameras (bring the file: --path)",
    options=("path", "devices", "split"),
)
