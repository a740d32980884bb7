"""A trained network and its doubt: calibrated exits, thresholds by risk and by cost, with nodes missing.

    >>> from ddnn_tf.runs import load_run  # doctest: +SKIP
    >>> run = load_run("runs/scenes")  # doctest: +SKIP
    >>> examined = Examination(run.model, run.topology, run.source.load())  # doctest: +SKIP
    >>> examined.calibration_errors(missing=["device_2"])["cloud"].after  # doctest: +SKIP
    0.021

Temperatures and thresholds come from the validation part, measures from the test part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.calibration import (
    Calibration,
    CalibrationOfSet,
    error_by_chance,
    expected_calibration_error,
    fit_temperature,
    scaled,
)
from ddnn_tf.communication import bytes_at_exit
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.drift import Drift, compare
from ddnn_tf.evaluation.accuracy import Evaluation, measure, tier_probabilities
from ddnn_tf.evaluation.trial import subsets
from ddnn_tf.exits import cheapest_thresholds, normalized_entropy, staged_inference
from ddnn_tf.network import with_presence
from ddnn_tf.risk import RiskSimulation, RiskThreshold, risk_thresholds, simulate_risk
from ddnn_tf.topology import Topology

__all__ = ["CalibrationErrors", "Choice", "EarlyAnswers", "Examination", "MeanOfFailures"]

Choice = Callable[[Collection[str]], Mapping[str, float]]
"""Thresholds by tier, for a set of missing nodes."""

# Validation samples of a set of devices: there are up to 255 sets, and this many show an error of 0.3 %.
_MOST_SAMPLES = 1024
# Entropies of a set that a bundle keeps: enough for a test against as many recent samples.
_KEPT_ENTROPIES = 200


@dataclass(frozen=True)
class CalibrationErrors:
    """How well an exit's probabilities say how often it is right.

    Attributes:
        temperature: What its logits are divided by.
        before: Expected calibration error of its own probabilities, on test samples.
        after: That of the scaled ones.
        by_chance: What `after` would be if these were perfectly calibrated, because the samples are few.
    """

    temperature: float
    before: float
    after: float
    by_chance: float


@dataclass(frozen=True)
class EarlyAnswers:
    """What became of a promise on test samples.

    Attributes:
        share: Fraction of the test samples that left early.
        error: Fraction of these that were wrong; 0 if there is none.
        drift: Their entropies at the lowest exit against those of validation samples: a low p-value says that
            the promise was made on other samples.
    """

    share: float
    error: float
    drift: Drift


@dataclass(frozen=True)
class MeanOfFailures:
    """Accuracies with a number of failed devices.

    Attributes:
        failed: How many devices failed.
        sets: Number of sets of so many devices.
        overall_accuracy: Mean over these sets.
        worst: The lowest overall accuracy of any of them.
        exit_accuracy: Mean over these sets, by tier.
    """

    failed: int
    sets: int
    overall_accuracy: float
    worst: float
    exit_accuracy: Mapping[str, float]


class Examination:
    """What a trained network says to validation and test samples, with all nodes and without some.

    Args:
        model: A trained model of `build(topology)`.
        topology: Its topology.
        data: Its data; at most 1,024 validation samples are used, evenly spaced.
    """

    def __init__(self, model: tf.keras.Model, topology: Topology, data: MultiViewDataset) -> None:
        self._model, self._topology = model, topology
        self._masked: tf.keras.Model | None = None
        chosen = data.split["validation"]
        if len(chosen) > _MOST_SAMPLES:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _MOST_SAMPLES).round().astype(int)]
        self._data = replace(data, split={**data.split, "validation": chosen})
        self._labels = {part: self._data.targets(part) for part in ("validation", "test")}
        self._known: dict[tuple[str, frozenset[str]], dict[str, NDArray[np.float64]]] = {}

    def probabilities(self, part: str, missing: Collection[str] = ()) -> dict[str, NDArray[np.float64]]:
        """What every tier would answer.

        Args:
            part: `validation` or `test`.
            missing: Names of devices and edges that are down.

        Returns:
            `(samples, classes)` by tier.

        Raises:
            ValueError: There is no such node, or no device is left.
        """
        key = part, frozenset(missing)
        if key not in self._known:
            self._known[key] = self._predict(part, missing)
        return self._known[key]

    def measure(self, thresholds: Mapping[str, float], missing: Collection[str] = ()) -> Evaluation:
        """The measures on test samples.

        Args:
            thresholds: T by tier, for all tiers but the last.
            missing: As for `probabilities`.
        """
        answers = self.probabilities("test", missing)
        return measure(self._topology, answers, self._labels["test"], thresholds, missing=missing)

    def failures(self, choose: Choice) -> dict[tuple[str, ...], Evaluation]:
        """The measures without each set of devices: all sets of up to 8 devices, else those of one or two.

        Args:
            choose: Gives the thresholds without a set.
        """
        return {missing: self.measure(choose(missing), missing) for missing in self._some_left()}

    @staticmethod
    def means(failures: Mapping[tuple[str, ...], Evaluation]) -> list[MeanOfFailures]:
        """The means of `failures` by number of failed devices."""
        means = []
        for number in sorted({len(missing) for missing in failures}):
            measured = [evaluation for missing, evaluation in failures.items() if len(missing) == number]
            overall = [evaluation.overall_accuracy for evaluation in measured]
            exits = {
                tier: float(np.mean([evaluation.exit_accuracy[tier] for evaluation in measured]))
                for tier in measured[0].exit_accuracy
            }
            means.append(MeanOfFailures(number, len(measured), float(np.mean(overall)), min(overall), exits))
        return means

    def temperatures(self, missing: Collection[str] = ()) -> dict[str, float]:
        """The temperature of each exit tier without some nodes, found on validation samples.

        One for each set of nodes: how much too sure an exit is depends on which of its senders it misses, and
        one number for each exit and set is little to find on a hundred samples.
        """
        labels = self._labels["validation"]
        answers = self.probabilities("validation", missing)
        return {tier: fit_temperature(probabilities, labels) for tier, probabilities in answers.items()}

    def calibration_errors(self, missing: Collection[str] = ()) -> dict[str, CalibrationErrors]:
        """The calibration of each exit tier on test samples, before and after scaling."""
        labels, answers = self._labels["test"], self.probabilities("test", missing)
        return {
            tier: CalibrationErrors(
                temperature,
                expected_calibration_error(answers[tier], labels),
                expected_calibration_error(scaled(answers[tier], temperature), labels),
                error_by_chance(scaled(answers[tier], temperature)),
            )
            for tier, temperature in self.temperatures(missing).items()
        }

    def thresholds_by_cost(
        self,
        error: float,
        byte: float = 0.0,
        second: float = 0.0,
        seconds: Mapping[str, float] | None = None,
        missing: Collection[str] = (),
    ) -> dict[str, float]:
        """Thresholds of least expected cost on validation samples.

        Args:
            error: Cost of a wrong answer.
            byte: Cost of a byte per device, Eq. (1).
            second: Cost of a second.
            seconds: Time that a sample takes which leaves at a tier, by tier with an exit.
            missing: As for `probabilities`.

        Returns:
            T by tier, for all tiers but the last.
        """
        hierarchy = self._topology.hierarchy
        tiers, early = hierarchy.exit_tier_names, self._early(missing)
        sizes = bytes_at_exit(self._topology, hierarchy.presence(missing))
        times = seconds or dict.fromkeys(tiers, 0.0)
        costs = [byte * size + second * times[tier] for tier, size in zip(tiers, sizes, strict=True)]
        answers = list(self.probabilities("validation", missing).values())
        chosen = cheapest_thresholds(answers, self._labels["validation"], costs, error)
        return dict(zip(early, chosen, strict=True))

    def thresholds_by_risk(
        self, risk: float, delta: float, missing: Collection[str] = ()
    ) -> dict[str, RiskThreshold]:
        """Thresholds by risk (`risk.risk_thresholds`) on validation samples, by tier but the last."""
        answers = self._early(missing)
        chosen = risk_thresholds(list(answers.values()), self._labels["validation"], risk, delta)
        return dict(zip(answers, chosen, strict=True))

    def simulate_risk(self, risk: float, delta: float, missing: Collection[str] = ()) -> RiskSimulation:
        """How often such thresholds break their promise.

        A draw has as many samples as the validation part; the population is that of validation and test
        samples together.
        """
        parts = [self._early(missing, part) for part in ("validation", "test")]
        pooled = [np.concatenate([part[tier] for part in parts]) for tier in parts[0]]
        labels = np.concatenate([self._labels["validation"], self._labels["test"]])
        return simulate_risk(pooled, labels, risk, delta, samples=len(self._labels["validation"]))

    def early_answers(self, thresholds: Mapping[str, float], missing: Collection[str] = ()) -> EarlyAnswers:
        """What becomes of thresholds on test samples.

        Args:
            thresholds: T by tier, for all tiers but the last.
            missing: As for `probabilities`.
        """
        early = list(self._early(missing))
        answers, labels = self.probabilities("test", missing), self._labels["test"]
        staged = staged_inference(list(answers.values()), [thresholds[tier] for tier in early])
        left = staged.exits < len(early)
        is_wrong = staged.labels[left] != labels[left]
        before, now = (
            normalized_entropy(self.probabilities(part, missing)[early[0]]) for part in ("validation", "test")
        )
        error = float(is_wrong.mean()) if left.any() else 0.0
        return EarlyAnswers(float(left.mean()), error, compare(before, now))

    def calibrate(self, risk: float, delta: float) -> Calibration:
        """Temperatures and thresholds by risk for every set of present devices, for a bundle.

        Args:
            risk: As for `risk.risk_thresholds`.
            delta: As for `risk.risk_thresholds`, for each set by itself.

        Raises:
            ValueError: The hierarchy has no early exit, or a number is not between 0 and 1.
        """
        entries = tuple(self._of_set(risk, delta, missing) for missing in [(), *self._some_left()])
        return Calibration(risk=risk, delta=delta, samples=len(self._labels["validation"]), sets=entries)

    def _some_left(self) -> list[tuple[str, ...]]:
        """Sets of failed devices that leave one."""
        devices = self._topology.hierarchy.device_names
        return [missing for missing in subsets(devices) if len(missing) < len(devices)]

    def _of_set(self, risk: float, delta: float, missing: tuple[str, ...]) -> CalibrationOfSet:
        early = self._early(missing)
        lowest = np.sort(normalized_entropy(next(iter(early.values()))))
        kept = np.linspace(0, len(lowest) - 1, min(len(lowest), _KEPT_ENTROPIES)).round().astype(int)
        found = self.thresholds_by_risk(risk, delta, missing)
        names = self._topology.hierarchy.device_names
        return CalibrationOfSet(
            devices=tuple(name for name in names if name not in missing),
            temperatures=self.temperatures(missing),
            thresholds={tier: promise.threshold for tier, promise in found.items()},
            entropies=tuple(lowest[kept].tolist()),
        )

    def _early(self, missing: Collection[str], part: str = "validation") -> dict[str, NDArray[np.float64]]:
        """Probabilities of all tiers but the last."""
        early = self._topology.hierarchy.early_tier_names
        if not early:
            raise ValueError(
                "Expected a hierarchy with an early exit, but its only exit is "
                f"{', '.join(self._topology.hierarchy.exit_tier_names)}: it has no threshold to choose."
            )
        answers = self.probabilities(part, missing)
        return {tier: answers[tier] for tier in early}

    def _predict(self, part: str, missing: Collection[str]) -> dict[str, NDArray[np.float64]]:
        views, hierarchy = self._data.part(part), self._topology.hierarchy
        if not missing:
            return tier_probabilities(self._model, self._topology, views)
        present = hierarchy.presence(missing, len(self._labels[part]))
        if set(hierarchy.device_names) <= set(missing):
            raise ValueError(
                "Expected at least one device that is not missing: without any there is no answer."
            )
        if self._masked is None:
            self._masked = with_presence(self._model, self._topology)
        return tier_probabilities(self._masked, self._topology, views, present)
