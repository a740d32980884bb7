"""A sound data set, to be spoilt by the tests of what is wrong with data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import MultiViewDataset, Problem, check_dataset
from ddnn_tf.datasets.checking import DataCheck
from ddnn_tf.datasets.multiview import camera_views

__all__ = ["SAMPLES", "again", "dataset", "only_warning", "pictures", "warnings"]

SAMPLES = 120


def pictures(samples: int = SAMPLES, devices: int = 2) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(0, 256, (samples, devices, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def again(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same scenes a moment later: the camera's noise is another."""
    return images ^ np.random.default_rng(1).integers(0, 4, images.shape, dtype=np.uint8)


def dataset(images: NDArray[np.uint8] | None = None, **changes: Any) -> MultiViewDataset:
    """A data set that has nothing wrong, but for what is changed."""
    views = camera_views(pictures() if images is None else images)
    samples = len(next(iter(views.values())))
    whole: dict[str, Any] = {
        "name": "hall",
        "views": views,
        "labels": np.arange(samples) % 2,
        "presence": np.ones((samples, len(views)), bool),
        "class_names": ("empty", "busy"),
        "split": {
            "train": np.arange(80),
            "validation": np.arange(80, 96),
            "test": np.arange(96, samples),
        },
        "split_rule": "in order",
    }
    return MultiViewDataset(**{**whole, **changes})


def warnings(check: DataCheck) -> dict[str, Problem]:
    """The warnings of a check by their kind."""
    return {problem.kind: problem for problem in check.warnings}


def only_warning(data: MultiViewDataset) -> Problem:
    """The one problem that data have, a warning."""
    check = check_dataset(data)
    assert check.errors == ()
    assert len(check.warnings) == 1, check.warnings
    return check.warnings[0]
