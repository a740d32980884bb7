"""Joint training of all exits, and of the individual models, with one function.

    >>> from ddnn_tf.datasets import fitting_topology, load_dataset
    >>> from ddnn_tf.network import build
    >>> data = load_dataset("scenes", devices=2)
    >>> topology = fitting_topology(data)
    >>> model, options = build(topology), TrainingOptions(epochs=1)
    >>> train(model, data, loss_weights=topology.loss_weights, options=options).best_epoch
    0

The loss is the weighted sum of the exits' softmax cross-entropies. The order of the samples depends
on the seed and the epoch alone, and every epoch ends with a checkpoint, so interrupted training that is
resumed ends with the very weights that it would have had.

Source: Teerapittayanon et al. 2017, Section III-C and Section IV-B (Adam and its parameters).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.augmentation import Augmentation
from ddnn_tf.callbacks import STATISTICS_SAMPLES, BatchStatistics, Checkpoint, ProgressBar
from ddnn_tf.datasets import MultiViewDataset

__all__ = ["TrainingOptions", "TrainingResult", "train"]

_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; the defaults are the paper's where it tells (all but the batch size).

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples per step.
        learning_rate: Adam's alpha.
        beta_1: Adam's decay of the first moment.
        beta_2: Adam's decay of the second moment.
        epsilon: Adam's epsilon.
        seed: Seed of the initial weights (`set_random_seed`), of the order of the samples and of their
            augmentation.
        augmentation: How training pictures are changed; None: not at all.

    Raises:
        ValueError: A number that makes no sense.
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "epsilon"):
            value = getattr(self, name)
            if not value > 0 or not math.isfinite(value):
                raise ValueError(f"Expected `{name}` to be positive, but got {value}.")
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` in 0..1, 1 excluded, but got {getattr(self, name)}.")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"Expected `seed` between 0 and {2**31 - 1}, but got {self.seed}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for records; without the augmentation, if there is none."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Attributes:
        history: Each measure by name, one number per epoch; `val_` in front: on validation data.
        best_epoch: The epoch (from 0) with the lowest validation loss, whose weights were kept.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int


def train(
    model: tf.keras.Model,
    data: MultiViewDataset,
    *,
    options: TrainingOptions | None = None,
    loss_weights: Mapping[str, float] | None = None,
    individual: bool = False,
    directory: str | Path | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    progress: bool = True,
) -> TrainingResult:
    """Trains a model of `build` (all exits jointly) or of `build_individual`.

    An exit of the whole network learns from every sample; a device's individual model only from
    those in which the device sees the object. Samples of a class count by `data.class_weights()`.

    Args:
        model: The model; afterwards it holds the weights of the epoch with the lowest validation
            loss.
        data: Its `train` part is learnt from, its `validation` part chooses the epoch.
        options: How to train.
        loss_weights: Weight of each output's loss; equal if None.
        individual: The model is one of `build_individual`: each output learns only from the samples that its
            device sees.
        directory: Where to keep `<model name>.checkpoint.npz` (removed by nobody but you) and
            `<model name>.csv`, the log. A checkpoint there of the same training is continued.
        callbacks: More Keras callbacks, e.g. `tf.keras.callbacks.TensorBoard`.
        progress: Show each epoch on stderr, or in the notebook (see `Progress`).

    Returns:
        The history and the best epoch.

    Raises:
        TypeError: A callback of Keras 3.
        ValueError: Data that do not fit the model, an augmentation without pictures, or a checkpoint of
            another training.
    """
    options = options or TrainingOptions()
    _check_fit(model, data)
    _check_callbacks(callbacks)
    data = data.with_devices(model.input_names)
    if options.augmentation is not None:
        options.augmentation.check_fit(data.shapes)
    tf.keras.utils.set_random_seed(options.seed)
    model.compile(
        optimizer=tf.keras.optimizers.Adam(
            options.learning_rate, options.beta_1, options.beta_2, options.epsilon
        ),
        loss=dict.fromkeys(model.output_names, "sparse_categorical_crossentropy"),
        loss_weights=None if loss_weights is None else dict(loss_weights),
        weighted_metrics=["accuracy"],
    )
    keeper = Checkpoint(directory, _fingerprint(model, data, options, loss_weights))
    keeper.restore(model)
    if keeper.epochs_done < options.epochs:
        weights = {
            part: _weights(data, part, len(model.outputs), individual) for part in ("train", "validation")
        }
        with ProgressBar(model.name, options.epochs, done=keeper.epochs_done, show=progress) as bar:
            model.fit(
                _training_batches(model, data, weights["train"], options, keeper.epochs_done),
                initial_epoch=keeper.epochs_done,
                epochs=options.epochs,
                steps_per_epoch=math.ceil(len(data.split["train"]) / options.batch_size),
                validation_data=_validation_batches(model, data, weights["validation"]),
                verbose=0,
                callbacks=[
                    BatchStatistics(data.rows(data.split["train"][:STATISTICS_SAMPLES])),
                    keeper,
                    bar,
                    *callbacks,
                ],
            )
    model.set_weights(keeper.best_weights)
    return TrainingResult(keeper.history, keeper.best_epoch)


def _check_fit(model: tf.keras.Model, data: MultiViewDataset) -> None:
    """Raises ValueError for a model that takes or gives something else than the data have."""
    for name, tensor in zip(model.input_names, model.inputs, strict=True):
        shape = data.shapes.get(name)
        if shape != tuple(tensor.shape[1:]):
            found = f"views of {', '.join(data.views)}" if shape is None else f"{shape} for it"
            raise ValueError(
                f"The model's input '{name}' is {tuple(tensor.shape[1:])}, but the data set '{data.name}' "
                f"has {found}: train a model of `build(topology)` that fits the data; `present` is for a "
                "trained one."
            )
    classes = int(model.outputs[0].shape[-1])
    if classes != len(data.class_names):
        raise ValueError(
            f"The network's 'classes' is {classes}, but the data set '{data.name}' has "
            f"{len(data.class_names)}: make them equal in its topology."
        )


def _check_callbacks(callbacks: Sequence[object]) -> None:
    """Raises TypeError for what is no callback of Keras 2, e.g. one of the package `keras` (Keras 3)."""
    for callback in callbacks:
        if not isinstance(callback, tf.keras.callbacks.Callback):
            kind = type(callback)
            raise TypeError(
                f"Expected `callbacks` to be of Keras 2, but got {kind.__module__}.{kind.__qualname__}: make "
                "them with `tf.keras.callbacks`; the package `keras` is Keras 3."
            )


def _weights(data: MultiViewDataset, part: str, outputs: int, individual: bool) -> NDArray[np.float32]:
    """`(samples, outputs)` weights of the loss: the class's, and 0 where an output's device sees nothing."""
    of_class = data.class_weights()[data.targets(part)]
    weights = np.repeat(of_class[:, None], outputs, axis=1)
    if individual:
        weights[~data.present(part)] = 0
    return weights


def _training_batches(
    model: tf.keras.Model,
    data: MultiViewDataset,
    weights: NDArray[np.float32],
    options: TrainingOptions,
    first_epoch: int,
) -> tf.data.Dataset:
    """Batches of all epochs to come, each epoch in an order of its own."""
    count = len(data.split["train"])
    read = _reader(model, data, "train", weights)
    presence = tf.constant(data.present("train"))

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.constant(options.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(options.batch_size)
        return tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensors(epoch).repeat()))

    def batch(rows: tf.Tensor, epoch: tf.Tensor) -> tuple[dict[str, tf.Tensor], ...]:
        views, *others = read(rows)
        if options.augmentation is not None:
            # A number of its own for each batch, the same in a training that is resumed.
            seed = tf.stack([tf.constant(options.seed, tf.int64), epoch * count + tf.cast(rows[0], tf.int64)])
            views = options.augmentation(views, tf.gather(presence, rows), seed)
        return views, *others

    epochs = tf.data.Dataset.range(first_epoch, options.epochs)
    return epochs.flat_map(epoch_order).map(batch).prefetch(2)


def _validation_batches(
    model: tf.keras.Model, data: MultiViewDataset, weights: NDArray[np.float32]
) -> tf.data.Dataset:
    order = tf.data.Dataset.range(len(data.split["validation"])).batch(_VALIDATION_BATCH)
    return order.map(_reader(model, data, "validation", weights)).prefetch(1)


def _reader(
    model: tf.keras.Model, data: MultiViewDataset, part: str, weights: NDArray[np.float32]
) -> Callable[[tf.Tensor], tuple[dict[str, tf.Tensor], ...]]:
    """A function of samples of a part, `(batch,)` int, that gives a batch as Keras takes it."""
    rows, shapes = data.split[part], data.shapes
    labels, of_samples = tf.constant(data.targets(part)), tf.constant(weights)

    def views(chosen: NDArray[Any]) -> list[NDArray[np.uint8]]:
        return list(data.rows(rows[chosen]).values())

    def read(chosen: tf.Tensor) -> tuple[dict[str, tf.Tensor], ...]:
        # The views stay in NumPy, or on the disk: TensorFlow would keep a copy of them all.
        tensors = tf.numpy_function(views, [chosen], [tf.uint8] * len(shapes), stateful=False)
        named = dict(zip(shapes, tensors, strict=True))
        for device, shape in shapes.items():
            named[device].set_shape((None, *shape))
        return _named(model, named, tf.gather(labels, chosen), tf.gather(of_samples, chosen))

    return read


def _named(
    model: tf.keras.Model, views: Mapping[str, tf.Tensor], labels: tf.Tensor, weights: tf.Tensor
) -> tuple[dict[str, tf.Tensor], ...]:
    """A batch as Keras takes it: inputs, targets and sample weights by name."""
    return (
        {name: tf.cast(view, tf.float32) for name, view in views.items()},
        dict.fromkeys(model.output_names, labels),
        dict(zip(model.output_names, tf.unstack(weights, axis=1), strict=True)),
    )


def _fingerprint(
    model: tf.keras.Model,
    data: MultiViewDataset,
    options: TrainingOptions,
    loss_weights: Mapping[str, float] | None,
) -> str:
    """What a training is: same fingerprint, same result."""
    digest = hashlib.sha256()
    layers = [[layer.name, type(layer).__name__, _parents(layer)] for layer in model.layers]
    shapes = [list(weight.shape) for weight in model.weights]
    digest.update(json.dumps([layers, shapes]).encode())
    digest.update(json.dumps([options.to_dict(), loss_weights], sort_keys=True).encode())
    digest.update(data.digest().encode())
    return digest.hexdigest()


def _parents(layer: tf.keras.layers.Layer) -> list[str]:
    """Names of the layers that feed a layer."""
    return [parent.name for node in layer.inbound_nodes for parent, *_ in node.iterate_inbound()]
