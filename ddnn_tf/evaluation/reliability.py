"""Reliability of every exit: is a sample that it is p sure of right with probability p?

Beyond the paper. The confidence of a sample is its highest class probability; the expected
calibration error (ECE) is the mean distance between confidence and accuracy over ten bins of equal
width, weighted by their samples.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599), Section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.evaluation.confusion import exits, units
from ddnn_tf.evaluation.drawing import canvas, colour
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.tables import Cell, Table, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TITLE", "calibration", "figures", "tables", "units"]

TITLE = "Reliability per exit"
BINS = 10


def tables(experiment: Experiment) -> list[Table]:
    """Calibration error of each exit; and its bins."""
    summary: list[dict[str, Cell]] = []
    bins: list[dict[str, Cell]] = []
    for name, group in exits(experiment).items():
        answers = [(experiment.trained(unit).test[tier], experiment.labels(unit)) for unit, tier in group]
        found = [calibration(*answer) for answer in answers]
        errors, gaps = [], []
        for counts, confidence, accuracy in found:
            share = counts / counts.sum()
            errors.append(float((share * np.abs(confidence - accuracy)).sum()))
            gaps.append(float((share * (confidence - accuracy)).sum()))
        over = percent(gaps)
        verdict = "too sure" if over.mean > 0 else "not sure enough"
        summary.append({"exit": name, "ECE %": percent(errors), "confidence - accuracy %": over, "": verdict})
        pooled = calibration(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))
        bins += [
            {
                "exit": name,
                "confidence from": at / BINS,
                "to": (at + 1) / BINS,
                "samples": int(count),
                "mean confidence %": 100 * float(sure),
                "accuracy %": 100 * float(right),
            }
            for at, (count, sure, right) in enumerate(zip(*pooled, strict=True))
            if count
        ]
    notes = ("Test samples, all classified at the exit; the bins hold the samples of all seeds.",)
    return [
        Table("reliability", TITLE, summary, notes),
        Table("reliability_bins", "Reliability per exit: the bins", bins),
    ]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracy against confidence, the diagonal being perfect; below it too sure."""
    rows = tables[1].rows
    names = list(dict.fromkeys(str(row["exit"]) for row in rows))
    figure, panels = canvas(TITLE, "confidence / %", "accuracy / %", panels=len(names), size=(3.8, 3.8))
    for name, axes in zip(names, panels, strict=True):
        chosen = [row for row in rows if row["exit"] == name]
        places = [50 * (mean(row["confidence from"]) + mean(row["to"])) for row in chosen]
        heights = [mean(row["accuracy %"]) for row in chosen]
        axes.bar(places, heights, 100 / BINS, color=colour(4), edgecolor="black", linewidth=0.6)
        for place, row in zip(places, chosen, strict=True):
            axes.text(place, 2, str(row["samples"]), ha="center", fontsize=6, rotation=90)
        axes.plot([0, 100], [0, 100], color="black", linestyle="--", linewidth=1)
        sure = [mean(row["mean confidence %"]) for row in chosen]
        axes.plot(sure, heights, "o", color="black", markersize=4)
        axes.set_title(f"{name} (samples in the bars)", fontsize=10)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 105)
    return {"reliability": figure}


def calibration(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Samples, mean confidence and accuracy by bin of confidence.

    Args:
        probabilities: `(samples, classes)`.
        labels: `(samples,)` int.

    Returns:
        Three arrays `(10,)`; confidence and accuracy are fractions, 0 in an empty bin.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == np.asarray(labels)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisor = np.maximum(counts, 1)
    return (
        counts,
        np.bincount(bins, weights=confidence, minlength=BINS) / divisor,
        np.bincount(bins, weights=right, minlength=BINS) / divisor,
    )
