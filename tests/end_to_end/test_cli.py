"""The command line as a newcomer uses it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

DDNN = [sys.executable, "-m", "ddnn_tf.cli"]


def interruptible() -> None:
    """A job in the background of a shell ignores SIGINT, and hands that down to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ddnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DDNN, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture(scope="module")
def run(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "mnist"
    result = ddnn("train", "--data", "mnist", "--path", mnist, "--epochs", 2, "--out", directory, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert json.loads(result.stdout)["data"] == "mnist"
    return directory


KEYS = {
    "individual_accuracy", "local_accuracy", "edge_accuracy", "cloud_accuracy", "overall_accuracy",
    "exit_shares", "thresholds", "bytes_per_sample", "reduction", "data", "split", "seed",
}  # fmt: skip


def test_evaluate_prints_one_json_object(run: Path) -> None:
    result = ddnn("evaluate", run, "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found.keys() >= KEYS
    assert len(found["individual_accuracy"]) == 6
    assert all(0 <= value <= 1 for value in found["individual_accuracy"])
    assert found["edge_accuracy"] is None
    assert found["exit_shares"].keys() == {"local", "cloud"}
    share = found["exit_shares"]["local"]
    assert found["bytes_per_sample"] == pytest.approx(40 + (1 - share) * 4 * 8 * 5 / 8)
    assert found["reduction"] == pytest.approx(160 / found["bytes_per_sample"])
    assert result.stderr == ""
    metrics = json.loads((run / "metrics.json").read_text())
    assert {key: found[key] for key in metrics} == metrics


def test_evaluate_prints_tables(run: Path) -> None:
    result = ddnn("evaluate", run)
    assert result.returncode == 0, result.stderr
    for words in ("device_5 alone", "local exit", "cloud exit", "overall", "device_0 -> cloud", "reduction"):
        assert words in result.stdout


def test_a_run_directory_that_exists_is_not_overwritten(run: Path, mnist: Path) -> None:
    before = (run / "model.keras").read_bytes()
    result = ddnn("train", "--data", "mnist", "--path", mnist, "--epochs", 2, "--out", run)
    assert_one_line_error(result, "finished run")
    assert (run / "model.keras").read_bytes() == before


def test_two_edges_from_a_topology_file(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text(
        "devices: {count: 6, image_shape: [16, 10, 1], filters: 2}\n"
        "edges: [{devices: [0, 1, 2], filters: [4]}, {devices: [3, 4, 5], filters: [4]}]\n"
        "cloud: {filters: [8], precision: float}\n"
        "classes: 10\n"
        "exits: {local: {aggregation: AP}}\n"
    )
    result = ddnn(
        "train", "--data", "mnist", "--path", mnist, "--topology", tmp_path / "topology.yaml",
        "--epochs", 1, "--out", tmp_path / "run", "--tensorboard", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["exit_shares"].keys() == {"local", "edge", "cloud"}
    assert found["edge_accuracy"] is not None
    assert found["thresholds"].keys() == {"local", "edge"}
    assert list((tmp_path / "run" / "tensorboard" / "ddnn").rglob("events.*"))


def test_a_killed_training_goes_on(mnist: Path, tmp_path: Path) -> None:
    command = [
        "train", "--data", "mnist", "--path", mnist, "--epochs", 12, "--out", tmp_path / "run", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*DDNN, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("run/*.checkpoint.npz")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    result = ddnn("evaluate", tmp_path / "run")
    assert_one_line_error(result, "same `ddnn train` command again")
    resumed = ddnn(*command)
    assert resumed.returncode == 0, resumed.stderr
    fresh = ddnn(*command[:-2], tmp_path / "fresh", "--json")
    assert json.loads(resumed.stdout) == json.loads(fresh.stdout)


def test_ctrl_c_is_one_line_and_exit_code_130(mnist: Path, tmp_path: Path) -> None:
    command = ["train", "--data", "mnist", "--path", mnist, "--epochs", 500, "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [*DDNN, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("run/*.checkpoint.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert output == ""
    assert error == "ddnn: interrupted\n"


def test_one_device_configurations_need_no_further_option(mnist: Path, tmp_path: Path) -> None:
    result = ddnn(
        "train", "--data", "mnist", "--path", mnist, "--configuration", "b", "--epochs", 1,
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["individual_accuracy"]) == 1


def test_data_summary(mnist: Path) -> None:
    result = ddnn("data", "mnist", "--path", mnist, "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["parts"] == {"train": 180, "validation": 20, "test": 50}
    assert summary["image_shape"] == [16, 10, 1]
    assert summary["views"][0]["absent"] == 0
    table = ddnn("data", "mnist", "--path", mnist)
    assert "device_5" in table.stdout


def test_a_warning_is_one_line_too(tmp_path: Path) -> None:
    images, labels = np.zeros((851, 6, 3, 32, 32), np.float32), np.zeros((851, 6), np.int32)
    np.savez_compressed(tmp_path / "other.npz", X=images, y=labels)
    result = ddnn("data", "mvmc", "--path", tmp_path / "other.npz", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["samples"] == 851
    assert result.stderr.startswith("ddnn: warning: ")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", [[], ["data"], ["train"], ["evaluate"]])
def test_help(command: list[str]) -> None:
    result = ddnn(*command, "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout
    if command:
        assert "Example" in result.stdout


def test_no_arguments_shows_the_help() -> None:
    result = ddnn()
    assert result.returncode == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "Missing option '--out'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["train", "--out", "x", "--epochs", "0"], "--epochs"),
        (["train", "--out", "x", "--data", "imagenet"], "imagenet"),
        (["train", "--out", "x", "--data", "mvmc"], "--path"),
        (["train", "--out", "x", "--data", "eth80", "--path", "none.npz"], "none.npz"),
        (["data", "scenes", "--split", "object"], "object"),
        (["evaluate", "nowhere"], "no run directory 'nowhere'"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    os.environ.pop("COLUMNS", None)
    assert_one_line_error(ddnn(*arguments), message)
    assert not Path("x").exists()


def assert_one_line_error(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("ddnn: ")
    assert message in result.stderr
