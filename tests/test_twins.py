from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.callbacks import BatchStatistics
from ddnn_tf.network import build
from ddnn_tf.recipes import Recipe
from ddnn_tf.topology import Topology
from ddnn_tf.twins import Twin, optimizer_of


@pytest.fixture
def network() -> tf.keras.Model:
    """With the statistics of some images, as trained ones have them."""
    tf.keras.utils.set_random_seed(2)
    model = build(Topology.devices_cloud(devices=2, filters=3, image_shape=(8, 8, 1)))
    statistics = BatchStatistics([view.numpy() for view in images(64)])
    statistics.set_model(model)
    statistics.on_train_end()
    return model


def images(samples: int = 8) -> list[tf.Tensor]:
    codes = np.random.default_rng(1).integers(0, 256, (2, samples, 8, 8, 1))
    return [tf.constant(view, tf.float32) for view in codes]


def test_the_papers_recipe_trains_the_network_itself(network: tf.keras.Model) -> None:
    twin = Twin(network, Recipe(), epochs=4)
    assert twin.model is network
    assert twin.callbacks == []


@pytest.mark.parametrize("gradient", ["approx_sign", "swish_sign"])
def test_another_gradient_leaves_the_answers_alone(network: tf.keras.Model, gradient: str) -> None:
    twin = Twin(network, Recipe(activation_gradient=gradient), epochs=4)  # type: ignore[arg-type]
    for ours, theirs in zip(network(images()), twin.model(images()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    slopes = []
    for model in (network, twin.model):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images())[1][:, 0])
        slopes.append(tape.gradient(loss, model.get_layer("device_0_convp_0_norm").gamma).numpy())
    assert not np.allclose(*slopes)
    # A gradient that vanishes on the way is another one as well, but nobody could train with it.
    assert np.abs(slopes[1]).sum() > 0.1 * np.abs(slopes[0]).sum()


def test_scales_of_filters_fold_into_the_batch_norm_behind(network: tf.keras.Model) -> None:
    twin = Twin(network, Recipe(kernel_gradient="magnitude_aware_sign"), epochs=4)
    expected = [answer.numpy() for answer in twin.model(images())]
    assert not np.allclose(expected[1], network(images())[1])
    network.set_weights(twin.finished(twin.model.get_weights()))
    for answer, wanted in zip(network(images()), expected, strict=True):
        np.testing.assert_allclose(answer, wanted, atol=1e-4)


def test_a_network_is_real_until_the_epoch_in_which_it_becomes_binary(network: tf.keras.Model) -> None:
    twin = Twin(network, Recipe(real_epochs=0.5), epochs=4)
    (binarizing,) = twin.callbacks
    assert twin.first_binary_epoch == 2
    answers = {}
    for epoch in (1, 2):
        binarizing.on_epoch_begin(epoch)
        answers[epoch] = twin.model(images())[1].numpy()
    np.testing.assert_array_equal(answers[2], network(images())[1])
    assert not np.allclose(answers[1], answers[2])


def test_an_early_exit_hands_on_a_share_of_its_gradient(network: tf.keras.Model) -> None:
    twin = Twin(network, Recipe(branch_gradient=0.25), epochs=4)
    slopes: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for model in (network, twin.model):
        for exit_ in slopes:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images())[exit_][:, 0])
            slopes[exit_].append(tape.gradient(loss, model.get_layer("device_0_convp_0_norm").gamma).numpy())
    np.testing.assert_allclose(slopes[0][1], 0.25 * slopes[0][0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(slopes[1][1], slopes[1][0], rtol=1e-4, atol=1e-7)


def test_bop_keeps_binary_weights_at_minus_and_plus_one(network: tf.keras.Model) -> None:
    optimizer = optimizer_of(Recipe(optimizer="bop"), network, 0.01)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(images())[1][:, 0])
    variables = network.trainable_variables
    before = network.get_layer("cloud_convp_0_conv").kernel.numpy()
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    after = network.get_layer("cloud_convp_0_conv").kernel.numpy()
    assert set(np.unique(after)) == {-1, 1}
    assert (np.sign(before) != after).any()
    dense = network.get_layer("cloud_exit_norm").gamma.numpy()
    assert len(np.unique(np.abs(dense))) > 1


def test_a_twin_keeps_larqs_layers(network: tf.keras.Model) -> None:
    twin = Twin(network, Recipe(activation_gradient="approx_sign"), epochs=4)
    layer = twin.model.get_layer("cloud_convp_0_conv")
    assert isinstance(layer, lq.layers.QuantConv2D)
    assert [weight.shape for weight in twin.model.weights] == [weight.shape for weight in network.weights]


def test_an_exit_with_hidden_blocks_branches_off_once() -> None:
    edge = {"name": "edge", "senders": ["device"], "filters": [4], "hidden": [8, 8]}
    topology = Topology(
        devices=[{"count": 2, "input": [8, 8, 1], "filters": [2]}],
        edges=[edge],
        cloud={"filters": [4], "hidden": [8]},
        classes=2,
    )
    twin = Twin(build(topology), Recipe(branch_gradient=0.5), epochs=4)
    branches = {layer.name for layer in twin.model.layers if type(layer).__name__ == "_Branch"}
    assert branches == {"device_0_exit_flatten", "device_1_exit_flatten", "edge_fc_0_flatten"}


def test_the_last_epoch_is_binary_however_few_there_are(network: tf.keras.Model) -> None:
    assert Twin(network, Recipe(real_epochs=0.9), epochs=4).first_binary_epoch == 3
    assert Twin(network, Recipe(real_epochs=0.9), epochs=1).first_binary_epoch == 0
