from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.export.saturating import saturating
from ddnn_tf.network import build
from ddnn_tf.sections import cut
from ddnn_tf.topology import Cloud, Devices, Edge, Exit, Topology


def topology(scheme: str, upper: str = "binary") -> Topology:
    exits = {name: Exit(aggregation=scheme) for name in ("local", "edge_0", "cloud")}
    return Topology(
        devices=Devices(count=2, image_shape=(12, 10, 3), filters=6, blocks=2),
        edges=(Edge(devices=(0, 1), filters=(5,), hidden=(7,), precision=upper),),
        cloud=Cloud(filters=(8,), hidden=(9,), precision=upper),
        exits=exits,
    )


def shaken(network: tf.keras.Model) -> tf.keras.Model:
    random = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            reach = 800 if layer.name.startswith("device") and "convp_0" in layer.name else 8
            gamma, beta = random.normal(size=size), random.normal(size=size)
            gamma[0] = 0
            gamma[1], beta[1] = -0.01, 9  # falling, and always set
            layer.set_weights([gamma, beta, random.normal(size=size) * reach, random.random(size) * reach**2])
    return network


@pytest.mark.parametrize("upper", ["binary", "float"])
@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
def test_a_section_without_signs_is_the_section(scheme: str, upper: str) -> None:
    shape = topology(scheme, upper)
    sections = cut(shaken(build(shape)), shape)
    random = np.random.default_rng(1)
    for name, section in sections.items():
        inputs = {}
        for sender, tensor in zip(section.model.input_names, section.model.inputs, strict=True):
            size = (64, *tensor.shape[1:])
            if section.tier == "device":
                inputs[sender] = random.integers(0, 256, size).astype(np.float32)
            else:
                inputs[sender] = random.choice([-1.0, 1.0], size).astype(np.float32)
        expected = section.run(inputs)
        found = saturating(section)({key: tf.constant(value) for key, value in inputs.items()})
        assert list(found) == list(expected)
        for output, values in found.items():
            if output == "features" and section.tier == "device":
                assert np.array_equal(values, expected[output])
                assert 0.05 < (values.numpy() > 0).mean() < 0.95
            elif scheme == "MP" or section.tier in ("device", "local"):
                assert np.allclose(values, expected[output], rtol=1e-4, atol=1e-4), name
            else:
                # A block on real numbers is steep, not exact: few samples may differ.
                agree = np.isclose(values, expected[output], rtol=1e-3, atol=1e-3).mean()
                assert agree > 0.8, (name, output, agree)


def test_no_sign_is_left() -> None:
    shape = topology("MP")
    sections = cut(build(shape), shape)
    for section in sections.values():
        specs = {
            name: tf.TensorSpec((1, *tensor.shape[1:]), tf.float32)
            for name, tensor in zip(section.model.input_names, section.model.inputs, strict=True)
        }
        graph = tf.function(saturating(section)).get_concrete_function(specs).graph
        assert not [node.name for node in graph.get_operations() if node.type == "Sign"]
