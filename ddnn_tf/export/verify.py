"""Each artefact against the trained network, on at least 500 samples, within its target's tolerance.

An artefact is run on what its section receives in Keras, and its feature bits and class vector (or
logits) are compared; then the whole DDNN is run with the artefact in its section's place, and its
decisions - the class and the exit at which each sample leaves - are compared. Accuracy is measured on the
test samples alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.bundle import Artefact
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation.accuracy import by_tier
from ddnn_tf.exits import softmax, staged_inference
from ddnn_tf.export.targets import Target
from ddnn_tf.sections import CLASS_VECTOR, FEATURES, LOGITS, Arrays, Runner, Section, compose
from ddnn_tf.topology import Topology

__all__ = ["Verification", "Verifier", "verification_samples"]

# With fewer, one wrong bit or decision would be a large share.
_SAMPLES = 500
# Accuracies are quotients of the same number of samples: what differs by less is equal.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Verification:
    """How an artefact compares with the trained network; shares are fractions.

    Attributes:
        section: Its section.
        target: Its target.
        bytes: Size of the file that the engine loads.
        samples: On how many samples it was compared.
        bit_agreement: Share of equal feature bits; None if the section has none.
        decision_agreement: Share of samples that the whole DDNN decides alike with it.
        max_logit_error: Largest difference in a class vector or logits; None if the section has neither.
        accuracy: Accuracy of the whole DDNN with it, on the test samples.
        accuracy_change: That minus the trained network's.
        accuracy_samples: Number of test samples.
        passed: Whether it is within its target's tolerance.
    """

    section: str
    target: str
    bytes: int
    samples: int
    bit_agreement: float | None
    decision_agreement: float
    max_logit_error: float | None
    accuracy: float
    accuracy_change: float
    accuracy_samples: int
    passed: bool


class Verifier:
    """Compares artefacts with the sections of one trained network.

    Args:
        topology: The hierarchy.
        thresholds: T by tier.
        sections: The sections of the trained network.
        views: `(samples, ...)` uint8 by device.
        labels: `(samples,)` int.
        test_samples: How many samples, from the first on, are test samples.
    """

    def __init__(
        self,
        topology: Topology,
        thresholds: Mapping[str, float],
        sections: Mapping[str, Section],
        views: Mapping[str, NDArray[np.uint8]],
        labels: NDArray[np.int64],
        test_samples: int,
    ) -> None:
        self._topology = topology
        self._limits = [thresholds[tier] for tier in topology.hierarchy.early_tier_names]
        self._sections, self._views = sections, views
        self._samples, self._test_labels = len(labels), labels[:test_samples]
        self._keras = {name: _Remembering(section.run) for name, section in sections.items()}
        self._expected = self._decide({})
        # What each section receives, and answers, when all of them run in Keras.
        self.inputs: dict[str, Arrays] = {name: run.inputs for name, run in self._keras.items()}
        self._answers: dict[str, Arrays] = {name: run.answer for name, run in self._keras.items()}

    def verify(self, artefact: Artefact, target: Target) -> Verification:
        """Runs an artefact on its engine and compares."""
        section = self._sections[artefact.section]
        answer = target.runner(artefact)(self.inputs[section.name])
        expected = self._answers[section.name]
        bits = None
        if section.has_bits:
            bits = float((answer[FEATURES] == expected[FEATURES]).mean())
        errors = [
            float(np.abs(answer[name] - expected[name]).max())
            for name in (CLASS_VECTOR, LOGITS)
            if name in expected
        ]
        decisions = self._decide({section.name: lambda _: answer})
        agreement = float(decisions.equal(self._expected).mean())
        accuracy, before = (self._accuracy(each) for each in (decisions, self._expected))
        tolerance = target.tolerance
        passed = (
            (bits is None or bits >= tolerance.bits)
            and (tolerance.decisions is None or agreement >= tolerance.decisions)
            and abs(accuracy - before) <= tolerance.accuracy_on(len(self._test_labels)) + _ROUNDING
        )
        return Verification(
            section=artefact.section,
            target=artefact.target,
            bytes=artefact.size,
            samples=self._samples,
            bit_agreement=bits,
            decision_agreement=agreement,
            max_logit_error=max(errors, default=None),
            accuracy=accuracy,
            accuracy_change=accuracy - before,
            accuracy_samples=len(self._test_labels),
            passed=passed,
        )

    def _decide(self, replaced: Mapping[str, Runner]) -> _Decisions:
        logits = compose(self._topology, {**self._keras, **replaced}, self._views)
        tiers = by_tier(self._topology, {name: softmax(values) for name, values in logits.items()})
        staged = staged_inference(list(tiers.values()), self._limits)
        return _Decisions(staged.labels, staged.exits)

    def _accuracy(self, decisions: _Decisions) -> float:
        return float((decisions.labels[: len(self._test_labels)] == self._test_labels).mean())


def verification_samples(
    data: MultiViewDataset,
) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.int64], int]:
    """The test samples; where they are fewer than 500, validation and training samples behind them.

    Returns:
        Views `(samples, ...)` uint8 by device, labels `(samples,)` int64, and the number of test samples.
    """
    test = data.split["test"]
    spare = np.concatenate([data.split["validation"], data.split["train"]])
    rows = np.concatenate([test, spare[: max(0, _SAMPLES - len(test))]])
    return data.rows(rows), data.labels[rows], len(test)


@dataclass(frozen=True)
class _Decisions:
    """Class and exit of every sample, `(samples,)` int64 each."""

    labels: NDArray[np.int64]
    exits: NDArray[np.int64]

    def equal(self, other: _Decisions) -> NDArray[np.bool_]:
        """Which samples are decided alike."""
        return (self.labels == other.labels) & (self.exits == other.exits)


class _Remembering:
    """A runner that does not run again on what it has just run on."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self.inputs: Arrays = {}
        self.answer: Arrays = {}

    def __call__(self, inputs: Arrays) -> Arrays:
        if not self.answer:
            self.inputs, self.answer = inputs, self._run(inputs)
            return self.answer
        is_same = all(np.array_equal(inputs[name], array) for name, array in self.inputs.items())
        return self.answer if is_same else self._run(inputs)
