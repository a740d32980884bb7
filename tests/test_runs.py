from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.runs import load_run, train_run
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions

SOURCE = DataSource(name="scenes", devices=2)
OPTIONS = TrainingOptions(epochs=2, batch_size=16)


@pytest.fixture
def directory(tmp_path: Path, tiny_topology: Topology, tiny_data: MultiViewDataset) -> Path:
    train_run(tmp_path / "run", tiny_topology, SOURCE, tiny_data, OPTIONS)
    return tmp_path / "run"


def test_a_run_is_read_back_as_it_was(
    directory: Path, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    run = load_run(directory)
    assert run.topology == tiny_topology
    assert run.source == SOURCE
    measured = json.loads((directory / "metrics.json").read_text())
    assert json.loads(json.dumps(run.evaluate(tiny_data).to_dict())) == measured
    assert sorted(file.name for file in directory.iterdir()) == [
        "ddnn.csv",
        "individual.csv",
        "individual.keras",
        "metrics.json",
        "model.keras",
        "run.json",
        "thresholds.json",
        "topology.yaml",
    ]


def test_other_data_than_those_of_the_training_are_refused(
    directory: Path, tiny_data: MultiViewDataset
) -> None:
    run = load_run(directory)
    swapped = {**tiny_data.split, "test": tiny_data.split["test"][::-1]}
    for other in (tiny_data.with_devices(["device_1", "device_0"]), replace(tiny_data, split=swapped)):
        with pytest.raises(ValueError, match="not the one that the network was trained on"):
            run.evaluate(other)


def test_cloud_only_has_no_individual_models(tmp_path: Path, tiny_data: MultiViewDataset) -> None:
    topology = Topology.cloud_only(devices=2, image_shape=(8, 8, 1), classes=2)
    train_run(tmp_path / "run", topology, SOURCE, tiny_data, OPTIONS)
    run = load_run(tmp_path / "run")
    assert run.individual is None
    assert run.thresholds == {}
    assert run.evaluate(tiny_data).reduction == 1


def test_a_finished_run_is_not_overwritten_unasked(
    directory: Path, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    with pytest.raises(FileExistsError, match="--overwrite"):
        train_run(directory, tiny_topology, SOURCE, tiny_data, OPTIONS)
    train_run(directory, tiny_topology, SOURCE, tiny_data, TrainingOptions(epochs=1), overwrite=True)
    assert json.loads((directory / "run.json").read_text())["options"]["epochs"] == 1


def test_an_unfinished_run_goes_on_only_as_it_began(
    directory: Path, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    for name in ("model.keras", "individual.keras"):
        (directory / name).unlink()
    with pytest.raises(FileExistsError, match=r"another run\.json"):
        train_run(directory, tiny_topology, SOURCE, tiny_data, TrainingOptions(epochs=3))
    train_run(directory, tiny_topology, SOURCE, tiny_data, OPTIONS)
    assert load_run(directory).topology == tiny_topology


def test_foreign_files_are_left_alone(
    tmp_path: Path, tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds other files"):
        train_run(tmp_path, tiny_topology, SOURCE, tiny_data, OPTIONS, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        train_run(tmp_path / "thesis.txt", tiny_topology, SOURCE, tiny_data, OPTIONS)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_data_of_another_shape_are_refused_before_anything_is_made(
    tmp_path: Path, tiny_data: MultiViewDataset
) -> None:
    with pytest.raises(ValueError, match=r"'input' of device 'device_0' is .* but the data set 'tiny' has"):
        train_run(tmp_path / "run", Topology(), SOURCE, tiny_data, OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["model.keras", "individual.keras", "topology.yaml", "run.json", "thresholds.json"]
)
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {name}"):
        load_run(directory)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.keras", "no zip", r"'.*model\.keras' is damaged"),
        ("individual.keras", "no zip", r"'.*individual\.keras' is damaged"),
        ("topology.yaml", "classes: 9", r"model\.keras' is not the network of"),
        ("topology.yaml", "classes: [", "not valid YAML"),
        ("run.json", "{", "not valid JSON"),
        ("run.json", '{"format": 99}', "format 99"),
        ("run.json", '{"format": 1}', "format 1, .*train the run again"),
        ("run.json", '{"format": 2, "version": "1"}', "damaged: data: Field required"),
        ("thresholds.json", "{}", "a threshold for local"),
        ("thresholds.json", '{"local": 7}', "'local' is 7"),
        ("thresholds.json", '{"local": "x"}', "'local' is 'x'"),
    ],
)
def test_a_damaged_file_is_named(directory: Path, name: str, content: str, message: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_run(directory)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run directory"):
        load_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="it is no run directory"):
        load_run(tmp_path)
    (tmp_path / "ddnn.checkpoint.npz").touch()
    with pytest.raises(FileNotFoundError, match="same `ddnn train` command again"):
        load_run(tmp_path)
