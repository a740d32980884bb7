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
from hypothesis import given, settings
from hypothesis import strategies as st

from ddnn_tf.blocks import convp
from ddnn_tf.folding import fold, fold_sign, signs
from ddnn_tf.input_range import InputRange, keras_rounding
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


def scaled_model(
    inputs: InputRange, codes: np.ndarray, *, kernel: int, pooled: bool, seed: int = 0, **options: Any
) -> tf.keras.Model:
    """A first block with statistics of scaled codes, in float64 and rounded."""
    tf.keras.utils.set_random_seed(seed)
    convolution = lq.layers.QuantConv2D(9, kernel, **{**BINARY, **options})
    pool = [layers.MaxPooling2D(2, padding="same")] if pooled else []
    norm = layers.BatchNormalization(name="norm")
    model = tf.keras.Sequential(
        [layers.Input(codes.shape[1:]), convolution, *pool, norm, lq.quantizers.SteSign(name="sign")]
    )
    random = np.random.default_rng(seed)
    sums = tf.keras.Model(model.inputs, norm.input)(scaled(inputs, codes)).numpy()
    mean, variance = sums.mean(axis=(0, 1, 2)), sums.var(axis=(0, 1, 2)) + 1e-6
    norm.set_weights([random.normal(size=9), random.normal(size=9) / 2, mean, variance])
    return model


def scaled(inputs: InputRange, codes: np.ndarray) -> np.ndarray:
    return (inputs.scale * codes.astype(np.float64) + inputs.offset).astype(np.float32)


SCALES = [(1 / 255, 0), (1 / 127.5, -1), (1 / (255 * 0.3081), -0.1307 / 0.3081), (-1 / 100, 2)]


@settings(max_examples=25, deadline=None)
@given(
    range_=st.sampled_from(SCALES),
    height=st.integers(1, 9),
    width=st.integers(1, 36),
    kernel=st.sampled_from([1, 2, 3, 5]),
    options=st.sampled_from(
        [
            {"padding": padding, "pad_values": value}
            for padding in ("same", "valid")
            for value in (0.0, -1.0, 0.5)
        ]
    ),
    strides=st.sampled_from([1, 1, 2]),
    use_bias=st.booleans(),
    pooled=st.booleans(),
    seed=st.integers(0, 100),
)
def test_scaled_codes_give_the_bits_of_exact_sums_and_of_keras_but_for_its_rounding(
    range_: tuple[float, float],
    height: int,
    width: int,
    kernel: int,
    options: dict[str, Any],
    strides: int,
    use_bias: bool,
    pooled: bool,
    seed: int,
) -> None:
    inputs, codes = InputRange(*range_), pixels(height, width, 2, samples=30, seed=seed)
    kernel = min(kernel, height, width) if options["padding"] == "valid" else kernel
    model = scaled_model(
        inputs, codes, kernel=kernel, pooled=pooled, seed=seed, strides=strides, use_bias=use_bias, **options
    )
    bits = np.where(fold(model, inputs).run(codes)["output"], 1, -1)
    # The exact sums, rounded once, through the trained layers.
    convolution, *behind = model.layers
    margins = [(0, 0), *fold(model, inputs).layers[0].window.margins, (0, 0)]
    exact = inputs.scale * codes.astype(np.float64) + inputs.offset
    padded = np.pad(exact, margins, constant_values=convolution.pad_values)
    sums = tf.nn.conv2d(padded, signs(convolution).astype(np.float64), strides, "VALID").numpy()
    values = tf.constant(sums.astype(np.float32)) + (convolution.bias if use_bias else 0.0)
    for layer in behind:
        values = layer(values)
    assert np.array_equal(bits, values)
    differing = bits != model(scaled(inputs, codes)).numpy()
    norm = model.get_layer("norm")
    normalized = tf.keras.Model(model.inputs, norm.output)(scaled(inputs, codes)).numpy()
    steepness = np.abs(norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon))
    bound = keras_rounding(model, inputs) * steepness + 1e-6
    assert (np.abs(normalized) <= bound)[differing].all()


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


def hidden(**options: Any) -> list[tf.keras.layers.Layer]:
    return [lq.layers.QuantConv2D(4, 3, padding="same", name="second", **{**HIDDEN, **options})]


REFUSED = {
    "real weights": (lambda: chain_of(layers.Conv2D(4, 3, name="first")), "weights of 'first'"),
    "ternary weights": (lambda: chain_of(first(kernel_quantizer="ste_tern")), "weights of 'first'"),
    "channels": (lambda: chain_of(layers.Rescaling([1, 2, 3], name="own"), first()), "'own' scales each"),
    "vanishing pixels": (lambda: chain_of(layers.Rescaling(1e-6, 1), first()), "`input_offset` of at most"),
    "rescaled bits": (lambda: chain_of(first(), layers.Rescaling(2, name="late")), "'late' rescales what"),
    "numbers beside half a pixel": (
        lambda: chain_of(layers.Rescaling(1 / 127.5, -1), first(padding="same")),
        "set its pad_values to -1, which code 0 stands for",
    ),
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
    "fractional padding": (lambda: chain_of(first(padding="same", pad_values=0.5)), "no whole code"),
    "padded bits": (lambda: chain_of(first(), *hidden(pad_values=0.5)), "'second' pads bits with 0.5"),
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
