"""What the tables and figures share: trained networks, each trained once, kept in a directory.

An `Experiment` names data, seeds and epochs; its methods describe networks to train, as `Trial`s. A table
asks for the trials that it needs, and what another table (or an interrupted run) has trained already is not
trained again:

    >>> experiment = Experiment(DataSource(name="scenes"), "runs/paper", seeds=3)  # doctest: +SKIP
    >>> trials = [experiment.network(seed, local="AP") for seed in experiment.seeds]  # doctest: +SKIP
    >>> experiment.train(trials)  # doctest: +SKIP
    >>> [experiment.measure(trial).exit_accuracy["cloud"] for trial in trials]  # doctest: +SKIP

Seed s draws both the split of the data and the weights of the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import DataSource, MultiViewDataset, fitting_topology
from ddnn_tf.evaluation.accuracy import (
    Evaluation,
    balanced_accuracy,
    best_thresholds,
    individual_accuracy,
    measure,
)
from ddnn_tf.evaluation.executor import train_trials
from ddnn_tf.evaluation.store import Answers, TrialStore
from ddnn_tf.evaluation.trial import Trial, subsets
from ddnn_tf.hierarchy import Precision
from ddnn_tf.network import build, device_features
from ddnn_tf.recipes import RECIPES, Recipe
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions

__all__ = ["Experiment"]

# No class: what a device answers to a sample that it does not see.
_NO_ANSWER = -1


class Experiment:
    """Data, seeds and epochs, and a directory with what has been trained.

    Args:
        source: The data; its seed is ignored.
        directory: Where to keep the results.
        seeds: How many seeds: 0, 1, ...
        epochs: Epochs of every training.

    Raises:
        ValueError: No seed, or no epoch.
    """

    def __init__(
        self, source: DataSource, directory: str | Path, *, seeds: int = 3, epochs: int = 100
    ) -> None:
        if seeds < 1:
            raise ValueError(f"Expected `seeds` to be at least 1, but got {seeds}.")
        TrainingOptions(epochs=epochs)
        self.source = source
        self.directory = Path(directory)
        self.seeds = range(seeds)
        self.epochs = epochs
        self._store = TrialStore(self.directory)
        self._data: dict[int, MultiViewDataset] = {}
        self._digests: dict[int, str] = {}
        self._answers: dict[Trial, Answers] = {}
        self._others: dict[tuple[DataSource, int], Experiment] = {}
        # Tables ask for the same trial hundreds of times, and a topology takes milliseconds.
        self._trials: dict[tuple[Any, ...], Trial] = {}

    def data(self, seed: int = 0) -> MultiViewDataset:
        """The data set, split with a seed.

        Raises:
            FileNotFoundError: As `DataSource.load`.
            ValueError: As `DataSource.load`.
        """
        if seed not in self._data:
            self._data[seed] = self._seeded(seed).load()
        return self._data[seed]

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices of the data set."""
        return self.data().device_names

    @property
    def balance(self) -> bool:
        """Whether training weights the classes, and balanced accuracy judges."""
        return self.data().balance

    @property
    def shows_balance(self) -> bool:
        """Whether balanced accuracy stands beside accuracy."""
        return self.data().is_unequal

    def with_source(self, source: DataSource, epochs: int) -> Experiment:
        """The same experiment on other data; it shares directory and seeds."""
        key = (source, epochs)
        if key not in self._others:
            self._others[key] = Experiment(source, self.directory, seeds=len(self.seeds), epochs=epochs)
        return self._others[key]

    def topology(
        self, configuration: str = "c", devices: Sequence[str] | None = None, *, seed: int = 0, **options: Any
    ) -> Topology:
        """A hierarchy of Figure 2 that fits the data.

        Args:
            configuration: `a` to `f`.
            devices: The devices that take part, in this order; None: all.
            seed: Seed of the split, whose training samples choose the codings.
            options: As `fitting_topology`.

        Raises:
            ValueError: As `fitting_topology`.
        """
        data = self.data(seed)
        chosen = data if devices is None else data.with_devices(devices)
        return fitting_topology(chosen, configuration, **options)

    def network(
        self,
        seed: int,
        *,
        local: str = "MP",
        upper: str | None = None,
        filters: int = 4,
        configuration: str = "c",
        cloud_precision: Precision = "binary",
        devices: Sequence[str] | None = None,
        topology: Topology | None = None,
        recipe: Recipe | str = "paper",
        missing: Sequence[tuple[str, ...]] | None = None,
    ) -> Trial:
        """A whole DDNN to train; by default the paper's, MP-CC with 4 filters and all devices.

        The default network also classifies the samples without some of the devices, for Figure 10: see
        `subsets`.

        Args:
            seed: Seed of split and weights.
            local: Aggregation at the local exit.
            upper: Aggregation above; None: the one that the recipe goes with.
            filters: Filters of a device's ConvP block.
            configuration: Letter of Figure 2.
            cloud_precision: Precision of edges and cloud.
            devices: The devices that take part, in this order; None: all.
            topology: A hierarchy of your own for these devices, in place of all the fields above but `seed`
                and `devices`.
            recipe: How to train: a recipe, or the name of one.
            missing: Sets of failed nodes, devices or edges, without which the samples are classified too;
                None: `subsets` for the default network, else none.

        Raises:
            ValueError: An unknown recipe, or as `topology`.
        """
        chosen = self.devices if devices is None else tuple(devices)
        sets = None if missing is None else tuple(missing)
        recipe = RECIPES[recipe] if isinstance(recipe, str) else recipe
        options = {
            "local": local,
            "upper": upper or recipe.upper,
            "filters": filters,
            "cloud_precision": cloud_precision,
        }
        # A recipe holds a mapping, so it has no hash.
        asked = (seed, configuration, chosen, topology, repr(recipe), sets, *options.values())
        if asked not in self._trials:
            title = f"{options['local']}-{options['upper']}, {filters} filters, ({configuration})"
            if topology is None:
                topology = self.topology(configuration, chosen, seed=seed, **options)
            else:
                title = "own hierarchy"
                topology = topology.with_codings(self.data(seed).codings)
            self._trials[asked] = self._network(title, seed, chosen, topology, recipe, sets)
        return self._trials[asked]

    def individual(self, seed: int) -> Trial:
        """The individual models of all devices, to train."""
        if (seed,) not in self._trials:
            topology = self.topology(seed=seed)
            trial = self._trial("individual models", seed, self.devices, topology, is_individual=True)
            self._trials[(seed,)] = trial
        return self._trials[(seed,)]

    def train(self, trials: Sequence[Trial], workers: int | None = None) -> None:
        """Trains those of the trials that are not trained yet, several at a time; see `train_trials`.

        Args:
            trials: What to train; what occurs twice is trained once.
            workers: Processes; None: one per core, but not more than trials.

        Raises:
            ValueError: A damaged file among the results.
            OSError: A worker was killed.
        """
        wanted = list(dict.fromkeys(trials))
        missing = [trial for trial in wanted if not self._is_trained(trial)]
        already = len(wanted) - len(missing)
        train_trials(missing, self.directory, already_trained=already, workers=workers)

    def answers(self, trial: Trial) -> Answers:
        """What a trial's network answers; trains it first if necessary."""
        if not self._is_trained(trial):
            self.train([trial])
            self._is_trained(trial)
        return self._answers[trial]

    def feature_maps(self, trial: Trial, part: str = "test") -> dict[str, NDArray[np.float32]]:
        """What the devices of a trial's network compute of a part of its data.

        Args:
            trial: A trial of a network.
            part: `train`, `validation` or `test`.

        Returns:
            `(samples, *shape)` float32 by device.
        """
        self.answers(trial)
        model = build(trial.topology)
        model.set_weights(self._store.weights(trial))
        views = self.data(trial.source.seed).with_devices(trial.devices).part(part)
        devices = device_features(model, trial.topology)
        return dict(devices.predict(dict(views), batch_size=256, verbose=0))

    def labels(self, trial: Trial, part: str = "test") -> NDArray[np.int64]:
        """The true classes of a part of a trial's data, `(samples,)` int64."""
        return self.data(trial.source.seed).targets(part)

    def thresholds(self, trial: Trial) -> dict[str, float]:
        """T by tier of best accuracy on the trial's validation samples."""
        known = self.answers(trial).validation
        labels = self.labels(trial, "validation")
        return best_thresholds(trial.topology, known, labels, balanced=self.balance)

    def measure(
        self,
        trial: Trial,
        thresholds: Mapping[str, float] | None = None,
        part: str = "test",
        missing: tuple[str, ...] = (),
    ) -> Evaluation:
        """The measures of a trial's network.

        Args:
            trial: A trial of a network.
            thresholds: T by tier; None: those of `thresholds`.
            part: `test` or `validation`.
            missing: Failed nodes, one of `trial.missing`.
        """
        if thresholds is None:
            thresholds = self.thresholds(trial)
        answers = self.answers(trial).of(part, missing)
        return measure(trial.topology, answers, self.labels(trial, part), thresholds, missing=missing)

    def individual_accuracy(
        self, seed: int, part: str = "test", *, balanced: bool = False
    ) -> dict[str, float]:
        """Accuracy of every device alone, by name; a sample that it does not see counts as wrong.

        Args:
            seed: Seed of the individual models.
            part: `test` or `validation`.
            balanced: The mean over the classes in place of the mean over the samples.
        """
        trial = self.individual(seed)
        answers = self.answers(trial).of(part)
        labels = self.labels(trial, part)
        present = self.data(seed).present(part)
        if not balanced:
            accuracies = individual_accuracy(list(answers.values()), labels, present)
            return dict(zip(answers, accuracies, strict=True))
        return {
            device: balanced_accuracy(np.where(seen, output.argmax(axis=1), _NO_ANSWER), labels)
            for (device, output), seen in zip(answers.items(), present.T, strict=True)
        }

    def worst_to_best(self, seed: int) -> list[str]:
        """The devices in the order of Figures 8 and 10, from the least accurate to the most accurate alone.

        Where the classes are weighted (`balance`), balanced accuracy ranks them: a device that always gives
        the most frequent class would else be among the best.
        """
        accuracy = self.individual_accuracy(seed, balanced=self.balance)
        return sorted(accuracy, key=lambda device: accuracy[device])

    def _network(
        self,
        title: str,
        seed: int,
        devices: tuple[str, ...],
        topology: Topology,
        recipe: Recipe,
        missing: tuple[tuple[str, ...], ...] | None,
    ) -> Trial:
        if missing is None:
            is_default = (
                devices == self.devices
                and recipe == RECIPES["paper"]
                and topology == self.topology(seed=seed)
            )
            missing = tuple(subsets(self.devices)) if is_default else ()
        return self._trial(
            f"{title}, {len(devices)} devices, recipe {recipe.name}",
            seed,
            devices,
            topology,
            recipe=recipe,
            missing=missing,
        )

    def _is_trained(self, trial: Trial) -> bool:
        """Whether its answers are there; reads them."""
        if trial not in self._answers:
            answers = self._store.read(trial)
            if answers is not None:
                self._answers[trial] = answers
        return trial in self._answers

    def _seeded(self, seed: int) -> DataSource:
        return self.source.model_copy(update={"seed": seed})

    def _trial(
        self,
        title: str,
        seed: int,
        devices: tuple[str, ...],
        topology: Topology,
        *,
        is_individual: bool = False,
        recipe: Recipe = RECIPES["paper"],
        missing: tuple[tuple[str, ...], ...] = (),
    ) -> Trial:
        data = self.data(seed)
        if seed not in self._digests:
            self._digests[seed] = data.digest()
        return Trial(
            title=f"{title}, seed {seed}",
            source=self._seeded(seed),
            data_sha256=self._digests[seed],
            devices=devices,
            topology=topology,
            is_individual=is_individual,
            options=TrainingOptions(epochs=self.epochs, seed=seed, recipe=recipe),
            missing=missing,
            samples=len(data.split["train"]),
        )
