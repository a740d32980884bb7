"""Where an experiment keeps its results: `trials/<key>.npz` holds what a trained network answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.files import read_npz, write_npz
from ddnn_tf.evaluation.trial import Trial

__all__ = ["Answers", "Probabilities", "TrialStore"]

Probabilities = Mapping[str, NDArray[np.float64]]
"""Class probabilities `(samples, classes)` by tier; of individual models by device."""

_PARTS = ("validation", "test")


@dataclass(frozen=True)
class Answers:
    """What the network of a trial answers.

    Attributes:
        validation: Answers to the validation samples.
        test: Answers to the test samples.
        without: By part: answers without the nodes of each of `Trial.missing`.
        seconds: How long the training took.
    """

    validation: Probabilities
    test: Probabilities
    without: Mapping[str, Mapping[tuple[str, ...], Probabilities]]
    seconds: float

    def of(self, part: str, missing: tuple[str, ...] = ()) -> Probabilities:
        """The answers to a part of the data.

        Args:
            part: `validation` or `test`.
            missing: Failed nodes, one of `Trial.missing`.

        Raises:
            ValueError: Another part, or a set of nodes that was not asked for.
        """
        if part not in _PARTS:
            raise ValueError(f"Expected `part` to be validation or test, but got {part!r}.")
        if missing and missing not in self.without[part]:
            raise ValueError(
                f"Expected `missing` to be one of the trial's sets of nodes, but got {', '.join(missing)}: "
                "name it when you make the trial."
            )
        if missing:
            return self.without[part][missing]
        return self.validation if part == "validation" else self.test


class TrialStore:
    """The trained trials in a directory.

    Args:
        directory: The directory of the experiment.
    """

    def __init__(self, directory: Path) -> None:
        self._place = directory / "trials"

    def file(self, trial: Trial) -> Path:
        """The file of a trial's answers."""
        return self._place / f"{trial.key}.npz"

    def checkpoints(self, trial: Trial) -> Path:
        """The directory of a trial's checkpoints while it trains."""
        return self._place / trial.key

    def write(self, trial: Trial, answers: Answers, weights: Sequence[NDArray[Any]]) -> None:
        """Keeps the answers and weights of a trained network."""
        arrays: dict[str, Any] = {f"weight_{number}": array for number, array in enumerate(weights)}
        groups = {"validation": answers.validation, "test": answers.test}
        for part, sets in answers.without.items():
            groups |= {_without(part, missing): probabilities for missing, probabilities in sets.items()}
        for group, probabilities in groups.items():
            arrays |= {f"{group}/{output}": array for output, array in probabilities.items()}
        arrays |= {"title": np.array(trial.title), "seconds": np.array(answers.seconds)}
        write_npz(self.file(trial), arrays)

    def read(self, trial: Trial) -> Answers | None:
        """The answers of a trained network; None: the trial is not trained yet.

        Raises:
            ValueError: The file is damaged.
        """
        file = self.file(trial)
        if not file.is_file():
            return None
        groups = [*_PARTS, *(_without(part, missing) for part in _PARTS for missing in trial.missing)]
        keys = {f"{group}/{output}": "class probabilities" for group in groups for output in trial.outputs}
        try:
            arrays = read_npz(file, {"seconds": "time of training", **keys})
        except ValueError as error:
            raise ValueError(f"{str(error).rstrip('.')}: remove it, and it is trained again.") from None

        def group(name: str) -> Probabilities:
            return {output: arrays[f"{name}/{output}"].astype(np.float64) for output in trial.outputs}

        without = {
            part: {missing: group(_without(part, missing)) for missing in trial.missing} for part in _PARTS
        }
        return Answers(group("validation"), group("test"), without, float(arrays["seconds"]))

    def weights(self, trial: Trial) -> list[NDArray[Any]]:
        """The weights of a trained network, in the order of its model's.

        Raises:
            FileNotFoundError: The trial is not trained yet.
            ValueError: The file is damaged.
        """
        arrays = read_npz(self.file(trial), {"weight_0": "weights"}, others=True)
        names = itertools.takewhile(arrays.__contains__, map("weight_{}".format, itertools.count()))
        return [arrays[name] for name in names]


def _without(part: str, missing: Sequence[str]) -> str:
    """Name of the arrays of a set of failed nodes."""
    return f"{part} without {'+'.join(missing)}"
