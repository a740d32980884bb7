"""`ddnn place` as a newcomer types it, and a plan followed by real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ddnn_tf.cli import main
from ddnn_tf.placement import Instance, check_placement, random_instance

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "ddnn_tf.cli"]


def ddnn(*arguments: object, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        check=False, timeout=timeout,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["single", "early-exit", "multi", "mixed"])
def test_notebooks_of_the_reference(name: str) -> None:
    result = ddnn("place", name, "--seed", 9, "--time-limit", 60, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert {"latency_s", "bound_s", "gap", "status", "seconds", "assignment"} <= set(found)
    assert found["status"] == "optimal"
    assert found["gap"] <= 1e-6
    assignment = [list(cnn["units"].values()) for cnn in found["assignment"]]
    checked = check_placement(random_instance(name, 9), assignment)
    assert checked.violations == ()
    assert checked.latency_s == pytest.approx(found["latency_s"])


def test_printed_optimum_of_the_reference() -> None:
    result = ddnn("place", "early-exit", "--reference-compatible", "--json")
    assert json.loads(result.stdout)["latency_s"] == pytest.approx(0.72899008, abs=1e-6)
    result = ddnn("place", "early-exit", "--reference-compatible")
    assert "Latency 0.72899008 s" in result.stdout
    assert "proven optimal" in result.stdout


def test_out_of_time() -> None:
    result = ddnn("place", "mixed", "--objective", "max", "--time-limit", 0.5, "--json")
    found = json.loads(result.stdout)
    assert found["status"] == "feasible"
    assert found["bound_s"] < found["latency_s"]
    result = ddnn("place", "mixed", "--objective", "max", "--time-limit", 0.5)
    assert "not proven optimal" in result.stdout


def test_own_instance(tmp_path: Path) -> None:
    file = tmp_path / "factory.yaml"
    instance = random_instance("single", 5)
    units = [unit.model_copy(update={"energy_j_mop": 4 / unit.speed_mop_s}) for unit in instance.units]
    instance = instance.replace(units=tuple(units), energy_j_kb=1e-4, layers_per_unit=3)
    file.write_text(instance.to_yaml())
    result = ddnn("place", "solve", file, "--out", tmp_path / "placed", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert all(Path(name).is_file() for name in found["files"])
    assert Instance.load(tmp_path / "placed" / "instance.yaml") == instance
    front = json.loads(ddnn("place", "solve", file, "--pareto", 3, "--json").stdout)
    assert front[0]["latency_s"] == pytest.approx(found["latency_s"])
    assert [one["energy_j"] for one in front] == sorted((one["energy_j"] for one in front), reverse=True)
    assert "Latency and energy" in ddnn("place", "solve", file, "--pareto", 2).stdout
    limit = front[-1]["energy_j"] * 1.001
    limited = json.loads(ddnn("place", "solve", file, "--energy-limit", limit, "--json").stdout)
    assert limited["energy_j"] <= limit


def test_sweep(tmp_path: Path) -> None:
    arguments = (
        "place", "sweep", "--experiments", 2, "--cnn", "sevenlayer", "--cnn", "sevenlayer", "--units", 15,
        "--layers", "1,5", "--mix", "raspberry_pi_3b_plus=0.5", "--mix", "odroid=0.5",
        "--out", tmp_path / "sweep",
    )  # fmt: skip
    result = ddnn(*arguments)
    assert result.returncode == 0, result.stderr
    assert "2 of 2" in result.stdout
    records = json.loads(ddnn(*arguments, "--json").stdout)
    assert [one["layers_per_unit"] for one in records] == [1, 5, 1, 5]
    assert (tmp_path / "sweep" / "exp_1" / "L5" / "assignment_1.csv").is_file()
    result = ddnn(*arguments, "--units", 16)
    assert result.returncode == 2
    assert re.search(r"holds a sweep with scenario\.units \d+, not 16: ", result.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("singel",), "There is no run 'singel', and no command of that name: commands are single"),
        (("single", "--cnn", "lenet"), "Expected a CNN out of"),
        (("single", "--mix", "toaster=1"), "Expected a unit type out of"),
        (("single", "--mix", "jetson"), "Expected --mix TYPE=P"),
        (("single", "--mix", "jetson=0.4"), "`mix` to add up to 1"),
        (("single", "--mix", "stm32h7=1"), "needs 1229.82 KB"),
        (("single", "--range", "0.5"), "none of 1000 networks was connected"),
        (("single", "--units", "4"), "need 8 layers, but all units together hold 4"),
        (("single", "--objective", "least"), "--objective to be sum or max"),
        (("single", "--time-limit", "0"), "`time_limit` to be positive, but got 0"),
        (("single", "--relative-gap", "-1"), "`relative_gap` to be positive and below 1, but got -1"),
        (("single", "--data-rate", "nan"), "`data_rate_kb_s` to be positive, but got nan"),
        (("solve", "nothing.yaml"), "nothing.yaml"),
        (("sweep", "--layers", "a", "--out", "x"), "--layers with whole numbers, but got 'a'"),
        (("sweep", "--layers", "0", "--out", "x"), "at least one layer per unit, but got 0"),
        ((".",), "--network FILE with units and sensors"),
        ((".", "--network", "nothing.yaml"), "nothing.yaml"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ddnn", "place", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_process_of_its_own() -> None:
    result = ddnn("place", "single", "--cnn", "lenet")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("ddnn: Expected a CNN out of")
    assert result.stderr.count("\n") == 1


def free_port(count: int) -> int:
    """The first of some ports in a row that nobody listens at."""
    for first in range(21000, 60000, 100):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_plan_is_made_and_followed(mnist: Path, tmp_path: Path) -> None:
    """A DDNN is trained, placed on four units, and served by following the plan on each of them."""
    run, bundle, plan, certs = (tmp_path / name for name in ("run", "bundle.zip", "plan.yaml", "certs"))
    for arguments in (
        ("train", "--data", "mnist", "--path", mnist, "--devices", 2, "--epochs", 1, "--out", run),
        ("export", run, "--out", bundle, "--target", "tflite"),
        ("certs", run, "--out", certs),
    ):
        result = ddnn(*arguments)
        assert result.returncode == 0, result.stderr
    network = {
        "units": [
            {"name": "left", "type": "stm32h7", "position": [0, 0]},
            {"name": "right", "type": "stm32h7", "position": [2, 0]},
            {"name": "hub", "type": "pi_zero", "position": [1, 1]},
            {"name": "server", "type": "jetson", "position": [1, 3]},
        ],
        "range_m": 2.5,
        "sensors": {"device_0": "left", "device_1": "right"},
        "sections_per_unit": 1,
        "port": free_port(4),
    }
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(network))
    result = ddnn("place", run, "--network", tmp_path / "net.yaml", "--out", plan, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["status"] == "optimal"
    assert sum(found["exit_shares"].values()) == pytest.approx(1)
    assert found["assignment"] == {
        "device_0": "left",
        "device_1": "right",
        "aggregator": "hub",
        "cloud": "server",
    }
    addresses = {one["name"]: one["address"] for one in yaml.safe_load(plan.read_text())["processes"]}
    with contextlib.ExitStack() as stack:
        command = [*COMMAND, "serve", "plan", str(bundle), str(plan), "--certs", str(certs), "--json"]
        units = [
            stack.enter_context(serving([*command, "--unit", unit]))
            for unit in ("server", "hub", "left", "right")
        ]
        pids = [_ready(unit) for unit in units]
        answers = ddnn("classify", addresses["aggregator"], "--samples", "0-4", "--certs", certs, "--json")
        assert answers.returncode == 0, answers.stderr
        assert [answer["devices"]["local"] for answer in json.loads(answers.stdout)] == [
            ["device_0", "device_1"]
        ] * 5
        for unit in units:
            unit.send_signal(signal.SIGTERM)
        for unit in units:
            assert unit.wait(30) == 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    result = ddnn("serve", "plan", bundle, plan, "--unit", "attic", "--certs", certs)
    assert result.returncode == 2
    assert re.search(r"--unit out of left, right, hub, server, but got 'attic'", result.stderr)


def _ready(unit: subprocess.Popen[str]) -> int:
    """Waits until the unit's process is ready; its process number."""
    assert unit.stdout is not None
    for line in unit.stdout:
        said = json.loads(line)
        if said["event"] == "ready":
            return int(said["pid"])
    raise AssertionError(unit.stderr.read() if unit.stderr else "it ended")
