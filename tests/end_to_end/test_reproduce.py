"""`ddnn reproduce` as a newcomer uses it, on files in MNIST's format, in processes of its own."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

DDNN = [sys.executable, "-m", "ddnn_tf.cli", "reproduce"]

# stderr is no terminal: a line for each network.
PROGRESS = re.compile(r"ddnn: training: \d+ done, \d+ running, \d+ remaining")


def reproduce(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DDNN, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def trials(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (directory / "trials").glob("*.npz")}


@pytest.fixture(scope="module")
def place(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole reproduction, interrupted after its first network as by Ctrl-C, and started again."""
    directory = tmp_path_factory.mktemp("runs") / "paper"
    command = ["--data", "mnist", "--path", mnist, "--seeds", 1, "--epochs", 2, "--out", directory]
    killed = subprocess.Popen(
        [*DDNN, *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A terminal sends Ctrl-C to the whole process group.
        start_new_session=True,
        # A job in the background of a shell ignores SIGINT, and hands that down to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 300
        while len(trials(directory)) < 2 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(killed.pid, signal.SIGINT)
        _, errors = killed.communicate(timeout=120)
    finally:
        killed.kill()
    assert killed.returncode == 130, errors.decode()
    *lines, last = errors.decode().splitlines()
    assert last == "ddnn: interrupted"
    assert all(PROGRESS.fullmatch(line) for line in lines), lines
    before = trials(directory)
    assert before
    assert not (directory / "report.html").exists()

    result = reproduce(*command)
    assert result.returncode == 0, result.stderr
    assert all(PROGRESS.fullmatch(line) for line in result.stderr.splitlines()), result.stderr
    (directory / "stdout.txt").write_text(result.stdout)
    after = trials(directory)
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before
    return directory


def test_every_item_is_in_every_form_of_the_report(place: Path) -> None:
    results = json.loads((place / "results.json").read_text())
    assert results["data"] == "mnist"
    assert results["left_out"] == {}
    tables = {file.stem for file in (place / "tables").glob("*.csv")}
    assert tables == set(results["tables"])
    assert tables >= {
        "claims", "figure_6", "table_1", "table_2", "figure_7", "figure_8", "figure_9", "figure_10",
        "missing_devices", "reduction", "edge", "edge_links", "confusion", "reliability", "pareto",
    }  # fmt: skip
    markdown = (place / "report.md").read_text()
    page = (place / "report.html").read_text()
    for name in tables:
        with open(place / "tables" / f"{name}.csv", newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == len(results["tables"][name]["rows"]) > 0
        assert results["tables"][name]["title"] in markdown
    figures = {file.stem for file in (place / "figures").glob("*.png")}
    assert figures == {file.stem for file in (place / "figures").glob("*.svg")}
    assert figures >= {"table_1", "figure_6", "figure_7", "figure_8", "figure_9", "figure_10", "pareto"}
    for name in figures:
        assert (place / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{name}.png" in markdown
    assert page.count("data:image/svg+xml;base64,") == len(figures)
    # Self-contained: nothing is loaded from elsewhere, no script.
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page) == ["https://arxiv.org/abs/1709.01921"]
    assert "<script" not in page
    assert "which is not this one" in page


def test_the_readmes_table_is_printed_in_its_own_format(place: Path) -> None:
    lines = re.findall(
        r"^Missing Device\(s\) (\[.*\]): (\d+\.\d\d)$", (place / "stdout.txt").read_text(), re.MULTILINE
    )
    assert [missing for missing, _ in lines][5:8] == ["[5]", "[1, 2, 3, 4, 5]", "[2, 3, 4, 5]"]
    assert len(lines) == 12
    assert lines[-1][0] == "[]"


def test_what_is_trained_is_not_trained_again(place: Path, mnist: Path) -> None:
    before = trials(place)
    result = reproduce(
        "--data", "mnist", "--path", mnist, "--seeds", 1, "--epochs", 2, "--out", place,
        "--only", "table-1,figure-8", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout)["tables"]) == {"table_1", "figure_8"}
    assert trials(place) == before
    # The report is the one asked for last, with nothing of another beside it.
    assert {file.stem for file in (place / "tables").glob("*")} == {"table_1", "figure_8"}
    assert {file.stem for file in (place / "figures").glob("*")} == {"table_1", "figure_8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "table-9"], "claims, figure-6, table-1"),
        (["--only", ","], "at least one table or figure"),
        (["--epochs", "3"], "holds results with epochs 2, not 3"),
        (["--data", "scenes", "--path", "x"], "no `path` for the data set 'scenes'"),
        (["--seeds", "0"], "greater than or equal to 1"),
        (["--devices", "7"], "7"),
    ],
)
def test_bad_input_is_one_line_before_any_training(
    place: Path, mnist: Path, arguments: list[str], message: str
) -> None:
    before = trials(place)
    result = reproduce("--data", "mnist", "--path", mnist, "--epochs", 2, "--out", place, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert trials(place) == before


def test_a_directory_with_other_files_is_refused(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    result = reproduce("--data", "mnist", "--path", mnist, "--quick", "--out", tmp_path)
    assert result.returncode == 2
    assert "holds other files" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_unlike_devices(tmp_path: Path) -> None:
    """Six vectors: an item about filters is left out with its reason, the others are there."""
    random = np.random.default_rng(0)
    counts = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}
    arrays = {name: random.normal(size=(60, count)).astype(np.float32) for name, count in counts.items()}
    np.savez(tmp_path / "mfeat.npz", y=np.arange(60) % 10, **arrays)
    result = reproduce(
        "--data", "mfeat", "--path", tmp_path / "mfeat.npz", "--seeds", 1, "--epochs", 1,
        "--out", tmp_path / "out", "--only", "figure-6,table-2,figure-9", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    assert set(results["tables"]) == {"figure_6", "table_2", "table_2_recall"}
    assert set(results["left_out"]) == {"figure-9"}
    assert "no device has a ConvP block" in results["left_out"]["figure-9"]
    assert [row["device"] for row in results["tables"]["figure_6"]["rows"]] == list(counts)
    assert "inputs fac 216, fou 76, kar 64, mor 6, pix 240, zer 47" in results["about"][0]
