"""certs, serve, classify and cluster, as an engineer types them: real processes with mutual TLS."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_networks import RandomNetwork

from ddnn_tf.bundle import write_bundle
from ddnn_tf.communication import bytes_per_sample
from ddnn_tf.datasets import DataSource
from ddnn_tf.topology import Topology

pytestmark = pytest.mark.slow


def ddnn(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddnn_tf.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=timeout
    )


@pytest.fixture(scope="module")
def made(network_of: Callable[..., RandomNetwork]) -> RandomNetwork:
    return network_of("c")


@pytest.fixture(scope="module")
def bundle(made: RandomNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("cluster") / "bundle.zip")


@pytest.mark.parametrize("letter", "abcdef")
def test_every_topology_runs_and_agrees_with_the_evaluation(
    network_of: Callable[..., RandomNetwork], letter: str, tmp_path: Path
) -> None:
    made = network_of(letter)
    bundle = made.write(tmp_path / "bundle.zip")
    result = ddnn("cluster", bundle, "--samples", 100, "--device-wait", 5, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    rows = np.arange(100)
    expected = made.staged(rows, np.ones((100, len(made.topology.hierarchy.devices)), bool))
    assert found["submitted"] == found["answered"] == 100
    assert found["errors"] == found["duplicates"] == found["degraded"] == 0
    assert found["accuracy"] == pytest.approx((expected.labels == made.data.targets("test")[:100]).mean())
    assert list(found["exit_shares"].values()) == pytest.approx(expected.shares.tolist())
    size = bytes_per_sample(made.topology, expected.shares.tolist())
    assert found["payload_bytes_per_sample"] == pytest.approx(size)
    assert found["payload_bytes_per_link"] == pytest.approx(
        {link: size for link, size in found["equation_1_bytes_per_link"].items() if size}
    )
    if sys.platform == "linux":
        assert found["wire_bytes_per_sample"] > size
    assert found["latency_ms"]["p50"] > 0
    assert found["throughput"] > 0


UNLIKE = """
devices:
- {name: mor, input: [6], units: [16]}
- {name: zer, input: [47], units: [24]}
- {name: fou, input: [76], units: [16]}
local:
- {name: left, devices: [mor]}
- {name: right, devices: [zer, fou], aggregation: AP}
edges:
- {name: hall, senders: [mor, zer], adapter: [32], units: [32], exit: false}
cloud: {adapter: [24], units: [32]}
classes: 10
"""
"""Three unlike vectors, two sites, an edge without an exit, adapters, and a device right below the cloud."""


def test_unlike_devices_of_two_sites_agree_with_the_evaluation(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}
    spread = random.uniform(0.1, 3, (250, 1))
    features = {name: random.normal(spread, 1, (250, size)) for name, size in sizes.items()}
    arrays = {name: values.astype(np.float32) for name, values in features.items()}
    np.savez(tmp_path / "mfeat.npz", y=np.arange(250) % 10, **arrays)
    source = DataSource(name="mfeat", path=str(tmp_path / "mfeat.npz"))
    data = source.load()
    topology = Topology.from_yaml(UNLIKE).with_codings(data.codings)
    made = RandomNetwork(topology, data, source)
    expected = made.staged(np.arange(made.samples), np.ones((made.samples, 3), bool))
    result = ddnn("cluster", made.write(tmp_path / "bundle.zip"), "--device-wait", 5, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["answered"] == made.samples
    assert found["errors"] == found["duplicates"] == found["degraded"] == 0
    assert found["accuracy"] == pytest.approx((expected.labels == data.targets("test")).mean())
    assert list(found["exit_shares"].values()) == pytest.approx(expected.shares.tolist())
    assert all(share > 0 for share in expected.shares)
    assert found["payload_bytes_per_link"] == pytest.approx(found["equation_1_bytes_per_link"])
    assert found["payload_bytes_per_link"]["left -> aggregator"] == 40


def test_faults_in_time(bundle: Path, tmp_path: Path) -> None:
    result = ddnn(
        "cluster", bundle, "--samples", 800, "--kill", "cloud@50", "--revive", "cloud@100", "--kill",
        "device_1@250", "--revive", "device_1@350", "--kill", "aggregator@400", "--revive", "aggregator@401",
        "--partition", "device_0@500-550", "--delay", "device_1=30ms@600-620", "--device-wait", 0.3,
        "--logs", tmp_path / "logs", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["submitted"] == 800
    assert found["answered"] + found["errors"] == 800
    assert found["answered"] > 700
    assert found["duplicates"] == 0
    assert found["degraded"] > 0
    lines = (tmp_path / "logs" / "device_0.log").read_text().splitlines()
    assert {"process", "event", "level", "time"} <= set(json.loads(lines[0]))
    assert any(json.loads(line)["event"] == "link up" for line in lines)


class Processes:
    """`ddnn serve` by hand, each on its own."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ddnn_tf.cli", "serve", *map(str, arguments), "--json"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.running.append(process)
        return process

    def listening(self, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        process = self.start(*arguments)
        return process, self.said(process, "listening")["address"]

    def said(self, process: subprocess.Popen[str], event: str) -> dict[str, Any]:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == event:
                return dict(json.loads(line))
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def processes() -> Iterator[Processes]:
    found = Processes()
    yield found
    found.end()


def test_one_process_after_the_other_as_on_different_hosts(
    made: RandomNetwork, bundle: Path, tmp_path: Path, processes: Processes
) -> None:
    certs = tmp_path / "certs"
    result = ddnn("certs", bundle, "--out", certs, "--gateway", "device_1", "--json")
    assert result.returncode == 0, result.stderr
    assert str(certs / "gateway.keys") in json.loads(result.stdout)["files"]
    images = tmp_path / "images"
    images.mkdir()
    from PIL import Image

    for row in range(5):
        Image.fromarray(made.views["device_0"][row]).save(images / f"{row}.png")
    secure = ("--certs", certs)
    cloud, above = processes.listening("cloud", bundle, *secure)
    aggregator = processes.start(
        "aggregator", bundle, "--upper", f"cloud={above}", "--metrics", "127.0.0.1:0", *secure
    )
    metrics = processes.said(aggregator, "metrics")["address"]
    address = processes.said(aggregator, "listening")["address"]
    links = ("--aggregator", address, "--upper", above)
    first = processes.start("device", bundle, "--name", "device_0", "--source", images, *links, *secure)
    second = processes.start("device", bundle, "--name", "device_1", "--engine", "keras", *links, *secure)
    third = processes.start("device", bundle, "--name", "device_2", *links, *secure)
    for process in (aggregator, first, second, third):
        processes.said(process, "ready")
    result = ddnn("classify", address, "--samples", "0-4", *secure, "--json")
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    expected = made.staged(np.arange(5), np.ones((5, 3), bool))
    assert [answer["label"] for answer in answers] == expected.labels.tolist()
    names = [made.bundle.class_names[label] for label in expected.labels]
    assert [answer["class_name"] for answer in answers] == names
    tiers = made.topology.hierarchy.exit_tier_names
    assert [tiers.index(answer["exit"]) for answer in answers] == expected.exits.tolist()
    assert all(answer["devices"]["local"] == list(made.topology.hierarchy.device_names) for answer in answers)
    result = ddnn("classify", address, "--samples", "0", *secure)
    assert result.stdout.startswith(f"sample 0: class {expected.labels[0]} {names[0]} (")
    assert "device_0, device_1, device_2" in result.stdout

    with urllib.request.urlopen(metrics, timeout=10) as page:
        measured = page.read().decode()
    assert 'ddnn_samples_total{outcome="answered"} 6.0' in measured
    assert 'ddnn_payload_bytes_total{link="device_0 -> local"} 72.0' in measured
    assert "ddnn_attached 3.0" in measured
    assert 'ddnn_latency_seconds_count{tier="local"} 6.0' in measured

    # Asked to end, a process ends in order, and the others go on.
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    result = ddnn("classify", address, *secure, "--json")
    assert json.loads(result.stdout)[0]["devices"]["local"] == ["device_0", "device_2"]
    cloud.send_signal(signal.SIGINT)
    assert cloud.wait(20) == 0
    for process in (aggregator, first, third):
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("serve cloud {bundle}", "Expected --certs DIR"),
        ("serve cloud {bundle} --certs {tmp}/none", "There is no certificate file"),
        ("serve cloud none.zip --plaintext", "There is no bundle 'none.zip'"),
        ("serve cloud {bundle} --plaintext --listen 0.0.0.0:0", "loopback address without TLS"),
        ("serve cloud {bundle} --plaintext --listen {taken}", "the port is in use"),
        ("serve cloud {bundle} --plaintext --metrics {taken}", "Cannot serve metrics at"),
        ("serve cloud {bundle} --plaintext --engine onnx", "Expected the engine to be one of"),
        ("serve cloud {bundle} --plaintext --engine lce", "holds no 'cloud' for 'lce'"),
        (
            "serve edge {bundle} --name edge_0 --plaintext --upper 127.0.0.1:1",
            "Expected --name out of cloud, but got 'edge_0'",
        ),
        ("serve aggregator {bundle} --plaintext --upper edge_0=127.0.0.1:1", "--upper NAME=VALUE"),
        (
            "serve aggregator {bundle} --plaintext --upper cloud=127.0.0.1:1 --wait 0.5",
            "Cannot reach cloud at 127.0.0.1:1 within 0.5 s",
        ),
        (
            "serve aggregator {bundle} --plaintext --upper cloud=127.0.0.1:1 --dashboard 0.0.0.0:0",
            "on loopback, but got '0.0.0.0:0'",
        ),
        ("serve device {bundle} --plaintext --name device_9 {links}", "--name out of device_0"),
        ("serve device {bundle} --plaintext --name device_0 {links} --wait 0.5", "Cannot reach"),
        ("serve device {bundle} --plaintext --name device_0 {links} --source {tmp}", "There is no image in"),
        ("classify 127.0.0.1:1 --plaintext --timeout 0.5", "sample 0: unavailable"),
        ("classify 127.0.0.1:1 --plaintext --samples a", "Expected --samples like"),
        ("certs {bundle} --out {tmp}/certs --gateway device_9", "Expected --gateway"),
        ("cluster {bundle} --kill device_9@1", "Expected a process out of device_0"),
        ("cluster {bundle} --delay device_0", "Expected --delay like"),
        ("cluster none", "There is no bundle 'none'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    bundle: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        places: dict[str, Any] = {
            "bundle": bundle,
            "tmp": tmp_path,
            "taken": f"127.0.0.1:{taken.getsockname()[1]}",
        }
        places["links"] = "--aggregator 127.0.0.1:1 --upper 127.0.0.1:1"
        result = ddnn(*arguments.format(**places).split(), timeout=60)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if "PLAINTEXT" not in line]
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    assert "Traceback" not in result.stdout


def test_other_networks_and_strangers_are_told_so(
    made: RandomNetwork, bundle: Path, tmp_path: Path, processes: Processes
) -> None:
    certs, others = tmp_path / "certs", tmp_path / "others"
    assert ddnn("certs", bundle, "--out", certs).returncode == 0
    assert ddnn("certs", bundle, "--out", others).returncode == 0
    _, above = processes.listening("cloud", bundle, "--certs", certs)
    weights = [-1 * made.bundle.weights[0], *made.bundle.weights[1:]]
    changed = tmp_path / "changed.zip"
    write_bundle(replace(made.bundle, weights=weights), changed)
    _, address = processes.listening("aggregator", bundle, "--upper", f"cloud={above}", "--certs", certs)
    device = ("--name", "device_0", "--aggregator", address, "--upper", above)
    for trained, trusted, message in (
        (changed, certs, "serves another network"),
        (bundle, others, "certificate"),
    ):
        start = time.monotonic()
        result = ddnn("serve", "device", trained, *device, "--certs", trusted, "--wait", 8)
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert message in result.stderr
        assert time.monotonic() - start < 60
    result = ddnn("classify", address, "--certs", others, "--timeout", 2)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_run_is_exported_for_its_processes_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("--devices", 1, "--configuration", "b", "--filters", 2, "--epochs", 1)
    assert ddnn("train", "--data", "scenes", *small, "--out", run).returncode == 0
    for attempt in range(2):
        result = ddnn("cluster", run, "--samples", 20, "--plaintext")
        assert result.returncode == 0, result.stderr
        assert ("Exporting" in result.stderr) is (attempt == 0)
        assert "PLAINTEXT" in result.stderr
        assert "Bytes per sample, up" in result.stdout
        assert "device_0 -> local" in result.stdout
