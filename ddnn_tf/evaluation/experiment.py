"""What the tables and figures share: trained networks, each trained once, kept in a directory.

An `Experiment` names data, seeds and epochs; its methods describe networks to train, as `Unit`s. A
unit is addressed by its content: data, topology, options and version make the key, and
`units/<key>.npz` holds what its network answers on validation and test data. So a table asks for what
it needs, and what another table (or a killed run) has trained already is not trained again:

    >>> experiment = Experiment(DataSource(name="scenes"), "runs/paper", seeds=3)
    >>> units = [experiment.network(seed, local="MP", upper="CC") for seed in experiment.seeds]
    >>> experiment.train(units)
    >>> [experiment.measure(unit).cloud_accuracy for unit in units]

Seed s draws both the split of the data and the weights of the networks.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import ddnn_tf
from ddnn_tf import aggregation, blocks, callbacks, network, training
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.datasets.files import read_npz
from ddnn_tf.documents import atomic_write
from ddnn_tf.evaluation.accuracy import (
    Evaluation,
    best_thresholds,
    individual_accuracy,
    measure,
    tier_probabilities,
)
from ddnn_tf.network import build, build_individual, with_presence
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions, train

__all__ = ["Experiment", "Probabilities", "Trained", "Unit"]

_FORMAT = 1
_PARTS = ("validation", "test")

Probabilities = Mapping[str, NDArray[np.float64]]
"""Class probabilities `(samples, classes)` by tier; of individual models by device name."""


@dataclass(frozen=True)
class Unit:
    """One network to train, or the individual models of the devices.

    Attributes:
        title: What it is, for people; not part of its key.
        source: Where its data come from.
        data_sha256: `MultiViewDataset.digest` of them, all devices.
        columns: The devices of the data set that its devices are.
        topology: Its hierarchy.
        is_individual: Individual models instead of the network.
        options: How to train.
        missing: Sets of devices (of the network) without which the test samples are classified too.
        samples: Number of training samples, to estimate the time; not part of its key.
    """

    title: str
    source: DataSource
    data_sha256: str
    columns: tuple[int, ...]
    topology: Topology
    is_individual: bool
    options: TrainingOptions
    missing: tuple[tuple[int, ...], ...] = ()
    samples: int = 0

    @functools.cached_property
    def key(self) -> str:
        """Same key, same result."""
        content = {
            "format": _FORMAT,
            "version": ddnn_tf.__version__,
            "tensorflow": tf.__version__,
            "sources": _sources_digest(),
            "data": self.data_sha256,
            "columns": self.columns,
            "topology": self.topology.model_dump(mode="json"),
            "individual": self.is_individual,
            "options": asdict(self.options),
            "missing": self.missing,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unit) and other.key == self.key


@dataclass(frozen=True)
class Trained:
    """What a unit's network answers.

    Attributes:
        validation: Answers to the validation samples.
        test: Answers to the test samples.
        without: Answers to the test samples without the devices of each of `Unit.missing`.
        seconds: How long it took to train.
    """

    validation: Probabilities
    test: Probabilities
    without: Mapping[tuple[int, ...], Probabilities]
    seconds: float


class Experiment:
    """Data, seeds and epochs, and a directory with what has been trained.

    Args:
        source: The data; its seed is ignored.
        directory: Where to keep the units.
        seeds: How many seeds: 0, 1, ...
        epochs: Epochs of every training.

    Raises:
        ValueError: No seed, or data that cannot be loaded.
        FileNotFoundError: As `DataSource.load`.
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
        self._data: dict[int, MultiViewDataset] = {}
        self._digests: dict[int, str] = {}
        self._trained: dict[Unit, Trained] = {}
        self._others: dict[tuple[DataSource, int], Experiment] = {}

    def data(self, seed: int = 0) -> MultiViewDataset:
        """The data set, split with a seed."""
        if seed not in self._data:
            self._data[seed] = self._seeded(seed).load()
        return self._data[seed]

    @property
    def devices(self) -> int:
        """Number of devices of the data set."""
        return self.data().devices

    def with_source(self, source: DataSource, epochs: int) -> Experiment:
        """The same experiment on other data; it shares directory and seeds."""
        key = (source, epochs)
        if key not in self._others:
            self._others[key] = Experiment(source, self.directory, seeds=len(self.seeds), epochs=epochs)
        return self._others[key]

    def topology(self, configuration: str = "c", devices: int | None = None, **options: Any) -> Topology:
        """A hierarchy of Figure 2 that fits the data; options as `Topology.figure_2`."""
        data = self.data()
        shape = {"image_shape": data.image_shape, "classes": len(data.class_names)}
        return Topology.figure_2(configuration, devices or data.devices, **shape, **options)

    def network(
        self,
        seed: int,
        *,
        local: str = "MP",
        upper: str = "CC",
        filters: int = 4,
        configuration: str = "c",
        columns: Sequence[int] | None = None,
        missing: Sequence[tuple[int, ...]] | None = None,
    ) -> Unit:
        """A whole DDNN to train; by default the paper's, MP-CC with 4 filters and all devices.

        That one also classifies the test samples without some of the devices, for Figure 10: see
        `subsets`.

        Args:
            seed: Seed of split and weights.
            local: Aggregation at the local exit.
            upper: Aggregation above.
            filters: Filters of a device's block.
            configuration: Letter of Figure 2.
            columns: The devices to use, in this order; None: all.
            missing: Sets of failed devices to classify the test samples without; None: `subsets` for the
                paper's own network, else none.
        """
        chosen = tuple(range(self.devices)) if columns is None else tuple(columns)
        topology = self.topology(configuration, len(chosen), local=local, upper=upper, filters=filters)
        if missing is None:
            is_default = topology == self.topology() and chosen == tuple(range(self.devices))
            missing = subsets(self.devices) if is_default else ()
        return self._unit(
            f"{local}-{upper}, {filters} filters, ({configuration}), {len(chosen)} devices",
            seed,
            chosen,
            topology,
            missing=tuple(missing),
        )

    def individual(self, seed: int) -> Unit:
        """The individual models of all devices, to train."""
        return self._unit("individual models", seed, tuple(range(self.devices)), self.topology(), True)

    def train(self, units: Sequence[Unit], workers: int | None = None) -> None:
        """Trains those of the units that are not trained yet, several at a time.

        Each worker is a process of its own, with its share of the cores as TensorFlow threads. A unit
        that was killed goes on from its last epoch. Progress is shown on a terminal.

        Args:
            units: What to train; what occurs twice is trained once.
            workers: Processes; None: one per core, but not more than units.

        Raises:
            ValueError: A damaged file among the units.
            OSError: A worker was killed.
        """
        from joblib import cpu_count
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool

        wanted = list(dict.fromkeys(units))
        missing = [unit for unit in wanted if not self._is_trained(unit)]
        if not missing:
            return
        cores = cpu_count()
        workers = min(workers or cores, len(missing))
        # The longest first, so that the cores come to an end together.
        missing.sort(key=_cost, reverse=True)
        executor = ProcessPoolExecutor(
            workers, timeout=60, initializer=_use_threads, initargs=(max(1, cores // workers),)
        )
        try:
            with (
                _UnitsBar(done=len(wanted) - len(missing), todo=missing, workers=workers) as bar,
                warnings.catch_warnings(),
            ):
                # TensorFlow's memory grows with every network; a worker is then started anew, with a warning.
                warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
                running = [executor.submit(_train_unit, unit, self.directory) for unit in missing]
                for done in as_completed(running):
                    bar.advance(done.result())
        except BrokenProcessPool:
            raise OSError(
                "A training process was killed, perhaps for lack of memory: give the same command again, it "
                "goes on where it stopped."
            ) from None
        finally:
            executor.shutdown(wait=True, kill_workers=True)

    def trained(self, unit: Unit) -> Trained:
        """What a unit's network answers; trains it, if need be."""
        if not self._is_trained(unit):
            self.train([unit])
            self._trained[unit] = _read(self._file(unit), unit)
        return self._trained[unit]

    def labels(self, unit: Unit, part: str = "test") -> NDArray[np.int64]:
        """The true classes of a part of a unit's data, `(samples,)`."""
        return self.data(unit.source.seed).targets(part)

    def thresholds(self, unit: Unit) -> dict[str, float]:
        """T by tier of best accuracy on the unit's validation samples."""
        return best_thresholds(unit.topology, self.trained(unit).validation, self.labels(unit, "validation"))

    def measure(
        self,
        unit: Unit,
        thresholds: Mapping[str, float] | None = None,
        part: str = "test",
        missing: tuple[int, ...] = (),
    ) -> Evaluation:
        """The measures of a unit's network.

        Args:
            unit: A network.
            thresholds: T by tier; None: those of `thresholds`.
            part: `test` or `validation`.
            missing: Failed devices, one of `unit.missing`; on test samples only.
        """
        trained = self.trained(unit)
        answers = trained.without[missing] if missing else getattr(trained, part)
        if thresholds is None:
            thresholds = self.thresholds(unit)
        return measure(unit.topology, answers, self.labels(unit, part), thresholds)

    def individual_accuracy(self, seed: int, part: str = "test") -> tuple[float, ...]:
        """Accuracy of every device alone; a sample that it does not see counts as wrong."""
        unit = self.individual(seed)
        answers: Probabilities = getattr(self.trained(unit), part)
        present = self.data(seed).present(part)
        return individual_accuracy(list(answers.values()), self.labels(unit, part), present)

    def worst_to_best(self, seed: int) -> list[int]:
        """The devices in the order of Figures 8 and 10: by individual accuracy, the worst first."""
        accuracy = self.individual_accuracy(seed)
        return sorted(range(self.devices), key=lambda device: accuracy[device])

    def _is_trained(self, unit: Unit) -> bool:
        """Whether it is there, and can be read."""
        if unit not in self._trained and self._file(unit).is_file():
            self._trained[unit] = _read(self._file(unit), unit)
        return unit in self._trained

    def _seeded(self, seed: int) -> DataSource:
        return self.source.model_copy(update={"seed": seed})

    def _unit(
        self,
        title: str,
        seed: int,
        columns: tuple[int, ...],
        topology: Topology,
        is_individual: bool = False,
        missing: tuple[tuple[int, ...], ...] = (),
    ) -> Unit:
        data = self.data(seed)
        if seed not in self._digests:
            self._digests[seed] = data.digest()
        options = TrainingOptions(epochs=self.epochs, seed=seed)
        return Unit(
            f"{title}, seed {seed}",
            self._seeded(seed),
            self._digests[seed],
            columns,
            topology,
            is_individual,
            options,
            missing,
            len(data.split["train"]),
        )

    def _file(self, unit: Unit) -> Path:
        return self.directory / "units" / f"{unit.key}.npz"


def subsets(devices: int) -> list[tuple[int, ...]]:
    """Sets of failed devices: all that there are up to 8 devices, else those of one or two devices."""
    if devices > 8:
        few = (itertools.combinations(range(devices), number) for number in (1, 2))
        return [failed for group in few for failed in group]
    bits = range(1, 2**devices)
    return [tuple(device for device in range(devices) if mask >> device & 1) for mask in bits]


def _cost(unit: Unit) -> float:
    """Rough work of a training: the devices' share and the upper tiers' are about equal at six."""
    height, width, _ = unit.topology.devices.image_shape
    branches = len(unit.columns) + (0 if unit.is_individual else 6)
    return unit.options.epochs * unit.samples * height * width * branches


@functools.cache
def _sources_digest() -> str:
    """Of the modules that decide what a training gives: a change of them makes other units."""
    content = hashlib.sha256()
    for module in (aggregation, blocks, callbacks, network, training):
        content.update(Path(str(module.__file__)).read_bytes())
    return content.hexdigest()


def _use_threads(threads: int) -> None:
    """Prepares a worker, before TensorFlow computes anything there."""
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _train_unit(unit: Unit, directory: Path) -> str:
    """Runs in a process of its own."""
    tf.keras.backend.clear_session()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process that planned the unit has shown them
        data = unit.source.load()
    if data.digest() != unit.data_sha256:
        raise ValueError(f"The data set '{data.name}' changed during the run: start again.")
    data = data.with_devices(unit.columns)
    tf.keras.utils.set_random_seed(unit.options.seed)
    model = (build_individual if unit.is_individual else build)(unit.topology)
    place = directory / "units" / unit.key
    weights = None if unit.is_individual else unit.topology.loss_weights
    train(model, data, options=unit.options, loss_weights=weights, directory=place, progress=False)
    seconds = time.perf_counter() - start

    arrays: dict[str, Any] = {f"weight_{at}": array for at, array in enumerate(model.get_weights())}
    for part in _PARTS:
        for tier, answer in _answers(model, unit, data, part).items():
            arrays[f"{part}/{tier}"] = answer
    if unit.missing:
        masked = with_presence(model, unit.topology)
        for missing in unit.missing:
            present = np.ones((len(data.split["test"]), data.devices), dtype=bool)
            present[:, list(missing)] = False
            images = data.images[data.split["test"]]
            for tier, answer in tier_probabilities(masked, unit.topology, images, present).items():
                arrays[f"without {_set_name(missing)}/{tier}"] = answer
    with atomic_write(directory / "units" / f"{unit.key}.npz") as aside:
        np.savez(aside, title=unit.title, seconds=seconds, **arrays)
    shutil.rmtree(place, ignore_errors=True)
    return unit.key


def _answers(model: tf.keras.Model, unit: Unit, data: MultiViewDataset, part: str) -> Probabilities:
    if not unit.is_individual:
        return tier_probabilities(model, unit.topology, data.images[data.split[part]])
    outputs = model.predict(data.inputs(part), batch_size=256, verbose=0)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return dict(zip(unit.topology.device_names, outputs, strict=True))


def _read(file: Path, unit: Unit) -> Trained:
    tiers = unit.topology.device_names if unit.is_individual else unit.topology.exit_tiers
    groups = [*_PARTS, *(f"without {_set_name(missing)}" for missing in unit.missing)]
    keys = {f"{group}/{tier}": "class probabilities" for group in groups for tier in tiers}
    try:
        arrays = read_npz(file, {"seconds": "time of training", **keys})
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}: remove it, and it is trained again.") from None

    def group(name: str) -> Probabilities:
        return {tier: arrays[f"{name}/{tier}"].astype(np.float64) for tier in tiers}

    without = {missing: group(f"without {_set_name(missing)}") for missing in unit.missing}
    return Trained(group("validation"), group("test"), without, float(arrays["seconds"]))


def _set_name(devices: Sequence[int]) -> str:
    return "+".join(map(str, devices))


class _UnitsBar:
    """Units done, running and remaining, and the time left, on stderr if it is a terminal."""

    def __init__(self, done: int, todo: Sequence[Unit], workers: int) -> None:
        console = Console(stderr=True)
        self._costs = {unit.key: _cost(unit) for unit in todo}
        self._done, self._left, self._workers = done, len(todo), workers
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            # Units take half a minute and more: estimate from all of them, not from the last seconds.
            speed_estimate_period=float("inf"),
        )
        self._task = self._bar.add_task("", total=sum(self._costs.values()), counts=self._counts())

    def __enter__(self) -> _UnitsBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, key: str) -> None:
        self._done, self._left = self._done + 1, self._left - 1
        self._bar.update(self._task, advance=self._costs[key], counts=self._counts())

    def _counts(self) -> str:
        running = min(self._workers, self._left)
        return f"{self._done} done, {running} running, {self._left - running} remaining"
