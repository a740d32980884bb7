"""Multiple Features: handwritten digits described by six unlike vectors, one to a device.

`fac` profile correlations (216 numbers), `fou` Fourier coefficients (76), `kar` Karhunen-Loeve coefficients
(64), `mor` morphological features (6), `pix` pixel averages (240), `zer` Zernike moments (47), of 2,000
digits, 200 of each.

Source: van Breukelen et al., UCI Machine Learning Repository (CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddnn_tf.datasets.files import read_npz
from ddnn_tf.datasets.multiview import MultiViewDataset, coded_views
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import split_at_random
from ddnn_tf.documents import data_directory

__all__ = ["load_mfeat"]

_FILE = "mfeat.npz"
_FEATURES = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}
_CLASSES = tuple("0123456789")
_TEST_SHARE = 0.2


def load_mfeat(
    path: str | Path | None = None, *, validation_share: float = 0.125, seed: int = 0
) -> MultiViewDataset:
    """Loads Multiple Features, split at random: 70 % train, 10 % validation, 20 % test.

    Args:
        path: NPZ with `fac`, `fou`, `kar`, `mor`, `pix`, `zer` float32 (samples, numbers) and `y` int
            (samples,). Default: `mfeat.npz` in `data_directory()`.
        validation_share: Fraction of the training samples used for validation.
        seed: Seed of the split.

    Raises:
        FileNotFoundError: No file there.
        ValueError: Wrong keys, shapes, numbers or labels.
    """
    file = data_directory() / _FILE if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file '{file}': give the place of Multiple Features as an NPZ file with --path "
            f"(keys {', '.join(_FEATURES)} and y), or put it into the directory that the environment "
            "variable DDNN_DATA names."
        )
    arrays = read_npz(file, {**dict.fromkeys(_FEATURES, "feature vectors"), "y": "labels"})
    labels = arrays.pop("y")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"'{file}': the key 'y' is {labels.shape} {labels.dtype}, expected digits 0 to 9.")
    for name, count in _FEATURES.items():
        array = arrays[name]
        if array.shape != (len(labels), count) or array.dtype.kind != "f":
            raise ValueError(
                f"'{file}': the key '{name}' is {array.shape} {array.dtype}, expected "
                f"{(len(labels), count)} float32."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"'{file}': the key '{name}' holds NaN or infinity.")
    test = round(_TEST_SHARE * len(labels))
    split = split_at_random(len(labels), test=test, validation_share=validation_share, seed=seed)
    views, codings = coded_views({name: arrays[name] for name in _FEATURES}, split["train"])
    return MultiViewDataset(
        name="mfeat",
        views=views,
        labels=labels.astype(np.int64),
        presence=np.ones((len(labels), len(views)), dtype=bool),
        class_names=_CLASSES,
        split=split,
        split_rule=f"at random, seed {seed}",
        codings=codings,
    )


def _from_source(source: DataSource) -> MultiViewDataset:
    return load_mfeat(source.path, seed=source.seed)


register_dataset(
    "mfeat", _from_source, about="digits described by six unlike vectors (bring the file: --path)"
)
