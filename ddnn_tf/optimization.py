"""Trains the float blocks of a network for 8-bit integers, or with pruned weights.

For hierarchies with binary devices and a float cloud (the paper's future work: mixed precision). The
TensorFlow Model Optimization toolkit wraps float convolutions and dense layers while the network trains.
Then the trained weights return to the plain network, which is evaluated and exported like any other:

    >>> wrapped = Optimized(model, quantization_aware=True)  # doctest: +SKIP
    >>> train(wrapped.model, data, callbacks=wrapped.callbacks)  # doctest: +SKIP
    >>> wrapped.finish()  # doctest: +SKIP

Quantization-aware training rounds weights and activations to 8 bits in the forward pass, so that the
`tflite-int8` export loses less. Magnitude pruning keeps the smallest weights at zero from the first
step on.

Source: Teerapittayanon et al. 2017, Section VI (future work); Jacob et al. 2018 (arXiv 1712.05877) and
Zhu and Gupta 2017 (arXiv 1710.01878) for the methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import tensorflow as tf

__all__ = ["Optimized"]

# Steps between two choices of the weights that are zero, often enough for a few hundred steps in all.
_PRUNING_EVERY = 10


class Optimized:
    """A network whose float layers are wrapped for training.

    Args:
        model: A model of `build(topology)` with float convolutions or dense layers.
        quantization_aware: Rounds weights and activations to 8 bits while training.
        sparsity: Share of the weights of each layer that become zero, 0..1, 1 excluded.

    Attributes:
        model: The network to train.
        callbacks: Callbacks to pass to `train` with it.

    Raises:
        ImportError: The toolkit is not installed.
        ValueError: No float layer, both methods or none, or a sparsity outside its range.
    """

    def __init__(
        self, model: tf.keras.Model, *, quantization_aware: bool = False, sparsity: float = 0.0
    ) -> None:
        if not 0 <= sparsity < 1:
            raise ValueError(f"Expected `sparsity` in 0..1, 1 excluded, but got {sparsity}.")
        if quantization_aware == bool(sparsity):
            raise ValueError(
                "Expected either `quantization_aware` or a `sparsity` above 0, but got "
                f"{'both' if sparsity else 'none'}."
            )
        names = {layer.name for layer in model.layers if _is_float(layer)}
        if not names:
            raise ValueError(
                "The network has no float blocks to optimize: give a tier float blocks, e.g. "
                "--cloud-precision float, or 'precision: float' in its topology."
            )
        toolkit = _toolkit()
        if sparsity:
            schedule = toolkit.sparsity.keras.ConstantSparsity(sparsity, 0, frequency=_PRUNING_EVERY)

            def wrap(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
                return toolkit.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=schedule)

            wrapped = _cloned(model, names, wrap)
        else:
            quantization = toolkit.quantization.keras
            with quantization.quantize_scope():
                marked = _cloned(model, names, quantization.quantize_annotate_layer)
                wrapped = quantization.quantize_apply(marked)
        self._plain = model
        self.model = tf.keras.Model(wrapped.inputs, wrapped.outputs, name=model.name)
        self.model.output_names = list(model.output_names)
        self.callbacks = [toolkit.sparsity.keras.UpdatePruningStep()] if sparsity else []

    def finish(self) -> None:
        """Copies the trained weights into the plain network."""
        trained = {_plain_name(layer.name): layer for layer in self.model.layers}
        for layer in self._plain.layers:
            if not layer.weights:
                continue
            # A wrapper's own layer holds a rounded tensor in place of its kernel: take the variables.
            variables = {_short(weight.name): weight for weight in trained[layer.name].weights}
            for weight in layer.weights:
                weight.assign(variables[_short(weight.name)])


def _is_float(layer: tf.keras.layers.Layer) -> bool:
    quantized = isinstance(layer, lq.layers.QuantConv2D | lq.layers.QuantDense)
    return isinstance(layer, tf.keras.layers.Conv2D | tf.keras.layers.Dense) and not quantized


def _cloned(model: tf.keras.Model, names: set[str], wrap: Callable[[Any], Any]) -> tf.keras.Model:
    """The network with its own layers, those named wrapped."""
    return tf.keras.models.clone_model(
        model, clone_function=lambda layer: wrap(layer) if layer.name in names else layer
    )


def _plain_name(name: str) -> str:
    return name.removeprefix("quant_").removeprefix("prune_low_magnitude_")


def _toolkit() -> Any:
    try:
        import tensorflow_model_optimization
    except ImportError:
        raise ImportError(
            "tensorflow-model-optimization is not installed: pip install 'ddnn_tf[optimization]'."
        ) from None
    return tensorflow_model_optimization


def _short(name: str) -> str:
    """`kernel` of `cloud/kernel:0`."""
    return name.rsplit("/", 1)[-1].split(":")[0]
