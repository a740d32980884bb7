"""Data of a user's own through the commands that a newcomer gives, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import write_occupancy, write_pictures
from typer.testing import CliRunner

from ddnn_tf.bundle import open_bundle
from ddnn_tf.cli import app
from ddnn_tf.runs import load_run

pytestmark = pytest.mark.slow


def ddnn(*arguments: object) -> Any:
    """What a command prints with `--json`."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    """The sentence of a command that refuses."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(result.exception, (ValueError, OSError)), result.output
    return str(result.exception)


def write_arrays(file: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    np.savez(
        file,
        camera=(random.integers(0, 100, (90, 12, 12, 1)) + 70 * labels[:, None, None, None]).astype(np.uint8),
        air=(random.normal(size=(90, 2)) + labels[:, None]).astype(np.float32),
        y=labels,
        time=np.arange(90),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures, and a run that was trained on them."""
    place = tmp_path_factory.mktemp("own")
    write_pictures(place / "pictures")
    trained = ddnn(
        "train", "--data", "folder", "--path", place / "pictures", "--size", "16x16", "--size", "roof=12x20",
        "--fit", "stretch", "--class-weights", "balanced", "--test-share", 0.3, "--epochs", 1,
        "--out", place / "run",
    )  # fmt: skip
    assert trained["classes"] == ["bus", "car", "person"]
    assert len(trained["class_recall"]) == 3
    assert trained["test_samples"] == 18
    return place / "pictures", place / "run"


def test_a_run_remembers_how_its_pictures_were_read(folder: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = folder
    assert (
        ddnn("evaluate", run)["overall_accuracy"]
        == json.loads((run / "metrics.json").read_text())["overall_accuracy"]
    )
    assert ddnn("export", run, "--out", tmp_path / "bundle", "--target", "c", "--section", "roof")
    data = open_bundle(tmp_path / "bundle").load_data()
    assert data.shapes == {"door": (16, 16, 3), "gate": (16, 16, 3), "roof": (20, 12, 3)}
    assert data.balance
    assert ddnn("verify", tmp_path / "bundle")


def test_other_pictures_in_their_place_are_refused(folder: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, run = folder
    away = shutil.move(pictures, tmp_path / "away")
    try:
        assert f"There is no folder '{pictures}'" in refused("evaluate", run)
        write_pictures(pictures, samples=61)
        assert "not the one that the network was trained on" in refused("evaluate", run)
        shutil.rmtree(pictures)
    finally:
        shutil.move(away, pictures)
    assert load_run(run).source.path == str(pictures)


def test_arrays_and_tables_train_and_export(tmp_path: Path) -> None:
    write_arrays(tmp_path / "hall.npz")
    write_occupancy(tmp_path / "occupancy.csv")
    drafted = ddnn("data", "describe", tmp_path / "occupancy.csv", "--out", tmp_path / "room.yaml")
    assert list(drafted["devices"]) == ["S1", "S2", "S3", "S4", "S5", "S6", "S7"]
    assert "there already" in refused(
        "data", "describe", tmp_path / "occupancy.csv", "--out", tmp_path / "room.yaml"
    )
    (tmp_path / "one.yaml").write_text(
        "devices: {name: S3, input: [16, 3], filters: [2]}\ncloud: {filters: [4]}\nclasses: 4\n"
    )
    for name, path, split, network, devices in (
        # One device: the first.
        ("arrays", "hall.npz", "by time", ("--configuration", "b"), ["camera"]),
        # A topology names the devices that it takes.
        ("table", "room.yaml", "by group", ("--topology", tmp_path / "one.yaml"), ["S3"]),
    ):
        run, bundle = tmp_path / name, tmp_path / f"{name}.zip"
        trained = ddnn(
            "train", "--data", name, "--path", tmp_path / path, *network,
            "--epochs", 1, "--out", run,
        )  # fmt: skip
        assert trained["split"].startswith(split)
        assert trained["devices"] == devices
        assert ddnn("export", run, "--out", bundle, "--target", "c", "--section", devices[0])
        assert open_bundle(bundle).load_data().split_rule == trained["split"]


def test_a_path_in_place_of_a_name(
    folder: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, _ = folder
    monkeypatch.chdir(pictures.parent)
    expected = "got the path 'pictures': give it with --path, as data set 'folder'"
    assert expected in refused("data", "check", "pictures")
    assert expected in refused("train", "--data", "pictures", "--out", tmp_path / "run")
    write_arrays(tmp_path / "hall.npz")
    assert "as data set 'arrays'" in refused("data", tmp_path / "hall.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", 5], "Expected 5 devices, but 'folder' has 3: door, gate, roof"),
        (["--size", "big"], "Expected --size WIDTHxHEIGHT in pixels, or DEVICE=WIDTHxHEIGHT, but got 'big'"),
        (["--size", "0x8"], "but got '0x8'"),
        (["--size", "window=8x8"], "a size of door, gate, roof, but got 'window'"),
        (["--fit", "crop"], "'fit' is 'crop'"),
        (["--channels", "red"], "'channels' is 'red'"),
        (["--class-weights", "some"], "'class_weights' is 'some'"),
        (["--test-share", 1.5], "'test_share' is 1.5"),
        (["--split", "time"], "out of random, but got 'time': it has no `time`"),
        (["--split-file", "order.json"], "no `split_file` for the data set 'folder'"),
    ],
)
def test_options_that_make_no_sense(
    folder: tuple[Path, Path], tmp_path: Path, options: list[object], message: str
) -> None:
    pictures, _ = folder
    out = tmp_path / "run"
    command = ("train", "--data", "folder", "--path", pictures, "--out", out, *options)
    assert message in refused(*command)
    assert not out.exists()
