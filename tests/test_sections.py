from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from skipping import skipping
from unlike import UNLIKE

from ddnn_tf.network import build, with_presence
from ddnn_tf.sections import check_codes, compose, cut, received
from ddnn_tf.topology import CONFIGURATIONS, Cloud, Devices, Topology


def small(letter: str, scheme: str, precision: str = "binary") -> Topology:
    lower = {} if letter == "a" else {"local": scheme, "filters": 2, "precision": precision}
    return Topology.figure_2(
        letter, devices=3, image_shape=(8, 6, 1), upper=scheme, classes=4, cloud_precision=precision, **lower
    )


def shaken(topology: Topology) -> tf.keras.Model:
    """A network with statistics, scales and shifts as after a training, some scales negative."""
    model = build(topology)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            layer.set_weights(
                [
                    random.normal(size=size),
                    random.normal(size=size),
                    random.normal(size=size) * 20,
                    random.random(size) * 400 + 1,
                ]
            )
    return model


def views_of(topology: Topology, samples: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        node.name: random.integers(0, 256, (samples, *node.sensor.shape), dtype=np.uint8)
        for node in topology.hierarchy.devices
    }


def as_floats(views: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: view.astype(np.float32) for name, view in views.items()}


def exits(model: tf.keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = model.predict(inputs, batch_size=256, verbose=0)
    return dict(zip(model.output_names, outputs if isinstance(outputs, list) else [outputs], strict=True))


@pytest.mark.parametrize("precision", ["binary", "float"])
@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_composed_sections_are_the_whole_network(letter: str, scheme: str, precision: str) -> None:
    topology = small(letter, scheme, precision)
    model = shaken(topology)
    views = views_of(topology)
    expected = exits(model, as_floats(views))
    sections = cut(model, topology, check_inputs=False)
    logits = compose(topology, {name: section.run for name, section in sections.items()}, views)
    assert list(logits) == list(topology.exit_names)
    for name, values in logits.items():
        assert np.array_equal(tf.nn.softmax(values), expected[name]), name


@pytest.mark.parametrize("letter", ["c", "f"])
@pytest.mark.parametrize("scheme", ["MP", "AP", "CC"])
def test_composed_sections_fail_like_the_whole_network(letter: str, scheme: str) -> None:
    topology = small(letter, scheme)
    model = shaken(topology)
    views = views_of(topology)
    present = np.random.default_rng(2).random((40, len(topology.hierarchy.failable))) < 0.5
    expected = exits(with_presence(model, topology), {**as_floats(views), "present": present})
    sections = cut(model, topology, presence=True, check_inputs=False)
    logits = compose(topology, {name: section.run for name, section in sections.items()}, views, present)
    for name, values in logits.items():
        assert np.array_equal(tf.nn.softmax(values), expected[name]), name


def test_sections_name_their_senders_and_outputs() -> None:
    topology = small("f", "CC")
    sections = cut(build(topology), topology)
    assert list(sections) == ["device_0", "device_1", "device_2", "local", "edge_0", "edge_1", "cloud"]
    assert sections["device_1"].inputs == ("device_1",)
    assert sections["device_1"].outputs == ("features", "class_vector")
    assert sections["edge_1"].inputs == ("device_2",)
    assert sections["cloud"].inputs == ("edge_0", "edge_1")
    assert [section.role.value for section in sections.values()] == [
        "device", "device", "device", "local", "edge", "edge", "cloud",
    ]  # fmt: skip
    assert list(cut(build(small("a", "MP")), small("a", "MP"))) == ["cloud"]


@pytest.mark.parametrize("filters", [(2,), ()], ids=["blocks", "raw sensors"])
def test_a_network_trained_on_scaled_codes_is_refused(filters: tuple[int, ...]) -> None:
    """A user's `fit` on x / 255; where devices send their codes, what the cloud learnt tells."""
    devices = Devices(count=2, input=(8, 6, 1), filters=filters)
    local = None if filters else ()
    topology = Topology(devices=devices, local=local, cloud=Cloud(filters=(3,), aggregation="MP"))
    views = as_floats(views_of(topology))

    def fitted(scale: float) -> tf.keras.Model:
        model = build(topology)
        inputs = {name: view * scale for name, view in views.items()}
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(inputs, [np.zeros(40)] * len(model.outputs), epochs=5, verbose=0)
        return model

    codes = received(topology, cut(fitted(1), topology), views_of(topology))
    model = fitted(1 / 255)
    first = "device_0_convp_0" if filters else "cloud_convp_0"
    message = f"'{first}_norm' the sums of '{first}_conv'.*without a scaling such as `/ 255`"
    with pytest.raises(ValueError, match=message + ".*`check_inputs=False`"):
        cut(model, topology)
    sections = cut(model, topology, check_inputs=False)
    with pytest.raises(ValueError, match=message + r", which batch norm absorbs\.$"):
        check_codes(sections, codes)
    check_codes(cut(fitted(1), topology), codes)


def test_what_does_not_fit_is_refused() -> None:
    topology = small("c", "CC")
    model = build(topology)
    with pytest.raises(ValueError, match="model of the given topology"):
        cut(model, topology.replace(classes=5), check_inputs=False)
    sections = cut(model, topology, check_inputs=False)
    runners = {name: section.run for name, section in sections.items() if name != "local"}
    with pytest.raises(ValueError, match="local has none"):
        compose(topology, runners, views_of(topology))


def test_composed_sections_of_unlike_devices_are_the_whole_network() -> None:
    topology = Topology.from_yaml(UNLIKE)
    model = shaken(topology)
    views = views_of(topology)
    present = np.random.default_rng(2).random((40, len(topology.hierarchy.failable))) < 0.6
    expected = exits(with_presence(model, topology), {**as_floats(views), "present": present})
    sections = cut(model, topology, presence=True, check_inputs=False)
    assert [name for name, section in sections.items() if section.role.value == "adapter"] == [
        "edge_b_from_microphone", "edge_b_from_co2", "hall_from_edge_a", "hall_from_edge_b",
    ]  # fmt: skip
    assert sections["hall"].outputs == ("features",)
    logits = compose(topology, {name: section.run for name, section in sections.items()}, views, present)
    assert list(logits) == ["site_a", "site_b", "edge_a", "edge_b", "cloud"]
    for name, values in logits.items():
        assert np.array_equal(tf.nn.softmax(values), expected[name]), name


def test_what_each_section_receives() -> None:
    topology = Topology.from_yaml(UNLIKE)
    inputs = received(topology, cut(build(topology), topology), views_of(topology, 3))
    shapes = {
        name: {sender: array.shape[1:] for sender, array in given.items()} for name, given in inputs.items()
    }
    assert shapes["co2"] == {"co2": (2,)}
    assert shapes["site_b"] == {"microphone": (4,), "co2": (4,)}
    assert shapes["edge_b_from_co2"] == {"co2": (16,)}
    assert shapes["edge_b"] == {"microphone": (4, 3), "co2": (4, 3)}
    assert shapes["cloud"] == {"hall": (16,)}


@pytest.mark.parametrize("scheme", ["MP", "AP", "CC", "WCC"])
def test_composed_sections_with_skip_links_are_the_whole_network(scheme: str) -> None:
    """With stand-ins for what is absent, whichever nodes fail."""
    topology = skipping(scheme)
    model = shaken(topology)
    views = views_of(topology)
    expected = exits(model, as_floats(views))
    sections = cut(model, topology, check_inputs=False)
    assert sections["cloud"].inputs == ("direct", "side", "high", "low", "far_0")
    runners = {name: section.run for name, section in sections.items()}
    for name, values in compose(topology, runners, views).items():
        assert np.allclose(tf.nn.softmax(values), expected[name], atol=1e-5), name

    present = np.random.default_rng(2).random((40, len(topology.hierarchy.failable))) < 0.6
    masked = exits(with_presence(model, topology), {**as_floats(views), "present": present})
    heard = topology.hierarchy.heard(present).nodes
    for name, values in compose(topology, runners, views, present).items():
        hears = heard[name]
        assert hears.sum() > 0
        assert np.allclose(tf.nn.softmax(values)[hears], masked[name][hears], atol=1e-5), name


def test_masked_sections_with_skip_links_fail_like_the_whole_network() -> None:
    topology = skipping("AP")
    model = shaken(topology)
    views = views_of(topology)
    present = np.random.default_rng(2).random((40, len(topology.hierarchy.failable))) < 0.6
    expected = exits(with_presence(model, topology), {**as_floats(views), "present": present})
    sections = cut(model, topology, presence=True, check_inputs=False)
    logits = compose(topology, {name: each.run for name, each in sections.items()}, views, present)
    for name, values in logits.items():
        assert np.allclose(tf.nn.softmax(values), expected[name], atol=1e-5), name


def test_each_section_receives_of_its_skip_senders_too() -> None:
    topology = skipping()
    inputs = received(topology, cut(shaken(topology), topology, check_inputs=False), views_of(topology, 8))
    assert list(inputs["cloud"]) == ["direct", "side", "high", "low", "far_0"]
    for sender, array in inputs["cloud"].items():
        silent = (array == 0).all(axis=1)
        assert 0 < silent.sum() < 8 or sender == "direct", sender
    assert set(np.unique(inputs["cloud_from_far_0"]["far_0"])) == {-1, 1}


def test_presence_of_devices_alone_means_that_all_edges_are_up() -> None:
    topology = small("f", "CC")
    views = views_of(topology)
    sections = cut(shaken(topology), topology, presence=True, check_inputs=False)
    runners = {name: section.run for name, section in sections.items()}
    present = np.random.default_rng(2).random((40, 3)) < 0.5
    whole = np.concatenate([present, np.ones((40, 2), bool)], axis=1)
    expected = compose(topology, runners, views, whole)
    for name, values in compose(topology, runners, views, present).items():
        assert np.array_equal(values, expected[name])
