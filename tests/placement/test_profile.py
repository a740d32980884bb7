"""Profiles of Keras models: AlexNet is the reference's, branches and early exits are found."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.network import build
from ddnn_tf.placement import Cnn
from ddnn_tf.placement.profile import demand_of, profile
from ddnn_tf.sections import cut
from ddnn_tf.topology import Topology

layers = tf.keras.layers


def alexnet() -> tf.keras.Model:
    """AlexNet with the groups of its original: two halves in the second, fourth and fifth convolution."""
    image = tf.keras.Input((227, 227, 3))
    x = layers.Conv2D(96, 11, strides=4, activation="relu")(image)
    x = layers.MaxPool2D(3, 2)(x)
    x = layers.Conv2D(256, 5, padding="same", activation="relu", groups=2)(x)
    x = layers.MaxPool2D(3, 2)(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", groups=2)(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", groups=2)(x)
    x = layers.Flatten()(layers.MaxPool2D(3, 2)(x))
    for units in (4096, 4096, 1000):
        x = layers.Dense(units)(x)
    return tf.keras.Model(image, x, name="alexnet")


def test_alexnet_is_the_reference() -> None:
    found, reference = profile(alexnet()), Cnn.builtin("alexnet")
    assert found.memory_kb == pytest.approx(reference.memory_kb, rel=2e-3)
    assert found.output_kb == pytest.approx(reference.output_kb, rel=1e-3)
    # Larq counts multiplications of grouped convolutions as if there were no groups.
    assert found.demand_mop == pytest.approx(reference.demand_mop, rel=3e-3)


def residual(x: tf.Tensor) -> tf.Tensor:
    y = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(layers.Conv2D(8, 3, padding="same")(x)))
    return layers.Add()([x, layers.BatchNormalization()(y)])


def with_exit() -> tf.keras.Model:
    image = tf.keras.Input((32, 32, 3))
    first = residual(layers.Conv2D(8, 3, padding="same", name="stem")(image))
    early = layers.Dense(10, name="early")(layers.Flatten()(first))
    final = layers.Dense(10, name="final")(layers.Flatten()(residual(first)))
    return tf.keras.Model(image, [early, final])


def test_residual_blocks_are_one_layer_and_exits_their_own() -> None:
    cnn = profile(with_exit(), "net", exits={"early": 0.7, "final": 0.3})
    assert cnn.layers[0::2] == ("stem", "early", "final")
    assert len(cnn.layers) == 5
    assert cnn.exit_probability == (0, 0, 0.7, 0, 0.3)
    assert cnn.run_probability == pytest.approx((1, 1, 1, 0.3, 0.3))
    # The exit passes the trunk's tensor on.
    assert cnn.output_kb[1] == cnn.output_kb[2] == 32 * 32 * 8 * 4 / 1000
    assert cnn.demand_mop[1] == pytest.approx(2 * 32 * 32 * 9 * 8 * 8 / 1e6)
    model = with_exit()
    total = demand_of(model.layers, model)
    assert sum(cnn.demand_mop) == pytest.approx(total.mop)
    assert sum(cnn.memory_kb) == pytest.approx(total.memory_kb)


def test_binary_network_counts_bits() -> None:
    topology = Topology.device_cloud(filters=4)
    device = cut(build(topology), topology)["device_0"].model
    convolution = [layer for layer in device.layers if layer.name.endswith("conv")]
    found = demand_of(convolution, device)
    assert found.memory_kb == pytest.approx(3 * 3 * 3 * 4 / 8 / 1000)
    assert found.mop == pytest.approx(32 * 32 * 27 * 4 / 1e6)
    model = tf.keras.Sequential(
        [
            lq.layers.QuantConv2D(16, 3, kernel_quantizer="ste_sign", input_shape=(8, 8, 3), use_bias=False),
            lq.quantizers.SteSign(),
            lq.layers.QuantDense(4, kernel_quantizer="ste_sign", use_bias=False),
        ]
    )
    cnn = profile(model)
    assert cnn.output_kb == pytest.approx((6 * 6 * 16 / 8 / 1000, 6 * 6 * 4 * 4 / 1000))
    assert cnn.memory_kb == pytest.approx((27 * 16 / 8 / 1000, 16 * 4 / 8 / 1000))


def test_layers_that_larq_does_not_know() -> None:
    """The linear layer of a concatenation: every output position takes every input channel."""
    topology = Topology.devices_cloud(devices=3, filters=4, upper="CC")
    cloud = cut(build(topology), topology)["cloud"].model
    (join,) = [layer for layer in cloud.layers if layer.name.endswith("aggregation")]
    kernel = next(weight for weight in join.weights if len(weight.shape) >= 2)
    positions = np.prod(join.output_shape[1:-1])
    assert demand_of([join], cloud).mop == pytest.approx(np.prod(kernel.shape) * positions / 1e6)


def two_inputs() -> tf.keras.Model:
    one, two = tf.keras.Input((4,)), tf.keras.Input((4,))
    return tf.keras.Model([one, two], layers.Dense(1)(layers.Add()([one, two])))


def shared_layer() -> tf.keras.Model:
    image, dense = tf.keras.Input((4,)), layers.Dense(4, name="again")
    return tf.keras.Model(image, dense(dense(image)))


def exit_in_a_branch() -> tf.keras.Model:
    image = tf.keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same")(image)
    inside = layers.Conv2D(4, 3, padding="same", name="inside")(stem)
    early = layers.Dense(2, name="early")(layers.Flatten()(inside))
    behind = layers.Conv2D(4, 3, padding="same")(inside)
    final = layers.Dense(2, name="final")(layers.Flatten()(layers.Add()([stem, behind])))
    return tf.keras.Model(image, [early, final])


@pytest.mark.parametrize(
    ("model", "exits", "message"),
    [
        (two_inputs, None, "one input"),
        (shared_layer, None, "'again' is shared"),
        (lambda: tf.keras.Sequential([layers.Flatten(input_shape=(2, 2))]), None, "with weights"),
        (lambda: tf.keras.Sequential([layers.Dense(2)], name="raw"), None, "'raw' has no known input"),
        (lambda: tf.keras.Sequential([layers.Conv2D(4, 3, input_shape=(None, None, 3))]), None, "fixed size"),
        (lambda: tf.keras.Sequential([layers.LSTM(8, input_shape=(20, 4))]), None, "is a LSTM: write down"),
        (with_exit, None, "`exits` with the share of decisions at each of early, final"),
        (with_exit, {"early": 1.0}, "`exits` for early, final, but got early"),
        (with_exit, {"early": 0.5, "final": 0.4}, "adds up to 0.9"),
        (exit_in_a_branch, {"early": 0.5, "final": 0.5}, "'early' to hang on the end of one layer"),
    ],
)
def test_refuses(model: object, exits: dict[str, float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(model(), exits=exits)  # type: ignore[operator]
