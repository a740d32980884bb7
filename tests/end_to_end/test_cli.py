"""The command line as a newcomer uses it, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import write_occupancy
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import ddnn_tf
from ddnn_tf.cli import app, main
from ddnn_tf.topology import Topology

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
    # stderr is no terminal: a line for each epoch of the individual models and of the network.
    assert [line.partition(": loss")[0] for line in result.stderr.splitlines()] == [
        f"ddnn: training {model}: epoch {epoch} of 2" for model in ("individual", "ddnn") for epoch in (1, 2)
    ]
    assert json.loads(result.stdout)["data"] == "mnist"
    return directory


KEYS = {
    "individual_accuracy", "local_accuracy", "edge_accuracy", "cloud_accuracy", "overall_accuracy",
    "exit_shares", "thresholds", "bytes_per_sample", "bytes_per_link", "reduction", "data", "split", "seed",
    "devices", "exit_accuracy", "exit_balanced_accuracy", "overall_balanced_accuracy", "test_samples",
}  # fmt: skip


def test_evaluate_prints_one_json_object(run: Path) -> None:
    result = ddnn("evaluate", run, "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found.keys() >= KEYS
    assert found["devices"] == [f"device_{number}" for number in range(6)]
    assert len(found["individual_accuracy"]) == 6
    assert all(0 <= value <= 1 for value in found["individual_accuracy"])
    assert found["edge_accuracy"] is None
    assert found["exit_accuracy"].keys() == {"local", "cloud"}
    assert found["exit_shares"].keys() == {"local", "cloud"}
    share = found["exit_shares"]["local"]
    assert found["bytes_per_sample"] == pytest.approx(40 + (1 - share) * 4 * 8 * 5 / 8)
    assert found["reduction"] == pytest.approx(160 / found["bytes_per_sample"])
    assert result.stderr == ""
    metrics = json.loads((run / "metrics.json").read_text())
    assert {key: found[key] for key in metrics} == metrics


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What `ddnn evaluate --json` prints, in this process: TensorFlow is loaded once for several tests."""
    app(["evaluate", *map(str, arguments), "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def test_evaluate_without_devices(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = evaluated(capsys, run, "--missing", "3,device_5")
    assert without["missing"] == ["device_3", "device_5"]
    used = {link for link, size in without["bytes_per_link"].items() if size}
    assert not any(name in link for link in used for name in without["missing"])
    assert without["individual_accuracy"] == []
    failures = evaluated(capsys, run, "--failures")
    assert failures["overall_accuracy"] == json.loads((run / "metrics.json").read_text())["overall_accuracy"]
    assert len(failures["failures"]) == 62
    assert [mean["sets"] for mean in failures["by_number_of_failures"]] == [6, 15, 20, 15, 6]
    (same,) = [each for each in failures["failures"] if each["missing"] == without["missing"]]
    assert same["overall_accuracy"] == without["overall_accuracy"]
    assert same["thresholds"] == without["thresholds"] == failures["thresholds"]


def test_evaluate_with_the_surest_devices_asked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everybody = json.loads((run / "metrics.json").read_text())
    same = evaluated(capsys, run, "--ask", 6)
    assert same["overall_accuracy"] == everybody["overall_accuracy"]
    assert same["bytes_per_sample"] == pytest.approx(everybody["bytes_per_sample"])
    few = evaluated(capsys, run, "--ask", 2)
    assert few["exit_shares"] == everybody["exit_shares"]
    assert few["exit_accuracy"]["local"] == everybody["exit_accuracy"]["local"]
    assert few["bytes_per_sample"] - 40 == pytest.approx((everybody["bytes_per_sample"] - 40) * 2 / 6)
    assert few["asked"] == 2


def test_evaluate_by_risk_and_by_cost(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_risk = evaluated(capsys, run, "--risk", "0.3", "--delta", "0.2")
    promise = by_risk["risk"]["tiers"]["local"]
    assert by_risk["thresholds"] == {"local": promise["threshold"]}
    assert promise["needed"] == 9  # right answers show nothing sooner with a quarter of delta
    simulation = by_risk["risk"]["simulation"]
    assert simulation["draws"] == 1000
    assert simulation["exceeded"] <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / 1000)
    assert evaluated(capsys, run, "--cost", "error=0,bytes=1")["exit_shares"]["local"] == 1
    times = evaluated(
        capsys, run, "--cost", "error=1,seconds=0", "--seconds", "local=1,cloud=2", "--missing", "0"
    )
    assert times["missing"] == ["device_0"]
    assert times["calibration"].keys() == {"local", "cloud"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--missing", "9"], r"--missing out of 0 \(device_0\), .* but got '9'"),
        (["--missing", "lamp"], "but got 'lamp'"),
        (["--missing", ","], "--missing with a device, but got ','"),
        (["--missing", "0,1,2,3,4,5"], "at least one device"),
        (["--missing", "1", "--failures"], "--missing and --failures contradict"),
        (["--ask", "1", "--failures"], "--ask and --failures contradict"),
        (["--ask", "7"], "to ask between 1 and 6 devices, but got 7"),
        (["--risk", "2"], "--risk between 0 and 1, but got 2.0"),
        (["--risk", "0.1", "--delta", "0"], "--delta between 0 and 1, but got 0.0"),
        (["--delta", "0.1"], "add --risk"),
        (["--risk", "0.1", "--cost", "error=1"], "--risk and --cost contradict"),
        (["--cost", "bytes=1"], "add error=1"),
        (["--cost", "error=-1"], "--cost error of 0 or more, but got '-1'"),
        (["--cost", "error=x"], "--cost error with a number, but got 'x'"),
        (["--cost", "watts=1"], "a name out of error, bytes, seconds, but got 'watts=1'"),
        (["--cost", "error=1,seconds=1"], "give --seconds local=0.01,cloud=0.01"),
        (["--seconds", "local=1"], "add --cost"),
    ],
)
def test_evaluate_refuses_what_contradicts(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        app(["evaluate", str(run), *arguments], standalone_mode=False)


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
        "devices: {count: 6, input: [16, 10, 1], filters: [2]}\n"
        "local: {aggregation: AP}\n"
        "edges:\n"
        "- {name: edge_0, senders: [device_0, device_1, device_2], filters: [4]}\n"
        "- {name: edge_1, senders: [device_3, device_4, device_5], filters: [4]}\n"
        "cloud: {filters: [8], precision: float}\n"
        "classes: 10\n"
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
    *epochs, last = error.splitlines()
    assert last == "ddnn: interrupted"
    assert all(line.startswith("ddnn: training individual: epoch ") for line in epochs)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--data", "mnist", "--path", "nowhere", "--out"],
        ["reproduce", "--data", "mnist", "--path", "nowhere", "--out"],
        ["export", "nowhere", "--out"],
        ["export-c", "nowhere", "--out"],
        ["place", ".", "--network", "nowhere", "--out"],
        ["place", "single", "--out"],
        ["place", "sweep", "--out"],
        ["certs", "nowhere", "--out"],
        ["cluster", "nowhere", "--logs"],
    ],
)
def test_where_nothing_can_be_written_is_said_before_the_work(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "out"
    monkeypatch.setattr(sys, "argv", ["ddnn", *command, str(place)])
    with pytest.raises(SystemExit):
        main()
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith(f"ddnn: '{place}' cannot be written ('{tmp_path / 'file'}' is a file): ")


def test_one_device_configurations_need_no_further_option(mnist: Path, tmp_path: Path) -> None:
    result = ddnn(
        "train", "--data", "mnist", "--path", mnist, "--configuration", "b", "--epochs", 1,
        "--filters", "2,4", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (device,) = Topology.load(tmp_path / "run" / "topology.yaml").devices
    assert device.filters == (2, 4)
    assert len(json.loads(result.stdout)["individual_accuracy"]) == 1


def test_the_number_of_devices_is_that_of_the_topology(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text(
        "devices: {count: 2, input: [32, 16, 1], filters: [2]}\ncloud: {filters: [8]}\nclasses: 10\n"
    )
    command = ["train", "--data", "mnist", "--path", mnist, "--topology", tmp_path / "topology.yaml"]
    result = ddnn(*command, "--epochs", 1, "--out", tmp_path / "run", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["devices"] == ["device_0", "device_1"]
    assert_one_line_error(
        ddnn(*command, "--devices", 3, "--out", tmp_path / "x"), "'device_0' is (32, 16, 1)"
    )
    assert_one_line_error(ddnn(*command, "--filters", 3, "--out", tmp_path / "x"), "--filters and --topology")
    assert not (tmp_path / "x").exists()


def test_twelve_devices_with_two_blocks_as_python_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddnn_tf import runs  # here, because it imports TensorFlow

    views = {f"camera_{number}": np.full((60, 64, 64, 1), number, np.uint8) for number in range(12)}
    np.savez(tmp_path / "hall.npz", **views, y=np.arange(60) % 2)
    trained: list[Topology] = []

    def train_run(place: Path, topology: Topology, *_: object, **__: object) -> None:
        trained.append(topology)
        raise ValueError("as far as the test goes: to train that takes a minute")

    monkeypatch.setattr(runs, "train_run", train_run)
    command = ["ddnn", "train", "--data", "arrays", "--path", str(tmp_path / "hall.npz"), "--out", "run"]
    for option, value, message in (
        ("--filters", "2,4", "as far as the test goes"),
        ("--filters", "2x4", "--filters like 4 or 4,8, but got '2x4'"),
        ("--augment", "shift=0.1,blur", "--augment out of shift=SHARE, .* and mirror, but got 'blur'"),
        ("--augment", "shift=2", r"`shift` of an augmentation in 0\.\.0\.5, but got 2"),
    ):
        monkeypatch.setattr("sys.argv", [*command, option, value])
        with pytest.raises(SystemExit):
            main()
        assert re.search(message, capsys.readouterr().err)
    (topology,) = trained
    devices = topology.hierarchy.devices
    assert len(devices) == 12
    assert all(node.sensor.shape == (64, 64, 1) and node.output.shape == (16, 16, 4) for node in devices)


def test_unlike_devices(tmp_path: Path) -> None:
    """Seven unlike sensor nodes: data, training and evaluation, with balanced accuracy."""
    write_occupancy(tmp_path / "room.csv")
    data = ddnn("data", "occupancy", "--path", tmp_path / "room.csv")
    assert data.returncode == 0, data.stderr
    assert re.search(r"S5 +│ +16x2 ", data.stdout)
    command = ["train", "--data", "occupancy", "--path", tmp_path / "room.csv", "--configuration", "e"]
    result = ddnn(*command, "--epochs", 2, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "balanced accuracy" in result.stdout
    assert "S7 alone" in result.stdout
    found = json.loads(ddnn("evaluate", tmp_path / "run", "--json").stdout)
    assert found["devices"] == [f"S{number}" for number in range(1, 8)]
    assert found["exit_balanced_accuracy"].keys() == {"local", "edge", "cloud"}
    tree = ddnn("topology", tmp_path / "run", "--svg", tmp_path / "tree.svg")
    assert tree.returncode == 0, tree.stderr
    assert "├─ S1" in tree.stdout
    assert (tmp_path / "tree.svg").read_text().startswith("<svg")
    links = json.loads(ddnn("topology", tmp_path / "run", "--json").stdout)["links"]
    assert {link["sender"] for link in links if link["carries"] == "class vector"} == set(found["devices"])


def test_data_summary(mnist: Path) -> None:
    result = ddnn("data", "mnist", "--path", mnist, "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["parts"] == {"train": 180, "validation": 20, "test": 50}
    assert summary["inputs"]["device_0"] == [16, 10, 1]
    assert summary["views"]["device_0"]["absent"] == 0
    table = ddnn("data", "mnist", "--path", mnist)
    assert "device_5" in table.stdout
    named = ddnn("data", "show", "mnist", "--path", mnist)
    assert named.stdout == table.stdout
    option_first = ddnn("data", "--path", mnist, "mnist")
    assert option_first.stdout == table.stdout


def test_a_warning_is_one_line_too(tmp_path: Path) -> None:
    images, labels = np.zeros((851, 6, 3, 32, 32), np.float32), np.zeros((851, 6), np.int32)
    np.savez_compressed(tmp_path / "other.npz", X=images, y=labels)
    result = ddnn("data", "mvmc", "--path", tmp_path / "other.npz", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["samples"] == 851
    assert result.stderr.startswith("ddnn: warning: ")
    assert len(result.stderr.strip().splitlines()) == 1


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """All commands below a group with their names."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(get_command(app)))


def words(text: str) -> str:
    """A text without what the frame and the line breaks of a help page add."""
    return re.sub(r"[\s│]+", "", text)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_text_and_every_default(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wide enough that no column of the table cuts another.
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 300)
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    shown = words(result.stdout)
    assert "Example" in result.stdout
    for parameter in COMMANDS[path].params:
        assert words(parameter.help or "") in shown
        if isinstance(parameter.show_default, str):
            assert words(f"[default: ({parameter.show_default})]") in shown
    as_json = next(parameter for parameter in COMMANDS[path].params if parameter.name == "as_json")
    what = "each event as a line of" if path[0] == "serve" else "the result as"
    assert as_json.help == f"Print {what} JSON on stdout, and nothing else there."


def test_help_is_there_at_once() -> None:
    code = (
        "import sys; from ddnn_tf.cli import main\n"
        "sys.argv = ['ddnn', 'serve', 'device', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('imported', *{name.partition('.')[0] for name in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = result.stdout.partition("imported")[2].split()
    assert "numpy" in imported
    assert not {"tensorflow", "tf_keras", "grpc", "scipy", "highspy", "matplotlib", "larq"} & set(imported)


@pytest.mark.parametrize("command", [[], ["data"], ["data", "show"], ["train"], ["evaluate"]])
def test_help(command: list[str]) -> None:
    result = ddnn(*command, "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout


def test_the_version() -> None:
    result = ddnn("--version")
    assert (result.returncode, result.stdout) == (0, f"ddnn_tf {ddnn_tf.__version__}\n")


def test_a_group_without_a_command_shows_its_help_alone() -> None:
    result = ddnn("serve")
    assert result.returncode == 2
    assert "aggregator" in result.stdout + result.stderr
    assert "ddnn:" not in result.stderr


@pytest.mark.parametrize(
    ("command", "place", "message"),
    [
        ("evaluate", "x.zip", "'x.zip' is a bundle: name the run that it was exported from"),
        ("evaluate", "bundle", "'bundle' is a bundle: name the run"),
        ("evaluate", "t.yaml", "is a topology: train it first, `ddnn train --topology t.yaml --out RUN`"),
        ("evaluate", "m.keras", "is a Keras model: name the run directory that it is in"),
        ("evaluate", "empty", "'empty' lacks run.json"),
        ("export --out y", "x.zip", "'x.zip' is a bundle"),
        ("place --network t.yaml", "x.zip", "'x.zip' is a bundle"),
        ("verify", "run", "'run' is a run: export it first, `ddnn export run --out BUNDLE`"),
        ("verify", "t.yaml", "is a topology: train it first"),
        ("verify", "empty", "'empty' lacks 'manifest.json': it is no bundle"),
        ("benchmark", "run", "'run' is a run"),
        ("benchmark", "m.keras", "is a Keras model: export the run that it is in"),
        ("serve cloud", "run", "'run' is a run: export it first"),
        ("cluster", "t.yaml", "is a topology: train it first"),
        ("cluster", "other.txt", "'other.txt' is a file: name a directory"),
        ("certs --out y", "m.keras", "is a Keras model: name the run directory"),
        ("topology", "empty", "'empty' is neither a run nor a bundle"),
        ("topology", "nowhere", "no topology, run or bundle 'nowhere'"),
        ("train --out y --topology", "nowhere", "No such file or directory: 'nowhere'"),
    ],
)
def test_one_kind_in_place_of_another_is_told_with_the_command_that_helps(
    command: str,
    place: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for directory in ("run", "bundle", "empty"):
        (tmp_path / directory).mkdir()
    for file in ("run/topology.yaml", "bundle/manifest.json", "x.zip", "t.yaml", "m.keras", "other.txt"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    first, *rest = command.split()
    words = [first, *rest, place] if first in ("train", "serve") else [first, place, *rest]
    monkeypatch.setattr("sys.argv", ["ddnn", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


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
        (["train", "--out", "x", "--devices", "12"], "at most 6, as many as 'scenes' has, but got 12"),
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
