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

from ddnn_tf.evaluation.drawing import canvas, colour
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items.confusion import exits, trials
from ddnn_tf.evaluation.result_table import Cell, Table, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration", "figures", "tables", "trials"]

_TITLE = "Reliability per exit"
_BINS = 10


def tables(experiment: Experiment) -> list[Table]:
    """Calibration error of each exit; and its bins."""
    summary: list[dict[str, Cell]] = []
    bins: list[dict[str, Cell]] = []
    for name, group in exits(experiment).items():
        answers = [(experiment.answers(trial).test[tier], experiment.labels(trial)) for trial, tier in group]
        summary.append({"exit": name, **_errors(answers)})
        pooled = calibration(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))
        bins += [
            {
                "exit": name,
                "confidence from": number / _BINS,
                "to": (number + 1) / _BINS,
                "samples": int(count),
                "mean confidence %": 100 * float(sure),
                "accuracy %": 100 * float(right),
            }
            for number, (count, sure, right) in enumerate(zip(*pooled, strict=True))
            if count
        ]
    notes = ("Test samples, all classified at the exit; the bins hold the samples of all seeds.",)
    return [
        Table("reliability", _TITLE, summary, notes),
        Table("reliability_bins", "Reliability per exit: the bins", bins),
    ]


def _errors(answers: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> dict[str, Cell]:
    """Calibration error of an exit over the seeds, and whether it is too sure."""
    errors, gaps = [], []
    for probabilities, labels in answers:
        counts, confidence, accuracy = calibration(probabilities, labels)
        share = counts / counts.sum()
        errors.append(float((share * np.abs(confidence - accuracy)).sum()))
        gaps.append(float((share * (confidence - accuracy)).sum()))
    over = percent(gaps)
    verdict = "too sure" if over.mean > 0 else "not sure enough"
    return {"ECE %": percent(errors), "confidence - accuracy %": over, "": verdict}


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracy against confidence, the diagonal being perfect; below it too sure."""
    rows = tables[1].rows
    names = list(dict.fromkeys(str(row["exit"]) for row in rows))
    figure, panels = canvas(_TITLE, "confidence / %", "accuracy / %", panels=len(names), size=(3.8, 3.8))
    for name, axes in zip(names, panels, strict=True):
        chosen = [row for row in rows if row["exit"] == name]
        places = [50 * (mean(row["confidence from"]) + mean(row["to"])) for row in chosen]
        heights = [mean(row["accuracy %"]) for row in chosen]
        axes.bar(places, heights, 100 / _BINS, color=colour(4), edgecolor="black", linewidth=0.6)
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
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    divisor = np.maximum(counts, 1)
    return (
        counts,
        np.bincount(bins, weights=confidence, minlength=_BINS) / divisor,
        np.bincount(bins, weights=right, minlength=_BINS) / divisor,
    )


register_item(Item("reliability", order=120, title=_TITLE, trials=trials, tables=tables, figures=figures))
