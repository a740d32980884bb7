"""All tables and figures of the paper by one call: plan, train what is missing, compute, report.

    >>> experiment = Experiment(DataSource(name="scenes"), "runs/paper", seeds=3)  # doctest: +SKIP
    >>> results = reproduce(experiment, only=["table-1", "figure-8"])  # doctest: +SKIP
    >>> print(results.items[0].tables[0].to_markdown())  # doctest: +SKIP

A directory belongs to one data set, one number of epochs and one version of this package. A later run with
more seeds or more items trains only what is new.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ddnn_tf
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.datasets.mvmc import AUTHORS_BLOB, git_blob_id
from ddnn_tf.documents import check_same, claimed_directory, read_json, write_text
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, items_in_order
from ddnn_tf.evaluation.result_table import Table
from ddnn_tf.registry import choose

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ItemResult", "Results", "chosen_items", "reproduce"]

_FORMAT = 2
_CONFIGURATION = "reproduce.json"


@dataclass(frozen=True)
class ItemResult:
    """A table or figure as it was computed.

    Attributes:
        name: Its name on the command line.
        title: Its heading.
        tables: Its tables.
        figures: Its pictures, by file name.
        lines: Its tables in a form that another program prints, for comparison.
    """

    name: str
    title: str
    tables: list[Table]
    figures: dict[str, Figure]
    lines: list[str]


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
        items: The tables and figures, in the order of the report.
        left_out: Tables and figures that make no sense for the data, or lack data of their own, and why.
    """

    data: str
    about: list[str]
    seeds: int
    epochs: int
    networks: int
    training_seconds: float
    items: list[ItemResult]
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the figures, for JSON."""
        tables = {
            table.name: {"title": table.title, "rows": table.records(), "notes": list(table.notes)}
            for item in self.items
            for table in item.tables
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


def chosen_items(only: Sequence[str] | None) -> dict[str, Item]:
    """The tables and figures asked for, by name and in the order of the report; None: all but the extras.

    Raises:
        ValueError: An unknown name, or none at all.
    """
    items = items_in_order()
    names = choose("table or figure", only, items)
    return {name: items[name] for name in names if only is not None or not items[name].is_extra}


def reproduce(experiment: Experiment, only: Sequence[str] | None = None) -> Results:
    """Trains what is missing and computes tables and figures.

    Args:
        experiment: Data, seeds, epochs and directory.
        only: Names of tables and figures; None: all but the extras. One that makes no sense for the data is
            left out and named in `Results.left_out`; so is one whose own data are unavailable, unless it was
            asked for by name.

    Raises:
        ImportError: matplotlib, Jinja2 or SciPy is not installed.
        ValueError: An unknown name.
        FileExistsError: A directory with other files, or with results of another data set, number of epochs
            or version.
        BlockingIOError: Another process writes into the directory.
        FileNotFoundError: The data of an item asked for by name are unavailable.
    """
    items = chosen_items(only)
    _check_installed()
    with claimed_directory(experiment.directory, _CONFIGURATION) as marker:
        _check_same(experiment, marker)
        left_out = _left_out(experiment, items, is_lenient=only is None)
        kept = [item for name, item in items.items() if name not in left_out]
        # Which networks are needed depends on the order of the devices, and that on their individual models.
        experiment.train([trial for item in kept for trial in item.first_trials(experiment)])
        trials = list(dict.fromkeys(trial for item in kept for trial in item.trials(experiment)))
        experiment.train(trials)
    return Results(
        data=experiment.source.name,
        about=_about(experiment),
        seeds=len(experiment.seeds),
        epochs=experiment.epochs,
        networks=len(trials),
        training_seconds=sum(experiment.answers(trial).seconds for trial in trials),
        items=[_computed(item, experiment) for item in kept],
        left_out=left_out,
    )


def _left_out(experiment: Experiment, items: dict[str, Item], *, is_lenient: bool) -> dict[str, str]:
    """The items that cannot be made, and why; `is_lenient` also leaves out those without their own data."""
    reasons: dict[str, str] = {}
    for name, item in items.items():
        try:
            reason = item.obstacle(experiment)
        except FileNotFoundError as error:
            if not is_lenient:
                raise
            reason = str(error)
        if reason is not None:
            reasons[name] = reason
    return reasons


def _computed(item: Item, experiment: Experiment) -> ItemResult:
    tables = item.tables(experiment)
    return ItemResult(item.name, item.title, tables, item.figures(tables), item.lines(tables))


def _about(experiment: Experiment) -> list[str]:
    data = experiment.data()
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    others = ""
    if len(experiment.seeds) > 1:
        first, second = (np.sort(experiment.data(seed).split["test"]) for seed in (0, 1))
        is_fixed = np.array_equal(first, second)
        others = "; every seed has the same test samples" if is_fixed else "; every seed draws its own"
    seeds = len(experiment.seeds)
    test_samples = len(data.split["test"])
    sentences = [
        f"Data: {data.name}, {len(data.labels)} samples seen by {len(data.device_names)} devices, "
        f"{_inputs(data)}, classes {', '.join(data.class_names)}.",
        f"Split ({counts} samples): {data.split_rule}{others}.",
        f"{seeds} seed{'s' if seeds > 1 else ''}, {experiment.epochs} epochs. An accuracy is the mean over "
        "the seeds, after ± half of its 95 % interval (Student's t); without ± there was one seed, which "
        f"proves little: one of {test_samples} test samples is {100 / test_samples:.1f} %.",
    ]
    if data.balance:
        sentences.append(
            "The classes are very unequal: training weights each by the inverse of its share, and balanced "
            "accuracy (the mean over the classes) stands beside accuracy."
        )
    path = experiment.source.path
    if data.name != "mvmc" or path is None or git_blob_id(Path(path)) != AUTHORS_BLOB:
        sentences.append(
            "The paper's data set is the authors' file MVMC (851 samples, six cameras, 680 for training and "
            "171 for test), which is not this one: the paper's numbers stand beside ours for orientation, "
            "not as a target."
        )
    return sentences


def _inputs(data: MultiViewDataset) -> str:
    """What the devices sense, in words."""
    shapes = data.shapes
    words = {1: "vectors", 2: "series", 3: "images"}
    if len(set(shapes.values())) == 1:
        shape = next(iter(shapes.values()))
        return f"{words[len(shape)]} {_size(shape)}"
    listed = ", ".join(f"{device} {_size(shape)}" for device, shape in shapes.items())
    return f"inputs {listed}"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _check_installed() -> None:
    for module in ("scipy", "matplotlib", "jinja2"):
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'ddnn_tf[evaluation]'.")


def _check_same(experiment: Experiment, marker: Path) -> None:
    """Refuses the results of another experiment; marks those of a new one."""
    asked = {
        "format": _FORMAT,
        "version": ddnn_tf.__version__,
        "data": experiment.source.name,
        "data_sha256": experiment.data().digest(),
        "epochs": experiment.epochs,
    }
    if not marker.is_file():
        write_text(marker, json.dumps(asked, indent=2) + "\n")
        return
    content = read_json(marker)
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"'{marker}' is damaged: it does not say what the directory holds.")
    check_same(experiment.directory, "results", content, asked, "name another directory")
