"""The search itself: Optuna draws candidates, limits refuse some, the others are trained and measured.

Candidates are drawn and trained in batches of as many as there are workers, and told to the study in the
order in which they were drawn. So a search depends on its seed and the number of workers alone, and one that
was interrupted goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ddnn_tf
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.documents import check_same, claimed_directory, write_text
from ddnn_tf.evaluation.accuracy import Evaluation, best_thresholds, measure
from ddnn_tf.evaluation.executor import train_trials
from ddnn_tf.evaluation.store import Answers, TrialStore
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.export.c.source import Footprint
from ddnn_tf.recipes import Recipe
from ddnn_tf.search.limits import Limits, device_footprints
from ddnn_tf.search.results import (
    DATABASE,
    NETWORK,
    REFUSED,
    SETTINGS,
    Found,
    Measures,
    Objective,
    Point,
    Settings,
    open_search,
    opened_study,
    points_of,
)
from ddnn_tf.search.space import Space
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions

if TYPE_CHECKING:
    import optuna

__all__ = ["search"]

# So many candidates in a row without a new network: the limits or the space leave hardly anything.
_MOST_IN_VAIN = 100
# Candidates that are drawn at random before the results guide the search.
_RANDOM = 10
_ONE_DEVICE = "at least two devices, one of which can be missing"


def search(
    directory: str | Path,
    source: DataSource,
    *,
    space: Space | None = None,
    limits: Limits | None = None,
    objective: Objective = "accuracy",
    trials: int = 20,
    epochs: int = 20,
    seed: int = 0,
    workers: int = 1,
) -> Found:
    """Searches networks that are accurate and send few bytes; goes on with the search in the directory.

    Args:
        directory: Where to keep the study, the networks and the front.
        source: The data; their validation part guides the search.
        space: The candidates; None: the default one.
        limits: What every network on the front keeps; None: nothing.
        objective: `accuracy` or `robust`, what is to be large (`Objective`).
        trials: How many networks the search has trained when it ends, those of earlier calls included. It
            ends sooner if 100 candidates in a row bring no new network.
        epochs: Epochs of each training.
        seed: Seed of the search and of each training.
        workers: How many networks to train at a time.

    Returns:
        What was found, with measures on test samples for the front.

    Raises:
        ImportError: Optuna or matplotlib is not installed.
        FileExistsError: The directory holds other files, or a search with other options.
        BlockingIOError: Another process searches in the directory.
        ValueError: Options out of their range, or no network keeps the limits.
        OSError: The study cannot be read or written, or a worker was killed.
    """
    for name, value in {"trials": trials, "workers": workers}.items():
        if value < 1:
            raise ValueError(f"Expected `{name}` to be at least 1, but got {value}.")
    TrainingOptions(epochs=epochs, seed=seed)
    data = source.load()
    settings = Settings(
        version=ddnn_tf.__version__,
        data=source,
        data_sha256=data.digest(),
        space=space or Space(),
        limits=limits or Limits(),
        objective=objective,
        epochs=epochs,
        seed=seed,
    )
    for needs, option in (
        (objective == "robust", "the objective 'robust'"),
        (settings.limits.min_accuracy_any_one_missing is not None, "`min_accuracy_any_one_missing`"),
    ):
        if needs and len(data.device_names) < 2:
            raise ValueError(f"Expected {_ONE_DEVICE} for {option}, but '{data.name}' has one device.")
    place = Path(directory)
    with claimed_directory(place, SETTINGS) as file:
        if file.is_file():
            remedy = "give the same options to go on with it, or name another directory"
            old, new = (each.model_dump(mode="json") for each in (Settings.load(file), settings))
            # Other data have another digest: it is named only where nothing else differs.
            was, now = ({"data_sha256": options.pop("data_sha256")} for options in (old, new))
            check_same(place, "a search", old, new, remedy)
            check_same(place, "a search", was, now, remedy)
        write_text(file, settings.model_dump_json(indent=2) + "\n")
        with opened_study(place) as study:
            running = _Search(place, settings, data, study)
            running.resume()
            running.run(trials, workers)
        found = running.with_test_measures(open_search(place), workers)
        found.save(place)
    return found


@dataclass(frozen=True)
class _Drawn:
    """A candidate that is to be trained.

    Attributes:
        entry: Its entry in the study.
        trial: Its training.
        footprints: What its devices take.
    """

    entry: optuna.trial.Trial
    trial: Trial
    footprints: tuple[Footprint, ...]


class _Search:
    """A search in a directory that this process has claimed."""

    def __init__(self, place: Path, settings: Settings, data: MultiViewDataset, study: optuna.Study) -> None:
        self._place, self._settings, self._data, self._study = place, settings, data, study
        self._store = TrialStore(place)
        self._distributions = settings.space.distributions()
        points, _ = points_of(self._study)
        self._trained = {self._trial(point.topology, point.recipe).key: point for point in points}
        self._last_refusal = "it was trained before"

    def resume(self) -> None:
        """Draws anew, with the same values, the candidates that an interrupted search was training."""
        from optuna.trial import TrialState

        for stale in self._study.get_trials(states=(TrialState.RUNNING,)):
            # One that was interrupted while it was drawn lacks values: it is drawn anew altogether.
            if set(stale.params) == set(self._distributions):
                self._study.enqueue_trial(stale.params)
            self._study.tell(stale.number, state=TrialState.FAIL)

    def run(self, trials: int, workers: int) -> None:
        """Trains until there are as many networks as asked for, or no more to find.

        Raises:
            ValueError: No network keeps the limits.
        """
        limits = self._settings.limits.to_text()
        is_exhausted = False
        while len(self._trained) < trials and not is_exhausted:
            wanted = min(workers, trials - len(self._trained))
            batch = self._draw(wanted)
            is_exhausted = len(batch) < wanted
            self._train([drawn.trial for drawn in batch], workers)
            for drawn in batch:
                point = self._measured(drawn)
                self._trained[drawn.trial.key] = point
                drawn.entry.set_user_attr(NETWORK, point.model_dump(mode="json"))
                self._tell(drawn.entry, point)
        if not self._trained:
            # Nothing is lost, and the next command may well name other limits.
            for name in (DATABASE, SETTINGS):
                (self._place / name).unlink()
            raise ValueError(
                f"None of {_MOST_IN_VAIN} candidates is within the limits; the last one: "
                f"{self._last_refusal}: relax the limits ({limits or 'none are set'}), or change the search "
                "space."
            )
        points = self._trained.values()
        if not any(point.keeps_limits for point in points):
            nearest = max(points, key=lambda point: point.score(self._settings.objective))
            worst = nearest.validation.worst_accuracy_one_missing
            alone = "" if worst is None else f" and has an accuracy of {worst:.3f} without one device"
            raise ValueError(
                f"None of {len(points)} networks keeps the limits ({limits}); the most accurate one sends "
                f"{nearest.validation.bytes_per_sample:.1f} bytes{alone}: ask for more --trials, or relax "
                "the limits in another directory."
            )

    def with_test_measures(self, found: Found, workers: int) -> Found:
        """The same, with measures on test samples for the networks on the front."""
        front = [point for point in found.front if point.test is None]
        trials = {point.number: self._trial(point.topology, point.recipe) for point in front}
        self._train(list(trials.values()), workers)
        tested = {
            point.number: point.model_copy(
                update={"test": self._measures(trials[point.number], "test", point.thresholds)}
            )
            for point in front
        }
        return replace(found, points=[tested.get(point.number, point) for point in found.points])

    def _draw(self, wanted: int) -> list[_Drawn]:
        """New candidates that may keep the limits; fewer than wanted if they are hard to find."""
        from optuna.trial import TrialState

        batch: list[_Drawn] = []
        in_vain = 0
        while len(batch) < wanted and in_vain < _MOST_IN_VAIN:
            entry = self._ask()
            in_vain += 1
            try:
                candidate = self._settings.space.candidate(entry.params, self._data)
                footprints = device_footprints(candidate.topology)
                refusal = self._settings.limits.refusal(candidate.topology, footprints)
            except ValueError as error:
                refusal = str(error).rstrip(".")
            if refusal is not None:
                self._last_refusal = refusal
                entry.set_user_attr(REFUSED, refusal)
                entry.set_constraint(REFUSED, 1.0)
                self._study.tell(entry, state=TrialState.PRUNED)
                continue
            trial = self._trial(candidate.topology, candidate.recipe)
            if trial.key in self._trained:
                self._tell(entry, self._trained[trial.key])
            elif any(drawn.trial == trial for drawn in batch):
                self._study.tell(entry, state=TrialState.PRUNED)
            else:
                batch.append(_Drawn(entry, trial, tuple(footprints.values())))
                in_vain = 0
        return batch

    def _ask(self) -> optuna.trial.Trial:
        """A candidate, which depends on the seed and on those before it alone, interrupted or not."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        drawn = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        before = len(self._study.get_trials(deepcopy=False, states=drawn))
        seed = int(np.random.SeedSequence([self._settings.seed, before]).generate_state(1)[0])
        self._study.sampler = TPESampler(n_startup_trials=_RANDOM, seed=seed)
        return self._study.ask(self._distributions)

    def _tell(self, entry: optuna.trial.Trial, point: Point) -> None:
        """Tells the study what a candidate gives."""
        validation = point.validation
        for name, excess in self._settings.limits.excess(
            validation.bytes_per_sample, validation.worst_accuracy_one_missing
        ).items():
            entry.set_constraint(name, excess)
        self._study.tell(entry, [point.score(self._settings.objective), validation.bytes_per_sample])

    def _train(self, trials: list[Trial], workers: int) -> None:
        """Trains the trials that are not in the store."""
        missing = [trial for trial in trials if self._store.read(trial) is None]
        train_trials(missing, self._place, already_trained=len(self._trained), workers=workers)

    def _trial(self, topology: Topology, recipe: Recipe) -> Trial:
        devices = self._data.device_names
        return Trial(
            title=f"{topology.cloud.aggregation} {topology.cloud.precision}",
            source=self._settings.data,
            data_sha256=self._settings.data_sha256,
            devices=devices,
            topology=topology,
            is_individual=False,
            options=TrainingOptions(epochs=self._settings.epochs, seed=self._settings.seed, recipe=recipe),
            missing=tuple((name,) for name in devices) if len(devices) > 1 else (),
            samples=len(self._data.split["train"]),
        )

    def _measured(self, drawn: _Drawn) -> Point:
        """A trained candidate, with thresholds and measures of validation samples."""
        trial = drawn.trial
        thresholds = best_thresholds(
            trial.topology,
            self._answers(trial).validation,
            self._data.targets("validation"),
            balanced=self._data.balance,
        )
        validation = self._measures(trial, "validation", thresholds)
        excess = self._settings.limits.excess(
            validation.bytes_per_sample, validation.worst_accuracy_one_missing
        )
        return Point(
            number=drawn.entry.number,
            topology=trial.topology,
            recipe=trial.options.recipe,
            thresholds=thresholds,
            device_flash_bytes=max((taken.flash_bytes for taken in drawn.footprints), default=0),
            device_ram_bytes=max((taken.ram_bytes for taken in drawn.footprints), default=0),
            keeps_limits=all(value <= 0 for value in excess.values()),
            validation=validation,
        )

    def _measures(self, trial: Trial, part: str, thresholds: Mapping[str, float]) -> Measures:
        answers, labels = self._answers(trial), self._data.targets(part)

        def measured(missing: tuple[str, ...]) -> Evaluation:
            probabilities = answers.of(part, missing)
            return measure(trial.topology, probabilities, labels, thresholds, missing=missing)

        def accuracy(evaluation: Evaluation) -> float:
            balanced, plain = evaluation.overall_balanced_accuracy, evaluation.overall_accuracy
            return balanced if self._data.balance else plain

        whole = measured(())
        without = {device: accuracy(measured((device,))) for (device,) in trial.missing}
        worst = min(without, key=lambda device: without[device], default=None)
        return Measures(
            accuracy=accuracy(whole),
            accuracy_one_missing=float(np.mean(list(without.values()))) if without else None,
            worst_accuracy_one_missing=None if worst is None else without[worst],
            worst_device=worst,
            bytes_per_sample=whole.bytes_per_sample,
        )

    def _answers(self, trial: Trial) -> Answers:
        answers = self._store.read(trial)
        if answers is None:
            raise FileNotFoundError(f"'{self._store.file(trial)}' is gone: give the command again.")
        return answers
