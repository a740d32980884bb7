"""What a training is fed: batches in an order that depends on seed and epoch alone.

Views stay in NumPy, or on the disk, and are read a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.failures import Failures
from ddnn_tf.network import PRESENCE

if TYPE_CHECKING:
    from ddnn_tf.training import TrainingOptions

__all__ = ["Feed"]

_VALIDATION_BATCH = 256
_OF_FAILURES = 1

_Batch = tuple[dict[str, tf.Tensor], ...]
"""Inputs, targets and sample weights by name, as Keras takes them."""


class Feed:
    """The batches of a training.

    Args:
        model: What is trained.
        data: The data, with the model's devices.
        options: How to train.
        shares: Weight of each output in the loss, `(epochs, outputs)`, in addition to the samples' weights.
        individual: Each output learns only from the samples that its device sees.
        failures: Who is up; None: all.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        data: MultiViewDataset,
        options: TrainingOptions,
        *,
        shares: NDArray[np.float32],
        individual: bool = False,
        failures: Failures | None = None,
    ) -> None:
        self._outputs = model.output_names
        self._columns = next((int(each.shape[1]) for each in model.inputs if each.name == PRESENCE), 0)
        self._data, self._options, self._individual = data, options, individual
        self._failures = failures
        self._shares = tf.constant(shares, tf.float32)

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """Batches of all epochs to come, each epoch in an order of its own."""
        options = self._options
        count = len(self._data.split["train"])
        read = self._reader("train")
        seen = tf.constant(self._data.present("train"))

        def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
            seed = tf.stack([tf.constant(options.seed, tf.int64), epoch])
            order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
            batches = tf.data.Dataset.from_tensor_slices(order).batch(options.batch_size)
            return tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensors(epoch).repeat()))

        def batch(rows: tf.Tensor, epoch: tf.Tensor) -> _Batch:
            views, labels, weights = read(rows)
            # A number of its own for each batch, the same in a training that is resumed.
            number = epoch * count + tf.cast(rows[0], tf.int64)
            seed = tf.stack([tf.constant(options.seed, tf.int64), number])
            if options.augmentation is not None:
                views = options.augmentation(views, tf.gather(seen, rows), seed)
            views |= self._presence(tf.gather(seen, rows), seed)
            shares = tf.unstack(tf.gather(self._shares, epoch))
            of_outputs = zip(self._outputs, shares, strict=True)
            return views, labels, {output: weights[output] * share for output, share in of_outputs}

        epochs = tf.data.Dataset.range(first_epoch, options.epochs)
        return epochs.flat_map(epoch_order).map(batch).prefetch(2)

    def validation(self) -> tf.data.Dataset:
        """The validation samples, with failures as in training, the same ones in every epoch."""
        read = self._reader("validation")
        seen = tf.constant(self._data.present("validation"))

        def batch(rows: tf.Tensor) -> _Batch:
            views, labels, weights = read(rows)
            seed = tf.stack([tf.constant(self._options.seed, tf.int64), -1 - rows[0]])
            return views | self._presence(tf.gather(seen, rows), seed), labels, weights

        order = tf.data.Dataset.range(len(self._data.split["validation"])).batch(_VALIDATION_BATCH)
        return order.map(batch).prefetch(1)

    def statistics(self, samples: int) -> dict[str, NDArray[Any]]:
        """The first training samples, by input, for the statistics of batch normalization."""
        rows = self._data.split["train"][:samples]
        inputs: dict[str, NDArray[Any]] = dict(self._data.rows(rows))
        seen = tf.constant(self._data.present("train")[:samples])
        seed = tf.constant([self._options.seed, -1], tf.int64)
        return inputs | {name: mask.numpy() for name, mask in self._presence(seen, seed).items()}

    def _presence(self, seen: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """The input `present`, if the model has it."""
        if not self._columns:
            return {}
        if self._failures is None:
            return {PRESENCE: tf.ones([tf.shape(seen)[0], self._columns], tf.bool)}
        # Numbers of their own: the augmentation of the same batch splits the same seed.
        own = tf.random.experimental.stateless_fold_in(seed, _OF_FAILURES)
        return {PRESENCE: self._failures.draw(seen, own)}

    def _reader(self, part: str) -> Callable[[tf.Tensor], Any]:
        """A function of samples of a part, `(batch,)` int: their views, targets and weights by name."""
        data = self._data
        rows, shapes = data.split[part], data.shapes
        labels = tf.constant(data.targets(part))
        of_samples = tf.constant(_weights(data, part, len(self._outputs), self._individual))

        def views(chosen: NDArray[Any]) -> list[NDArray[np.uint8]]:
            return list(data.rows(rows[chosen]).values())

        def read(chosen: tf.Tensor) -> _Batch:
            # The views stay in NumPy, or on the disk: TensorFlow would keep a copy of them all.
            tensors = tf.numpy_function(views, [chosen], [tf.uint8] * len(shapes), stateful=False)
            named = {}
            for (device, shape), tensor in zip(shapes.items(), tensors, strict=True):
                tensor.set_shape((None, *shape))
                named[device] = tf.cast(tensor, tf.float32)
            weights = tf.unstack(tf.gather(of_samples, chosen), axis=1)
            targets = dict.fromkeys(self._outputs, tf.gather(labels, chosen))
            return named, targets, dict(zip(self._outputs, weights, strict=True))

        return read


def _weights(data: MultiViewDataset, part: str, outputs: int, individual: bool) -> NDArray[np.float32]:
    """`(samples, outputs)` weights of the loss: the class's, and 0 where an output's device sees nothing."""
    of_class = data.class_weights()[data.targets(part)]
    weights = np.repeat(of_class[:, None], outputs, axis=1)
    if individual:
        weights[~data.present(part)] = 0
    return weights
