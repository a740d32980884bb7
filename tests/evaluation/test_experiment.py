"""Units that are really trained, on a small file in MNIST's form, in a process that uses TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ddnn_tf.datasets import DataSource
from ddnn_tf.evaluation import experiment as module
from ddnn_tf.evaluation.accuracy import tier_probabilities
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.network import build, with_presence

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


def test_one_unit_trains_beside_a_running_tensorflow(experiment: Experiment) -> None:
    """And its answers without some devices are those of its network with that mask."""
    tf.reduce_sum(tf.ones(3))
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    unit = experiment.network(1)
    assert [len(missing) for missing in unit.missing] == [1, 1, 2, 1, 2, 2, 3]
    trained = experiment.trained(unit)
    assert tf.config.threading.get_intra_op_parallelism_threads() == threads
    data = experiment.data(1)
    images = data.images[data.split["test"]]
    model = build(unit.topology)
    with np.load(experiment.directory / "units" / f"{unit.key}.npz", allow_pickle=False) as file:
        model.set_weights([file[f"weight_{at}"] for at in range(len(model.weights))])
    masked = with_presence(model, unit.topology)
    for missing in ((), *unit.missing):
        present = np.ones((len(images), 3), dtype=bool)
        present[:, list(missing)] = False
        expected = tier_probabilities(masked, unit.topology, images, present)
        found = trained.without[missing] if missing else trained.test
        for tier, probabilities in expected.items():
            assert np.allclose(found[tier], probabilities, atol=1e-5), (missing, tier)
    assert not np.allclose(trained.without[(0,)]["cloud"], trained.without[(1,)]["cloud"], atol=1e-3)
    assert not (experiment.directory / "units" / unit.key).exists()


def test_several_units_train_each_once(experiment: Experiment) -> None:
    units = [experiment.individual(0), experiment.network(0, columns=[1]), experiment.individual(0)]
    experiment.train(units)
    place = experiment.directory / "units"
    files = {file.name: file.stat().st_mtime_ns for file in place.glob("*.npz")}
    assert {f"{unit.key}.npz" for unit in units} <= set(files)
    again = Experiment(experiment.source, experiment.directory, seeds=1, epochs=1)
    again.train(units)
    assert len(again.individual_accuracy(0)) == 3
    assert {
        file.name: file.stat().st_mtime_ns for file in (experiment.directory / "units").glob("*.npz")
    } == files


def test_a_damaged_unit_is_found_before_anything_is_trained(source: DataSource, tmp_path: Path) -> None:
    experiment = Experiment(source, tmp_path, seeds=1, epochs=1)
    file = tmp_path / "units" / f"{experiment.individual(0).key}.npz"
    file.parent.mkdir()
    file.write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match="remove it, and it is trained again"):
        experiment.train([experiment.network(0), experiment.individual(0)])
    assert list(file.parent.iterdir()) == [file]


def _die(unit: object, directory: object) -> str:
    os._exit(9)


def test_a_killed_worker_is_one_sentence(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_train_unit", _die)
    with pytest.raises(OSError, match="give the same command again"):
        experiment.train([experiment.network(0, local="AP")])


def test_other_code_makes_other_units(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    before = experiment.network(0).key
    monkeypatch.setattr(module, "_sources_digest", lambda: "other")
    assert experiment.network(0).key != before


def test_other_data_keep_their_own_epochs(experiment: Experiment) -> None:
    other = experiment.source.model_copy(update={"devices": 2})
    assert experiment.with_source(other, 3).epochs == 3
    assert experiment.with_source(other, 4).epochs == 4
    assert experiment.with_source(other, 3) is experiment.with_source(other, 3)
