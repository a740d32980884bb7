from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from binary_models import (
    BINARY,
    DEVICES,
    HIDDEN,
    ORDERS,
    binary_net,
    chain_of,
    device,
    layers,
    ordered,
    pixels,
)

from ddnn_tf.blocks import convp
from ddnn_tf.folding import fold, fold_sign
from ddnn_tf.network import build
from ddnn_tf.sections import cut
from ddnn_tf.topology import Devices, Topology


def agrees(model: tf.keras.Model, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What the folded network gives, after a comparison with Keras."""
    network = fold(model)
    found = network.run(inputs)
    given = np.where(inputs, 1, -1) if network.is_binary else inputs
    expected = model.predict(given.astype(np.float32), verbose=0, batch_size=len(inputs))
    expected = expected if isinstance(expected, dict) else {"output": expected}
    assert list(found) == list(expected)
    for name, values in expected.items():
        answer = found[name]
        if answer.dtype == bool:
            assert np.array_equal(np.where(answer, 1, -1), values), name
        else:
            assert np.array_equal(answer.astype(np.float32), values), name
    return found


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_device_gives_the_bits_and_vectors_of_keras(blocks: int, channels: int) -> None:
    section = device(input=(10, 9, channels), filters=(12,) * blocks)
    found = agrees(section.model, pixels(10, 9, channels, samples=500))
    assert 0.2 < found["features"].mean() < 0.8
    assert found["class_vector"].dtype == np.float32


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_of_every_kind_give_the_bits_and_vectors_of_keras(kind: str) -> None:
    shape, filters, units = DEVICES[kind]
    section = device(input=shape, filters=filters, units=units)
    found = agrees(section.model, pixels(*shape, samples=300))
    assert found["features"].shape[1:] == section.node.output.shape
    assert len(np.unique(found["features"])) == 2


def test_a_series_becomes_a_row_along_which_the_lanes_run() -> None:
    network = fold(device(input=(33, 3), filters=(5, 4)).model)
    assert [layer.input_shape for layer in network.layers] == [(1, 33, 3), (1, 17, 5), (1, 1, 36)]
    assert [layer.window.size for layer in network.layers] == [(1, 3), (1, 3), (1, 1)]


def test_a_device_without_an_exit_gives_its_features_only() -> None:
    found = agrees(device(has_exit=False).model, pixels(10, 9, 3))
    assert list(found) == ["features"]


def test_the_reshape_of_binary_alexnet_folds() -> None:
    """Features in the order height, width, channel go through dense layers and a last reshape."""
    agrees(
        chain_of(
            first(strides=2),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            layers.Reshape((4,)),
            lq.layers.QuantDense(9, **HIDDEN),
            layers.BatchNormalization(),
            layers.Reshape((1, 1, 9)),
            lq.layers.QuantConv2D(5, 1, **HIDDEN),
            layers.Reshape((5,)),
        ),
        pixels(8, 8, 3),
    )


def test_ties_fall_as_in_keras() -> None:
    """A batch norm that maps an integer to zero, or to a rounding error beside it."""
    section = device()
    norm = section.model.get_layer("device_0_convp_0_norm")
    sign = section.model.get_layer("device_0_convp_0_sign")
    means = np.arange(12) * 3 - 17.0
    norm.set_weights([np.where(np.arange(12) % 2, 1.0, -0.3), np.zeros(12), means, np.full(12, 77.7)])
    thresholds, rising = fold_sign(norm, sign, 6885)
    values = np.arange(-60, 61, dtype=np.float32)[:, None]
    column = np.repeat(values[None, :, None], 12, axis=3)
    expected = sign(norm(column, training=False)).numpy()[0, :, 0] > 0
    assert np.array_equal(np.where(rising, values >= thresholds, values <= thresholds), expected)
    assert rising.tolist() == [False, True] * 6


def test_a_constant_filter_has_its_threshold_out_of_reach() -> None:
    network = fold(device().model)
    sign = network.layers[0].sign
    assert sign is not None
    assert sign.thresholds[:3].tolist() == [-6885, 6886, -6885]
    assert sign.rising[:3].all()


def test_pixels_scaled_to_one_would_not_be_exact() -> None:
    """Why pixels are 0..255: the same network on pixels / 255 differs from its integers somewhere."""
    section = device()
    layer = section.model.get_layer("device_0_convp_0_norm")
    gamma, beta, mean, variance = layer.get_weights()
    mean = np.round(mean)
    layer.set_weights([gamma, np.zeros_like(beta), mean, variance])
    images = pixels(10, 9, 3, samples=2000)
    bits = agrees(section.model, images)["features"]
    layer.set_weights([gamma, np.zeros_like(beta), mean / 255, variance / 255**2])
    scaled = section.run({"device_0": images.astype(np.float32) / 255})["features"] > 0
    assert not np.array_equal(bits, scaled)


@pytest.mark.parametrize("options", [{}, {"scaled": True}, {"biased": True}], ids=str)
def test_a_binary_net_gives_the_numbers_of_keras(options: dict[str, bool]) -> None:
    model = binary_net(**options)
    found = agrees(model, pixels(12, 11, 1))["output"]
    assert len(np.unique(found.argmax(axis=1))) > 3


@pytest.mark.parametrize("order", ORDERS)
def test_any_sensible_order_of_layers(order: str) -> None:
    agrees(*ordered(order))


def test_a_softmax_at_the_end_is_left_off_with_a_warning() -> None:
    model = tf.keras.Sequential(
        [layers.Input((40,)), lq.layers.QuantDense(4, activation="softmax", name="last", **BINARY)]
    )
    with pytest.warns(UserWarning, match="'last, activation' is left off"):
        network = fold(model)
    assert network.run(pixels(40))["output"].dtype == np.int32


def first(**options: Any) -> tf.keras.layers.Layer:
    return lq.layers.QuantConv2D(4, 3, **{**BINARY, "name": "first", **options})


REFUSED = {
    "real weights": (lambda: chain_of(layers.Conv2D(4, 3, name="first")), "weights of 'first'"),
    "ternary weights": (lambda: chain_of(first(kernel_quantizer="ste_tern")), "weights of 'first'"),
    "scaled pixels": (lambda: chain_of(layers.Rescaling(1 / 255), first()), "0.00392157.*0..255"),
    "unknown layer": (lambda: chain_of(first(), layers.AveragePooling2D(name="mean")), "'mean' is a Av"),
    "relu": (lambda: chain_of(first(), layers.ReLU(name="relu")), "'relu' is a ReLU"),
    "activation": (lambda: chain_of(first(activation="relu")), r"'first, activation' \(relu\) is no sign"),
    "numbers": (lambda: chain_of(first(), first(name="second")), "'second' takes numbers"),
    "dilation": (lambda: chain_of(first(dilation_rate=2)), r"'first' has dilation_rate \(2, 2\)"),
    "depthwise": (lambda: chain_of(lq.layers.QuantDepthwiseConv2D(3, name="deep")), "'deep' is a Quant"),
    "pooled numbers": (lambda: chain_of(first(), layers.MaxPooling2D(2, name="pool")), "behind 'pool'"),
    "dense on an image": (lambda: chain_of(lq.layers.QuantDense(4, name="wide", **BINARY)), "Flatten before"),
    "pooled behind a reshape": (
        lambda: chain_of(first(), layers.Reshape((12, 3, 4)), layers.MaxPooling2D(2, name="pool")),
        "'pool' pools no feature map",
    ),
    "another order": (lambda: chain_of(first(), layers.Permute((2, 1, 3), name="turn")), "'turn' is a Perm"),
    "normalized pixels": (lambda: chain_of(layers.BatchNormalization(name="norm"), first()), "'norm' norm"),
    "fractional padding": (lambda: chain_of(first(padding="same", pad_values=0.5)), "pads with 0.5"),
    "after softmax": (lambda: chain_of(first(activation="softmax"), layers.Flatten(name="flat")), "'flat'"),
    "channels first": (lambda: chain_of(first(), layers.Flatten("channels_first", name="flat")), "'flat' is"),
    "subclasses": (lambda: chain_of(first(), Negation(name="own")), "'own' is a Negation"),
    "half precision": (
        lambda: chain_of(first(), layers.BatchNormalization(dtype="mixed_bfloat16", name="norm")),
        "'norm' computes in bfloat16",
    ),
    "zero is no bit": (lambda: chain_of(first(input_quantizer=below)), "'first' makes -1 of an input of 0"),
    "norm without end": (lambda: chain_of(first(), infinite()), "'norm' has weights that are not finite"),
    "unbuilt": (lambda: tf.keras.Sequential([first()], name="net"), "'net' is no graph of layers yet"),
}  # fmt: skip


class Negation(layers.Flatten):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return -super().call(inputs)


def below(values: tf.Tensor) -> tf.Tensor:
    return tf.where(values > 0, 1.0, -1.0)


def infinite() -> tf.keras.layers.Layer:
    """A batch norm of finite weights, whose scale is not."""
    norm = layers.BatchNormalization(name="norm")
    norm.build((None, 6, 6, 4))
    norm.set_weights([np.ones(4), np.ones(4), np.ones(4), np.full(4, -1.0)])
    return norm


@pytest.mark.filterwarnings("ignore:The softmax")
@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fold_is_named(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        fold(make())


def test_only_chains_fold() -> None:
    start = layers.Input((8, 8, 3))
    one = first()(start)
    two = first(name="second")(start)
    with pytest.raises(ValueError, match="branches to 'first' and 'second'"):
        fold(tf.keras.Model(start, [one, two]))
    with pytest.raises(ValueError, match="'add' is a Add of 2 inputs"):
        fold(tf.keras.Model(start, layers.Add(name="add")([one, two])))
    with pytest.raises(ValueError, match="one input"):
        fold(tf.keras.Model([start, layers.Input((4,))], one))


@pytest.mark.parametrize("second", ["norm", "sign", "pool", "flat", "same"])
def test_outputs_that_share_a_layer_are_refused(second: str) -> None:
    start = layers.Input((8, 8, 3))
    sums = first()(start)
    bits = lq.quantizers.SteSign()(sums)
    pairs = {
        "norm": (sums, layers.BatchNormalization()(sums)),
        "sign": (sums, bits),
        "pool": (bits, layers.MaxPooling2D(2)(bits)),
        "flat": (bits, layers.Flatten()(bits)),
        "same": (bits, bits),
    }
    taken, last = pairs[second]
    with pytest.raises(ValueError, match=r"The output 'taken'.*only the last can be an output"):
        fold(tf.keras.Model(start, {"taken": taken, "last": last}))


def test_an_input_may_have_a_name_of_its_own() -> None:
    start = layers.Input((8, 8, 3))
    agrees(tf.keras.Model({"image": start}, first()(start)), pixels(8, 8, 3))


def test_a_model_whose_layers_are_called_elsewhere_too_folds() -> None:
    model = binary_net()
    again = model.inputs[0]
    for layer in model.layers:
        again = layer(again)
    agrees(model, pixels(12, 11, 1))
    agrees(tf.keras.Model(model.inputs, again), pixels(12, 11, 1))


def test_a_float_device_is_refused_and_statistics_must_be_finite() -> None:
    floats = Topology(devices=Devices(count=1, input=(32, 32, 3), filters=(4,), precision="float"))
    with pytest.raises(ValueError, match=r"device_0_convp_0_conv.* only binary"):
        fold(cut(build(floats), floats)["device_0"].model)
    pixel = layers.Input((8, 8, 3))
    model = tf.keras.Model(pixel, convp(pixel, 4, name="block"))
    norm = model.get_layer("block_norm")
    norm.set_weights([np.full(4, np.nan), *norm.get_weights()[1:]])
    with pytest.raises(ValueError, match="'block_norm' has weights that are not finite"):
        fold(model)


def test_inputs_of_another_kind_are_refused() -> None:
    network = fold(device().model)
    with pytest.raises(ValueError, match="uint8"):
        network.run(np.zeros((1, 10, 9, 3), np.float32))
    with pytest.raises(ValueError, match="10, 9, 3"):
        network.run(np.zeros((1, 9, 10, 3), np.uint8))
