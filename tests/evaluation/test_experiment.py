"""Trials that are really trained, on a small file in MNIST's form, in a process that uses TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.datasets import DataSource
from ddnn_tf.evaluation import executor
from ddnn_tf.evaluation import trial as trial_module
from ddnn_tf.evaluation.accuracy import tier_probabilities
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.network import build, device_features, with_presence

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    random = np.random.default_rng(0)
    labels = (np.arange(90) % 10).astype(np.uint8)
    images = random.integers(0, 256, (90, 28, 28), dtype=np.uint8)
    file = tmp_path_factory.mktemp("data") / "mnist.npz"
    np.savez(file, x_train=images[:70], y_train=labels[:70], x_test=images[70:], y_test=labels[70:])
    return DataSource(name="mnist", path=str(file), devices=3)


@pytest.fixture(scope="module")
def experiment(source: DataSource, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment(source, tmp_path_factory.mktemp("results"), seeds=2, epochs=1)


def test_one_trial_trains_beside_a_running_tensorflow(experiment: Experiment) -> None:
    """And its answers without some devices are those of its network with that mask."""
    tf.reduce_sum(tf.ones(3))
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    trial = experiment.network(1)
    assert [len(missing) for missing in trial.missing] == [1, 1, 2, 1, 2, 2, 3]
    answers = experiment.answers(trial)
    assert tf.config.threading.get_intra_op_parallelism_threads() == threads
    data = experiment.data(1)
    model = build(trial.topology)
    with np.load(experiment.directory / "trials" / f"{trial.key}.npz", allow_pickle=False) as file:
        model.set_weights([file[f"weight_{at}"] for at in range(len(model.weights))])
    devices = device_features(model, trial.topology)
    maps = experiment.feature_maps(trial, "train")
    for name, expected in devices.predict(dict(data.part("train")), verbose=0).items():
        assert np.array_equal(maps[name], expected)
    masked = with_presence(model, trial.topology)
    for part in ("validation", "test"):
        for missing in ((), *trial.missing):
            present = np.ones((len(data.split[part]), 3), dtype=bool)
            present[:, [data.device_names.index(name) for name in missing]] = False
            expected = tier_probabilities(masked, trial.topology, data.part(part), present)
            found = answers.of(part, missing)
            for tier, probabilities in expected.items():
                assert np.allclose(found[tier], probabilities, atol=1e-5), (part, missing, tier)
    without = [answers.of("test", (name,))["cloud"] for name in ("device_0", "device_1")]
    assert not np.allclose(*without, atol=1e-3)
    assert not (experiment.directory / "trials" / trial.key).exists()
    with pytest.raises(ValueError, match="one of the trial's sets of nodes, but got device_0, device_9"):
        answers.of("test", ("device_0", "device_9"))
    with pytest.raises(ValueError, match="validation or test"):
        answers.of("train")


def test_several_trials_train_each_once(experiment: Experiment) -> None:
    trials = [experiment.individual(0), experiment.network(0, devices=["device_1"]), experiment.individual(0)]
    experiment.train(trials)
    place = experiment.directory / "trials"
    files = {file.name: file.stat().st_mtime_ns for file in place.glob("*.npz")}
    assert {f"{trial.key}.npz" for trial in trials} <= set(files)
    again = Experiment(experiment.source, experiment.directory, seeds=1, epochs=1)
    again.train(trials)
    assert len(again.individual_accuracy(0)) == 3
    assert {
        file.name: file.stat().st_mtime_ns for file in (experiment.directory / "trials").glob("*.npz")
    } == files


def test_a_damaged_trial_is_found_before_anything_is_trained(source: DataSource, tmp_path: Path) -> None:
    experiment = Experiment(source, tmp_path, seeds=1, epochs=1)
    file = tmp_path / "trials" / f"{experiment.individual(0).key}.npz"
    file.parent.mkdir()
    file.write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match="remove it, and it is trained again"):
        experiment.train([experiment.network(0), experiment.individual(0)])
    assert list(file.parent.iterdir()) == [file]


def _die(trial: object, directory: object) -> str:
    os._exit(9)


def test_a_killed_worker_is_one_sentence(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_train_trial", _die)
    with pytest.raises(OSError, match="give the same command again"):
        experiment.train([experiment.network(0, local="AP")])


def test_other_code_makes_other_trials(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    before = experiment.network(0).key
    again = Experiment(experiment.source, experiment.directory, seeds=2, epochs=1)
    assert again.network(0).key == before
    monkeypatch.setattr(trial_module, "_sources_digest", lambda modules: "other")
    again = Experiment(experiment.source, experiment.directory, seeds=2, epochs=1)
    assert again.network(0).key != before


def test_other_data_keep_their_own_epochs(experiment: Experiment) -> None:
    other = experiment.source.model_copy(update={"devices": 2})
    assert experiment.with_source(other, 3).epochs == 3
    assert experiment.with_source(other, 4).epochs == 4
    assert experiment.with_source(other, 3) is experiment.with_source(other, 3)


def test_unlike_devices_train_in_workers_too(tmp_path: Path) -> None:
    """Their codings differ by seed, and the topology of a trial carries those of its own."""
    random = np.random.default_rng(0)
    counts = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}
    arrays = {name: random.normal(size=(60, count)).astype(np.float32) for name, count in counts.items()}
    file = tmp_path / "mfeat.npz"
    np.savez(file, y=np.arange(60) % 10, **arrays)
    experiment = Experiment(DataSource(name="mfeat", path=str(file)), tmp_path / "out", seeds=2, epochs=1)
    trials = [experiment.network(seed, devices=["zer", "mor"]) for seed in experiment.seeds]
    assert trials[0].topology.codings != trials[1].topology.codings
    experiment.train(trials)
    for trial in trials:
        found = experiment.measure(trial)
        assert list(found.exit_accuracy) == ["local", "cloud"]
        assert {"zer -> local", "mor -> cloud"} <= set(found.bytes_per_link)
