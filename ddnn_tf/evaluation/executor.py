"""Trains trials, several at a time, each worker in a process of its own."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation.accuracy import named_outputs, tier_probabilities
from ddnn_tf.evaluation.store import Answers, Probabilities, TrialStore
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.interrupts import deferred_interrupts, end_with_parent
from ddnn_tf.network import build, build_individual, with_presence, without_presence
from ddnn_tf.progress import Progress
from ddnn_tf.training import train

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["train_trials"]

# Idle workers end after this long: the next batch of trials may follow soon.
_IDLE_S = 60
# Samples of six 32x32 colour images take 18 KB each.
_SAMPLES_AT_ONCE = 2048


def train_trials(
    trials: Sequence[Trial], directory: Path, *, already_trained: int = 0, workers: int | None = None
) -> None:
    """Trains trials and keeps their answers in a `TrialStore`.

    Each worker has its share of the cores as TensorFlow threads. A trial that was interrupted resumes from
    its last epoch. `Progress` shows how far it is.

    Args:
        trials: What to train, each once.
        directory: The directory of the experiment.
        already_trained: Number of trials that count as done in the progress.
        workers: Processes; None: one per core, but not more than trials.

    Raises:
        ValueError: The data changed meanwhile.
        OSError: A worker was killed.
    """
    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    if not trials:
        return
    cores = cpu_count()
    workers = min(workers or cores, len(trials))
    # The longest first, so that the cores finish together.
    queue = sorted(trials, key=lambda trial: trial.cost, reverse=True)
    with ExitStack() as at_end:
        # Interrupted half-way, loky would leave semaphores behind; its workers must not answer Ctrl-C.
        with deferred_interrupts():
            executor = ProcessPoolExecutor(
                workers,
                timeout=_IDLE_S,
                initializer=_prepare_worker,
                initargs=(os.getpid(), max(1, cores // workers)),
            )
            at_end.callback(_end, executor)
            running = [executor.submit(_train_trial, trial, directory) for trial in queue]
        progress = at_end.enter_context(_TrialsProgress(already_trained, queue, workers))
        at_end.enter_context(warnings.catch_warnings())
        # TensorFlow's memory grows with every network; loky then restarts a worker, with a warning.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        try:
            for done in as_completed(running):
                progress.advance(done.result())
        except BrokenProcessPool:
            raise OSError(
                "A training process was killed, perhaps for lack of memory: give the same command again to "
                "resume the training."
            ) from None


def _end(executor: ProcessPoolExecutor) -> None:
    """Ends the workers, which may be training, and waits until the executor has cleaned up."""
    with deferred_interrupts():
        # While trials wait, `shutdown(kill_workers=True)` fails in the executor's thread (KeyError) and leaks
        # semaphores. Workers that die are its contract.
        for process in list(executor._processes.values()):
            process.terminate()
        executor.shutdown(wait=True)


def _prepare_worker(parent: int, threads: int) -> None:
    """Prepares a worker, before TensorFlow computes anything there."""
    end_with_parent(parent)
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _train_trial(trial: Trial, directory: Path) -> str:
    """Trains one trial, in a worker; returns its key."""
    store = TrialStore(directory)
    tf.keras.backend.clear_session()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process that planned the trial has shown them
        data = trial.source.load()
    if data.digest() != trial.data_sha256:
        raise ValueError(f"The data set '{data.name}' changed during the run: start again.")
    data = data.with_devices(trial.devices)
    tf.keras.utils.set_random_seed(trial.options.seed)
    fails_nodes = trial.options.recipe.fails_nodes and not trial.is_individual
    if trial.is_individual:
        model = build_individual(trial.topology)
        weights = None
    else:
        model = build(trial.topology, presence=fails_nodes)
        weights = trial.topology.loss_weights
    place = store.checkpoints(trial)
    train(
        model,
        data,
        options=trial.options,
        loss_weights=weights,
        individual=trial.is_individual,
        nodes=trial.topology.hierarchy.failable_names,
        directory=place,
        progress=False,
    )
    if fails_nodes:
        model = without_presence(model, trial.topology)
    seconds = time.perf_counter() - start
    answers = Answers(
        validation=_answers(model, trial, data, "validation"),
        test=_answers(model, trial, data, "test"),
        without={part: _answers_without(model, trial, data, part) for part in ("validation", "test")},
        seconds=seconds,
    )
    store.write(trial, answers, model.get_weights())
    shutil.rmtree(place, ignore_errors=True)
    return trial.key


def _answers(model: tf.keras.Model, trial: Trial, data: MultiViewDataset, part: str) -> Probabilities:
    if not trial.is_individual:
        return tier_probabilities(model, trial.topology, data.part(part))
    return dict(zip(trial.outputs, named_outputs(model, data.part(part)).values(), strict=True))


def _answers_without(
    model: tf.keras.Model, trial: Trial, data: MultiViewDataset, part: str
) -> dict[tuple[str, ...], Probabilities]:
    """Answers to the samples of a part without the nodes of each of the trial's sets."""
    if not trial.missing:
        return {}
    masked = with_presence(model, trial.topology)
    hierarchy, views = trial.topology.hierarchy, data.part(part)
    samples = len(data.split[part])
    answers: dict[tuple[str, ...], Probabilities] = {}
    # Many sets of few samples are predicted together: a call takes longer than the samples do.
    number = max(1, _SAMPLES_AT_ONCE // samples)
    for start in range(0, len(trial.missing), number):
        sets = trial.missing[start : start + number]
        present = np.concatenate([hierarchy.presence(missing, samples) for missing in sets])
        repeated = views
        if len(sets) > 1:
            rows = np.tile(np.arange(samples), len(sets))
            repeated = {name: view[rows] for name, view in views.items()}
        found = tier_probabilities(masked, trial.topology, repeated, present)
        for place, missing in enumerate(sets):
            own = slice(place * samples, (place + 1) * samples)
            answers[missing] = {tier: probabilities[own] for tier, probabilities in found.items()}
    return answers


class _TrialsProgress:
    """Trials done, running and remaining, as `Progress` shows them."""

    def __init__(self, done: int, queue: Sequence[Trial], workers: int) -> None:
        self._costs = {trial.key: trial.cost for trial in queue}
        self._done = done
        self._left = len(queue)
        self._workers = workers
        self._cost_done = 0.0
        self._progress = Progress("training", sum(self._costs.values()))

    def __enter__(self) -> _TrialsProgress:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__()

    def advance(self, key: str) -> None:
        self._done += 1
        self._left -= 1
        self._cost_done += self._costs[key]
        running = min(self._workers, self._left)
        self._progress.update(
            self._cost_done, f"{self._done} done, {running} running, {self._left - running} remaining"
        )
