"""An aggregation scheme of a user's own, in one file: attention over the senders.

Each position of each sender's map is weighed by exp(score) times its squared length, so that an absent
sender, for which zero stands in, has no weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

import ddnn_tf
from ddnn_tf.schemes import Scheme, zero


@tf.keras.utils.register_keras_serializable("outside")
class AttentionAggregation(tf.keras.layers.Layer):
    """`(batch, ..., channels)` of each sender to their weighted mean, `(batch, ..., channels)`."""

    def build(self, input_shape: Sequence[Any]) -> None:
        first = input_shape[0] if isinstance(input_shape, list) else input_shape
        self.query = self.add_weight("query", (int(first[-1]), 1), initializer="zeros")

    def call(self, inputs: Sequence[tf.Tensor], present: tf.Tensor | None = None) -> tf.Tensor:
        senders = tf.nest.flatten(inputs)
        if present is not None:
            senders = [
                given
                * tf.reshape(tf.cast(present[:, number], given.dtype), [-1, *[1] * (given.shape.rank - 1)])
                for number, given in enumerate(senders)
            ]
        weights = [
            tf.exp(tf.clip_by_value(tf.tensordot(given, self.query, 1), -8.0, 8.0))
            * tf.reduce_sum(given * given, axis=-1, keepdims=True)
            for given in senders
        ]
        total = tf.add_n([weight * given for weight, given in zip(weights, senders, strict=True)])
        return total / (tf.add_n(weights) + 1e-6)


ddnn_tf.register_scheme(Scheme("ATTENTION", False, zero, f"{__name__}:AttentionAggregation"))
