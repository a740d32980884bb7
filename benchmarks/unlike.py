"""Unlike devices: a DDNN on `occupancy` and `mfeat` beside random forests.

    pip install 'ddnn_tf[benchmarks]'
    DDNN_DATA=DIRECTORY python benchmarks/unlike.py --seeds 3 --epochs 40

A forest on all readings together is the centralised bound: it sees at once what the DDNN's devices keep to
themselves. A forest on each device alone says what a sensor knows without the others. Seeds draw split and
weights; thresholds are chosen on validation samples; everything printed is of test samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import DataSource, MultiViewDataset, fitting_topology
from ddnn_tf.evaluation.accuracy import balanced_accuracy
from ddnn_tf.runs import train_run
from ddnn_tf.training import TrainingOptions

DATA = ("occupancy", "mfeat")
_TREES = 300


def ddnn(source: DataSource, data: MultiViewDataset, options: TrainingOptions) -> dict[str, float]:
    """Accuracies and bytes of the paper's network, fitted to the data."""
    with tempfile.TemporaryDirectory() as directory:
        evaluation = train_run(Path(directory) / "run", fitting_topology(data), source, data, options)
    tiers = {f"{tier} exit": value for tier, value in evaluation.exit_accuracy.items()} | {
        f"{tier} exit, balanced": value for tier, value in evaluation.exit_balanced_accuracy.items()
    }
    return {
        "DDNN overall": evaluation.overall_accuracy,
        "DDNN overall, balanced": evaluation.overall_balanced_accuracy,
        **tiers,
        "local exit share": evaluation.exit_shares["local"],
        "bytes per sample and device": evaluation.bytes_per_sample,
        "raw bytes per sample and device": evaluation.bytes_per_sample * evaluation.reduction,
    }


def forests(data: MultiViewDataset, seed: int) -> dict[str, float]:
    """Accuracies of random forests on all readings together, and on each device alone."""
    everything = {part: np.hstack(_flat(data, part)) for part in ("train", "test")}
    measures = _forest(data, everything, seed, "forest on all readings")
    for number, device in enumerate(data.device_names):
        alone = {part: _flat(data, part)[number] for part in ("train", "test")}
        measures |= _forest(data, alone, seed, f"forest on {device}")
    return measures


def _forest(
    data: MultiViewDataset, readings: dict[str, NDArray[Any]], seed: int, name: str
) -> dict[str, float]:
    from sklearn.ensemble import RandomForestClassifier

    weight = "balanced" if data.balance else None
    forest = RandomForestClassifier(_TREES, class_weight=weight, random_state=seed, n_jobs=-1)
    answers = forest.fit(readings["train"], data.targets("train")).predict(readings["test"])
    truth = data.targets("test")
    return {name: float((answers == truth).mean()), f"{name}, balanced": balanced_accuracy(answers, truth)}


def _flat(data: MultiViewDataset, part: str) -> list[NDArray[Any]]:
    """Readings of each device, `(samples, numbers)`."""
    return [view.reshape(len(view), -1) for view in data.part(part).values()]


def measure(name: str, seeds: Sequence[int], epochs: int) -> dict[str, list[float]]:
    """All measures of a data set, one number for each seed."""
    measures: dict[str, list[float]] = {}
    for seed in seeds:
        source = DataSource(name=name, seed=seed)
        data = source.load()
        options = TrainingOptions(epochs=epochs, seed=seed)
        for key, value in {**ddnn(source, data, options), **forests(data, seed)}.items():
            measures.setdefault(key, []).append(value)
    return measures


def main() -> None:
    """Prints a table for each data set, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=DATA, action="append", help="one of them (default: both)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {
        name: measure(name, range(arguments.seeds), arguments.epochs) for name in arguments.data or DATA
    }
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, measures in results.items():
        print(f"\n{name}: test samples, mean over {arguments.seeds} seeds (each seed)")
        for key, values in measures.items():
            scale, unit = (1, "") if "bytes" in key else (100, " %")
            each = ", ".join(f"{scale * value:.1f}" for value in values)
            print(f"  {key:42s} {scale * np.mean(values):6.1f}{unit}   ({each})")


if __name__ == "__main__":
    main()
