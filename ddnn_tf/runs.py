"""A run directory: what `ddnn train` leaves and `ddnn evaluate` reads.

    topology.yaml               the hierarchy
    run.json                    data set, split, seed, options, version and digests of the models
    model.keras                 the trained network
    individual.keras            the individual models (if every device has blocks)
    thresholds.json             T by tier, chosen on validation data
    metrics.json                the measures on test data
    ddnn.csv, individual.csv    the training logs

While training, `*.checkpoint.npz` stand there too: the same command continues from them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
from pydantic import BaseModel, ConfigDict, ValidationError

import ddnn_tf
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.documents import atomic_write, check_same, claimed_directory, one_sentence, read_json, write_text
from ddnn_tf.evaluation import Evaluation, choose_thresholds, evaluate
from ddnn_tf.evaluation.doubt import Examination
from ddnn_tf.network import build, build_individual, without_presence
from ddnn_tf.optimization import Optimized
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions, train

__all__ = ["Run", "load_run", "train_run"]

_MODEL, _INDIVIDUAL = "model.keras", "individual.keras"
_TOPOLOGY, _RUN = "topology.yaml", "run.json"
_THRESHOLDS, _METRICS = "thresholds.json", "metrics.json"
_FORMAT = 3


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    version: str
    data: DataSource
    data_sha256: str
    options: dict[str, int | float | dict[str, str | float | bool | dict[str, float]]]
    # SHA-256 by file, once the run is finished: a model belongs to these thresholds and measures.
    models: dict[Literal["model.keras", "individual.keras"], str] = {}


@dataclass(frozen=True)
class Run:
    """A trained network with all that it takes to evaluate it.

    Attributes:
        source: The data that it was trained on.
        data_sha256: `MultiViewDataset.digest` of those data.
        topology: Its topology.
        model: The trained network.
        individual: The individual models; None if a device has no blocks.
        thresholds: T by tier.
    """

    source: DataSource
    data_sha256: str
    topology: Topology
    model: tf.keras.Model
    individual: tf.keras.Model | None
    thresholds: dict[str, float]

    def evaluate(self, data: MultiViewDataset, thresholds: Mapping[str, float] | None = None) -> Evaluation:
        """Measures on the test part of the data that the run was trained on.

        Args:
            data: These data.
            thresholds: T by tier in place of those that training chose.

        Raises:
            ValueError: Other data, or another split, than those of the training.
        """
        data.check_digest(self.data_sha256)
        chosen = self.thresholds if thresholds is None else thresholds
        return evaluate(self.model, self.topology, data, chosen, self.individual)

    def examine(self, data: MultiViewDataset) -> Examination:
        """Its doubt: calibration, thresholds by risk and by cost, measures without some devices.

        Raises:
            ValueError: As `evaluate`.
        """
        data.check_digest(self.data_sha256)
        return Examination(self.model, self.topology, data)


def train_run(
    directory: str | Path,
    topology: Topology,
    source: DataSource,
    data: MultiViewDataset,
    options: TrainingOptions,
    *,
    overwrite: bool = False,
    tensorboard: bool = False,
    quantization_aware: bool = False,
    sparsity: float = 0.0,
) -> Evaluation:
    """Trains a network and its individual models, chooses thresholds, and keeps all in a directory.

    Args:
        directory: Where to; a killed training of the same kind there is continued.
        topology: The hierarchy; it gets the codings of the data.
        source: Where the data come from: what later commands load them from.
        data: The data, as `source.load()` gives them. Others, such as data made in a notebook, are compared
            with what the source loads: a run whose data no command finds again would be lost.
        options: How to train.
        overwrite: Replaces a finished run (or the checkpoints of another one) in the directory.
        tensorboard: Writes TensorBoard logs to `directory/tensorboard`.
        quantization_aware: Trains the float blocks for 8-bit integers (`optimization.Optimized`).
        sparsity: Trains the float blocks with this share of their weights at zero.

    Returns:
        The measures on test data that stand in metrics.json; `load_run` gives the run itself.

    Raises:
        ImportError: TensorBoard or an optimization is asked for, but not installed.
        FileExistsError: The directory holds a finished run, an unfinished one with other options, or other
            files.
        FileNotFoundError: The files of the source are not there.
        BlockingIOError: Another process writes into the directory.
        ValueError: The data do not fit the topology or the augmentation, or are not those of the source.
    """
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("TensorBoard is not installed: pip install 'ddnn_tf[tensorboard]'.")
    if (quantization_aware or sparsity) and options.recipe.changes_layers:
        raise ValueError(
            f"The recipe '{options.recipe.name}' trains other layers than the network has, which does not go "
            "with quantization-aware training or pruning: choose one of them."
        )
    place = Path(directory)
    data.check_fit(topology)
    options.recipe.check_nodes(topology.hierarchy.failable_names)
    if options.augmentation is not None:
        options.augmentation.check_fit(data.shapes)
    topology = topology.with_codings(data.codings)
    extra = {"quantization_aware": int(quantization_aware), "sparsity": sparsity}
    record = _Record(
        format=_FORMAT,
        version=ddnn_tf.__version__,
        data=source,
        data_sha256=data.digest(),
        options={**options.to_dict(), **_given(extra)},
    )
    names = (_INDIVIDUAL, _MODEL) if _has_individual(topology) else (_MODEL,)
    models: dict[str, tf.keras.Model] = {}
    with claimed_directory(place, _RUN):
        if not overwrite:
            _check_resumable(place, record, topology)
        if data.origin != source:
            _check_source(source, data)
        for name in names:
            tf.keras.utils.set_random_seed(options.seed)
            models[name] = (
                build(topology, presence=options.recipe.fails_nodes)
                if name == _MODEL
                else build_individual(topology)
            )
        optimized = Optimized(models[_MODEL], **_given(extra)) if any(extra.values()) else None
        if overwrite:
            for name in (_MODEL, _INDIVIDUAL, _THRESHOLDS, _METRICS):
                (place / name).unlink(missing_ok=True)
            for leftover in (*place.glob("*.checkpoint.npz"), *place.glob("*.csv")):
                leftover.unlink()
        write_text(place / _RUN, record.model_dump_json(indent=2) + "\n")
        write_text(place / _TOPOLOGY, topology.to_yaml())
        for name, model in models.items():
            logs = place / "tensorboard" / model.name
            wrapped = optimized if name == _MODEL else None
            train(
                model if wrapped is None else wrapped.model,
                data,
                options=options,
                loss_weights=topology.loss_weights if name == _MODEL else None,
                individual=name == _INDIVIDUAL,
                nodes=topology.hierarchy.failable_names,
                directory=place,
                callbacks=[
                    *([] if wrapped is None else wrapped.callbacks),
                    *([tf.keras.callbacks.TensorBoard(logs)] if tensorboard else []),
                ],
            )
            if wrapped is not None:
                wrapped.finish()
        if options.recipe.fails_nodes:
            models[_MODEL] = without_presence(models[_MODEL], topology)
        thresholds = choose_thresholds(models[_MODEL], topology, data)
        evaluation = evaluate(models[_MODEL], topology, data, thresholds, models.get(_INDIVIDUAL))
        write_text(place / _THRESHOLDS, json.dumps(thresholds, indent=2) + "\n")
        write_text(place / _METRICS, json.dumps(evaluation.to_dict(), indent=2) + "\n")
        for name, model in models.items():
            with atomic_write(place / name) as aside:
                model.save(aside)
        # Written last: a run is finished once its record has the digests of its models.
        finished = record.model_copy(update={"models": {name: _digest(place / name) for name in names}})
        write_text(place / _RUN, finished.model_dump_json(indent=2) + "\n")
        for model in models.values():
            (place / f"{model.name}.checkpoint.npz").unlink(missing_ok=True)
    return evaluation


def load_run(directory: str | Path) -> Run:
    """Reads a finished run.

    Raises:
        FileNotFoundError: No such directory, or a file of the run is missing.
        ValueError: A file of the run is damaged or of another version of this package.
    """
    place = Path(directory)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no run directory '{place}': make one with `ddnn train --out`.")
    # First of all whether this version reads it: an old run is to be trained again, not to be repaired.
    record = _read_record(place / _RUN) if (place / _RUN).is_file() else None
    models = (_MODEL,) if record is None else (_MODEL, *record.models)
    missing = [name for name in (_RUN, _TOPOLOGY, *models, _THRESHOLDS) if not (place / name).is_file()]
    if record is None or missing or _MODEL not in record.models:
        remedy = (
            "the training was cut off: give the same `ddnn train` command again to finish it"
            if any(place.glob("*.checkpoint.npz"))
            else "it is no run directory, or a damaged one"
        )
        lacks = ", ".join(dict.fromkeys(missing)) or "the digests of its models"
        raise FileNotFoundError(f"'{place}' lacks {lacks}: {remedy}.")
    for name, digest in record.models.items():
        if _digest(place / name) != digest:
            raise ValueError(
                f"'{place / name}' is damaged, or of another training than run.json: train the run again."
            )
    topology = Topology.load(place / _TOPOLOGY)
    return Run(
        record.data,
        record.data_sha256,
        topology,
        _read_model(place / _MODEL, build(topology)),
        _read_model(place / _INDIVIDUAL, build_individual(topology))
        if _INDIVIDUAL in record.models
        else None,
        _read_thresholds(place / _THRESHOLDS, topology),
    )


def _given(extra: Mapping[str, float]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if value}


def _check_source(source: DataSource, data: MultiViewDataset) -> None:
    """Checks that later commands find the data of the training again."""
    if source.load().digest() != data.digest():
        raise ValueError(
            f"Expected `source` to give the data of the training, but '{source.name}' gives others: train on "
            "`source.load()`, or register your own data with `register_dataset`."
        )


def _check_resumable(place: Path, record: _Record, topology: Topology) -> None:
    """Refuses a directory with a finished run, or an unfinished one with other options."""
    if not (place / _RUN).is_file():
        return
    content = read_json(place / _RUN)
    old = content if isinstance(content, dict) else {}
    if (place / _MODEL).is_file() and old.get("models", True):
        raise FileExistsError(f"'{place}' holds a finished run: name another directory, or give --overwrite.")
    new = {**record.model_dump(mode="json"), "topology": topology.model_dump(mode="json")}
    old = {**old, "models": {}, "topology": new["topology"]}
    if (place / _TOPOLOGY).is_file():
        old["topology"] = Topology.load(place / _TOPOLOGY).model_dump(mode="json")
    remedy = "give the same options to finish it, name another directory, or give --overwrite"
    check_same(place, "an unfinished run", old, new, remedy)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _has_individual(topology: Topology) -> bool:
    return all(node.has_section for node in topology.hierarchy.devices)


def _read_record(path: Path) -> _Record:
    content = read_json(path)
    if isinstance(content, dict) and content.get("format") != _FORMAT:
        raise ValueError(
            f"'{path}' has format {content.get('format')!r}, this version of ddnn_tf reads {_FORMAT}: "
            "train the run again, or use the version that wrote it."
        )
    try:
        return _Record.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"'{path}' is damaged: {one_sentence(error, 'record of the run')}") from None


def _read_thresholds(path: Path, topology: Topology) -> dict[str, float]:
    content = read_json(path)
    early = topology.hierarchy.early_tier_names
    if not isinstance(content, dict) or set(content) != set(early):
        raise ValueError(f"'{path}' is damaged: expected a threshold for {', '.join(early) or 'no tier'}.")
    for tier, value in content.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"'{path}' is damaged: the threshold '{tier}' is {value!r}, not in 0..1.")
    return {tier: float(content[tier]) for tier in early}


def _read_model(path: Path, expected: tf.keras.Model) -> tf.keras.Model:
    """The weights of a saved model in a network built anew, so that no code of the file is run."""
    layers = {type(layer).__name__: type(layer) for layer in expected.layers}
    try:
        # The layers of a scheme from outside the package need not be registered with Keras.
        saved = tf.keras.models.load_model(path, custom_objects=layers, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises a different exception for each kind of damage
        raise ValueError(
            f"'{path}' is damaged: {' '.join(str(error).split())[:200] or type(error).__name__}."
        ) from None
    shapes = [tuple(weight.shape) for weight in saved.weights]
    if shapes != [tuple(weight.shape) for weight in expected.weights]:
        raise ValueError(f"'{path}' is not the network of '{path.parent / _TOPOLOGY}'.")
    expected.set_weights(saved.get_weights())
    return expected
