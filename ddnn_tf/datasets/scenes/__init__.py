"""Rendered street scenes: the built-in data set, a stand-in for the paper's MVMC.

Six synchronised cameras look at one place with a road, where cars, buses and persons pass. Each
sample is one object at one moment: six 32x32 RGB crops, grey from the cameras that do not see it.
As in the paper there are 851 samples, of which 171 are for test, and the classes are unbalanced.
The same seed gives the same bytes on every machine, and what was rendered is kept in the user's
cache directory.

These are rendered images, not the paper's: results on them are not comparable to the paper's to
the percent.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.files import read_npz
from ddnn_tf.datasets.multiview import MultiViewDataset, camera_views
from ddnn_tf.datasets.scenes.catalogue import CLASSES
from ddnn_tf.datasets.scenes.tracks import record, schedule
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import split_at_random, split_by_instance
from ddnn_tf.documents import atomic_write, cache_directory
from ddnn_tf.interrupts import deferred_interrupts

__all__ = ["SPLITS", "load_scenes", "render_scenes"]

SPLITS = ("random", "track")

_SAMPLES = 851
_TEST = 171
_CHUNK = 256
_KEYS = {"images": "images", "labels": "labels", "presence": "presence", "tracks": "track numbers"}

_Scenes = dict[str, NDArray]


def load_scenes(
    *,
    samples: int = _SAMPLES,
    split: str = "random",
    validation_share: float = 0.1,
    seed: int = 0,
    scene_seed: int = 0,
) -> MultiViewDataset:
    """Loads the rendered scenes, rendering them first if they are not in the cache.

    Args:
        samples: Number of samples, at least 10; a fifth of them (171 of 851) is for test.
        split: `random`, as in the paper (moments of one track may stand in training and test), or
            `track`, in which test objects were never seen in training.
        validation_share: Fraction of the training samples used for validation.
        seed: Seed of the split.
        scene_seed: Seed of the scenes themselves.

    Raises:
        ValueError: Unknown split, or too few samples.
    """
    if split not in SPLITS:
        raise ValueError(f"Expected `split` to be one of {', '.join(SPLITS)}, but got {split!r}.")
    if samples < 10:
        raise ValueError(f"Expected `samples` to be at least 10, but got {samples}.")
    scenes = _cached(samples, scene_seed)
    test = round(samples * _TEST / _SAMPLES)
    if split == "random":
        parts = split_at_random(samples, test=test, validation_share=validation_share, seed=seed)
        rule = f"at random (moments of one object may stand in training and test), seed {seed}"
    else:
        parts = split_by_instance(
            scenes["tracks"],
            scenes["labels"],
            test_share=test / samples,
            validation_share=validation_share,
            seed=seed,
        )
        rule = f"by track (test objects never seen in training), seed {seed}"
    return MultiViewDataset(
        name="scenes",
        views=camera_views(scenes["images"]),
        labels=scenes["labels"],
        presence=scenes["presence"],
        class_names=CLASSES,
        split=parts,
        split_rule=rule,
        instances=scenes["tracks"],
    )


def render_scenes(samples: int, seed: int, workers: int | None = None) -> _Scenes:
    """Renders samples, each seen by at least one camera.

    Args:
        samples: How many.
        seed: Seed of everything in them.
        workers: Processes to use; the result does not depend on it. Default: all cores.

    Returns:
        `images` (samples, 6, 32, 32, 3) uint8, `labels` (samples,) int64, `presence` (samples, 6)
        bool, `tracks` (samples,) int64.
    """
    import joblib  # here, because most who import this module find the scenes in the cache

    moments = schedule(2 * samples + 50, seed)
    images, presence, kept = [], [], []
    with joblib.Parallel(
        n_jobs=workers or os.cpu_count() or 1, batch_size=8, return_as="generator"
    ) as parallel:
        for start in range(0, len(moments), _CHUNK):
            chunk = moments[start : start + _CHUNK]
            with deferred_interrupts():  # here the workers start
                recorded = parallel(joblib.delayed(record)(moment) for moment in chunk)
            for moment, (image, present) in zip(chunk, recorded, strict=True):
                if present.any():
                    images.append(image)
                    presence.append(present)
                    kept.append(moment)
            if len(kept) >= samples:
                break
    del images[samples:], presence[samples:], kept[samples:]
    return {
        "images": np.stack(images),
        "labels": np.array([moment.label for moment in kept], dtype=np.int64),
        "presence": np.stack(presence),
        "tracks": np.array([moment.track for moment in kept], dtype=np.int64),
    }


def _cached(samples: int, seed: int) -> _Scenes:
    """Scenes out of the cache, whose file names say with which code they were rendered."""
    name = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        name.update(source.read_bytes())
    name.update(f"{samples} {seed}".encode())
    file = cache_directory() / f"scenes-{samples}-{seed}-{name.hexdigest()[:16]}.npz"
    if file.is_file():
        try:
            return read_npz(file, _KEYS)
        except ValueError:
            file.unlink()  # damaged: render it again
    scenes = render_scenes(samples, seed)
    try:
        with atomic_write(file) as aside:
            np.savez_compressed(aside, **scenes)
    except OSError as error:
        warnings.warn(f"The rendered scenes could not be kept for the next time: {error}", stacklevel=2)
    return scenes


def _from_source(source: DataSource) -> MultiViewDataset:
    data = load_scenes(split=source.split or "random", seed=source.seed)
    return data.first_devices(source.devices)


register_dataset(
    "scenes",
    _from_source,
    about="rendered street scenes: cars, buses, persons from six cameras (built in)",
    options=("devices", "split"),
)
