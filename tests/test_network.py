from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from skipping import CAMERAS, skipping
from test_sections import shaken
from unlike import UNLIKE

from ddnn_tf.network import build, build_individual, device_features, with_presence
from ddnn_tf.topology import CONFIGURATIONS, Cloud, Devices, Topology


def small(letter: str, scheme: str = "CC", precision: str = "binary") -> Topology:
    options = {"filters": 2, "local": scheme, "precision": precision} if letter != "a" else {}
    return Topology.figure_2(
        letter,
        devices=3,
        image_shape=(8, 6, 1),
        upper=scheme,
        classes=4,
        cloud_precision=precision,
        **options,
    )


def images(topology: Topology, samples: int = 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        node.name: random.integers(0, 256, (samples, *node.sensor.shape)).astype(np.float32)
        for node in topology.hierarchy.devices
    }


def predict(model: tf.keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = model.predict(inputs, verbose=0)
    return dict(zip(model.output_names, outputs if isinstance(outputs, list) else [outputs], strict=True))


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_named_inputs_and_exits(letter: str) -> None:
    topology = small(letter)
    model = build(topology)
    assert model.input_names == list(topology.hierarchy.device_names)
    assert model.output_names == list(topology.exit_names)
    for probabilities in predict(model, images(topology)).values():
        assert probabilities.shape == (7, 4)
        assert np.allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_save_and_load_give_the_same_outputs(letter: str, scheme: str, tmp_path: Path) -> None:
    topology = small(letter, scheme)
    model = with_presence(build(topology), topology)
    inputs = images(topology)
    inputs["present"] = np.random.default_rng(1).random((7, len(topology.hierarchy.failable))) < 0.6
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    for name, expected in predict(model, inputs).items():
        assert np.array_equal(predict(loaded, inputs)[name], expected)


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_with_presence_is_the_same_network(letter: str) -> None:
    topology = small(letter, "AP")
    model = build(topology)
    masked = with_presence(model, topology)
    inputs = images(topology)
    everyone = {**inputs, "present": topology.hierarchy.presence(samples=7)}
    for name, expected in predict(model, inputs).items():
        assert np.allclose(predict(masked, everyone)[name], expected, atol=1e-6)


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
def test_a_failed_device_has_no_influence_on_any_exit(scheme: str) -> None:
    topology = small("f", scheme)
    model = with_presence(build(topology), topology)
    inputs = images(topology)
    inputs["present"] = topology.hierarchy.presence(["device_1"], 7)
    expected = predict(model, inputs)
    inputs["device_1"] = 255 - inputs["device_1"]
    for name, probabilities in predict(model, inputs).items():
        assert np.array_equal(probabilities, expected[name]), name


def test_devices_have_weights_of_their_own() -> None:
    model = build(small("c"))
    kernels = [model.get_layer(f"device_{number}_convp_0_conv").kernel.numpy() for number in range(3)]
    assert not np.array_equal(kernels[0], kernels[1])


def test_binary_tiers_keep_their_inputs_binary() -> None:
    """Only a block after pixels, an average or a linear layer takes numbers other than -1 and +1."""
    model = build(
        Topology(
            devices=Devices(count=6, input=(32, 32, 3), filters=(4, 4)),
            cloud=Cloud(filters=(64, 128), aggregation="MP"),
        )
    )
    quantized = {
        layer.name: layer.input_quantizer is not None and layer.pad_values == 1.0
        for layer in model.layers
        if layer.name.endswith("_conv")
    }
    assert not quantized["device_0_convp_0_conv"]
    assert quantized["device_0_convp_1_conv"]
    assert quantized["cloud_convp_0_conv"]
    assert quantized["cloud_convp_1_conv"]
    assert not build(Topology()).get_layer("cloud_convp_0_conv").input_quantizer


def test_mixed_precision_and_hidden_layers() -> None:
    topology = Topology(
        devices=Devices(count=2, input=(8, 8, 1), filters=(4,)),
        cloud=Cloud(filters=(4,), hidden=(5,), precision="float"),
    )
    names = [layer.name for layer in build(topology).layers]
    assert "device_0_convp_0_sign" in names
    assert "cloud_convp_0_relu" in names
    assert "cloud_fc_0_relu" in names


@pytest.mark.parametrize("from_logits", [False, True])
def test_fits_without_any_helper_of_ours(from_logits: bool) -> None:
    """Both spellings of the loss train alike: Keras finds the logits behind the softmax."""
    topology = small("c")
    tf.keras.utils.set_random_seed(0)
    model = build(topology)
    model.compile(
        "adam",
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        loss_weights={"local": 1.0, "cloud": 0.5},
    )
    labels = np.arange(7) % 4
    with pytest.warns(UserWarning, match="from_logits") if from_logits else nullcontext():
        history = model.fit(
            images(topology), dict.fromkeys(model.output_names, labels), verbose=0, shuffle=False
        )
    measures = {name: values[0] for name, values in history.history.items()}
    assert np.isclose(measures["loss"], measures["local_loss"] + 0.5 * measures["cloud_loss"], atol=1e-5)
    probabilities = predict(build(topology), images(topology))["local"]
    assert probabilities.shape == (7, 4)
    assert 0.3 < measures["local_loss"] < 5


def test_individual_models_share_nothing() -> None:
    topology = small("c")
    model = build_individual(topology)
    assert model.output_names == [f"individual_device_{number}" for number in range(3)]
    inputs = images(topology)
    expected = predict(model, inputs)
    inputs["device_1"] = 255 - inputs["device_1"]
    changed = predict(model, inputs)
    assert np.array_equal(changed["individual_device_0"], expected["individual_device_0"])
    assert not np.array_equal(changed["individual_device_1"], expected["individual_device_1"])


def test_individual_models_need_blocks() -> None:
    with pytest.raises(ValueError, match="'device_0' has neither 'filters' nor 'units'"):
        build_individual(Topology.cloud_only())


def test_unlike_devices_in_a_deep_tree() -> None:
    topology = Topology.from_yaml(UNLIKE)
    model = build(topology)
    assert model.input_names == ["camera_0", "camera_1", "microphone", "co2"]
    assert model.output_names == ["site_a", "site_b", "edge_a", "edge_b", "cloud"]
    assert {name: output.shape for name, output in predict(model, images(topology)).items()} == dict.fromkeys(
        model.output_names, (7, 4)
    )
    last_layers = {
        "camera_0": "camera_0_convp_0_sign",
        "microphone": "microphone_convp_1_series",
        "co2": "co2_units_0_sign",
        "edge_b": "edge_b_convp_0_series",
        "hall": "hall_units_0_sign",
    }
    for name, layer in last_layers.items():
        assert model.get_layer(layer).output.shape[1:] == topology.hierarchy[name].output.shape, name


def test_adapters_bring_unlike_maps_to_one_shape_in_bits() -> None:
    topology = Topology.from_yaml(UNLIKE)
    hierarchy = topology.hierarchy
    model = build(topology)
    adapters = hierarchy.adapters_of("edge_b")
    assert [adapter.name for adapter in adapters] == ["edge_b_from_microphone", "edge_b_from_co2"]
    for adapter in adapters:
        layer = model.get_layer(f"{adapter.name}_units_0_dense")
        assert layer.input_quantizer is not None
        assert model.get_layer(f"{adapter.name}_shape").output.shape[1:] == (4, 3) == adapter.output.shape
    # The maximum of bits is bits; an average is not.
    assert model.get_layer("edge_a_convp_0_conv").input_quantizer is not None
    assert model.get_layer("edge_b_convp_0_conv").input_quantizer is None


@pytest.mark.parametrize("failed", ["camera_0", "microphone", "co2"])
def test_a_failed_device_has_no_influence_behind_an_adapter(failed: str) -> None:
    topology = Topology.from_yaml(UNLIKE)
    model = with_presence(build(topology), topology)
    inputs = images(topology)
    inputs["present"] = topology.hierarchy.presence([failed], 7)
    expected = predict(model, inputs)
    inputs[failed] = 255 - inputs[failed]
    for name, probabilities in predict(model, inputs).items():
        assert np.array_equal(probabilities, expected[name]), name


def test_presence_of_edges_is_presence_of_what_they_send() -> None:
    """With an edge down, what its devices send reaches the local exit only."""
    topology = small("f")
    hierarchy = topology.hierarchy
    model = with_presence(build(topology), topology)
    inputs = images(topology)
    inputs["present"] = hierarchy.presence(["edge_0"], 7)
    expected = predict(model, inputs)
    (device,) = hierarchy["edge_0"].senders[:1]
    inputs[device] = 255 - inputs[device]
    changed = predict(model, inputs)
    assert np.array_equal(changed["cloud"], expected["cloud"])
    assert not np.array_equal(changed["local"], expected["local"])


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC", "WCC"])
def test_skip_links_are_heard_while_the_parent_is_down_only(scheme: str) -> None:
    topology = skipping(scheme, "float")
    hierarchy = topology.hierarchy
    tf.keras.utils.set_random_seed(2)  # with which each change that reaches the cloud shows there
    model = shaken(topology)
    masked = with_presence(model, topology)
    inputs = images(topology, 40)

    def changes(device: str, missing: list[str]) -> bool:
        present = hierarchy.presence(missing, 40)
        before = predict(masked, {**inputs, "present": present})["cloud"]
        other = {**inputs, device: 255 - inputs[device], "present": present}
        return not np.array_equal(predict(masked, other)["cloud"], before)

    whole = predict(masked, {**inputs, "present": hierarchy.presence(samples=40)})
    for name, probabilities in predict(model, inputs).items():
        assert np.array_equal(probabilities, whole[name]), name
    assert changes("far_0", ["side"])
    assert not changes("far_1", ["side"])
    assert changes("near_0", ["high"])
    assert not changes("near_0", ["low"])
    assert changes("near_1", ["low"])
    assert not changes("near_1", ["low", "high"])
    assert changes("near_1", ["near_0"])


def test_a_network_with_skip_links_is_saved_and_loaded(tmp_path: Path) -> None:
    topology = skipping()
    for model in (build(topology), build(topology, presence=True)):
        inputs = images(topology)
        if "present" in model.input_names:
            inputs["present"] = np.random.default_rng(1).random((7, len(topology.hierarchy.failable))) < 0.6
        model.save(tmp_path / "model.keras")
        loaded = tf.keras.models.load_model(tmp_path / "model.keras")
        for name, expected in predict(model, inputs).items():
            assert np.array_equal(predict(loaded, inputs)[name], expected)


@pytest.mark.parametrize("has_skips", [False, True])
def test_six_cameras_in_four_tiers(has_skips: bool) -> None:
    topology = Topology.from_yaml(CAMERAS)
    if has_skips:
        topology = topology.with_skips()
    model = build(topology, presence=True)
    hierarchy = topology.hierarchy
    inputs = images(topology, 2)
    present = np.concatenate([hierarchy.presence(["fog1"]), hierarchy.presence(["fog1", "fog2"])])
    before = predict(model, {**inputs, "present": present})["cloud"]
    other = {name: 255 - array for name, array in inputs.items()}
    after = predict(model, {**other, "present": present})["cloud"]
    assert np.array_equal(after, before) is not has_skips
    assert np.array_equal(after[1], before[1])


@pytest.mark.parametrize("letter", "cf")
def test_the_devices_alone_compute_what_the_network_joins(letter: str) -> None:
    topology = small(letter)
    model, views = build(topology), images(topology)
    features = device_features(model, topology).predict(views, verbose=0)
    receiver = next(node for node in topology.hierarchy.receivers if node.name != "local")
    joined = tf.keras.Model(model.input, model.get_layer(f"{receiver.name}_aggregation").input)
    received = joined.predict(views, verbose=0)
    for name, expected in zip(receiver.senders, received, strict=True):
        assert np.array_equal(features[name], expected)
