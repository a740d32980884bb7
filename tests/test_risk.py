"""Thresholds by risk: what they are by hand, and that their promise holds over many draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from ddnn_tf.exits import normalized_entropy, softmax, staged_inference
from ddnn_tf.risk import _first_start, _largest, _most_errors, risk_thresholds, samples_needed, simulate_risk

RISK, DELTA = 0.02, 0.1


def population(kind: str, samples: int = 4000) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of a local exit and an edge of three classes, and labels."""
    random = np.random.default_rng(7)
    logits = 12 * random.normal(size=(samples, 3))
    truth = softmax(logits)
    labels = (truth.cumsum(axis=1) < random.random((samples, 1))).sum(axis=1)
    edge = softmax(logits + random.normal(size=(samples, 3)))
    match kind:
        case "calibrated":
            return [truth, edge], labels
        case "over-confident":
            return [softmax(4 * logits), edge], labels
        case "tied":
            # Half of all are certain, as where float32 rounds; the others have one of a few entropies.
            local = np.round(truth * 8) / 8
            return [local / local.sum(axis=1, keepdims=True), edge], labels
        case "barely too risky":
            # However sure, 2.1 % are wrong: of every threshold, the promise fails as often as it may.
            is_wrong = random.random(samples) < 1.05 * RISK
            return [truth, edge], (truth.argmax(axis=1) + is_wrong) % 3
        case "always wrong":
            return [truth, edge], (truth.argmax(axis=1) + 1) % 3
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["calibrated", "over-confident", "tied", "barely too risky", "always wrong"])
@pytest.mark.parametrize("samples", [60, 150, 600])
@pytest.mark.parametrize("exits", [1, 2])
def test_the_promise_holds_over_draws(kind: str, samples: int, exits: int) -> None:
    probabilities, labels = population(kind)
    found = simulate_risk(probabilities[:exits], labels, RISK, DELTA, samples=samples, draws=1000)
    assert found.draws == 1000
    noise = 3 * np.sqrt(DELTA * (1 - DELTA) / 1000)
    assert found.exceeded <= DELTA + noise
    if samples == 60 or kind == "always wrong":
        assert found.share == found.error == 0
    elif samples == 600 and kind != "barely too risky":
        assert found.share > 0.5


def test_the_test_is_no_stricter_than_it_must_be() -> None:
    probabilities, labels = population("barely too risky")
    for samples in (150, 600):
        found = simulate_risk(probabilities[:1], labels, RISK, DELTA, samples=samples)
        assert found.exceeded > DELTA / 3


def test_a_plain_threshold_breaks_the_promise_that_a_threshold_by_risk_keeps() -> None:
    """Without a test, the largest T whose error on the samples is low enough is often too large."""
    probabilities, labels = population("calibrated")
    entropies = normalized_entropy(probabilities[0])
    is_wrong = probabilities[0].argmax(axis=1) != labels
    random = np.random.default_rng(0)
    broken = 0
    for _ in range(200):
        rows = random.integers(0, len(labels), 300)
        order = rows[np.argsort(entropies[rows])]
        fits = is_wrong[order].cumsum() <= RISK * np.arange(1, 301)
        threshold = entropies[order][fits].max()
        broken += is_wrong[entropies <= threshold].mean() > RISK
    assert broken / 200 > 2 * DELTA


def test_the_most_errors_are_those_of_the_binomial_distribution() -> None:
    most = _most_errors(700, RISK, DELTA)
    for number in (0, 1, 113, 114, 193, 194, 333, 700):
        shown = [count for count in range(60) if binom.cdf(count, number, RISK) <= DELTA]
        assert most[number] == max(shown, default=-1)


def test_the_number_of_samples_that_is_needed() -> None:
    assert samples_needed(RISK, DELTA) == 114
    assert samples_needed(0.5, 0.25) == 2
    assert _most_errors(114, RISK, DELTA)[[113, 114]].tolist() == [-1, 0]


def test_what_is_needed_is_what_the_first_walk_shows() -> None:
    for number in (200, 455, 456, 1000):
        first = _first_start(number, RISK, DELTA)
        entropies = np.linspace(0.1, 0.9, number).astype(np.float32)
        for right, leaves in ((first - 1, False), (first, True)):
            assert bool(_largest(entropies, np.arange(number) >= right, RISK, DELTA) > 0) is leaves


def largest(entropies: list[float], wrong: list[int], risk: float = 0.5, delta: float = 0.25) -> float:
    """T; at half wrong with a quarter, two right samples are needed, and five with one error."""
    errors = np.isin(np.arange(len(entropies)), wrong)
    return float(_largest(np.array(entropies, np.float32), errors, risk, delta))


def test_thresholds_by_hand() -> None:
    rising = [0.125, 0.25, 0.5, 0.75]
    assert largest(rising[:1], []) == 0  # one sample shows nothing
    assert largest(rising[:2], []) == 1  # everything leaves
    assert largest(rising, [2, 3]) == 0.375  # half-way between two entropies, so that rounding moves nobody
    assert largest(rising, [0]) == 0  # the first test fails, and none follows
    assert largest(rising[::-1], [0, 1]) == 0.375  # in any order


def test_equal_entropies_leave_together() -> None:
    assert largest([0.25, 0.25, 0.25, 0.5], [3]) == 0.375
    assert largest([0.25, 0.25, 0.25, 0.5], [2]) == 0
    # T = 0 would keep them.
    certain = largest([0.0, 0.0, 0.0, 0.5], [3])
    assert certain == 0.25


def test_a_late_walk_survives_an_early_error() -> None:
    samples = 600
    entropies, wrong = np.linspace(0.1, 0.9, samples), np.arange(samples) == 5
    found = float(_largest(entropies, wrong, RISK, DELTA))
    assert found == 1
    few = slice(0, 4 * samples_needed(RISK, DELTA) - 1)
    assert float(_largest(entropies[few], wrong[few], RISK, DELTA)) == 0


def test_thresholds_leave_the_shares_that_they_say() -> None:
    (local, _), labels = population("calibrated")
    sureness = np.random.default_rng(0).uniform(0.4, 0.99, (len(labels), 1))
    edge = np.where(np.eye(3)[labels] == 1, sureness, (1 - sureness) / 2)  # always right
    probabilities = [local, edge]
    promises = risk_thresholds(probabilities, labels, RISK, DELTA)
    thresholds = [promise.threshold for promise in promises]
    staged = staged_inference([*probabilities, probabilities[-1]], thresholds)
    assert staged.shares[:2].tolist() == [promise.share for promise in promises]
    assert promises[0].samples == len(labels)
    assert promises[1].samples == round(len(labels) * (1 - promises[0].share))
    # Each of two exits has half of delta.
    assert [promise.needed for promise in promises] == [
        _first_start(promise.samples, RISK, DELTA / 2) for promise in promises
    ]
    assert promises[1].needed == samples_needed(RISK, DELTA / 2)
    for tier in range(2):
        left = staged.exits == tier
        assert left.sum() > 100
        assert (staged.labels[left] != labels[left]).mean() < RISK


def test_nothing_is_promised_on_few_samples() -> None:
    probabilities, labels = population("calibrated", 100)
    assert risk_thresholds(probabilities[:1], labels, RISK, DELTA)[0].threshold == 0
    assert risk_thresholds([], labels, RISK, DELTA) == ()
    assert risk_thresholds([probabilities[0][:0]], labels[:0], RISK, DELTA)[0].threshold == 0


@pytest.mark.parametrize(("risk", "delta"), [(0, 0.1), (2, 0.1), (0.02, 0), (0.02, 1), (np.nan, 0.1)])
def test_numbers_out_of_range_are_refused(risk: float, delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1, but got"):
        risk_thresholds([np.full((4, 2), 0.5)], np.zeros(4), risk, delta)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(3,\), but got \[\(4, 2\)\]"):
        risk_thresholds([np.full((4, 2), 0.5)], np.zeros(3), RISK, DELTA)
    with pytest.raises(ValueError, match="got 0 exits, a population of 3"):
        simulate_risk([], np.zeros(3), RISK, DELTA, samples=5)
