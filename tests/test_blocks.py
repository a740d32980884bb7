from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.blocks import PaddedMaxPool2D, convp, fc


def reference_pool(images: np.ndarray) -> np.ndarray:
    """The paper's pool: 3x3, stride 2, padding 1 on both sides with minus infinity."""
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    rows = range(0, padded.shape[1] - 2, 2)
    columns = range(0, padded.shape[2] - 2, 2)
    return np.stack(
        [np.stack([padded[:, y : y + 3, x : x + 3].max((1, 2)) for x in columns], 1) for y in rows], 1
    )


def reference_convolution(images: np.ndarray, weights: np.ndarray, padding: float) -> np.ndarray:
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=padding)
    height, width = images.shape[1:3]
    windows = [
        np.tensordot(padded[:, y : y + height, x : x + width], weights[y, x], axes=1)
        for y in range(3)
        for x in range(3)
    ]
    return np.sum(windows, axis=0)


@pytest.mark.parametrize("size", [(32, 32), (16, 10), (7, 9), (1, 1), (2, 5)])
def test_pool_is_the_papers_and_not_same_padding(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    pooled = PaddedMaxPool2D()(images).numpy()
    assert np.array_equal(pooled, reference_pool(images))
    if size == (32, 32):
        same = tf.nn.max_pool2d(images, 3, 2, "SAME").numpy()
        assert not np.array_equal(pooled, same)


def test_pool_passes_the_gradient_to_the_maximum() -> None:
    images = tf.constant(np.random.default_rng(1).permutation(36).reshape(1, 6, 6, 1), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(PaddedMaxPool2D()(images))
    gradient = tape.gradient(total, images).numpy()
    pooled = PaddedMaxPool2D()(images).numpy()
    expected = np.zeros_like(gradient)
    for value in pooled.ravel():
        expected[images.numpy() == value] += 1
    assert np.array_equal(gradient, expected)


@pytest.mark.parametrize("size", [(32, 32), (16, 10), (7, 9), (1, 1), (2, 5)])
def test_pool_in_training_gives_tensorflows_maximum_and_gradient(size: tuple[int, int]) -> None:
    # Few different values, so that most windows have several maxima.
    random = np.random.default_rng(3)
    images = tf.constant(random.integers(-3, 3, (2, *size, 3)), tf.float32)
    pool = PaddedMaxPool2D()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        plain, compiled = pool(images), pool(images, training=True)
    # Integers, so that sums do not depend on their order.
    upstream = tf.constant(random.integers(-9, 9, plain.shape), tf.float32)
    assert np.array_equal(plain, compiled)
    assert np.array_equal(tape.gradient(plain, images, upstream), tape.gradient(compiled, images, upstream))


def test_pool_trains_where_there_is_no_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.test, "is_built_with_xla", lambda: False)
    images = tf.constant(np.random.default_rng(4).normal(size=(2, 6, 6, 1)), tf.float32)
    assert np.array_equal(PaddedMaxPool2D()(images, training=True), reference_pool(images.numpy()))


@pytest.mark.parametrize(("binary_input", "padding"), [(False, 0.0), (True, 1.0)])
def test_binary_convp_is_convolution_pool_norm_sign(binary_input: bool, padding: float) -> None:
    random = np.random.default_rng(2)
    images = (
        random.choice([-1.0, 1.0], (4, 8, 6, 3)) if binary_input else random.integers(0, 256, (4, 8, 6, 3))
    )
    images = images.astype(np.float32)
    inputs = tf.keras.Input((8, 6, 3))
    model = tf.keras.Model(inputs, convp(inputs, 5, name="block", binary_input=binary_input))
    norm = model.get_layer("block_norm")
    norm.set_weights(
        [random.normal(size=5), random.normal(size=5), random.normal(size=5), random.random(5) + 1]
    )

    weights = np.where(model.get_layer("block_conv").kernel.numpy() >= 0, 1.0, -1.0)
    sums = reference_convolution(images, weights, padding)
    gamma, beta, mean, variance = norm.get_weights()
    expected = gamma * (reference_pool(sums) - mean) / np.sqrt(variance + norm.epsilon) + beta
    output = model.predict(images, verbose=0)
    assert output.shape == (4, 4, 3, 5)
    assert set(np.unique(output)) == {-1.0, 1.0}
    assert np.array_equal(output, np.where(expected >= 0, 1.0, -1.0))


def test_first_convolution_is_exact_integer_arithmetic() -> None:
    images = np.random.default_rng(3).integers(0, 256, (16, 32, 32, 3)).astype(np.float32)
    inputs = tf.keras.Input((32, 32, 3))
    model = tf.keras.Model(inputs, convp(inputs, 4, name="block"))
    sums = tf.keras.Model(inputs, model.get_layer("block_conv").output).predict(images, verbose=0)
    weights = np.where(model.get_layer("block_conv").kernel.numpy() >= 0, 1, -1)
    assert np.array_equal(sums, reference_convolution(images.astype(np.int64), weights, 0))


def test_float_convp_is_its_twin() -> None:
    inputs = tf.keras.Input((8, 8, 2))
    model = tf.keras.Model(inputs, convp(inputs, 3, name="block", precision="float"))
    names = [layer.name for layer in model.layers[1:]]
    assert names == ["block_conv", "block_pool", "block_norm", "block_relu"]
    output = model.predict(np.random.default_rng(0).normal(size=(9, 8, 8, 2)), verbose=0)
    assert output.shape == (9, 4, 4, 3)
    assert output.min() == 0
    assert len(np.unique(output)) > 10


@pytest.mark.parametrize("precision", ["binary", "float"])
def test_fc(precision: str) -> None:
    inputs = tf.keras.Input((4, 4, 2))
    hidden = fc(inputs, 7, name="hidden", precision=precision)
    logits = fc(
        hidden, 3, name="exit", precision=precision, binary_input=precision == "binary", activation=False
    )
    model = tf.keras.Model(inputs, [hidden, logits])
    features, output = model.predict(np.random.default_rng(0).choice([-1.0, 1.0], (50, 4, 4, 2)), verbose=0)
    assert features.shape == (50, 7)
    assert output.shape == (50, 3)
    if precision == "binary":
        assert set(np.unique(features)) == {-1.0, 1.0}
    assert model.layers[-1].name == "exit_norm"


def test_weights_learn_and_stay_clipped() -> None:
    random = np.random.default_rng(0)
    inputs = tf.keras.Input((8, 8, 1))
    model = tf.keras.Model(inputs, fc(convp(inputs, 2, name="block"), 2, name="exit", activation=False))
    model.compile(
        tf.keras.optimizers.Adam(0.5), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = model.get_layer("block_conv").get_weights()[0]
    model.fit(random.integers(0, 256, (64, 8, 8, 1)), random.integers(0, 2, 64), epochs=3, verbose=0)
    after = model.get_layer("block_conv").get_weights()[0]
    assert not np.array_equal(before, after)
    assert np.abs(after).max() <= 1


def test_a_series_goes_through_blocks_of_one_dimension() -> None:
    """As a column of pixels through 3x1 kernels and pools; the reference pads and looks along steps alone."""
    random = np.random.default_rng(5)
    series = random.integers(0, 256, (4, 9, 2)).astype(np.float32)
    inputs = tf.keras.Input((9, 2))
    model = tf.keras.Model(inputs, convp(inputs, 3, name="block"))
    norm = model.get_layer("block_norm")
    norm.set_weights(
        [random.normal(size=3), random.normal(size=3), random.normal(size=3) * 90, np.full(3, 2.0)]
    )
    weights = np.where(model.get_layer("block_conv").kernel.numpy() >= 0, 1.0, -1.0)
    assert weights.shape == (3, 1, 2, 3)
    padded = np.pad(series, [(0, 0), (1, 1), (0, 0)])
    sums = sum(padded[:, at : at + 9] @ weights[at, 0] for at in range(3))
    windows = np.pad(sums, [(0, 0), (1, 1), (0, 0)], constant_values=-np.inf)
    pooled = np.stack([windows[:, at : at + 3].max(axis=1) for at in range(0, 9, 2)], axis=1)
    gamma, beta, mean, variance = norm.get_weights()
    expected = gamma * (pooled - mean) / np.sqrt(variance + norm.epsilon) + beta
    output = model.predict(series, verbose=0)
    assert output.shape == (4, 5, 3)
    assert np.array_equal(output, np.where(expected >= 0, 1.0, -1.0))


def test_a_pool_of_a_series_learns_and_is_saved(tmp_path: Path) -> None:
    inputs = tf.keras.Input((8, 1))
    features = convp(inputs, 2, name="first")
    features = convp(features, 2, name="second", binary_input=True)
    model = tf.keras.Model(inputs, fc(features, 2, name="exit", activation=False))
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    series = np.random.default_rng(0).integers(0, 256, (32, 8, 1)).astype(np.float32)
    before = model.get_layer("first_conv").get_weights()[0]
    model.fit(series, np.arange(32) % 2, epochs=2, verbose=0)
    assert not np.array_equal(before, model.get_layer("first_conv").get_weights()[0])
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert np.array_equal(model.predict(series, verbose=0), loaded.predict(series, verbose=0))
