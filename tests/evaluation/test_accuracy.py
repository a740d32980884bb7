from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.communication import device_bytes
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation import choose_thresholds, evaluate, tier_probabilities
from ddnn_tf.evaluation.accuracy import measure
from ddnn_tf.exits import normalized_entropy
from ddnn_tf.network import build, build_individual, with_presence
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions, train


@pytest.fixture
def trained(tiny_topology: Topology, tiny_data: MultiViewDataset) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    model = build(tiny_topology)
    train(model, tiny_data, options=TrainingOptions(epochs=6, batch_size=8, learning_rate=0.01))
    return model


def test_measures_agree_with_a_walk_by_hand(
    trained: tf.keras.Model, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    threshold = 0.5
    found = evaluate(trained, tiny_topology, tiny_data, {"local": threshold})
    labels = tiny_data.targets("test")
    local, cloud = trained.predict(tiny_data.inputs("test"), verbose=0)
    assert found.exit_accuracy["local"] == pytest.approx((local.argmax(1) == labels).mean())
    assert found.exit_accuracy["cloud"] == pytest.approx((cloud.argmax(1) == labels).mean())
    stays = np.array([normalized_entropy(row) <= threshold for row in local])
    answers = np.where(stays, local.argmax(1), cloud.argmax(1))
    assert found.overall_accuracy == pytest.approx((answers == labels).mean())
    assert found.exit_shares == pytest.approx({"local": stays.mean(), "cloud": 1 - stays.mean()})
    assert found.bytes_per_sample == pytest.approx(device_bytes(stays.mean(), 2, 2, 16))
    assert found.reduction == pytest.approx(64 / found.bytes_per_sample)
    assert list(found.exit_accuracy) == ["local", "cloud"]
    assert found.individual_accuracy == {}
    by_class = [(answers[labels == label] == label).mean() for label in range(2)]
    assert found.class_recall == pytest.approx(by_class)
    assert found.overall_balanced_accuracy == pytest.approx(np.mean(by_class))
    assert found.test_samples == 16


def test_an_absent_view_counts_as_wrong_for_the_device_alone(
    trained: tf.keras.Model, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    individual = build_individual(tiny_topology)
    blind = replace(tiny_data, presence=np.zeros_like(tiny_data.presence))
    alone = evaluate(trained, tiny_topology, blind, {"local": 0.5}, individual).individual_accuracy
    assert alone == {"device_0": 0, "device_1": 0}
    sees = replace(tiny_data, presence=np.ones_like(tiny_data.presence))
    outputs = individual.predict(tiny_data.inputs("test"), verbose=0)
    expected = [(output.argmax(1) == tiny_data.targets("test")).mean() for output in outputs]
    found = evaluate(trained, tiny_topology, sees, {"local": 0.5}, individual)
    assert list(found.individual_accuracy.values()) == pytest.approx(expected)


@pytest.mark.parametrize("letter", "abcdef")
def test_every_configuration_can_be_evaluated(letter: str, tiny_data: MultiViewDataset) -> None:
    topology = Topology.figure_2(letter, devices=2, image_shape=(8, 8, 1), classes=2)
    data = tiny_data.with_devices(topology.hierarchy.device_names)
    model = build(topology)
    thresholds = choose_thresholds(model, topology, data)
    assert tuple(thresholds) == topology.hierarchy.early_tier_names
    found = evaluate(model, topology, data, thresholds)
    assert ("edge" not in found.exit_accuracy) == (letter in "abc")
    assert ("local" not in found.exit_accuracy) == (letter == "a")
    assert sum(found.exit_shares.values()) == pytest.approx(1)


def test_thresholds_come_from_validation_data_alone(
    trained: tf.keras.Model, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    spoilt = {name: view.copy() for name, view in tiny_data.views.items()}
    for view in spoilt.values():
        view[tiny_data.split["test"]] = 0
    other = replace(tiny_data, views=spoilt)
    assert choose_thresholds(trained, tiny_topology, tiny_data) == choose_thresholds(
        trained, tiny_topology, other
    )


def test_an_edge_whose_devices_failed_does_not_speak() -> None:
    topology = Topology.devices_edges_cloud(devices=2, image_shape=(8, 8, 1), classes=2)
    model = with_presence(build(topology), topology)
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 8, 8, 1), dtype=np.uint8)
    views = {f"device_{number}": images[:, number] for number in range(2)}
    present = np.tile([False, True], (9, 1))
    tiers = tier_probabilities(model, topology, views, present)
    inputs = {name: view.astype(np.float32) for name, view in views.items()}
    inputs["present"] = topology.hierarchy.all_present(present)
    by_exit = dict(zip(model.output_names, model.predict(inputs, verbose=0), strict=True))
    assert np.allclose(tiers["edge"], by_exit["edge_1"])


def test_thresholds_of_other_tiers_are_refused(
    trained: tf.keras.Model, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    with pytest.raises(ValueError, match="`thresholds` for local, but got edge"):
        evaluate(trained, tiny_topology, tiny_data, {"edge": 0.5})


def test_a_local_exit_whose_devices_failed_does_not_speak() -> None:
    """It serves one of two devices: without it, it knows nothing, whatever its bias says."""
    topology = Topology(
        devices={"count": 2, "input": (8, 8, 1), "filters": (2,)},
        local={"devices": ["device_1"], "aggregation": "CC"},
        classes=2,
    )
    model = with_presence(build(topology), topology)
    model.get_layer("local_aggregation").bias.assign([9.0, 0.0])
    views = {f"device_{number}": np.zeros((3, 8, 8, 1), np.uint8) for number in range(2)}
    tiers = tier_probabilities(model, topology, views, np.tile([True, False], (3, 1)))
    assert np.array_equal(tiers["local"], np.full((3, 2), 0.5))


def test_no_tier_overwrites_another_measure() -> None:
    edge = {"name": "edge_0", "senders": ["device"], "filters": [4], "tier": "overall"}
    topology = Topology(
        devices={"count": 2, "input": (8, 8, 1), "filters": (2,)},
        edges=[edge],
        cloud={"filters": [4]},
        classes=2,
    )
    right, wrong = np.tile([0.9, 0.1], (4, 1)), np.tile([0.1, 0.9], (4, 1))
    found = measure(
        topology, {"local": right, "overall": wrong, "cloud": right}, np.zeros(4), {"local": 1, "overall": 1}
    )
    assert found.exit_accuracy["overall"] == 0
    assert found.to_dict()["overall_accuracy"] == found.overall_accuracy == 1
