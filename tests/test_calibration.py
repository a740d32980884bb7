"""Temperatures and calibration errors, on probabilities whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ddnn_tf.calibration import (
    Calibration,
    CalibrationOfSet,
    error_by_chance,
    expected_calibration_error,
    fit_temperature,
    scaled,
)
from ddnn_tf.exits import softmax


def drawn(samples: int, sharpness: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities of four classes, and labels drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = softmax(sharpness * random.normal(size=(samples, 4)))
    labels = (probabilities.cumsum(axis=1) < random.random((samples, 1))).sum(axis=1)
    return probabilities, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoilt_probabilities_is_found(temperature: float) -> None:
    probabilities, labels = drawn(20000)
    spoilt = scaled(probabilities, 1 / temperature)
    assert fit_temperature(spoilt, labels) == pytest.approx(temperature, rel=0.03)
    assert expected_calibration_error(scaled(spoilt, temperature), labels) < 0.01


def test_it_is_that_of_least_negative_log_likelihood() -> None:
    probabilities, labels = drawn(200)
    samples = np.arange(200)
    targets = np.full((200, 4), 1 / 202 / 3)
    targets[samples, labels] = 201 / 202

    def loss(logarithm: float) -> float:
        return -float((targets * np.log(scaled(probabilities, np.exp(logarithm)))).sum())

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), options={"xatol": 1e-9}).x)
    assert fit_temperature(probabilities, labels) == pytest.approx(expected, rel=1e-4)


def test_samples_that_are_all_right_do_not_make_a_network_certain() -> None:
    probabilities = np.tile([0.9, 0.1], (68, 1))
    sure = scaled(probabilities, fit_temperature(probabilities, np.zeros(68, int)))
    assert sure[0, 0] == pytest.approx(69 / 70, abs=1e-6)


def test_temperatures_stay_within_their_range() -> None:
    assert fit_temperature(np.full((8, 3), 1 / 3), np.zeros(8, int)) <= 100.001
    certain = np.array([[1.0, 0.0]] * 8)
    assert fit_temperature(certain, np.zeros(8, int)) >= 0.0099
    assert fit_temperature(certain, np.array([0, 1] * 4)) > 90


@given(st.floats(0.05, 20), st.integers(0, 1000))
def test_scaling_keeps_the_answer_and_sums_to_one(temperature: float, seed: int) -> None:
    probabilities, _ = drawn(20, seed=seed)
    changed = scaled(probabilities, temperature)
    assert (changed.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert changed.sum(axis=1) == pytest.approx(1)


def test_scaling_by_one_changes_nothing() -> None:
    probabilities = np.array([[1.0, 0.0], [0.3, 0.7]])
    assert (scaled(probabilities, 1) == probabilities).all()
    assert scaled(probabilities[1], 0.5) == pytest.approx([0.09 / 0.58, 0.49 / 0.58])


def test_the_error_of_known_bins() -> None:
    confidence = np.repeat([0.6, 0.9], 10)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0] * 5 + [1] * 5 + [0] * 10)
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx((0.1 + 0.1) / 2)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(0)


def test_samples_of_equal_confidence_share_a_bin_in_any_order() -> None:
    probabilities = np.tile([0.8, 0.2], (100, 1))
    labels = (np.arange(100) >= 80).astype(int)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0)
    assert expected_calibration_error(probabilities, labels[::-1]) == pytest.approx(0)


def test_few_samples_have_an_error_by_chance() -> None:
    for samples in (100, 2500):
        probabilities, _ = drawn(samples)
        measured = [expected_calibration_error(*drawn(samples, seed=seed)) for seed in range(20)]
        assert error_by_chance(probabilities) == pytest.approx(np.mean(measured), rel=0.25)
    assert error_by_chance(np.eye(2)) == 0


def test_shapes_that_do_not_fit_are_refused() -> None:
    probabilities = np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match=r"shape \(3,\).*but got \(2,\)"):
        fit_temperature(probabilities, [0, 1])
    with pytest.raises(ValueError, match="at least one sample"):
        expected_calibration_error(probabilities[:0], [])
    with pytest.raises(ValueError, match="two classes or more"):
        fit_temperature([0.5, 0.5], [0])
    with pytest.raises(ValueError, match="`bins` to be at least 1, but got 0"):
        expected_calibration_error(probabilities, [0, 1, 0], bins=0)
    for temperature in (0, -1, np.nan):
        with pytest.raises(ValueError, match="a temperature above 0, but got"):
            scaled(probabilities, temperature)


def entry(devices: str, threshold: float) -> CalibrationOfSet:
    return CalibrationOfSet(
        devices=tuple(devices), temperatures={"local": 2.0 / len(devices)}, thresholds={"local": threshold},
        entropies=(0.1,),
    )  # fmt: skip


def test_a_set_without_an_entry_promises_nothing() -> None:
    calibration = Calibration(
        risk=0.02, delta=0.1, samples=9, sets=(entry("abc", 0.5), entry("ab", 0.3), entry("ca", 0.2))
    )
    assert calibration.of("cba").thresholds == {"local": 0.5}
    assert calibration.of("ac").thresholds == {"local": 0.2}
    unknown = calibration.of("c")
    assert unknown.thresholds == {"local": 0}
    assert unknown.temperatures == {"local": 1}
    assert unknown.entropies == ()


def test_a_calibration_is_read_back_and_a_damaged_one_is_named() -> None:
    calibration = Calibration(risk=0.02, delta=0.1, samples=9, sets=(entry("ab", 1e-38),))
    content = calibration.model_dump(mode="json")
    assert Calibration(**content) == calibration
    content["sets"][0]["thresholds"]["local"] = 2
    with pytest.raises(ValueError, match=r"calibration.*thresholds\.local"):
        Calibration(**content)
