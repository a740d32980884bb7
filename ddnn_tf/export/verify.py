"""Each artefact against the trained network, on at least 500 samples, and the bar that it must reach.

An artefact is run on what its section receives in Keras, and its feature bits and class vector (or
logits) are compared; then the whole DDNN is run with the artefact in its section's place, and its
decisions - the class and the exit at which each sample leaves - are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation.accuracy import by_tier
from ddnn_tf.exits import softmax, staged_inference
from ddnn_tf.export.artefact import Artefact, Target
from ddnn_tf.sections import Arrays, Runner, Section, compose
from ddnn_tf.topology import Topology

__all__ = ["BARS", "Bar", "Verification", "Verifier", "verification_samples"]

_SAMPLES = 500


@dataclass(frozen=True)
class Bar:
    """What an artefact must reach; fractions.

    Attributes:
        bits: Share of equal feature bits.
        decisions: Share of equal decisions of the whole DDNN; None: not asked.
        accuracy: How much the accuracy of the whole DDNN may change.
    """

    bits: float
    decisions: float | None
    accuracy: float


_EXACT = Bar(bits=1.0, decisions=1.0, accuracy=0.0)
BARS: dict[str, Bar] = {
    "tflite": _EXACT,
    "lce": _EXACT,
    "savedmodel": _EXACT,
    "micro": _EXACT,
    "c": _EXACT,
    "c-fixed": Bar(bits=1.0, decisions=0.998, accuracy=0.002),
    "micro-int16": Bar(bits=0.9999, decisions=None, accuracy=0.005),
    "micro-int8": Bar(bits=0.995, decisions=None, accuracy=0.005),
    "tflite-int8": Bar(bits=0.995, decisions=None, accuracy=0.005),
}
"""The bar of each target."""


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
        max_logit_error: Largest difference in a class vector or logits.
        accuracy: Accuracy of the whole DDNN with it, on these samples.
        accuracy_change: That minus the trained network's.
        passed: Whether it reaches its bar.
    """

    section: str
    target: str
    bytes: int
    samples: int
    bit_agreement: float | None
    decision_agreement: float
    max_logit_error: float
    accuracy: float
    accuracy_change: float
    passed: bool


class Verifier:
    """Compares artefacts with the sections of one trained network.

    Args:
        topology: The hierarchy.
        thresholds: T by tier.
        sections: The sections of the trained network.
        images: `(samples, devices, height, width, channels)` uint8.
        labels: `(samples,)` int.
    """

    def __init__(
        self,
        topology: Topology,
        thresholds: Mapping[str, float],
        sections: Mapping[str, Section],
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
    ) -> None:
        self._topology = topology
        self._limits = [thresholds[tier] for tier in topology.exit_tiers[:-1]]
        self._sections, self._images, self._labels = sections, images, labels
        self._keras = {name: _Remembering(section.run) for name, section in sections.items()}
        self._expected = self._decide({})
        # What each section receives, and answers, when all of them run in Keras.
        self.inputs: dict[str, Arrays] = {name: run.inputs for name, run in self._keras.items()}
        self._answers: dict[str, Arrays] = {name: run.answer for name, run in self._keras.items()}

    def verify(self, artefact: Artefact, target: Target) -> Verification:
        """Runs an artefact on its engine and compares."""
        runner = target.runner(artefact)
        found, expected = runner(self.inputs[artefact.section]), self._answers[artefact.section]
        bits = None
        if self._sections[artefact.section].has_bits:
            bits = float((found["features"] == expected["features"]).mean())
        vector = "class_vector" if "class_vector" in expected else "logits"
        error = float(np.abs(found[vector] - expected[vector]).max())
        labels, exits = self._decide({artefact.section: lambda _: found})
        same = (labels == self._expected[0]) & (exits == self._expected[1])
        accuracy, before = (float((given == self._labels).mean()) for given in (labels, self._expected[0]))
        bar = BARS[artefact.target]
        agreement = float(same.mean())
        passed = (
            (bits is None or bits >= bar.bits)
            and (bar.decisions is None or agreement >= bar.decisions)
            and abs(accuracy - before) <= bar.accuracy + 1e-12
        )
        return Verification(
            section=artefact.section,
            target=artefact.target,
            bytes=artefact.size,
            samples=len(self._labels),
            bit_agreement=bits,
            decision_agreement=agreement,
            max_logit_error=error,
            accuracy=accuracy,
            accuracy_change=accuracy - before,
            passed=passed,
        )

    def _decide(self, replaced: Mapping[str, Runner]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Class and exit of every sample."""
        logits = compose(self._topology, {**self._keras, **replaced}, self._images)
        tiers = by_tier(self._topology, {name: softmax(values) for name, values in logits.items()})
        staged = staged_inference(list(tiers.values()), self._limits)
        return staged.labels, staged.exits


def verification_samples(data: MultiViewDataset) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The test samples; where they are fewer than 500, validation and training samples fill up."""
    rows = data.split["test"]
    spare = np.concatenate([data.split["validation"], data.split["train"]])
    rows = np.concatenate([rows, spare[: max(0, _SAMPLES - len(rows))]])
    return data.images[rows], data.labels[rows]


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
