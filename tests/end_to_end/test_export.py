"""train, export, verify and benchmark, as an engineer types them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ddnn_tf.bundle import read_bundle, write_bundle
from ddnn_tf.export.c.boards import missing_tools
from ddnn_tf.topology import Topology

pytestmark = pytest.mark.slow


def ddnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddnn_tf.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "run"
    path = shared / "data" / "eth80_32.npz"
    small = ("--devices", 2, "--filters", 2, "--epochs", 2)
    result = ddnn("train", "--data", "eth80", "--path", path, *small, "--out", directory)
    assert result.returncode == 0, result.stderr
    return directory


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    place = run.parent / "bundle.zip"
    result = ddnn("export", run, "--out", place, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    records = json.loads(result.stdout)
    keys = {"section", "target", "bytes", "bit_agreement", "decision_agreement", "max_logit_error", "passed"}
    assert all(keys <= set(record) and record["passed"] and record["samples"] >= 500 for record in records)
    assert all(0 < record["accuracy_samples"] <= record["samples"] for record in records)
    pairs = {(record["section"], record["target"]) for record in records}
    engines = ("tflite", "tflite-int8", "micro", "micro-int8", "micro-int16", "lce", "c", "c-fixed")
    devices = {("device_0", name) for name in engines}
    assert pairs >= devices | {("local", "tflite"), ("cloud", "lce"), ("cloud", "savedmodel")}
    # What the tables and lines of the command say, too.
    by_target = {record["target"]: record for record in records}
    assert by_target["tflite"]["operators"]
    assert by_target["lce"]["binary_layers"]
    exact = [record for record in records if "int" not in record["target"]]
    assert all(record["decision_agreement"] == 1 for record in exact)
    assert all(record["bit_agreement"] in (1, None) for record in exact)
    return place


def test_lce_names_what_is_binary_and_what_is_not(run: Path) -> None:
    place = run.parent / "lce"
    result = ddnn("export", run, "--out", place, "--target", "lce", "--section", "device_1")
    assert result.returncode == 0, result.stderr
    real_valued = "real-valued device_1_convp_0_conv (takes 8-bit codes)"
    assert f"device_1 in lce: binary device_1_exit_dense; {real_valued}." in result.stdout
    manifest = json.loads((place / "manifest.json").read_text())
    assert "LceBconv2d" in manifest["artefacts"][0]["details"]["operators"]


def test_verify_runs_every_artefact_again(bundle: Path) -> None:
    result = ddnn("verify", bundle)
    assert result.returncode == 0, result.stderr
    assert "micro-int16" in result.stdout
    assert "NO" not in result.stdout


def test_an_artefact_of_another_device_fails_the_verification(bundle: Path, run: Path) -> None:
    whole = read_bundle(bundle)
    by_section = {each.section: each for each in whole.artefacts if each.target == "tflite"}
    content = by_section["device_1"].content.replace(b"device_1", b"device_0")
    swapped = replace(by_section["device_0"], files={"tflite.tflite": content})
    place = run.parent / "swapped.zip"
    write_bundle(replace(whole, artefacts=[swapped, by_section["cloud"]]), place)
    result = ddnn("verify", place, "--json")
    assert result.returncode == 1, result.stderr
    assert [record["passed"] for record in json.loads(result.stdout)] == [False, True]


def test_benchmark_compares_the_engines(bundle: Path) -> None:
    result = ddnn("benchmark", bundle, "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["engine"] for row in rows if row["section"] == "device_0"} == {
        "keras", "tflite", "tflite-int8", "micro", "micro-int8", "micro-int16", "lce", "c", "c-fixed",
    }  # fmt: skip
    assert all(row["median_us"] > 0 and row["p95_us"] > 0 for row in rows)
    assert all(row["ratio"] == 1 for row in rows if row["engine"] == "tflite")
    device = next(row for row in rows if row["section"] == "device_0" and row["engine"] == "micro-int8")
    assert device["macs"] == 32 * 32 * 27 * 2
    assert device["binary_macs"] == 16 * 16 * 2 * 8
    assert device["arena_bytes"] > 0


def test_c_comes_with_what_it_takes_on_boards(run: Path) -> None:
    place = run.parent / "firmware"
    asked = ("--target", "c", "--section", "device_1")
    result = ddnn("export", run, "--out", place, *asked, "--fixed-point", "--json")
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(result.stdout)
    assert record["target"] == "c-fixed"
    assert record["bit_agreement"] == 1
    assert record["message_bytes"] == {"class_vector": 32, "features": 64}
    files = sorted(file.name for file in (place / "device_1" / "c-fixed").iterdir())
    assert files == ["ddnn_device.c", "ddnn_device.h", "ddnn_device.json", "network.npz"]
    if missing_tools():
        assert record["boards"] == {}
        return
    assert set(record["boards"]) == {"microbit", "mps2-an386", "mps3-an547"}
    for board in record["boards"].values():
        assert 500 < board["flash_bytes"] + board["library_bytes"] < 2048
        assert 100 < board["ram_bytes"] < 1024
        assert 10_000 < board["fast"]["instructions"] < board["instructions"]
    table = ddnn("export", run, "--out", run.parent / "again", *asked).stdout
    assert "mps2-an386 (Cortex-M4)" in table
    assert "class vector 32 bytes, features 64 bytes" in table


def test_other_c_in_a_bundle_is_not_compiled(run: Path, bundle: Path) -> None:
    """With its hash mended: whoever can write a bundle could else run code on the machine of its reader."""
    whole = read_bundle(bundle)
    artefact = next(each for each in whole.artefacts if each.target == "c")
    files = dict(artefact.files)
    files["c/ddnn_device.c"] += b"#error this was compiled\n"
    place = run.parent / "foreign.zip"
    write_bundle(replace(whole, artefacts=[replace(artefact, files=files)]), place)
    for command in ("verify", "benchmark"):
        result = ddnn(command, place)
        assert result.returncode == 2
        assert "other code is not run" in result.stderr


def test_a_float_device_is_refused_as_c(shared: Path, tmp_path: Path) -> None:
    topology = Topology.devices_cloud(devices=1, filters=2, classes=8, precision="float")
    (tmp_path / "float.yaml").write_text(topology.to_yaml())
    path = shared / "data" / "eth80_32.npz"
    trained = ddnn(
        "train", "--data", "eth80", "--path", path, "--devices", 1, "--topology", tmp_path / "float.yaml",
        "--epochs", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    result = ddnn("export", tmp_path / "run", "--out", tmp_path / "bundle", "--target", "c")
    assert result.returncode == 2
    assert "takes device sections with binary blocks, which fold to integers" in result.stderr
    assert not (tmp_path / "bundle").exists()


def test_a_changed_artefact_is_refused(bundle: Path, run: Path) -> None:
    place = run.parent / "changed"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(place)
    file = place / "device_0" / "tflite.tflite"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(bytes(content))
    result = ddnn("verify", place)
    assert result.returncode == 2
    assert result.stderr.startswith("ddnn: ")
    assert "hash differs" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["RUN", "--target", "onnx"],
            "out of c, c-fixed, lce, micro, micro-int8, micro-int16",
        ),
        (["RUN", "--section", "edge_0"], "out of device_0, device_1, local, cloud"),
        (["RUN", "--section", "local", "--target", "micro"], "takes device sections"),
        (
            ["RUN", "--section", "cloud", "--target", "c"],
            "'c' can run, but got cloud: it takes device",
        ),
        (["RUN", "--target", "tflite", "--fixed-point"], "--fixed-point is for C"),
        (["nowhere"], "no run directory"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run: Path, arguments: list[str], message: str) -> None:
    before = sorted(run.parent.iterdir())
    given = [str(run) if argument == "RUN" else argument for argument in arguments]
    result = ddnn("export", *given, "--out", run.parent / "other")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert sorted(run.parent.iterdir()) == before
