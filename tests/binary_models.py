"""Small binary networks with fixed random weights, for the tests of folding and of the C export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ddnn_tf.network import build
from ddnn_tf.sections import Section, cut
from ddnn_tf.specs import Coding
from ddnn_tf.topology import Cloud, Devices, Topology

layers = tf.keras.layers
BINARY: dict[str, Any] = {"kernel_quantizer": "ste_sign", "use_bias": False}
HIDDEN: dict[str, Any] = {"input_quantizer": "ste_sign", **BINARY}


def shuffle_norms(model: tf.keras.Model, seed: int = 0) -> None:
    """Batch norms that rise, fall, or are constant, around the sums that random inputs give."""
    random = np.random.default_rng(seed)
    inputs = random.integers(0, 256, (32, *model.input_shape[1:])).astype(np.float32)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape[0]
            gamma, beta = random.normal(size=size), random.normal(size=size) / 2
            if size > 5:
                gamma[:3], beta[:3] = 0, (1, -1, 0)
            sums = tf.keras.Model(model.inputs, layer.input)(inputs).numpy().reshape(-1, size)
            weights = [gamma] * layer.scale + [beta] * layer.center
            layer.set_weights([*weights, sums.mean(axis=0), sums.var(axis=0) + 0.3])


# Devices of every kind of input and of blocks: input, filters, units.
DEVICES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "image": ((10, 9, 3), (12,), ()),
    "image and units": ((7, 5, 1), (3,), (9,)),
    "units on an image": ((6, 5, 2), (), (19, 8)),
    "series": ((33, 3), (5,), ()),
    "long series": ((150, 1), (4, 17), ()),
    "series of one step": ((1, 4), (6,), ()),
    "series and units": ((12, 2), (4,), (7, 33)),
    "units on a series": ((12, 2), (), (7,)),
    "vector": ((76,), (), (32,)),
    "vector of one": ((1,), (), (5, 3)),
}


def device(
    seed: int = 0,
    *,
    input: tuple[int, ...] = (10, 9, 3),
    filters: tuple[int, ...] = (12,),
    units: tuple[int, ...] = (),
    coding: Coding | None = None,
    has_exit: bool = True,
) -> Section:
    """The section of a binary device with shuffled batch norms."""
    devices = Devices(count=1, input=input, filters=filters, units=units)
    codings = {} if coding is None else {"device_0": coding}
    local = None if has_exit else ()
    topology = Topology(devices=devices, local=local, cloud=Cloud(), codings=codings)
    section = cut(build(topology), topology)["device_0"]
    shuffle_norms(section.model, seed)
    return section


def pixels(*shape: int, samples: int = 200, seed: int = 1) -> np.ndarray:
    images = np.random.default_rng(seed).integers(0, 256, (samples, *shape), dtype=np.uint8)
    images[:10] = 0
    images[10:20] = 255
    return images


def binary_net(*, scaled: bool = False, biased: bool = False, classes: int = 10) -> tf.keras.Model:
    """BinaryNet's manner: pool before the batch norm, signs as input quantizers, everything mixed in size."""
    hidden = {**HIDDEN, "use_bias": biased}
    stack = [
        layers.Input((12, 11, 1)),
        *([layers.Rescaling(1 / 128, offset=-1)] if scaled else []),
        lq.layers.QuantConv2D(20, 3, padding="same", pad_values=1.0 if scaled else 0.0, **BINARY),
        layers.MaxPooling2D(2),
        layers.BatchNormalization(scale=False),
        lq.layers.QuantConv2D(33, (3, 2), strides=(2, 1), padding="same", pad_values=-1.0, **hidden),
        layers.BatchNormalization(),
        layers.MaxPooling2D(3, strides=2, padding="same"),
        layers.Flatten(),
        layers.Dropout(0.2),
        lq.layers.QuantDense(40, **hidden),
        layers.BatchNormalization(center=False),
        layers.Activation(lq.quantizers.SteSign()),
        lq.layers.QuantDense(classes, **hidden),
        layers.BatchNormalization(),
    ]
    model = tf.keras.Sequential(stack)
    shuffle_norms(model)
    if biased:
        for layer in model.layers:
            if getattr(layer, "use_bias", False):
                bias = np.random.default_rng(3).normal(size=layer.bias.shape)
                layer.set_weights([layer.get_weights()[0], bias])
    return model


ORDERS: dict[str, Callable[[], list[tf.keras.layers.Layer]]] = {
    "zero padding of bits": lambda: [
        lq.layers.QuantConv2D(8, 3, padding="same", **BINARY),
        layers.BatchNormalization(),
        lq.layers.QuantConv2D(5, 3, padding="same", strides=2, pad_values=0.0, **HIDDEN),
    ],
    "signs, pools and norms in turn": lambda: [
        lq.layers.QuantConv2D(8, 3, padding="valid", **BINARY),
        layers.BatchNormalization(),
        lq.quantizers.SteSign(),
        layers.MaxPooling2D(2),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2, strides=1),
        layers.BatchNormalization(),
        lq.quantizers.SteSign(),
    ],
    "two pools": lambda: [
        lq.layers.QuantConv2D(8, 3, activation=lq.quantizers.SteSign(), **BINARY),
        layers.MaxPooling2D(2),
        layers.MaxPooling2D((1, 2)),
        layers.Flatten(),
        lq.layers.QuantDense(4, **HIDDEN),
    ],
    "a binary input": lambda: [
        lq.layers.QuantConv2D(8, 3, padding="same", pad_values=1.0, **HIDDEN),
        layers.BatchNormalization(),
        layers.Flatten(),
        lq.layers.QuantDense(7, **HIDDEN),
    ],
    "dense on pixels": lambda: [
        layers.Flatten(),
        lq.layers.QuantDense(9, **BINARY),
        layers.BatchNormalization(),
        lq.layers.QuantDense(7, **HIDDEN),
        layers.BatchNormalization(),
        lq.quantizers.SteSign(),
    ],
    "zero padding of bits beside none": lambda: [
        lq.layers.QuantConv2D(8, 3, padding="same", **BINARY),
        layers.MaxPooling2D(2, strides=1),
        layers.BatchNormalization(),
        lq.layers.QuantConv2D(40, 3, padding="same", **HIDDEN),
        layers.MaxPooling2D(1),
        layers.BatchNormalization(),
        lq.layers.QuantConv2D(3, 2, **HIDDEN),
        lq.quantizers.SteSign(),
        layers.MaxPooling2D(6),
        layers.Flatten(),
        lq.layers.QuantDense(5, **HIDDEN),
    ],
    "dense without flatten": lambda: [
        lq.layers.QuantConv2D(8, (11, 10), **BINARY),
        layers.MaxPooling2D(1),
        layers.BatchNormalization(),
        lq.layers.QuantDense(7, **HIDDEN),
    ],
    "numbers as an image": lambda: [lq.layers.QuantConv2D(3, 5, strides=3, **BINARY)],
    "reshaped between blocks": lambda: [
        lq.layers.QuantConv2D(6, 3, strides=2, **BINARY),
        layers.BatchNormalization(),
        lq.quantizers.SteSign(),
        layers.Reshape((-1,)),
        lq.layers.QuantDense(48, **HIDDEN),
        layers.Reshape((4, 3, 4)),
        lq.layers.QuantConv2D(7, 2, **HIDDEN),
        layers.BatchNormalization(),
        layers.Reshape((2, 3, 7)),
        lq.quantizers.SteSign(),
    ],
    "reshaped input": lambda: [
        layers.Reshape((10, 22, 1)),
        lq.layers.QuantConv2D(5, 3, **BINARY),
        layers.BatchNormalization(),
        lq.quantizers.SteSign(),
    ],
    "flattened at the end": lambda: [
        lq.layers.QuantConv2D(3, 5, strides=3, **BINARY),
        layers.BatchNormalization(),
        lq.quantizers.SteSign(),
        layers.Flatten(),
    ],
}


def ordered(order: str) -> tuple[tf.keras.Model, np.ndarray]:
    """One of `ORDERS` as a model, and inputs for it."""
    model = tf.keras.Sequential([layers.Input((11, 10, 2)), *ORDERS[order]()])
    shuffle_norms(model)
    inputs = pixels(11, 10, 2)
    return model, inputs > 127 if order == "a binary input" else inputs


def chain_of(*stack: tf.keras.layers.Layer) -> tf.keras.Model:
    """Layers on an 8x8 image of three channels."""
    return tf.keras.Sequential([layers.Input((8, 8, 3)), *stack])
