"""The twin of a network that a recipe trains in its place, and the optimizer for it.

A twin has the network's weights, one for one and in the same order, but other gradients, or real values at
first. When it is trained, its weights return to the network, which is evaluated and exported like any other:

    >>> twin = Twin(model, Recipe(activation_gradient="approx_sign"), epochs=10)  # doctest: +SKIP
    >>> twin.model.fit(..., callbacks=twin.callbacks)  # doctest: +SKIP
    >>> model.set_weights(twin.finished(twin.model.get_weights()))  # doctest: +SKIP

Source: as of the fields of `recipes.Recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.recipes import Recipe

__all__ = ["Twin", "optimizer_of"]

# Bop's threshold, and its rate as a share of the learning rate, which is high for Adam: with 0.001 the rate
# is Helwegen et al.'s 1e-4.
_BOP_THRESHOLD = 1e-8
_BOP_RATE = 0.1


class Twin:
    """What is trained in place of a network.

    Args:
        model: The network.
        recipe: The recipe.
        epochs: Epochs of the whole training.

    Attributes:
        model: What to compile and fit; the network itself where the recipe changes nothing of it.
        callbacks: Keras callbacks that the training needs.
        first_binary_epoch: The first epoch, from 0, whose weights the network can take.
    """

    def __init__(self, model: tf.keras.Model, recipe: Recipe, epochs: int) -> None:
        self._recipe = recipe
        self.model = model
        self.callbacks: list[tf.keras.callbacks.Callback] = []
        # The last epoch is binary, however few there are.
        self.first_binary_epoch = min(round(recipe.real_epochs * epochs), epochs - 1)
        is_binary = tf.Variable(self.first_binary_epoch == 0, trainable=False, dtype=tf.bool)
        if self.first_binary_epoch:
            self.callbacks.append(_Binarizing(is_binary, self.first_binary_epoch))
        if recipe.changes_layers:
            clone = _cloning(recipe, is_binary, model.output_names[:-1])
            self.model = tf.keras.models.clone_model(model, clone_function=clone)
            self.model.set_weights(model.get_weights())
        if recipe.distillation and len(model.output_names) > 1:
            self.model = _Distilled(self.model.inputs, self.model.outputs, name=model.name)
            self.model.share = recipe.distillation

    def finished(self, weights: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Weights of the twin as the network takes them: filters' scales fold into the batch norm behind."""
        values = list(weights)
        if self._recipe.kernel_gradient == "ste_sign":
            return values
        places = {id(weight): number for number, weight in enumerate(self.model.weights)}
        for layer in self.model.layers:
            norm = _norm_behind(layer)
            if not _is_binary_layer(layer) or norm is None:
                continue
            kernel = values[places[id(layer.kernel)]]
            scale = np.abs(kernel).mean(axis=tuple(range(kernel.ndim - 1)))
            mean, variance = (places[id(each)] for each in (norm.moving_mean, norm.moving_variance))
            values[mean] = values[mean] / scale
            values[variance] = (values[variance] + norm.epsilon) / scale**2 - norm.epsilon
        return values


def optimizer_of(
    recipe: Recipe, model: tf.keras.Model, learning_rate: Any, **options: Any
) -> tf.keras.optimizers.Optimizer:
    """The optimizer of a recipe.

    Args:
        recipe: The recipe.
        model: What it trains.
        learning_rate: Its rate, or a schedule.
        options: Adam's `beta_1`, `beta_2` and `epsilon`.
    """
    if recipe.optimizer == "bop":
        kernels = {layer.kernel.name for layer in model.layers if _is_binary_layer(layer)}
        return _AdamAndBop(kernels, learning_rate, **options)
    if recipe.averaging:
        options |= {"use_ema": True, "ema_momentum": recipe.averaging}
    return tf.keras.optimizers.Adam(learning_rate, **options)


def _is_binary_layer(layer: tf.keras.layers.Layer) -> bool:
    return getattr(layer, "kernel_quantizer", None) is not None


def _norm_behind(layer: tf.keras.layers.Layer) -> tf.keras.layers.BatchNormalization | None:
    """The batch norm that a layer's output reaches, directly or through a pool."""
    for node in layer.outbound_nodes:
        following = node.outbound_layer
        if isinstance(following, tf.keras.layers.BatchNormalization):
            return following
        if not following.weights:
            return _norm_behind(following)
    return None


def _cloning(
    recipe: Recipe, is_binary: tf.Variable, early_exits: Sequence[str]
) -> Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer]:
    """How each layer is cloned."""
    activation = _Switched(lq.quantizers.get(recipe.activation_gradient), is_binary, _clipped)
    # Of what the activation before has made -1 and +1 already: another gradient there would be 0.
    again = _Switched(lq.quantizers.get("ste_sign"), is_binary, tf.identity)
    kernel = _Switched(lq.quantizers.get(recipe.kernel_gradient), is_binary, tf.identity)

    def clone(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        if isinstance(layer, lq.quantizers.SteSign):
            return tf.keras.layers.Lambda(activation, name=layer.name)
        config = layer.get_config()
        if _is_binary_layer(layer):
            config["kernel_quantizer"] = kernel
            if config["input_quantizer"] is not None:
                config["input_quantizer"] = again
        copy = type(layer).from_config(config)
        if isinstance(layer, tf.keras.layers.Flatten) and _starts_exit(layer, early_exits):
            copy = _Branch(recipe.branch_gradient, name=layer.name)
        return copy

    return clone


def _starts_exit(layer: tf.keras.layers.Layer, early_exits: Sequence[str]) -> bool:
    """Whether a layer is where an exit below the highest leaves a feature map that goes on to one above."""
    before = layer.inbound_nodes[0].inbound_layers
    return _outputs_behind(layer) <= set(early_exits) and not _outputs_behind(before) <= set(early_exits)


def _outputs_behind(layer: tf.keras.layers.Layer) -> set[str]:
    """Names of the last layers that a layer's output reaches."""
    following = [node.outbound_layer for node in layer.outbound_nodes]
    if not following:
        return {layer.name}
    return {name for each in following for name in _outputs_behind(each)}


def _clipped(values: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(values, -1.0, 1.0)


class _Switched:
    """A quantizer from a certain epoch on, and before it another function."""

    def __init__(
        self,
        quantizer: Callable[[tf.Tensor], tf.Tensor],
        is_binary: tf.Variable,
        before: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        self._quantizer, self._is_binary, self._before = quantizer, is_binary, before

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        return tf.where(self._is_binary, self._quantizer(values), self._before(values))


class _Binarizing(tf.keras.callbacks.Callback):
    """Switches a twin from real values to binary ones at an epoch."""

    def __init__(self, is_binary: tf.Variable, epoch: int) -> None:
        super().__init__()
        self._is_binary, self._epoch = is_binary, epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._is_binary.assign(epoch >= self._epoch)


class _Branch(tf.keras.layers.Flatten):
    """Flattens, and hands on a share of the gradient."""

    def __init__(self, share: float, **options: Any) -> None:
        super().__init__(**options)
        self._share = share

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        flat = super().call(inputs)
        return self._share * flat + tf.stop_gradient((1 - self._share) * flat)


class _Distilled(tf.keras.Model):
    """A model whose lower exits also learn what the highest one answers."""

    share: float

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        inputs, targets, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            answers = self(inputs, training=True)
            loss = self.compute_loss(inputs, targets, answers, weights)
            loss += self.share * self._distance(answers, weights)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self.compute_metrics(inputs, targets, answers, weights)

    def _distance(self, answers: Sequence[tf.Tensor], weights: dict[str, tf.Tensor]) -> tf.Tensor:
        *lower, highest = answers
        teacher = tf.stop_gradient(highest)
        losses = [
            tf.reduce_mean(tf.keras.losses.categorical_crossentropy(teacher, answer) * weights[name])
            for name, answer in zip(self.output_names, lower, strict=False)
        ]
        return tf.add_n(losses)


class _AdamAndBop(tf.keras.optimizers.Adam):
    """Bop for the kernels of binary layers, Adam for all else; Bop's momentum is in Adam's place for it."""

    def __init__(self, kernels: set[str], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kernels = kernels

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        if variable.name not in self._kernels:
            super().update_step(gradient, variable)
            return
        momentum = self._momentums[self._index_dict[self._var_key(variable)]]
        rate = _BOP_RATE * tf.cast(self.learning_rate, variable.dtype)
        momentum.assign_add(rate * (gradient - momentum))
        sign = lq.math.sign(variable)
        flips = (tf.abs(momentum) >= _BOP_THRESHOLD) & (tf.sign(momentum) == sign)
        variable.assign(tf.where(flips, -sign, sign))
