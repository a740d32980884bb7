"""A data set of a user's own, in one file: a camera, a microphone and a CO2 sensor in each of two rooms."""

from __future__ import annotations

import numpy as np

import ddnn_tf
from ddnn_tf.datasets import DataSource, MultiViewDataset, coded_views, split_at_random


def load_two_rooms(source: DataSource) -> MultiViewDataset:
    """Nobody, one or many persons: brighter pictures, louder sound and more carbon dioxide."""
    random = np.random.default_rng(7)
    samples = 300
    labels = np.arange(samples) % 3
    split = split_at_random(samples, test=60, validation_share=0.2, seed=source.seed)
    level = labels[:, None].astype(float)
    pictures = random.integers(0, 90, (samples, 12, 10, 1)) + 80 * labels[:, None, None, None]
    sound = random.normal(size=(samples, 20, 1)) * (0.2 + level[:, :, None])
    air = np.hstack([420 + 200 * level + random.normal(0, 60, (samples, 1)), random.normal(level, 1)])
    physical, codings = coded_views({"microphone": sound, "air": air}, split["train"])
    return MultiViewDataset(
        name="two_rooms",
        views={"camera": pictures.clip(0, 255).astype(np.uint8), **physical},
        labels=labels,
        presence=np.ones((samples, 3), bool),
        class_names=("nobody", "one", "many"),
        split=split,
        split_rule=f"at random, seed {source.seed}",
        codings=codings,
    )


ddnn_tf.register_dataset("two_rooms", load_two_rooms, about="two rooms with unlike sensors", options=())
