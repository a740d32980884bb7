from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ddnn_tf.augmentation import Augmentation
from ddnn_tf.datasets import DataSource, MultiViewDataset, fitting_topology
from ddnn_tf.documents import atomic_write, claimed_directory
from ddnn_tf.network import build
from ddnn_tf.recipes import RECIPES, Recipe
from ddnn_tf.runs import load_run, train_run
from ddnn_tf.topology import Cloud, Topology
from ddnn_tf.training import TrainingOptions

OPTIONS = TrainingOptions(epochs=2, batch_size=16)


@pytest.fixture
def directory(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_topology: Topology,
    tiny_source: DataSource,
    tiny_data: MultiViewDataset,
) -> Path:
    """A run, trained once and copied for each test."""
    trained = tmp_path_factory.getbasetemp() / "trained"
    if not trained.exists():
        train_run(trained, tiny_topology, tiny_source, tiny_data, OPTIONS)
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_is_read_back_as_it_was(
    directory: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    run = load_run(directory)
    assert run.topology == tiny_topology
    assert run.source == tiny_source
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


def test_cloud_only_has_no_individual_models(
    tmp_path: Path, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    topology = Topology.cloud_only(devices=2, image_shape=(8, 8, 1), classes=2)
    train_run(tmp_path / "run", topology, tiny_source, tiny_data, OPTIONS)
    run = load_run(tmp_path / "run")
    assert run.individual is None
    assert run.thresholds == {}
    assert run.evaluate(tiny_data).reduction == 1


def test_the_model_of_another_training_is_refused(
    directory: Path,
    tmp_path: Path,
    tiny_topology: Topology,
    tiny_source: DataSource,
    tiny_data: MultiViewDataset,
) -> None:
    train_run(tmp_path / "other", tiny_topology, tiny_source, tiny_data, replace(OPTIONS, seed=1))
    (directory / "model.keras").write_bytes((tmp_path / "other" / "model.keras").read_bytes())
    with pytest.raises(ValueError, match=r"model\.keras' is damaged, or of another training than run\.json"):
        load_run(directory)


def test_a_second_training_into_one_directory_is_refused_at_once(
    tmp_path: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    with (
        claimed_directory(tmp_path / "run", "run.json"),
        pytest.raises(BlockingIOError, match=r"Another process is writing into '.*run'"),
    ):
        train_run(tmp_path / "run", tiny_topology, tiny_source, tiny_data, OPTIONS)
    train_run(tmp_path / "run", tiny_topology, tiny_source, tiny_data, OPTIONS)


def test_data_that_no_later_command_finds_are_refused_before_training(
    tmp_path: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=r"data set to be one of .*, but got 'typo'"):
        train_run(run, tiny_topology, DataSource(name="typo"), tiny_data, OPTIONS)
    with pytest.raises(ValueError, match="Expected no `devices` for the data set 'tiny'"):
        train_run(run, tiny_topology, DataSource(name="tiny", devices=2), tiny_data, OPTIONS)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        train_run(run, tiny_topology, DataSource(name="mnist", path="nowhere.npz"), tiny_data, OPTIONS)
    swapped = tiny_data.with_devices(["device_1", "device_0"])
    with pytest.raises(ValueError, match="but 'tiny' gives others"):
        train_run(run, tiny_topology, tiny_source, swapped, OPTIONS)
    assert not run.exists()


def test_a_full_disk_leaves_no_half_written_file(
    tmp_path: Path,
    tiny_topology: Topology,
    tiny_source: DataSource,
    tiny_data: MultiViewDataset,
    full_disk: Callable[[], AbstractContextManager[None]],
) -> None:
    model = build(tiny_topology)

    def save() -> None:
        with atomic_write(tmp_path / "model.keras") as aside:
            model.save(aside)

    with full_disk(), pytest.raises(OSError, match=r"model\.keras' cannot be written \(File too large\)"):
        save()
    with full_disk(), pytest.raises(OSError, match=r"npz' cannot be written \(File too large\): free space"):
        train_run(tmp_path / "run", tiny_topology, tiny_source, tiny_data, OPTIONS)
    files = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert sorted(files) == ["run.json", "topology.yaml"]


def test_an_augmentation_without_pictures_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    readings = replace(tiny_data, views={device: view[..., 0] for device, view in tiny_data.views.items()})
    options = TrainingOptions(epochs=1, augmentation=Augmentation(shift=0.1))
    with pytest.raises(ValueError, match="train without augmentation"):
        train_run(tmp_path / "run", fitting_topology(readings), tiny_source, readings, options)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten_unasked(
    directory: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    with pytest.raises(FileExistsError, match="--overwrite"):
        train_run(directory, tiny_topology, tiny_source, tiny_data, OPTIONS)
    options = TrainingOptions(epochs=1, augmentation=Augmentation(shift=0.1, mirror=True))
    train_run(directory, tiny_topology, tiny_source, tiny_data, options, overwrite=True)
    recorded = json.loads((directory / "run.json").read_text())["options"]
    assert recorded["epochs"] == 1
    assert recorded["augmentation"] == asdict(Augmentation(shift=0.1, mirror=True))
    assert load_run(directory).topology == tiny_topology


def test_an_unfinished_run_goes_on_only_as_it_began(
    directory: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    for name in ("model.keras", "individual.keras"):
        (directory / name).unlink()
    topology = tiny_topology.replace(cloud=Cloud(filters=(4,)))
    with pytest.raises(
        FileExistsError,
        match=r"unfinished run with options\.epochs 2, not 3; topology\.cloud\.filters \[8\], not \[4\]: "
        "give the same options to finish it, .*--overwrite",
    ):
        train_run(directory, topology, tiny_source, tiny_data, replace(OPTIONS, epochs=3))
    train_run(directory, tiny_topology, tiny_source, tiny_data, OPTIONS)
    assert load_run(directory).topology == tiny_topology


def test_foreign_files_are_left_alone(
    tmp_path: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds other files"):
        train_run(tmp_path, tiny_topology, tiny_source, tiny_data, OPTIONS, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        train_run(tmp_path / "thesis.txt", tiny_topology, tiny_source, tiny_data, OPTIONS)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_data_of_another_shape_are_refused_before_anything_is_made(
    tmp_path: Path, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    with pytest.raises(ValueError, match=r"'input' of device 'device_0' is .* but the data set 'tiny' has"):
        train_run(tmp_path / "run", Topology(), tiny_source, tiny_data, OPTIONS)
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
        ("run.json", '{"format": 2}', "format 2, .*train the run again"),
        ("run.json", '{"format": 3, "version": "1"}', "damaged: .*lacks the field 'data'"),
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


def test_a_robust_run_holds_the_plain_network_and_says_how_it_was_trained(
    tmp_path: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    options = replace(OPTIONS, learning_rate=None, recipe=RECIPES["robust"])
    train_run(tmp_path / "run", tiny_topology, tiny_source, tiny_data, options)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["recipe"]["name"] == "robust"
    assert record["options"]["learning_rate"] == RECIPES["robust"].learning_rate
    model = load_run(tmp_path / "run").model
    assert "present" not in model.input_names


def test_a_recipe_of_other_layers_does_not_go_with_float_optimizations(
    tmp_path: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    options = replace(OPTIONS, recipe=Recipe("real-first", real_epochs=0.5))
    with pytest.raises(ValueError, match=r"'real-first' trains other layers .*: choose one"):
        train_run(tmp_path / "run", tiny_topology, tiny_source, tiny_data, options, sparsity=0.5)
    assert not (tmp_path / "run").exists()


def test_a_survival_rate_of_an_unknown_node_is_refused_before_any_training(
    tmp_path: Path, tiny_topology: Topology, tiny_source: DataSource, tiny_data: MultiViewDataset
) -> None:
    options = replace(OPTIONS, recipe=Recipe(survival={"camera_9": 0.9}))
    with pytest.raises(ValueError, match="`survival` of nodes out of device_0, device_1, but got 'camera_9'"):
        train_run(tmp_path / "run", tiny_topology, tiny_source, tiny_data, options, overwrite=True)
    assert not (tmp_path / "run").exists()
