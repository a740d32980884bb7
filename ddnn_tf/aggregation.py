"""The Keras layers of the aggregation schemes: what joins the outputs of several devices (or edges).

    MP   element-wise maximum
    AP   element-wise average
    CC   concatenation, and a linear layer back to the dimension of one input
    WCC  wide concatenation: all channels side by side, without a linear layer

Each scheme is a Keras layer that takes a list of equally shaped tensors: class vectors
`(batch, classes)` at the local exit, feature maps `(batch, height, width, channels)` above. An input
can be marked *absent* (its device failed, or does not see the object) and then takes no part:

    >>> layer = AverageAggregation()
    >>> layer([tf.constant([[2.0]]), tf.constant([[4.0]])], present=tf.constant([[True, False]]))
    <tf.Tensor: shape=(1, 1), dtype=float32, numpy=array([[2.]], dtype=float32)>

`schemes` holds what else there is to know of each, without TensorFlow.

The maximum ignores what is absent, the average divides by the number of those present, and the
concatenation puts zero there, which adds nothing to the linear layer's sum. With all absent each
scheme aggregates to zero (CC: to its bias). The wide concatenation puts ones there, so that bits stay bits.

Source: Teerapittayanon et al. 2017, Section III-B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ddnn_tf.presence import Hearing, hear

__all__ = [
    "AverageAggregation",
    "ConcatAggregation",
    "HeardSenders",
    "MaxAggregation",
    "WideConcatAggregation",
]

_register = tf.keras.utils.register_keras_serializable("ddnn_tf")


class _Aggregation(tf.keras.layers.Layer):
    """Stacks its inputs of one shape on a new axis 1 and hands them with their presence to `_join`."""

    def build(self, input_shape: Sequence[Any]) -> None:
        shapes = _shapes(input_shape)
        if len(set(shapes)) > 1:
            raise ValueError(
                f"Expected the inputs of `{self.name}` to have one shape, but got {shapes}: every "
                "device (or edge) must send the same."
            )
        super().build(input_shape)

    def call(self, inputs: Sequence[tf.Tensor], present: tf.Tensor | None = None) -> tf.Tensor:
        """Joins `(batch, ...)` tensors; `present` is `(batch, inputs)` bool, None if all are."""
        stacked = tf.stack(tf.nest.flatten(inputs), axis=1)
        if present is None:
            return self._join(stacked, None)
        shape = tf.concat([tf.shape(present), tf.ones(stacked.shape.rank - 2, tf.int32)], axis=0)
        return self._join(stacked, tf.reshape(tf.cast(present, tf.bool), shape))

    def _join(self, stacked: tf.Tensor, present: tf.Tensor | None) -> tf.Tensor:
        raise NotImplementedError


@_register
class MaxAggregation(_Aggregation):
    """MP: the element-wise maximum of the inputs that are present.

    Source: Section III-B, "max pooling (MP)".
    """

    def _join(self, stacked: tf.Tensor, present: tf.Tensor | None) -> tf.Tensor:
        if present is None:
            return tf.reduce_max(stacked, axis=1)
        highest = tf.reduce_max(tf.where(present, stacked, stacked.dtype.min), axis=1)
        return tf.where(tf.reduce_any(present, axis=1), highest, tf.zeros_like(highest))


@_register
class AverageAggregation(_Aggregation):
    """AP: the element-wise average of the inputs that are present.

    Source: Section III-B, "average pooling (AP)".
    """

    def _join(self, stacked: tf.Tensor, present: tf.Tensor | None) -> tf.Tensor:
        if present is None:
            return tf.reduce_mean(stacked, axis=1)
        weight = tf.cast(present, stacked.dtype)
        number = tf.maximum(tf.reduce_sum(weight, axis=1), 1)
        return tf.reduce_sum(stacked * weight, axis=1) / number


@_register
class WideConcatAggregation(_Aggregation):
    """WCC: the channels of all inputs side by side, `(..., inputs * channels)`; ones for what is absent.

    The first block of the receiver takes all channels, and bits reach it as bits: no linear layer stands
    between, so the receiver stays binary from its input on. Use it together with `Recipe.drop`, by which the
    receiver learns what ones in place of a sender mean.

    Source: Section III-B, "concatenation (CC)", without its linear layer; ours.
    """

    absent = 1.0

    def call(self, inputs: Sequence[tf.Tensor], present: tf.Tensor | None = None) -> tf.Tensor:
        """As of every aggregation; nothing is stacked.

        TensorFlow's TFLite converter turns stack, unstack and concatenation of feature maps into a
        reshape that mixes up positions and channels.
        """
        given = tf.nest.flatten(inputs)
        if present is not None:
            ranks = [1] * (given[0].shape.rank - 1)
            columns = tf.unstack(tf.cast(present, tf.bool), axis=1)
            given = [
                tf.where(tf.reshape(is_there, [-1, *ranks]), each, tf.constant(self.absent, each.dtype))
                for is_there, each in zip(columns, given, strict=True)
            ]
        return tf.concat(given, axis=-1)


@_register
class ConcatAggregation(WideConcatAggregation):
    """CC: concatenates along the last axis, then maps linearly back to one input's dimension.

    The linear layer is real-valued and acts on each position of a feature map alone (a 1x1
    convolution); its kernel is `(inputs * channels, channels)`.

    Source: Section III-B, "concatenation (CC)" with its additional linear layer.
    """

    absent = 0.0

    def build(self, input_shape: Sequence[Any]) -> None:
        super().build(input_shape)
        shapes = _shapes(input_shape)
        channels = int(shapes[0][-1])
        self.kernel = self.add_weight("kernel", (len(shapes) * channels, channels))
        self.bias = self.add_weight("bias", (channels,), initializer="zeros")

    def call(self, inputs: Sequence[tf.Tensor], present: tf.Tensor | None = None) -> tf.Tensor:
        joined = super().call(inputs, present=present)
        if joined.shape.rank == 4:
            return tf.nn.conv2d(joined, self.kernel[None, None], 1, "VALID") + self.bias
        if joined.shape.rank == 3:
            return tf.nn.conv1d(joined, self.kernel[None], 1, "VALID") + self.bias
        return tf.matmul(joined, self.kernel) + self.bias


@_register
class HeardSenders(tf.keras.layers.Layer):
    """Which senders each receiver hears (`presence.hear`).

    Args:
        failable: Names of the nodes that may fail, in the order of the columns of `present`.
        receivers: Name, senders and skip senders of each node above the devices, senders before receivers.

    Call: `(batch, failable)` bool, which nodes are up, or any other tensor `(batch, ...)`: all are up. Gives
    a list of `(batch, senders and skip senders)` bool, one for each receiver.
    """

    def __init__(self, failable: Sequence[str], receivers: Sequence[Hearing], **options: Any) -> None:
        super().__init__(**options)
        self.failable = list(failable)
        self.receivers = [(name, list(senders), list(skips)) for name, senders, skips in receivers]

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        """Which senders each receiver hears."""
        present = inputs
        if inputs.dtype != tf.bool:
            present = tf.ones((tf.shape(inputs)[0], len(self.failable)), tf.bool)
        columns = tf.unstack(present, num=len(self.failable), axis=1)
        heard = hear(dict(zip(self.failable, columns, strict=True)), self.receivers)
        return [tf.stack(masks, axis=1) for masks in heard.senders.values()]

    def get_config(self) -> dict[str, Any]:
        """Names and receivers."""
        return {**super().get_config(), "failable": self.failable, "receivers": self.receivers}


def _shapes(input_shape: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The shapes of a list of inputs; Keras hands over a list of one tensor as the tensor itself."""
    if len(input_shape) > 1 and isinstance(input_shape[1], int | type(None)):
        return [tuple(input_shape)]
    return [tuple(shape) for shape in input_shape]
