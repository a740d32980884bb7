"""A network's doubt on plain answers: with nodes missing, by risk and by cost."""

from __future__ import annotations

import numpy as np
import pytest

from ddnn_tf.calibration import expected_calibration_error, scaled
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.drift import compare
from ddnn_tf.evaluation.accuracy import choose_thresholds, evaluate, tier_probabilities
from ddnn_tf.evaluation.doubt import Examination
from ddnn_tf.exits import normalized_entropy
from ddnn_tf.network import build, with_presence
from ddnn_tf.risk import risk_thresholds
from ddnn_tf.topology import Topology


@pytest.fixture
def examined(tiny_topology: Topology, tiny_data: MultiViewDataset) -> Examination:
    return Examination(build(tiny_topology), tiny_topology, tiny_data)


def test_with_all_devices_it_measures_what_evaluate_does(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    model = build(tiny_topology)
    thresholds = choose_thresholds(model, tiny_topology, tiny_data)
    examined = Examination(model, tiny_topology, tiny_data)
    assert examined.measure(thresholds) == evaluate(model, tiny_topology, tiny_data, thresholds)


def test_without_a_device_its_links_carry_nothing(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    model = build(tiny_topology)
    examined = Examination(model, tiny_topology, tiny_data)
    answers = examined.probabilities("test", ["device_1"])
    present = np.tile([True, False], (16, 1))
    expected = tier_probabilities(
        with_presence(model, tiny_topology), tiny_topology, tiny_data.part("test"), present
    )
    for tier, probabilities in expected.items():
        assert (answers[tier] == probabilities).all()
    measured = examined.measure({"local": 0.0}, ["device_1"])
    assert {link for link, size in measured.bytes_per_link.items() if size} == {
        "device_0 -> local",
        "device_0 -> cloud",
    }


def test_nobody_left_and_unknown_nodes_are_refused(examined: Examination) -> None:
    with pytest.raises(ValueError, match="at least one device"):
        examined.probabilities("test", ["device_0", "device_1"])
    with pytest.raises(ValueError, match="out of device_0, device_1, but got 'device_7'"):
        examined.measure({"local": 0.5}, ["device_7"])


def test_a_calibration_has_every_set_of_present_devices(
    examined: Examination, tiny_data: MultiViewDataset
) -> None:
    calibration = examined.calibrate(0.5, 0.5)
    assert calibration.samples == 8
    assert [entry.devices for entry in calibration.sets] == [
        ("device_0", "device_1"),
        ("device_1",),
        ("device_0",),
    ]
    labels = tiny_data.targets("validation")
    for entry in calibration.sets:
        missing = {"device_0", "device_1"} - set(entry.devices)
        answers = examined.probabilities("validation", missing)
        assert entry.temperatures == examined.temperatures(missing)
        assert entry.temperatures.keys() == {"local", "cloud"}
        found = risk_thresholds([answers["local"]], labels, 0.5, 0.5)
        assert entry.thresholds == {"local": found[0].threshold}
        assert entry.entropies == tuple(np.sort(normalized_entropy(answers["local"])).tolist())


def test_calibration_errors_are_those_of_test_samples(
    examined: Examination, tiny_data: MultiViewDataset
) -> None:
    answers, labels = examined.probabilities("test"), tiny_data.targets("test")
    for tier, error in examined.calibration_errors().items():
        assert error.temperature == examined.temperatures()[tier]
        assert error.before == expected_calibration_error(answers[tier], labels)
        assert error.after == expected_calibration_error(scaled(answers[tier], error.temperature), labels)


def test_the_simulated_promise_holds(examined: Examination) -> None:
    simulated = examined.simulate_risk(0.5, 0.2)
    assert simulated.draws == 1000
    assert simulated.exceeded <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / 1000)


def test_early_answers_are_those_of_test_samples(examined: Examination, tiny_data: MultiViewDataset) -> None:
    is_wrong = examined.probabilities("test")["local"].argmax(axis=1) != tiny_data.targets("test")
    everything = examined.early_answers({"local": 1.0})
    assert (everything.share, everything.error) == (1, is_wrong.mean())
    nothing = examined.early_answers({"local": 0.0})
    assert (nothing.share, nothing.error) == (0, 0)
    entropies = [normalized_entropy(examined.probabilities(part)["local"]) for part in ("validation", "test")]
    assert nothing.drift == compare(*entropies)


def test_thresholds_by_cost_follow_the_weights(examined: Examination) -> None:
    largest = normalized_entropy(examined.probabilities("validation")["local"]).max()
    times = {"local": 1.0, "cloud": 2.0}
    for thresholds in (
        examined.thresholds_by_cost(error=0, byte=1),
        examined.thresholds_by_cost(error=0, second=1, seconds=times),
    ):
        assert thresholds["local"] >= largest
    with_bytes = examined.thresholds_by_cost(error=1, byte=0.01, missing=["device_0"])
    assert 0 <= with_bytes["local"] <= 1


def test_means_by_number_of_failed_devices(examined: Examination) -> None:
    failures = examined.failures(lambda missing: {"local": 0.1 * len(missing)})
    assert list(failures) == [("device_0",), ("device_1",)]
    assert failures["device_0",] == examined.measure({"local": 0.1}, ["device_0"])
    (mean,) = examined.means(failures)
    accuracies = [evaluation.overall_accuracy for evaluation in failures.values()]
    assert (mean.failed, mean.sets) == (1, 2)
    assert mean.overall_accuracy == pytest.approx(np.mean(accuracies))
    assert mean.worst == min(accuracies)
    assert mean.exit_accuracy["cloud"] == pytest.approx(
        np.mean([evaluation.exit_accuracy["cloud"] for evaluation in failures.values()])
    )


def test_no_more_validation_samples_than_it_takes(
    tiny_topology: Topology, tiny_data: MultiViewDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddnn_tf.evaluation.doubt._MOST_SAMPLES", 4)
    examined = Examination(build(tiny_topology), tiny_topology, tiny_data)
    assert len(examined.probabilities("validation")["cloud"]) == 4
    assert examined.calibrate(0.5, 0.5).samples == 4


def test_a_single_exit_has_no_threshold_to_choose(tiny_data: MultiViewDataset) -> None:
    topology = Topology.figure_2("a", 2, image_shape=(8, 8, 1), classes=2)
    examined = Examination(build(topology), topology, tiny_data)
    for choose in (examined.thresholds_by_risk, examined.simulate_risk, examined.calibrate):
        with pytest.raises(ValueError, match="an early exit, but its only exit is cloud"):
            choose(0.1, 0.1)
    with pytest.raises(ValueError, match="an early exit"):
        examined.thresholds_by_cost(error=1)
    assert examined.calibration_errors().keys() == {"cloud"}
