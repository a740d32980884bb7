"""Failures in training: which nodes are up, for each sample anew.

    >>> failures = Failures(Recipe(drop=0.5), ("device_0", "device_1"), ("device_0", "device_1"))
    >>> failures.draw(tf.ones((4, 2), tf.bool), seed=tf.constant([0, 0])).shape
    TensorShape([4, 2])

Source: Teerapittayanon et al. 2017, Section IV-G tests failed devices; to train with them is ours, and
failout that of Yousefpour et al. 2020 (ResiliNet, arXiv 2002.07386).
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ddnn_tf.recipes import Recipe

__all__ = ["Failures"]


class Failures:
    """The failures of a recipe.

    Args:
        recipe: The recipe.
        devices: Names of the devices.
        nodes: Names of the nodes that may fail, devices first.

    Raises:
        ValueError: The recipe has a survival rate of another node.
    """

    def __init__(self, recipe: Recipe, devices: Sequence[str], nodes: Sequence[str]) -> None:
        recipe.check_nodes(nodes)
        self._recipe = recipe
        self._devices = len(devices)
        self._rates = tf.constant([recipe.survival.get(name, 1.0) for name in nodes], tf.float32)

    def draw(self, seen: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Which nodes are up.

        Args:
            seen: `(batch, devices)` bool, which devices see the object.
            seed: `(2,)` int; the same seed gives the same failures.

        Returns:
            `(batch, nodes)` bool. By `Recipe.drop` alone at least one device is up.
        """
        samples, devices = tf.shape(seen)[0], self._devices
        seeds = tf.random.experimental.stateless_split(seed, 4)
        is_up = tf.random.stateless_uniform([samples, len(self._rates)], seeds[0]) < self._rates
        if self._recipe.drop and devices > 1:
            loses = tf.random.stateless_uniform([samples, 1], seeds[1]) < self._recipe.drop
            lost = tf.random.stateless_uniform([samples, 1], seeds[2], 1, devices, tf.int32)
            order = tf.random.stateless_uniform([samples, devices], seeds[3])
            if self._recipe.mask_absent:
                # Those that do not see the object come first, and all of them are lost.
                unseen = ~seen & tf.reduce_any(seen, axis=1, keepdims=True)
                order = tf.where(unseen, order - 1, order)
                lost = tf.maximum(lost, tf.reduce_sum(tf.cast(unseen, tf.int32), axis=1, keepdims=True))
            place = tf.argsort(tf.argsort(order, axis=1), axis=1)
            stays = ~loses | (place >= lost)
            rest = tf.ones([samples, len(self._rates) - devices], tf.bool)
            is_up &= tf.concat([stays, rest], axis=1)
        return is_up
