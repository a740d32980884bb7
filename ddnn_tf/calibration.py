"""Calibration: probabilities that say how often an answer is right, and how far they are from that.

A trained network is usually too sure of itself, and more so without a device that it was trained with. One
number for each exit and set of devices, its temperature, corrects that. It changes no answer, because it
keeps the order of the classes, and no threshold: T always refers to the entropy of the network's own
probabilities.

    >>> random = np.random.default_rng(0)
    >>> labels = random.integers(0, 2, 1000)
    >>> answers = np.where(random.random(1000) < 0.8, labels, 1 - labels)  # right four times out of five
    >>> overconfident = np.where(np.eye(2)[answers] == 1, 0.99, 0.01)
    >>> round(expected_calibration_error(overconfident, labels), 2)
    0.19
    >>> temperature = fit_temperature(overconfident, labels)
    >>> bool(expected_calibration_error(scaled(overconfident, temperature), labels) < 0.01)
    True

Nothing here needs TensorFlow.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (temperature scaling).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from ddnn_tf.documents import Document, Strict
from ddnn_tf.exits import softmax
from ddnn_tf.hierarchy import Hierarchy

__all__ = [
    "Calibration",
    "CalibrationOfSet",
    "error_by_chance",
    "expected_calibration_error",
    "fit_temperature",
    "scaled",
]

# Probabilities that were rounded to 0 in float32 were below it.
_SMALLEST = float(np.finfo(np.float32).tiny)
_COLDEST, _HOTTEST = 0.01, 100.0
# Each halves the interval of the logarithm: far more exact than any number of samples can tell.
_BISECTIONS = 40


_Share = Annotated[float, Field(ge=0, le=1)]


class CalibrationOfSet(Strict):
    """What was found on validation samples with a set of devices present.

    Attributes:
        devices: Names of the devices that are present, in the order of the hierarchy.
        temperatures: By tier with an exit.
        thresholds: T by tier, for all tiers but the last; of the network's own entropies.
        entropies: Entropies at the lowest exit, rising: what those of later samples are compared with.
    """

    devices: tuple[str, ...]
    temperatures: dict[str, Annotated[float, Field(gt=0)]]
    thresholds: dict[str, _Share]
    entropies: tuple[_Share, ...]


class Calibration(Document):
    """What a deployed network knows of its doubt: a part of a bundle.

    Attributes:
        risk: Largest share of wrong answers among samples that leave early (`risk.risk_thresholds`).
        delta: Largest probability of more, for each set of devices by itself.
        samples: Number of validation samples.
        sets: One entry for each set of present devices, that of all devices first.
    """

    subject: ClassVar[str] = "calibration"

    risk: _Share
    delta: _Share
    samples: Annotated[int, Field(ge=1)]
    sets: Annotated[tuple[CalibrationOfSet, ...], Field(min_length=1)]

    def of(self, devices: Iterable[str]) -> CalibrationOfSet:
        """What holds with these devices present.

        For a set without an entry nothing is promised, so no sample leaves early, and the temperatures are
        those of the entry with the most devices missing.
        """
        present = frozenset(devices)
        entry = self._by_devices.get(present)
        if entry is not None:
            return entry
        fewest = min(self.sets, key=lambda entry: len(entry.devices))
        never = dict.fromkeys(fewest.thresholds, 0.0)
        return fewest.model_copy(update={"devices": (), "thresholds": never, "entropies": ()})

    def check_fit(self, hierarchy: Hierarchy) -> None:
        """Refuses a calibration of another network.

        Raises:
            ValueError: Other devices or tiers than those of the hierarchy.
        """
        for entry in self.sets:
            for kind, names, expected in (
                ("devices", entry.devices, hierarchy.device_names),
                ("temperatures", entry.temperatures, hierarchy.exit_tier_names),
                ("thresholds", entry.thresholds, hierarchy.early_tier_names),
            ):
                is_subset = kind == "devices" and bool(names) and set(names) <= set(expected)
                if not is_subset and set(names) != set(expected):
                    raise ValueError(
                        f"Expected a calibration with {kind} of {', '.join(expected)}, but got "
                        f"{', '.join(names) or 'none'}: export the network anew"
                    )

    @functools.cached_property
    def _by_devices(self) -> dict[frozenset[str], CalibrationOfSet]:
        return {frozenset(entry.devices): entry for entry in self.sets}


def scaled(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities of logits divided by a temperature.

    Args:
        probabilities: `(..., classes)`, of a softmax: their logarithms are logits but for a constant.
        temperature: Above 0; more than 1 makes them less sure. 1 leaves them as they are.

    Returns:
        `(..., classes)` float64; the most probable class stays the most probable.

    Raises:
        ValueError: A temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"Expected a temperature above 0, but got {temperature}.")
    values = np.asarray(probabilities, dtype=np.float64)
    return values if temperature == 1 else softmax(_logits(values) / temperature)


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The temperature of least negative log-likelihood.

    The true class counts as 1 - 1 / (n + 2) and the others share the rest, as if one sample more had another
    class: without this, samples that are all answered right would be best explained by certainty.

    Args:
        probabilities: `(samples, classes)` of validation samples.
        labels: `(samples,)` int, their classes.

    Returns:
        Between 0.01 and 100.

    Raises:
        ValueError: No sample, or shapes that do not fit each other.

    Source: Guo et al. 2017, Section 4.2; the targets are Platt's (1999), for several classes.
    """
    values, truth = _checked(probabilities, labels)
    logits = _logits(values)
    logits = logits - logits.max(axis=1, keepdims=True)
    samples, classes = logits.shape
    doubt = 1 / (samples + 2)
    targets = np.full(logits.shape, doubt / (classes - 1))
    targets[np.arange(samples), truth] = 1 - doubt
    wanted = float((targets * logits).sum())
    # The loss is convex in 1 / temperature: its derivative has one zero, at which both sums are equal.
    low, high = np.log(1 / _HOTTEST), np.log(1 / _COLDEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if float((softmax(np.exp(middle) * logits) * logits).sum()) < wanted:
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> float:
    """How far confidence and accuracy are apart: the mean over the samples of their bins' differences.

    The bins hold about equally many samples each, in the order of their confidence, the probability of the
    class that is answered: of bins of equal width, a good network leaves most nearly empty. Samples of equal
    confidence share a bin.

    Args:
        probabilities: `(samples, classes)`.
        labels: `(samples,)` int, the true classes.
        bins: Number of bins.

    Returns:
        Between 0 and 1. Few samples make it larger than it is: see `error_by_chance`.

    Raises:
        ValueError: No sample, shapes that do not fit each other, or no bin.

    Source: Guo et al. 2017, Section 2; bins of equal mass as in Nguyen and O'Connor 2015.
    """
    values, truth = _checked(probabilities, labels)
    return _error(values.max(axis=1), values.argmax(axis=1) == truth, bins)


def error_by_chance(probabilities: ArrayLike, bins: int = 10, draws: int = 200, seed: int = 0) -> float:
    """The expected calibration error that these probabilities would have if they were perfectly calibrated.

    Args:
        probabilities: `(samples, classes)`, at least one sample.
        bins: As for `expected_calibration_error`.
        draws: How often it is drawn whether each answer is right.
        seed: Of the draws.

    Returns:
        The mean over the draws: no more can be told apart from 0 on so many samples.
    """
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    random = np.random.default_rng(seed)
    is_right = random.random((draws, len(confidence))) < confidence
    return float(np.mean([_error(confidence, right, bins) for right in is_right]))


def _error(confidence: NDArray[np.float64], is_right: NDArray[np.bool_], bins: int) -> float:
    if bins < 1:
        raise ValueError(f"Expected `bins` to be at least 1, but got {bins}.")
    surer_than = np.searchsorted(np.sort(confidence), confidence)
    sums = np.bincount(bins * surer_than // len(confidence), weights=confidence - is_right)
    return float(np.abs(sums).sum() / len(confidence))


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities, _SMALLEST))


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[Any]]:
    values, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            f"Expected `probabilities` of shape (samples, classes) with two classes or more, but got "
            f"{values.shape}."
        )
    if truth.shape != values.shape[:1] or not len(truth):
        raise ValueError(
            f"Expected `labels` to have shape ({len(values)},) with at least one sample, but got "
            f"{truth.shape}."
        )
    return values, truth
