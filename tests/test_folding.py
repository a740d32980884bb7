from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.folding import FoldedDevice, fold
from ddnn_tf.network import build
from ddnn_tf.sections import Section, cut
from ddnn_tf.topology import Devices, Topology


def device(seed: int = 0, **options: object) -> tuple[Section, FoldedDevice]:
    """A device whose filters rise, fall, are always or never set, with thresholds near typical sums."""
    fields = {"count": 1, "image_shape": (10, 9, 3), "filters": 12, **options}
    topology = Topology(devices=Devices(**fields))
    section = cut(build(topology), topology)["device_0"]
    random = np.random.default_rng(seed)
    for layer in section.model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            reach = 600 if "convp_0" in layer.name else 10
            gamma, beta = random.normal(size=size), random.normal(size=size)
            if size > 3:
                gamma[:3], beta[:3] = 0, (1, -1, 0)
            layer.set_weights([gamma, beta, random.normal(size=size) * reach, random.random(size) * reach**2])
    return section, fold(section, topology)


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_integers_give_the_bits_and_vectors_of_keras(blocks: int, channels: int) -> None:
    section, folded = device(blocks=blocks, image_shape=(10, 9, channels))
    images = np.random.default_rng(1).integers(0, 256, (500, 10, 9, channels), dtype=np.uint8)
    images[:20] = 0
    images[20:40] = 255
    expected = section.run({"device_0": images.astype(np.float32)})
    bits, vectors = folded.run(images)
    assert np.array_equal(bits, expected["features"] > 0)
    assert 0.2 < bits.mean() < 0.8
    assert np.allclose(vectors, expected["class_vector"], rtol=1e-5, atol=1e-5)


def test_ties_fall_as_in_keras() -> None:
    """A batch norm that maps an integer to zero, or to a rounding error beside it."""
    section, _ = device()
    layers = {layer.name: layer for layer in section.model.layers}
    means = np.arange(12) * 3 - 17.0
    layers["device_0_convp_0_norm"].set_weights(
        [np.where(np.arange(12) % 2, 1.0, -0.3), np.zeros(12), means, np.full(12, 77.7)]
    )
    topology = Topology(devices=Devices(count=1, image_shape=(10, 9, 3), filters=12))
    folded = fold(section, topology)
    values = np.arange(-60, 61, dtype=np.float32)
    column = np.repeat(values[None, :, None, None], 12, axis=3)
    norm, sign = layers["device_0_convp_0_norm"], layers["device_0_convp_0_sign"]
    expected = sign(norm(column, training=False)).numpy()[0, :, 0] > 0
    block = folded.blocks[0]
    found = np.where(block.rising, values[:, None] >= block.thresholds, values[:, None] <= block.thresholds)
    assert np.array_equal(found, expected)
    assert block.rising.tolist() == [False, True] * 6


def test_pixels_scaled_to_one_would_not_be_exact() -> None:
    """Why pixels are 0..255: the same network on pixels / 255 differs from its integers somewhere."""
    section, folded = device()
    layer = section.model.get_layer("device_0_convp_0_norm")
    gamma, beta, mean, variance = layer.get_weights()
    mean = np.round(mean)
    layer.set_weights([gamma, np.zeros_like(beta), mean, variance])
    folded = fold(section, Topology(devices=Devices(count=1, image_shape=(10, 9, 3), filters=12)))
    images = np.random.default_rng(2).integers(0, 256, (2000, 10, 9, 3), dtype=np.uint8)
    bits, _ = folded.run(images)
    assert np.array_equal(bits, section.run({"device_0": images.astype(np.float32)})["features"] > 0)
    layer.set_weights([gamma, np.zeros_like(beta), mean / 255, variance / 255**2])
    scaled = section.run({"device_0": images.astype(np.float32) / 255})["features"] > 0
    assert not np.array_equal(bits, scaled)


def test_what_cannot_be_folded_is_refused() -> None:
    topology = Topology()
    sections = cut(build(topology), topology)
    with pytest.raises(ValueError, match="device section"):
        fold(sections["cloud"], topology)
    floats = Topology.devices_cloud(devices=1, precision="float")
    with pytest.raises(ValueError, match="only binary devices"):
        fold(cut(build(floats), floats)["device_0"], floats)
    _, folded = device()
    with pytest.raises(ValueError, match="uint8"):
        folded.run(np.zeros((1, 10, 9, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="10, 9, 3"):
        folded.run(np.zeros((1, 9, 10, 3), np.uint8))
