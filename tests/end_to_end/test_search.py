"""`ddnn search` as it is used: limits, a resumed search, the front that opens again, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from typer.testing import CliRunner

from ddnn_tf.cli import app

pytestmark = pytest.mark.slow


def ddnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddnn_tf.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def test_search(mnist: Path, tmp_path: Path) -> None:
    space = {
        "filters": [1, 2],
        "local": ["MP"],
        "upper": ["WCC", "MP"],
        "cloud_precision": ["float"],
        "recipe": {"drop": [0.0, 0.5], "learning_rate": {"low": 0.001, "high": 0.01}},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    place = tmp_path / "search"
    data = ("--data", "mnist", "--path", mnist, "--devices", 2, "--epochs", 1)
    command = ("search", *data, "--space", tmp_path / "space.yaml", "--objective", "robust", "--out", place)

    first = ddnn(*command, "--trials", 1, "--max-device-flash", 4000, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["trained"] == 1
    refused = ddnn(*command, "--trials", 2, "--max-device-flash", 5000)
    assert refused.returncode == 2
    assert "limits.max_device_flash 4000, not 5000" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1

    second = ddnn(*command, "--trials", 3, "--max-device-flash", 4000, "--workers", 2, "--json")
    assert second.returncode == 0, second.stderr
    found = json.loads(second.stdout)
    assert (found["trained"], found["refused"]) == (3, 0)
    assert found["front"]
    for point in found["front"]:
        assert point["device_flash_bytes"] <= 4000
        assert 0 <= point["test"]["worst_accuracy_one_missing"] <= point["test"]["accuracy_one_missing"]
    reopen = ["search", "--out", str(place), "--trials", "0"]
    again = CliRunner().invoke(app, [*reopen, "--json"])
    assert json.loads(again.stdout) == json.loads((place / "front.json").read_text()) == found
    assert "Front of 3 networks on mnist" in CliRunner().invoke(app, reopen).stdout
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{place / 'study.db'}")
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 3

    best = ("--topology", place / "topology.yaml", "--recipe", place / "recipe.yaml")
    trained = ddnn("train", *data, *best, "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
