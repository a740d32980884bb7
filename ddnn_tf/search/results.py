"""What a search found: every network it trained, the Pareto front of these, and the files that keep it.

search.json      the options of the search
study.db         the study, an SQLite file of Optuna's
trials/          the trained networks, by content
front.json       the front, with its measures on validation and on test samples
front.svg        its picture
topology.yaml    the most accurate network on the front, for `ddnn train --topology`
recipe.yaml      how it was trained, for `ddnn train --recipe`
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ValidationError

from ddnn_tf.datasets import DataSource
from ddnn_tf.documents import Document, Strict, atomic_write, one_sentence, read_json, write_text
from ddnn_tf.fronts import undominated
from ddnn_tf.recipes import Recipe, recipe_yaml
from ddnn_tf.search.limits import Limits
from ddnn_tf.search.space import Space
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    import optuna

__all__ = [
    "DATABASE",
    "NETWORK",
    "REFUSED",
    "SETTINGS",
    "Found",
    "Measures",
    "Objective",
    "Point",
    "Settings",
    "open_search",
    "opened_study",
    "points_of",
]

SETTINGS, DATABASE = "search.json", "study.db"
_FRONT, _PICTURE = "front.json", "front.svg"
_TOPOLOGY, _RECIPE = "topology.yaml", "recipe.yaml"
NETWORK, REFUSED = "network", "refused"
"""User attributes of a trial of the study: what was trained and measured, or why it was not trained."""

Objective = Literal["accuracy", "robust"]
"""The overall accuracy with all devices, or its mean over every device that may be missing."""


class Settings(Document):
    """The options of a search, which stay the same when it goes on.

    Attributes:
        version: Of ddnn_tf.
        data: The data.
        data_sha256: `MultiViewDataset.digest` of them.
        space: The candidates.
        limits: What every network on the front keeps.
        objective: What is to be large, while bytes per sample are to be few.
        epochs: Epochs of each training.
        seed: Seed of the search and of each training.
    """

    subject: ClassVar[str] = "search"

    version: str
    data: DataSource
    data_sha256: str
    space: Space
    limits: Limits
    objective: Objective
    epochs: int
    seed: int


class Measures(Strict):
    """Measures of a network on one part of the data; accuracies are balanced if training weights the classes.

    Attributes:
        accuracy: Overall accuracy.
        accuracy_one_missing: Its mean over every device that may be missing; None: there is one device.
        worst_accuracy_one_missing: Its lowest, without the device whose absence costs most.
        worst_device: That device.
        bytes_per_sample: Bytes per sample and device, Eq. (1), with all devices.
    """

    accuracy: float
    accuracy_one_missing: float | None
    worst_accuracy_one_missing: float | None
    worst_device: str | None
    bytes_per_sample: float


class Point(Strict):
    """A network that the search trained.

    Attributes:
        number: The number of its trial in the study.
        topology: The network.
        recipe: How it was trained.
        thresholds: T by tier, chosen on validation samples.
        device_flash_bytes: The largest flash of a device's C; 0: no device has blocks.
        device_ram_bytes: The largest RAM of a device's C.
        keeps_limits: Whether it keeps all limits.
        validation: Measures on validation samples, which guide the search.
        test: Measures on test samples, for networks on the front that a search ended with; else None.
    """

    number: int
    topology: Topology
    recipe: Recipe
    thresholds: dict[str, float]
    device_flash_bytes: int
    device_ram_bytes: int
    keeps_limits: bool
    validation: Measures
    test: Measures | None = None

    def score(self, objective: Objective) -> float:
        """What the search makes large, on validation samples."""
        if objective == "robust":
            return self.validation.accuracy_one_missing or 0.0
        return self.validation.accuracy

    @property
    def title(self) -> str:
        """The network in a few words, e.g. `filters 4, MP-WCC, float`."""
        device, cloud = self.topology.devices[0], self.topology.cloud
        blocks = f"filters {','.join(map(str, device.filters))}" if device.filters else "no filters"
        schemes = [local.aggregation for local in self.topology.local or ()] + [cloud.aggregation]
        edges = f", {len(self.topology.edges)} edges" if self.topology.edges else ""
        return f"{blocks}, {'-'.join(schemes)}, {cloud.precision}{edges}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of the recipe what differs from the paper's."""
        return {**self.model_dump(mode="json"), "recipe": self.recipe.differences()}


@dataclass(frozen=True)
class Found:
    """What a search found so far.

    Attributes:
        settings: Its options.
        points: Every network that it trained, in their order.
        refused: How many candidates it refused without training.
    """

    settings: Settings
    points: Sequence[Point]
    refused: int

    @property
    def front(self) -> list[Point]:
        """The networks within the limits that no other beats in both objectives, by rising bytes."""
        able = [point for point in self.points if point.keeps_limits]
        costs = [(point.validation.bytes_per_sample, -point.score(self.settings.objective)) for point in able]
        return [able[index] for index in undominated(costs)]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the options, the counts, and the front."""
        return {
            **self.settings.model_dump(mode="json"),
            "trained": len(self.points),
            "refused": self.refused,
            "front": [point.to_dict() for point in self.front],
        }

    def save(self, place: Path) -> None:
        """Writes the front, its picture, and its most accurate network.

        Args:
            place: The directory of the search.

        Raises:
            OSError: They cannot be written.
        """
        write_text(place / _FRONT, json.dumps(self.to_dict(), indent=2) + "\n")
        best = self.front[-1]
        write_text(place / _TOPOLOGY, best.topology.to_yaml())
        write_text(place / _RECIPE, recipe_yaml(best.recipe))
        with atomic_write(place / _PICTURE) as aside:
            self._draw().savefig(aside)

    def _draw(self) -> Any:
        from ddnn_tf.evaluation.drawing import canvas, colour, legend

        objective = self.settings.objective
        what = "accuracy with all devices" if objective == "accuracy" else "mean accuracy, one device missing"
        figure, (axes,) = canvas(
            f"{len(self.points)} networks on {self.settings.data.name}",
            "bytes per sample and device",
            f"{what} (validation), %",
        )
        beaten: dict[str, Any] = {"color": "0.55", "linestyle": "none", "markersize": 4}
        for keeps, marker, label in ((True, "o", "beaten"), (False, "x", "beyond a limit")):
            others = [point for point in self.points if point.keeps_limits == keeps]
            axes.plot(*_coordinates(others, objective), marker=marker, label=label, **beaten)
        front = self.front
        axes.plot(*_coordinates(front, objective), color=colour(0), marker="s", label="front")
        for point, x, y in zip(front, *_coordinates(front, objective), strict=True):
            axes.annotate(str(point.number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        legend(axes)
        return figure


def open_search(directory: str | Path) -> Found:
    """Reads what a search found so far; it may be interrupted, or running.

    Args:
        directory: Its directory.

    Raises:
        ImportError: Optuna is not installed.
        FileNotFoundError: There is no search.
        ValueError: A file of it is damaged.
        OSError: The study cannot be read.
    """
    place = Path(directory)
    if not (place / SETTINGS).is_file() or not (place / DATABASE).is_file():
        raise FileNotFoundError(
            f"There is no search in '{place}': make one with `ddnn search --out {place} --trials 20`."
        )
    settings = Settings.load(place / SETTINGS)
    with opened_study(place) as study:
        points, refused = points_of(study)
    measured = _test_measures(place / _FRONT)
    return Found(
        settings,
        [point.model_copy(update={"test": measured.get(point.number)}) for point in points],
        refused,
    )


def points_of(study: optuna.Study) -> tuple[list[Point], int]:
    """The networks of a study, and how many candidates it refused.

    Raises:
        ValueError: A network is not as this version wrote it.
    """
    attributes = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    try:
        points = [Point(**given[NETWORK]) for given in attributes if NETWORK in given]
    except (ValidationError, ValueError) as error:
        sentence = one_sentence(error, "study") if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"The study is damaged, or of another version of ddnn_tf: {sentence}") from None
    return points, sum(REFUSED in given for given in attributes)


@contextlib.contextmanager
def opened_study(place: Path) -> Iterator[optuna.Study]:
    """The study in a directory, new or not; in the block, Optuna logs warnings only.

    Args:
        place: The directory.

    Raises:
        OSError: The study's file cannot be read or written, in the block as well.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield optuna.create_study(
            storage=f"sqlite:///{(place / DATABASE).resolve()}",
            study_name="search",
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
    except (optuna.exceptions.OptunaError, SQLAlchemyError) as error:
        # Optuna wraps what SQLAlchemy raises, which wraps what SQLite does: the last one says it briefly.
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]
        raise OSError(
            f"'{place / DATABASE}' cannot be read or written as a study ({reason}): free space there, or "
            "name another directory."
        ) from None
    finally:
        optuna.logging.set_verbosity(verbosity)


def _test_measures(file: Path) -> dict[int, Measures]:
    """Measures on test samples by number, from the last time that the search ended."""
    if not file.is_file():
        return {}
    try:
        points: list[Mapping[str, Any]] = read_json(file)["front"]
        return {point["number"]: Measures(**point["test"]) for point in points if point["test"] is not None}
    except (KeyError, TypeError, ValidationError):
        raise ValueError(f"'{file}' is damaged: remove it, and give the command again.") from None


def _coordinates(points: Sequence[Point], objective: Objective) -> tuple[list[float], list[float]]:
    return (
        [point.validation.bytes_per_sample for point in points],
        [100 * point.score(objective) for point in points],
    )
