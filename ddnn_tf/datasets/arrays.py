"""Arrays of a user's own: an NPZ file whose arrays are the devices.

>>> camera = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
>>> air = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
>>> np.savez("hall.npz", camera=camera, air=air, y=np.arange(60) % 2)  # doctest: +SKIP
>>> load_arrays("hall.npz").shapes  # doctest: +SKIP
{'camera': (16, 16, 3), 'air': (2,)}

Each array is `(samples, height, width, channels)`, `(samples, steps, channels)` or `(samples, features)`:
uint8 codes, or floating-point readings, which are coded to 8 bits by the range of the training samples. The
order of the devices is the file's. Other names are reserved:

| name | holds | |
|---|---|---|
| `y` | `(samples,)` int, the class of each sample | required |
| `classes` | `(classes,)` str, their names | default: 0, 1, ... |
| `present` | `(samples, devices)` bool, whether the device has a view | default: always |
| `group` | `(samples,)` int or str, what must not stand in two parts | |
| `time` | `(samples,)` numbers or datetime64 | |
| `part` | `(samples,)` str: `train`, `validation` (may be left out) or `test` | |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.files import read_npz
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.recording import Recording, device_names
from ddnn_tf.datasets.source import DataSource, register_recording

__all__ = ["load_arrays", "read_arrays"]

_RESERVED = ("y", "classes", "present", "group", "time", "part")


def load_arrays(
    path: str | Path,
    *,
    split: str | None = None,
    test_share: float | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads an NPZ file of arrays by device as a multi-view data set.

    Args:
        path: The file.
        split: `random`, `group`, `time` or `part`; None: the strictest that the data allow.
        test_share: Fraction of the samples for test; None: 0.2.
        validation_share: Fraction of the other samples for validation.
        seed: Seed of the split.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Arrays of other shapes or dtypes, NaN, labels out of range, or a split that is not
            possible.
    """
    recording = read_arrays(path)
    return recording.split(split, test_share=test_share, validation_share=validation_share, seed=seed)


def read_arrays(path: str | Path) -> Recording:
    """Reads an NPZ file of arrays by device; raises as `load_arrays`."""
    file = Path(path)
    arrays = read_npz(file, {"y": "the class of each sample"}, others=True)
    views = {name: array for name, array in arrays.items() if name not in _RESERVED}
    if not views:
        raise ValueError(f"'{file}' has no device: add an array for each, (samples, ...) uint8 or float32.")
    labels = arrays["y"]
    _check(file, "y", labels, (len(labels) if labels.ndim else 0,), "iu", "integers")
    if not len(labels):
        raise ValueError(f"'{file}' holds no samples: the key 'y' is empty.")
    samples = (len(labels),)
    names = _class_names(file, arrays.get("classes"), labels)
    for key, kinds, words in (
        ("group", "iuU", "integers or names"),
        ("time", "iufM", "numbers or datetime64"),
    ):
        if key in arrays:
            _check(file, key, arrays[key], samples, kinds, words)
    time, part = arrays.get("time"), arrays.get("part")
    if time is not None and (np.isnat(time) if time.dtype.kind == "M" else ~np.isfinite(time)).any():
        raise ValueError(f"'{file}': the key 'time' holds NaN or infinity.")
    if part is not None:
        _check(file, "part", part, samples, "U", "names of parts")
    presence = arrays.get("present", np.ones((*samples, len(views)), bool))
    _check(file, "present", presence, (*samples, len(views)), "b", "bool, one column for each device")
    for number, (device, view) in enumerate(views.items()):
        _check_view(file, device, view, samples[0], presence[:, number])
    names_of = device_names(views)
    return Recording(
        name="arrays",
        views={names_of[device]: view for device, view in views.items()},
        labels=labels.astype(np.int64),
        presence=presence,
        class_names=names,
        group=arrays.get("group"),
        time=time,
        part=part,
    )


def _class_names(file: Path, names: NDArray[Any] | None, labels: NDArray[Any]) -> tuple[str, ...]:
    if names is None:
        names = np.arange(max(labels.max(), 1) + 1).astype(str)
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names)) < len(names):
        raise ValueError(
            f"'{file}': the key 'classes' is {names.shape} {names.dtype}, expected different names, "
            "(classes,)."
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"'{file}': the key 'y' ranges from {labels.min()} to {labels.max()}, expected 0 to "
            f"{len(names) - 1}."
        )
    return tuple(map(str, names))


def _check(file: Path, key: str, array: NDArray[Any], shape: tuple[int, ...], kinds: str, words: str) -> None:
    if array.shape != shape or array.dtype.kind not in kinds:
        raise ValueError(
            f"'{file}': the key '{key}' is {array.shape} {array.dtype}, expected {shape} {words}."
        )


def _check_view(
    file: Path, device: str, view: NDArray[Any], samples: int, is_there: NDArray[np.bool_]
) -> None:
    is_known = view.dtype == np.uint8 or view.dtype.kind == "f"
    if not is_known or view.ndim not in (2, 3, 4) or len(view) != samples or not view.size:
        raise ValueError(
            f"'{file}': the array '{device}' is {view.shape} {view.dtype}, expected ({samples}, height, "
            f"width, channels), ({samples}, steps, channels) or ({samples}, features), uint8 codes or "
            "float32 readings."
        )
    bad = ~np.isfinite(view[is_there]).all(axis=tuple(range(1, view.ndim)))
    if bad.any():
        sample = np.flatnonzero(is_there)[bad][0]
        raise ValueError(
            f"'{file}': the array '{device}' holds NaN or infinity in sample {sample}: repair it, or mark "
            "the view absent with the array `present`."
        )


def _record(source: DataSource) -> Recording:
    if source.path is None:
        raise ValueError(
            "The data set 'arrays' is an NPZ file of your own: give its place with --path FILE.npz."
        )
    return read_arrays(source.path)


register_recording("arrays", _record, about="your own arrays, one for each device, in an NPZ file (--path)")
