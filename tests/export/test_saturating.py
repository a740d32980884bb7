from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf
from unlike import UNLIKE

from ddnn_tf.export.replay import reads_codes
from ddnn_tf.export.saturating import saturating
from ddnn_tf.hierarchy import Precision, Role
from ddnn_tf.network import build
from ddnn_tf.sections import Section, cut
from ddnn_tf.topology import Cloud, Devices, Edge, Local, Topology


def alike(scheme: str, upper: Precision = "binary") -> Topology:
    return Topology(
        devices=(Devices(count=2, input=(12, 10, 3), filters=(6, 6)),),
        local=(Local(aggregation=scheme),),
        edges=(
            Edge(
                name="edge_0",
                senders=("device",),
                filters=(5,),
                hidden=(7,),
                precision=upper,
                aggregation=scheme,
            ),
        ),
        cloud=Cloud(filters=(8,), hidden=(9,), precision=upper, aggregation=scheme),
    )


def shaken(topology: Topology) -> dict[str, Section]:
    """Sections with statistics as after a training, some filters falling, some always on one side."""
    network = build(topology)
    random = np.random.default_rng(0)
    on_codes = {
        f"{node.name}_{block}_0_norm" for node in topology.hierarchy.devices for block in ("convp", "units")
    }
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            reach = 800 if layer.name in on_codes else 8
            gamma, beta = random.normal(size=size), random.normal(size=size)
            gamma[0] = 0
            gamma[1], beta[1] = -0.01, 9  # falling, and always set
            layer.set_weights([gamma, beta, random.normal(size=size) * reach, random.random(size) * reach**2])
    return cut(network, topology)


def drawn_inputs(section: Section, samples: int = 64) -> dict[str, np.ndarray]:
    """Random inputs of the kinds that the section receives."""
    random = np.random.default_rng(1)
    draw = {
        "bytes": lambda shape: random.integers(0, 256, shape),
        "bits": lambda shape: random.choice([-1.0, 1.0], shape),
        "floats": lambda shape: random.normal(size=shape),
    }
    return {
        sender: draw[spec.kind]((samples, *spec.shape)).astype(np.float32)
        for sender, spec in zip(section.inputs, section.node.inputs, strict=True)
    }


def saturated(section: Section, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    answer = saturating(section)({sender: tf.constant(array) for sender, array in inputs.items()})
    return {name: values.numpy() for name, values in answer.items()}


@pytest.mark.parametrize("upper", ["binary", "float"])
@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
def test_a_section_without_signs_is_the_section(scheme: str, upper: Precision) -> None:
    for name, section in shaken(alike(scheme, upper)).items():
        inputs = drawn_inputs(section)
        expected = section.run(inputs)
        answer = saturated(section, inputs)
        assert list(answer) == list(expected)
        for output, values in answer.items():
            if output == "features" and section.role is Role.DEVICE:
                assert np.array_equal(values, expected[output])
                assert 0.05 < (values > 0).mean() < 0.95
            elif scheme == "MP" or section.role in (Role.DEVICE, Role.LOCAL):
                assert np.allclose(values, expected[output], rtol=1e-4, atol=1e-4), name
            else:
                # A block on real numbers is steep, not exact: few samples may differ.
                agree = np.isclose(values, expected[output], rtol=1e-3, atol=1e-3).mean()
                assert agree > 0.8, (name, output, agree)


def test_unlike_sections_without_signs_are_the_sections() -> None:
    """Images, series and vectors; adapters; an edge without exit, flattened maps and hidden blocks."""
    sections = shaken(Topology.from_yaml(UNLIKE))
    exact = [
        section for section in sections.values() if section.node.takes_bits or section.role is Role.DEVICE
    ]
    assert {section.role for section in exact} >= {Role.DEVICE, Role.ADAPTER, Role.EDGE}
    for section in exact:
        inputs = drawn_inputs(section)
        expected = section.run(inputs)
        answer = saturated(section, inputs)
        assert list(answer) == list(expected)
        if section.has_bits:
            assert np.array_equal(answer["features"], expected["features"]), section.name
            assert 0.05 < (answer["features"] > 0).mean() < 0.95, section.name
        for output, values in answer.items():
            assert np.allclose(values, expected[output], rtol=1e-4, atol=1e-4), (section.name, output)


def test_what_reads_codes_is_found_behind_reshapes() -> None:
    sections = shaken(Topology.from_yaml(UNLIKE))
    on_codes = {
        layer.name
        for section in sections.values()
        for layer in section.model.layers
        if hasattr(layer, "kernel_quantizer") and reads_codes(section, layer)
    }
    assert on_codes == {
        "camera_0_convp_0_conv", "camera_1_convp_0_conv", "microphone_convp_0_conv", "co2_units_0_dense",
    }  # fmt: skip


@pytest.mark.parametrize("topology", [alike("MP"), Topology.from_yaml(UNLIKE)], ids=["alike", "unlike"])
def test_no_sign_is_left(topology: Topology) -> None:
    for section in cut(build(topology), topology).values():
        specs = {
            name: tf.TensorSpec((1, *tensor.shape[1:]), tf.float32)
            for name, tensor in zip(section.model.input_names, section.model.inputs, strict=True)
        }
        graph = tf.function(saturating(section)).get_concrete_function(specs).graph
        assert not [node.name for node in graph.get_operations() if node.type == "Sign"]
