"""All tables and figures of the paper by one call: plan, train what is missing, compute, report.

    >>> experiment = Experiment(DataSource(name="scenes"), "runs/paper", seeds=3)
    >>> results = reproduce(experiment, only=["table-1", "figure-8"])
    >>> print(results.sections[0].tables[0].to_markdown())

A directory belongs to one data set, one number of epochs and one version of this package; more seeds
or more items may be asked of it later, and train only what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import ddnn_tf
from ddnn_tf.documents import atomic_write
from ddnn_tf.datasets.mvmc import AUTHORS_BLOB, git_blob_id
from ddnn_tf.evaluation import (
    claims,
    confusion,
    edge,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    missing_devices,
    pareto,
    reduction,
    reliability,
    table_1,
    table_2,
)
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ITEMS", "Item", "Results", "Section", "choose", "reproduce"]

_FORMAT = 1
_CONFIGURATION = "reproduce.json"


class Item(Protocol):
    """What each module of a table or figure offers."""

    TITLE: str

    def units(self, experiment: Experiment) -> list[Unit]:
        """The networks to be trained."""

    def tables(self, experiment: Experiment) -> list[Table]:
        """The results."""

    def figures(self, tables: Sequence[Table]) -> dict[str, Figure]:
        """Pictures of the tables, by file name."""


ITEMS: dict[str, Item] = {
    "claims": claims,
    "figure-6": figure_6,
    "table-1": table_1,
    "table-2": table_2,
    "figure-7": figure_7,
    "figure-8": figure_8,
    "figure-9": figure_9,
    "figure-10": figure_10,
    "missing-devices": missing_devices,
    "reduction": reduction,
    "edge": edge,
    "confusion": confusion,
    "reliability": reliability,
    "pareto": pareto,
}
"""Every table and figure, by the name that the command line takes."""


@dataclass(frozen=True)
class Section:
    """An item's results: its name, title, tables, and figures by file name."""

    name: str
    title: str
    tables: list[Table]
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Results:
    """All that was reproduced.

    Attributes:
        data: Name of the data set.
        about: Sentences on data, split and training, for the head of a report.
        seeds: Number of seeds.
        epochs: Epochs of each training.
        networks: How many networks stand behind the results.
        training_seconds: How long all of them took to train, each by itself.
        sections: The items, in the order of `ITEMS`.
        left_out: Items that could not be made, and why.
    """

    data: str
    about: list[str]
    seeds: int
    epochs: int
    networks: int
    training_seconds: float
    sections: list[Section]
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the figures, for JSON."""
        tables = {
            table.name: {"title": table.title, "rows": table.records(), "notes": list(table.notes)}
            for section in self.sections
            for table in section.tables
        }
        return {
            "version": ddnn_tf.__version__,
            "data": self.data,
            "about": self.about,
            "seeds": self.seeds,
            "epochs": self.epochs,
            "networks": self.networks,
            "training_seconds": self.training_seconds,
            "tables": tables,
            "left_out": self.left_out,
        }


def choose(only: Sequence[str] | None) -> list[str]:
    """The names of items asked for, in the order of `ITEMS`; None: all.

    Raises:
        ValueError: An unknown name, or none at all.
    """
    if only is None:
        return list(ITEMS)
    known = ", ".join(ITEMS)
    for name in only:
        if name not in ITEMS:
            raise ValueError(f"Expected tables and figures out of {known}, but got {name!r}.")
    if not only:
        raise ValueError(f"Expected at least one table or figure out of {known}, but got none.")
    return [name for name in ITEMS if name in only]


def reproduce(experiment: Experiment, only: Sequence[str] | None = None) -> Results:
    """Trains what is missing and computes tables and figures.

    Args:
        experiment: Data, seeds, epochs and directory.
        only: Names out of `ITEMS`; None: all. An item whose data are not to be had is left out, and
            named in `Results.left_out`; if it was asked for by name, that is an error.

    Raises:
        ImportError: matplotlib, Jinja2 or SciPy is not installed.
        ValueError: An unknown name, or a directory with results of another data set, number of epochs or
            version.
        FileExistsError: A directory with other files.
        FileNotFoundError: The data of an item asked for by name are not to be had.
    """
    names = choose(only)
    _check_installed()
    _claim(experiment)
    left_out: dict[str, str] = {}
    for name in list(names):
        try:
            _first_units(ITEMS[name], experiment)
            if name == "missing-devices":
                ITEMS[name].units(experiment)
        except FileNotFoundError as error:
            if only is not None:
                raise
            left_out[name] = str(error)
            names.remove(name)
    # The order of the devices comes from their individual models, so those go first.
    experiment.train([unit for name in names for unit in _first_units(ITEMS[name], experiment)])
    units = list(dict.fromkeys(unit for name in names for unit in ITEMS[name].units(experiment)))
    experiment.train(units)

    sections = []
    for name in names:
        tables = ITEMS[name].tables(experiment)
        sections.append(Section(name, ITEMS[name].TITLE, tables, ITEMS[name].figures(tables)))
    return Results(
        data=experiment.source.name,
        about=_about(experiment),
        seeds=len(experiment.seeds),
        epochs=experiment.epochs,
        networks=len(units),
        training_seconds=sum(experiment.trained(unit).seconds for unit in units),
        sections=sections,
        left_out=left_out,
    )


def _first_units(item: Item, experiment: Experiment) -> list[Unit]:
    first: Callable[[Experiment], list[Unit]] | None = getattr(item, "first_units", None)
    return [] if first is None else first(experiment)


def _about(experiment: Experiment) -> list[str]:
    data = experiment.data()
    size = "x".join(map(str, data.image_shape))
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    others = ""
    if len(experiment.seeds) > 1:
        first, second = (np.sort(experiment.data(seed).split["test"]) for seed in (0, 1))
        is_fixed = np.array_equal(first, second)
        others = "; every seed has the same test samples" if is_fixed else "; every seed draws its own"
    sentences = [
        f"Data: {data.name}, {len(data.labels)} samples seen by {data.devices} devices, images {size}, "
        f"classes {', '.join(data.class_names)}.",
        f"Split ({counts} samples): {data.split_rule}{others}.",
        f"{len(experiment.seeds)} seeds, {experiment.epochs} epochs. An accuracy is the mean over the seeds, "
        "after ± half of its 95 % interval (Student's t); without ± there was one seed, which proves little: "
        f"one of {len(data.split['test'])} test samples is {100 / len(data.split['test']):.1f} %.",
    ]
    path = experiment.source.path
    if data.name != "mvmc" or path is None or git_blob_id(Path(path)) != AUTHORS_BLOB:
        sentences.append(
            "The paper's data set is the authors' file MVMC (851 samples, six cameras, 680 for training and "
            "171 for test), which is not this one: the paper's numbers stand beside ours for orientation, "
            "not as a target."
        )
    return sentences


def _check_installed() -> None:
    from importlib.util import find_spec

    for module in ("scipy", "matplotlib", "jinja2"):
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'ddnn_tf[evaluation]'.")


def _claim(experiment: Experiment) -> None:
    """Makes the directory ours, or refuses one that holds something else."""
    place = experiment.directory
    asked = {
        "format": _FORMAT,
        "version": ddnn_tf.__version__,
        "data": experiment.source.name,
        "data_sha256": experiment.data().digest(),
        "epochs": experiment.epochs,
    }
    file = place / _CONFIGURATION
    if place.exists() and not place.is_dir():
        raise FileExistsError(f"'{place}' is a file: name a directory for the results.")
    if not file.is_file():
        if place.is_dir() and any(place.iterdir()):
            raise FileExistsError(f"'{place}' holds other files: name a new directory for the results.")
        with atomic_write(file) as aside:
            aside.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        return
    for key, there in _read_configuration(file).items():
        if asked.get(key) != there:
            raise ValueError(
                f"'{place}' holds results with {key} {there}, not {asked.get(key)}: name another directory."
            )


def _read_configuration(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{file}' is damaged: not valid JSON ({error}).") from None
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"'{file}' is damaged: it does not say what the directory holds.")
    return content
