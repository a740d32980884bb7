from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.failures import Failures
from ddnn_tf.feeding import Feed
from ddnn_tf.network import build
from ddnn_tf.recipes import Recipe
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions


def drawing(views: Mapping[str, tf.Tensor], seen: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """An augmentation that fills each sample with a number drawn as `Augmentation` draws its zoom."""
    draws = tf.random.stateless_uniform(
        [tf.shape(seen)[0]], tf.random.experimental.stateless_split(seed, 4)[1]
    )
    return {name: tf.zeros_like(view) + draws[:, None, None, None] for name, view in views.items()}


def feed_of(topology: Topology, data: MultiViewDataset, augmentation: Any = None) -> Feed:
    recipe = Recipe(drop=0.5)
    options = TrainingOptions(epochs=8, batch_size=36, recipe=recipe, augmentation=augmentation)
    names = topology.hierarchy.failable_names
    return Feed(
        build(topology, presence=True),
        data,
        options,
        shares=recipe.shares(2, 8),
        failures=Failures(recipe, names, names),
    )


def test_failures_do_not_depend_on_how_pictures_are_changed(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    numbers, losing = [], []
    for views, _, _ in feed_of(tiny_topology, tiny_data, drawing).training(0):
        numbers.append(views["device_0"][:, 0, 0, 0].numpy())
        losing.append(~views["present"].numpy().all(axis=1))
    correlation = np.corrcoef(np.concatenate(numbers), np.concatenate(losing))[0, 1]
    assert abs(correlation) < 0.3


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    feed = feed_of(tiny_topology, tiny_data)
    epochs = [
        np.concatenate([views["device_0"].numpy().sum(axis=(1, 2, 3))]) for views, _, _ in feed.training(0)
    ]
    assert len(epochs) == 8
    assert all(np.array_equal(np.sort(epoch), np.sort(epochs[0])) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_validation_fails_alike_in_every_epoch(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    feed = feed_of(tiny_topology, tiny_data)
    first, second = ([views["present"].numpy() for views, _, _ in feed.validation()] for _ in range(2))
    assert all(map(np.array_equal, first, second))
