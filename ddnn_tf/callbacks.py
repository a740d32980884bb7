"""Keras callbacks for training: exact batch statistics, checkpoints and progress."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.datasets.files import read_npz, write_npz
from ddnn_tf.documents import atomic_write
from ddnn_tf.input_range import warn_of_scaled_inputs
from ddnn_tf.progress import Progress

__all__ = ["AveragedWeights", "BatchStatistics", "Checkpoint", "ProgressBar"]

STATISTICS_SAMPLES = 1024


class BatchStatistics(tf.keras.callbacks.Callback):
    """Sets batch normalization to the exact statistics of the training samples before it is used.

    Binary weights flip from one batch to the next, so the moving averages that Keras keeps describe
    a mixture of networks that no longer exist: on `scenes` this alone made the validation accuracy
    of a fully trained exit jump between 58 % and 95 % from epoch to epoch. One pass over
    the training samples with the weights as they are gives the statistics of this network. Add it to
    `model.fit(..., callbacks=[BatchStatistics(inputs)])`; it acts before each validation and at the
    end.

    Args:
        inputs: The training samples as the model takes them, `(samples, ...)`: arrays by input name, a
            sequence of arrays, or one array. Or a `tf.data.Dataset` of their batches, with or without targets
            and sample weights, such as `fit` takes. At most 1,024 samples are used, the first ones.

    Raises:
        ValueError: There are no samples.
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self._inputs = _first_samples(inputs)
        tensors = tf.nest.flatten(self._inputs)
        names = sorted(inputs) if isinstance(inputs, Mapping) else map(str, range(len(tensors)))
        warn_of_scaled_inputs({name: each.numpy() for name, each in zip(names, tensors, strict=True)})

    def set_model(self, model: tf.keras.Model) -> None:
        super().set_model(model)
        norms = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]

        @tf.function
        def update(inputs: Any) -> None:
            model(tf.nest.map_structure(lambda each: tf.cast(each, tf.float32), inputs), training=True)

        # Momentum is a constant of the traced graph: 0 in this one, as it was in the model's own.
        momenta = [norm.momentum for norm in norms]
        try:
            for norm in norms:
                norm.momentum = 0.0
            self._update = update.get_concrete_function(self._inputs)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._update(self._inputs)

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._update(self._inputs)


def _first_samples(inputs: Any) -> Any:
    """The first samples, in the structure in which the model takes them."""
    if not isinstance(inputs, tf.data.Dataset):
        # Codes stay bytes until they are used: as floats they would hold hundreds of megabytes all the time.
        samples = tf.nest.map_structure(lambda each: tf.convert_to_tensor(each[:STATISTICS_SAMPLES]), inputs)
        if not all(len(each) for each in tf.nest.flatten(samples)):
            raise ValueError("Expected `inputs` to be arrays of samples, but got an empty one.")
        return samples
    batches: list[Any] = []
    count = 0
    for element in inputs:
        batch, _, _ = tf.keras.utils.unpack_x_y_sample_weight(element)
        batches.append(batch)
        count += len(tf.nest.flatten(batch)[0])
        if count >= STATISTICS_SAMPLES:
            break
    if not count:
        raise ValueError("Expected `inputs` to be a data set with batches of samples, but got an empty one.")
    return _first_samples(tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *batches))


class AveragedWeights(tf.keras.callbacks.Callback):
    """Puts the optimizer's moving average of the weights in their place while they are validated.

    Stand it before `BatchStatistics`, which then recounts for the averaged weights. The optimizer is one with
    `use_ema=True`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trained: list[NDArray[Any]] | None = None

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._trained = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def put_back(self) -> None:
        """Gives the model the weights back that training goes on with."""
        if self._trained is not None:
            self.model.set_weights(self._trained)
            self._trained = None


class Checkpoint(tf.keras.callbacks.Callback):
    """Keeps the best weights and, in a directory if there is one, all it takes to go on.

    Args:
        directory: Where to keep `<model name>.checkpoint.npz`, and `<model name>.csv`, the log; None
            keeps the best weights in memory only.
        fingerprint: What is being trained; a checkpoint with another one is refused.
        first_epoch: The first epoch, from 0, that may be the best.
        averaged: Stands in while the model is validated; its weights are the ones to keep.

    Attributes:
        history: Each measure by name, one number per epoch done.
        best_weights: The weights of the epoch with the lowest validation loss.
        best_epoch: That epoch, from 0.
    """

    def __init__(
        self,
        directory: str | Path | None,
        fingerprint: str,
        *,
        first_epoch: int = 0,
        averaged: AveragedWeights | None = None,
    ) -> None:
        super().__init__()
        self._first_epoch, self._averaged = first_epoch, averaged
        self._directory = None if directory is None else Path(directory)
        self._fingerprint = fingerprint
        self.history: dict[str, list[float]] = {}
        self.best_weights: list[NDArray[Any]] = []
        self.best_epoch = 0

    @property
    def epochs_done(self) -> int:
        """Epochs that need not be trained again."""
        return len(self.history.get("loss", ()))

    def restore(self, model: tf.keras.Model) -> None:
        """Puts model and optimizer where a checkpoint left them, if there is one.

        Raises:
            ValueError: A checkpoint of another training, or a damaged one.
        """
        if self._directory is None or not self._file(model, "checkpoint.npz").is_file():
            return
        file = self._file(model, "checkpoint.npz")
        saved = read_npz(file, {"fingerprint": "what was trained", "state": "epoch and history"})
        if str(saved["fingerprint"]) != self._fingerprint:
            raise ValueError(
                f"'{file}' is the checkpoint of another training (other data, topology, options or "
                "version): choose another directory, or remove it."
            )
        state = json.loads(str(saved["state"]))
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        model.optimizer.build(model.trainable_variables)
        counts = {
            "weight": len(model.weights),
            "best": len(model.weights),
            "optimizer": len(model.optimizer.variables),
        }
        names = {kind: [f"{kind}_{number}" for number in range(count)] for kind, count in counts.items()}
        arrays = read_npz(file, {name: kind for kind, group in names.items() for name in group})
        model.set_weights([arrays[name] for name in names["weight"]])
        self.best_weights = [arrays[name] for name in names["best"]]
        for variable, name in zip(model.optimizer.variables, names["optimizer"], strict=True):
            variable.assign(arrays[name])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        losses = self.history["val_loss"]
        is_better = self.best_epoch < self._first_epoch or losses[-1] < losses[self.best_epoch]
        if not self.best_weights or is_better:
            self.best_epoch = epoch
            self.best_weights = self.model.get_weights()
        if self._averaged is not None:
            self._averaged.put_back()
        if self._directory is not None:
            self._save()

    def _save(self) -> None:
        arrays = {f"weight_{n}": array for n, array in enumerate(self.model.get_weights())}
        arrays |= {f"best_{n}": array for n, array in enumerate(self.best_weights)}
        arrays |= {f"optimizer_{n}": v.numpy() for n, v in enumerate(self.model.optimizer.variables)}
        state = json.dumps({"history": self.history, "best_epoch": self.best_epoch})
        arrays |= {"fingerprint": np.array(self._fingerprint), "state": np.array(state)}
        write_npz(self._file(self.model, "checkpoint.npz"), arrays)
        with (
            atomic_write(self._file(self.model, "csv")) as aside,
            open(aside, "w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(["epoch", *self.history])
            writer.writerows(
                [epoch, *(f"{value:.9g}" for value in row)]
                for epoch, row in enumerate(zip(*self.history.values(), strict=True))
            )

    def _file(self, model: tf.keras.Model, ending: str) -> Path:
        return Path(self._directory or "") / f"{model.name}.{ending}"


class ProgressBar(tf.keras.callbacks.Callback):
    """Shows each epoch as `Progress` does. Enter it as a context around `fit`.

    Args:
        name: What is being trained.
        epochs: How many epochs there will be.
        done: How many of them were trained before.
        show: False shows nothing.
    """

    def __init__(self, name: str, epochs: int, *, done: int = 0, show: bool = True) -> None:
        super().__init__()
        self._epochs = epochs
        self._progress = Progress(f"training {name}", epochs, done=done, show=show)

    def __enter__(self) -> ProgressBar:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        losses = logs or {}
        self._progress.update(
            epoch + 1,
            f"epoch {epoch + 1} of {self._epochs}: loss {losses['loss']:.3f}, validation "
            f"{losses['val_loss']:.3f}",
        )
