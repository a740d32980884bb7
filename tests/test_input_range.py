"""What a model was trained on, told or read off its first batch norm."""

from __future__ import annotations

import warnings

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from binary_models import BINARY, HIDDEN, layers, pixels

from ddnn_tf.input_range import InputRange, check_input_range, keras_rounding, warn_of_scaled_inputs


def trained(
    inputs: np.ndarray, *stack: tf.keras.layers.Layer, filters: int = 8, pooled: bool = False
) -> tf.keras.Model:
    """A convolution and a batch norm with the statistics of these inputs."""
    tf.keras.utils.set_random_seed(0)
    convolution = lq.layers.QuantConv2D(filters, 3, padding="same", name="first", **BINARY)
    pool = [layers.MaxPooling2D(2)] if pooled else []
    norm = layers.BatchNormalization(momentum=0, name="norm")
    model = tf.keras.Sequential([layers.Input(inputs.shape[1:]), *stack, convolution, *pool, norm])
    model(inputs.astype(np.float32), training=True)
    return model


def pictures(contrast: int = 127) -> np.ndarray:
    """Smooth pictures, whose neighbouring pixels resemble each other."""
    coarse = np.random.default_rng(0).integers(0, 2 * contrast + 1, (60, 4, 4, 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


RANGES = {
    "code / 255": InputRange(1 / 255),
    "code / 127.5 - 1": InputRange(1 / 127.5, -1),
    "standardized": InputRange(1 / (255 * 0.3), -0.5 / 0.3),
}


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("codes", [pictures(), pixels(12, 12, 1)], ids=["smooth", "noise"])
def test_scaled_inputs_are_told_from_codes(codes: np.ndarray, name: str, pooled: bool) -> None:
    inputs = RANGES[name]
    check_input_range(trained(codes, pooled=pooled))
    model = trained(inputs.scale * codes + inputs.offset, pooled=pooled)
    check_input_range(model, inputs)
    with pytest.raises(ValueError, match=r"on codes 0\.\.255, but by .*'norm'.*'first'.*--input-scale"):
        check_input_range(model)
    with pytest.raises(ValueError, match=r"0\.00392157 \* code \+ 0.*leave `input_scale`"):
        check_input_range(trained(codes, pooled=pooled), InputRange(1 / 255))


def test_the_likeliest_scaling_comes_first() -> None:
    codes = pictures()
    with pytest.raises(ValueError, match=r"trained on, --input-scale 1/255 for .* inputs of mean 0\.\d"):
        check_input_range(trained(codes / 255))
    with pytest.raises(ValueError, match=r"on, --input-scale 1/127.5 --input-offset -1 .* mean -0\.\d"):
        check_input_range(trained(codes / 510 - 1))


def test_an_inverted_scale_and_one_that_counts_twice_are_refused() -> None:
    codes = pictures()
    with pytest.raises(ValueError, match=r"255 \* code.*is what a code is multiplied by, such as 1/255"):
        check_input_range(trained(codes / 255), InputRange(255))
    rescaled = trained(codes, layers.Rescaling(1 / 255))
    check_input_range(rescaled)
    with pytest.raises(ValueError, match="Rescaling layer in the model"):
        check_input_range(rescaled, InputRange(1 / 255))


def test_codes_with_an_offset_are_told_by_the_mean_of_dark_inputs() -> None:
    codes = pictures() // 4
    shifted = trained(codes.astype(np.float32) - 128, filters=16)
    with pytest.raises(ValueError, match=r"had a mean of about -\d+ in training: .* --input-offset -128"):
        check_input_range(shifted)
    check_input_range(shifted, InputRange(1, -128))
    check_input_range(trained(codes.astype(np.float32), layers.Rescaling(1, -128), filters=16))
    check_input_range(trained(codes, filters=16))


def test_codes_that_vary_little_pass_once_they_are_declared_or_measured() -> None:
    codes = pixels(12, 12, 1) // 128
    model = trained(codes)
    with pytest.raises(ValueError, match="--input-scale 1 if its codes do vary so little"):
        check_input_range(model)
    check_input_range(model, InputRange(1))
    names = dict.fromkeys(model.input_names, codes)
    check_input_range(model, codes=names)
    scaled = trained(codes / 255)
    with pytest.raises(ValueError, match=r"such inputs give .*: remedy\."):
        check_input_range(scaled, codes=dict.fromkeys(scaled.input_names, codes), remedy="remedy")


def test_models_without_statistics_of_numbers_pass() -> None:
    convolution = lq.layers.QuantConv2D(4, 3, **BINARY)
    untrained = tf.keras.Sequential([layers.Input((8, 8, 1)), convolution, layers.BatchNormalization()])
    check_input_range(untrained)
    binary = lq.layers.QuantConv2D(4, 3, **HIDDEN)
    on_bits = tf.keras.Sequential([layers.Input((8, 8, 1)), binary, layers.BatchNormalization(momentum=0)])
    on_bits(pixels(8, 8, 1) / 255, training=True)
    check_input_range(on_bits)
    assert keras_rounding(on_bits, InputRange(1 / 255)) == 0
    without_norm = tf.keras.Sequential([layers.Input((8, 8, 1)), lq.layers.QuantConv2D(4, 3, **BINARY)])
    check_input_range(without_norm)
    sign = lq.layers.QuantConv2D(4, 3, activation=lq.quantizers.SteSign(), **BINARY)
    behind_bits = tf.keras.Sequential([layers.Input((8, 8, 1)), sign, layers.BatchNormalization(momentum=0)])
    behind_bits(pixels(8, 8, 1), training=True)
    check_input_range(behind_bits)


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        (0.0, 0.0, "`input_scale` to be a number other than 0"),
        (np.inf, 0.0, "`input_scale` to be a number other than 0"),
        (1e-6, 1.0, "`input_offset` of at most 65536 times"),
        (1.0, np.nan, "`input_offset` of at most 65536 times"),
    ],
)
def test_a_range_that_float32_does_not_hold_is_refused(scale: float, offset: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputRange(scale, offset)


def test_rounding_is_none_for_powers_of_two_and_covers_that_of_float32_else() -> None:
    assert InputRange().rounding(1000) == InputRange(1 / 128, -1).rounding(1000) == 0
    assert InputRange(-1 / 64, 0.5).rounding(27) == 0
    random = np.random.default_rng(0)
    for inputs in RANGES.values():
        codes, signs = random.integers(0, 256, (1000, 75)), random.choice([-1, 1], 75)
        exact = (inputs.scale * codes + inputs.offset) @ signs
        scaled = np.float32(inputs.scale) * codes.astype(np.float32) + np.float32(inputs.offset)
        sums = np.zeros(1000, np.float32)
        for column, sign in zip(scaled.T, signs, strict=True):
            sums += column * np.float32(sign)
        error = np.abs(sums - exact).max()
        assert 0 < error <= inputs.rounding(75)


def test_training_inputs_that_are_no_codes_are_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_scaled_inputs({"device_0": pixels(4), "device_1": np.float32([[0, 3], [255, 7]])})
    for values in (pixels(4) / 255, pixels(4) / 127.5 - 1, np.float32([[256]])):
        with pytest.warns(UserWarning, match=r"'device_0' is trained on .*not on whole codes 0\.\.255"):
            warn_of_scaled_inputs({"device_0": values})
