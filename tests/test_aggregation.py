from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.aggregation import ConcatAggregation, HeardSenders, MaxAggregation
from ddnn_tf.schemes import SCHEMES

VECTORS = np.array([[[1.0, -5.0], [3.0, -9.0], [2.0, -7.0]], [[4.0, -1.0], [8.0, -3.0], [6.0, -2.0]]])


def layer_of(scheme: str) -> tf.keras.layers.Layer:
    return SCHEMES[scheme].make_layer()


def inputs_of(stacked: np.ndarray) -> list[tf.Tensor]:
    return [tf.constant(stacked[:, number], tf.float32) for number in range(stacked.shape[1])]


def test_max_and_average() -> None:
    assert np.allclose(layer_of("MP")(inputs_of(VECTORS)), VECTORS.max(1))
    assert np.allclose(layer_of("AP")(inputs_of(VECTORS)), VECTORS.mean(1))


def test_absent_inputs_take_no_part() -> None:
    present = np.array([[True, False, True], [False, False, True]])
    assert np.allclose(layer_of("MP")(inputs_of(VECTORS), present=present), [[2, -5], [6, -2]])
    assert np.allclose(layer_of("AP")(inputs_of(VECTORS), present=present), [[1.5, -6], [6, -2]])


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC", "WCC"])
def test_what_an_absent_device_sends_does_not_matter(scheme: str) -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(5, 3, 4, 4, 2))
    present = random.random((5, 3)) < 0.5
    layer = layer_of(scheme)
    expected = layer(inputs_of(maps), present=present).numpy()
    garbage = np.where(present[..., None, None, None], maps, 1e6)
    assert np.array_equal(layer(inputs_of(garbage), present=present).numpy(), expected)
    everyone = layer(inputs_of(maps), present=np.ones((5, 3), bool)).numpy()
    assert np.allclose(everyone, layer(inputs_of(maps)).numpy(), atol=1e-6)


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
def test_all_absent_is_neutral(scheme: str) -> None:
    layer = layer_of(scheme)
    output = layer(inputs_of(VECTORS), present=np.zeros((2, 3), bool))
    assert np.array_equal(output, np.zeros((2, 2)))


def test_wide_concatenation_keeps_all_channels_and_bits() -> None:
    bits = np.random.default_rng(0).choice([-1.0, 1.0], (5, 3, 4, 4, 2))
    joined = layer_of("WCC")(inputs_of(bits)).numpy()
    assert np.array_equal(joined, np.concatenate(list(np.moveaxis(bits, 1, 0)), axis=-1))
    masked = layer_of("WCC")(inputs_of(bits), present=np.array([[True, False, True]] * 5)).numpy()
    assert set(np.unique(masked)) == {-1.0, 1.0}
    assert (masked[..., 2:4] == 1).all()


@pytest.mark.parametrize("shape", [(2,), (4, 2), (4, 4, 2)])
def test_concatenation_maps_back_to_one_inputs_dimension(shape: tuple[int, ...]) -> None:
    stacked = np.random.default_rng(0).normal(size=(5, 3, *shape))
    layer = ConcatAggregation()
    output = layer(inputs_of(stacked)).numpy()
    assert output.shape == (5, *shape)
    assert layer.kernel.shape == (6, 2)
    layer.bias.assign([0.5, -1.0])
    joined = np.concatenate(list(np.moveaxis(stacked, 1, 0)), axis=-1)
    assert np.allclose(layer(inputs_of(stacked)), joined @ layer.kernel.numpy() + [0.5, -1.0], atol=1e-5)


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
@pytest.mark.parametrize("number", [1, 3])
def test_serialises_with_and_without_presence(scheme: str, number: int, tmp_path: object) -> None:
    tensors = [tf.keras.Input((2,)) for _ in range(number)]
    present = tf.keras.Input((number,), dtype="bool")
    names = [f"device_{device}" for device in range(number)]
    (heard,) = HeardSenders(names, [("cloud", names, ())])(present)
    model = tf.keras.Model([*tensors, present], layer_of(scheme)(tensors, present=heard))
    model.save(f"{tmp_path}/model.keras")
    loaded = tf.keras.models.load_model(f"{tmp_path}/model.keras")
    random = np.random.default_rng(0)
    values = [random.normal(size=(6, 2)) for _ in range(number)] + [random.random((6, number)) < 0.5]
    assert np.array_equal(model.predict(values, verbose=0), loaded.predict(values, verbose=0))


def test_heard_senders() -> None:
    layer = HeardSenders(["x", "y", "edge"], [("edge", ["x", "y"], ()), ("cloud", ["edge"], ["x"])])
    edge, cloud = layer(tf.constant([[True, False, True], [True, True, False], [False, False, True]]))
    assert edge.numpy().tolist() == [[True, False], [True, True], [False, False]]
    assert cloud.numpy().tolist() == [[True, False], [False, True], [False, False]]
    edge, cloud = layer(tf.zeros((1, 8, 8, 3)))
    assert edge.numpy().tolist() == [[True, True]]
    assert cloud.numpy().tolist() == [[True, False]]


def test_unequal_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        MaxAggregation()([tf.zeros((1, 2)), tf.zeros((1, 3))])
