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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from ddnn_tf.augmentation import Augmentation
from ddnn_tf.callbacks import STATISTICS_SAMPLES, AveragedWeights, BatchStatistics, Checkpoint, ProgressBar
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.failures import Failures
from ddnn_tf.feeding import Feed
from ddnn_tf.network import PRESENCE
from ddnn_tf.recipes import RECIPES, Recipe
from ddnn_tf.twins import Twin, optimizer_of

__all__ = ["TrainingOptions", "TrainingResult", "train"]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; the defaults are the paper's where it tells (all but the batch size).

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples per step.
        learning_rate: Adam's alpha; None: that of the recipe.
        beta_1: Adam's decay of the first moment.
        beta_2: Adam's decay of the second moment.
        epsilon: Adam's epsilon.
        seed: Seed of the initial weights (`set_random_seed`), of the order of the samples and of their
            augmentation.
        augmentation: How training pictures are changed; None: not at all.
        recipe: All else that is done to train well; the default is the paper's, which is nothing.

    Raises:
        ValueError: A number that makes no sense.
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float | None = None
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0
    augmentation: Augmentation | None = None
    recipe: Recipe = RECIPES["paper"]

    def __post_init__(self) -> None:
        positive = {name: getattr(self, name) for name in ("epochs", "batch_size", "epsilon")}
        for name, value in {**positive, "learning_rate": self.rate}.items():
            if not value > 0 or not math.isfinite(value):
                raise ValueError(f"Expected `{name}` to be positive, but got {value}.")
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` in 0..1, 1 excluded, but got {getattr(self, name)}.")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"Expected `seed` between 0 and {2**31 - 1}, but got {self.seed}.")

    @property
    def rate(self) -> float:
        """The learning rate, at its highest: the one given, else the recipe's."""
        return self.recipe.learning_rate if self.learning_rate is None else self.learning_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain data for records; without the augmentation, if there is none, and the paper's recipe."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        values["learning_rate"] = self.rate
        values["recipe"] = self.recipe.differences()
        if self.recipe == RECIPES["paper"]:
            del values["recipe"]
        return values


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
    nodes: Sequence[str] | None = None,
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
        nodes: Names of the nodes of the input `present` (`Hierarchy.failable_names`), for a recipe that lets
            them fail; None: the devices.
        directory: Where to keep `<model name>.checkpoint.npz` (removed by nobody but you) and
            `<model name>.csv`, the log. A checkpoint there of the same training is continued.
        callbacks: More Keras callbacks, e.g. `tf.keras.callbacks.TensorBoard`.
        progress: Show each epoch on stderr, or in the notebook (see `Progress`).

    Returns:
        The history and the best epoch.

    Raises:
        TypeError: A callback of Keras 3.
        ValueError: Data that do not fit the model, an augmentation without pictures, a recipe that lets nodes
            fail that the model cannot be told of, or a checkpoint of another training.
    """
    options = options or TrainingOptions()
    recipe = options.recipe.alone() if individual else options.recipe
    _check_fit(model, data)
    _check_callbacks(callbacks)
    failures = _failures(model, recipe, nodes)
    data = data.with_devices([name for name in model.input_names if name != PRESENCE])
    if options.augmentation is not None:
        options.augmentation.check_fit(data.shapes)
    tf.keras.utils.set_random_seed(options.seed)
    twin = Twin(model, recipe, options.epochs)
    steps = math.ceil(len(data.split["train"]) / options.batch_size)
    trained = twin.model
    trained.compile(
        optimizer=optimizer_of(
            recipe,
            trained,
            _rate(recipe, options.rate, steps * options.epochs),
            beta_1=options.beta_1,
            beta_2=options.beta_2,
            epsilon=options.epsilon,
        ),
        loss=dict.fromkeys(model.output_names, _loss(recipe)),
        loss_weights=None if loss_weights is None else dict(loss_weights),
        weighted_metrics=["accuracy"],
    )
    averaged = AveragedWeights() if recipe.averaging else None
    keeper = Checkpoint(
        directory,
        _fingerprint(model, data, options, loss_weights),
        first_epoch=twin.first_binary_epoch,
        averaged=averaged,
    )
    keeper.restore(trained)
    if keeper.epochs_done < options.epochs:
        shares = recipe.shares(len(model.output_names), options.epochs)
        feed = Feed(trained, data, options, shares=shares, individual=individual, failures=failures)
        with ProgressBar(model.name, options.epochs, done=keeper.epochs_done, show=progress) as bar:
            trained.fit(
                feed.training(keeper.epochs_done),
                initial_epoch=keeper.epochs_done,
                epochs=options.epochs,
                steps_per_epoch=steps,
                validation_data=feed.validation(),
                verbose=0,
                callbacks=[
                    *twin.callbacks,
                    *([] if averaged is None else [averaged]),
                    BatchStatistics(feed.statistics(STATISTICS_SAMPLES)),
                    keeper,
                    bar,
                    *callbacks,
                ],
            )
    model.set_weights(twin.finished(keeper.best_weights))
    return TrainingResult(keeper.history, keeper.best_epoch)


def _failures(model: tf.keras.Model, recipe: Recipe, nodes: Sequence[str] | None) -> Failures | None:
    """Who fails in training; raises ValueError for a model that cannot be told."""
    if not recipe.fails_nodes:
        return None
    if PRESENCE not in model.input_names:
        raise ValueError(
            f"The recipe '{recipe.name}' lets nodes fail, but the model has no input '{PRESENCE}': train "
            "`build(topology, presence=True)`, and give its weights to `build(topology)`."
        )
    devices = [name for name in model.input_names if name != PRESENCE]
    names = devices if nodes is None else nodes
    columns = int(model.get_layer(PRESENCE).output.shape[1])
    if len(names) != columns:
        raise ValueError(
            f"Expected `nodes` to name the {columns} nodes of the input '{PRESENCE}', but got {len(names)}: "
            "give `topology.hierarchy.failable_names`."
        )
    return Failures(recipe, devices, names)


def _rate(recipe: Recipe, highest: float, steps: int) -> Any:
    """The learning rate, or its schedule."""
    if recipe.schedule == "constant":
        return highest
    rising = round(recipe.warm_up * steps)
    if not rising:
        return tf.keras.optimizers.schedules.CosineDecay(highest, steps)
    return tf.keras.optimizers.schedules.CosineDecay(
        0.0, steps - rising, warmup_target=highest, warmup_steps=rising
    )


def _loss(recipe: Recipe) -> Any:
    if not recipe.label_smoothing:
        return "sparse_categorical_crossentropy"

    def smoothed(labels: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        classes = answers.shape[-1]
        targets = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
        share = recipe.label_smoothing
        return tf.keras.losses.categorical_crossentropy(targets, answers, label_smoothing=share)

    return smoothed


def _check_fit(model: tf.keras.Model, data: MultiViewDataset) -> None:
    """Raises ValueError for a model that takes or gives something else than the data have."""
    for name, tensor in zip(model.input_names, model.inputs, strict=True):
        if name == PRESENCE:
            continue
        shape = data.shapes.get(name)
        if shape != tuple(tensor.shape[1:]):
            found = f"views of {', '.join(data.views)}" if shape is None else f"{shape} for it"
            raise ValueError(
                f"The model's input '{name}' is {tuple(tensor.shape[1:])}, but the data set '{data.name}' "
                f"has {found}: train a model of `build(topology)` that fits the data."
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
