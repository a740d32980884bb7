from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddnn_tf.bundle import Artefact, Bundle, open_bundle, read_bundle, write_bundle
from ddnn_tf.calibration import Calibration, CalibrationOfSet
from ddnn_tf.datasets import DataSource
from ddnn_tf.topology import Topology

EMPTY = {"format": 2, "version": "0", "fingerprint": "", "artefacts": []}


@pytest.fixture
def bundle() -> Bundle:
    return Bundle(
        source=DataSource(name="scenes", seed=4),
        data_sha256="ab" * 32,
        topology=Topology.devices_edges_cloud(),
        thresholds={"local": 0.5, "edge": 0.25},
        metrics={"overall_accuracy": 0.9},
        weights=[np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(0, np.float32)],
        artefacts=[
            Artefact("device_0", "tflite", {"tflite.tflite": b"TFL3" * 9}, {"operators": ["CONV_2D"]}),
            Artefact("cloud", "savedmodel", {"savedmodel/saved_model.pb": b"x", "savedmodel/v/i": b""}),
        ],
        verification=[{"section": "device_0", "passed": True}],
        class_names=("car", "bus", "person"),
    )


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_what_is_written_is_read(bundle: Bundle, tmp_path: Path, name: str) -> None:
    write_bundle(bundle, tmp_path / "deep" / name)
    found = read_bundle(tmp_path / "deep" / name)
    assert all(map(np.array_equal, found.weights, bundle.weights))
    fields = ("source", "data_sha256", "topology", "thresholds", "metrics", "artefacts", "verification")
    for field in (*fields, "class_names"):
        assert getattr(found, field) == getattr(bundle, field), field
    assert [file.name for file in (tmp_path / "deep").iterdir()] == [name]
    with pytest.raises(FileExistsError, match="new place"):
        write_bundle(bundle, tmp_path / "deep" / name)


def test_a_bundle_names_every_class_or_none(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(replace(bundle, class_names=()), tmp_path / "old")
    assert open_bundle(tmp_path / "old").class_names == ()
    write_bundle(replace(bundle, class_names=("car",)), tmp_path / "few")
    with pytest.raises(ValueError, match="few' is damaged: ValueError: 1 names of 3 classes"):
        open_bundle(tmp_path / "few")


@pytest.mark.parametrize("form", ["bundle", "bundle.zip"])
def test_every_changed_byte_is_found(bundle: Bundle, tmp_path: Path, form: str) -> None:
    write_bundle(bundle, tmp_path / "good")
    files = {
        file.relative_to(tmp_path / "good"): file.read_bytes() for file in (tmp_path / "good").rglob("*.*")
    }
    for number, (changed, content) in enumerate(files.items()):
        if changed.name == "manifest.json" or not content:
            continue
        broken = bytearray(content)
        broken[len(broken) // 2] ^= 1
        place = tmp_path / f"{number}{form}"
        store(place, {**{str(name): data for name, data in files.items()}, str(changed): bytes(broken)})
        with pytest.raises(ValueError, match=rf"{changed.name}.*hash differs"):
            read_bundle(place)


def store(place: Path, files: dict[str, bytes]) -> None:
    """A bundle of any content, in the form that the path asks for."""
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    for name, content in files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:secret"])
@pytest.mark.parametrize("form", ["bundle", "bundle.zip"])
def test_paths_that_leave_the_bundle_are_refused(tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / "secret").write_text("mine")
    manifest = {**EMPTY, "files": {name: {"bytes": 4, "sha256": ""}}}
    store(tmp_path / form, {"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ValueError, match="leaves the bundle"):
        read_bundle(tmp_path / form)


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    manifest = {**EMPTY, "files": {"topology.yaml": {"bytes": 4, "sha256": ""}}}
    store(tmp_path / "bundle", {"manifest.json": json.dumps(manifest).encode()})
    (tmp_path / "bundle" / "topology.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leaves the bundle"):
        read_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "bundle format 9, but this version"),
        ({"format": 1}, "bundle format 1, but .* train the network anew .* and export it anew"),
        ({"files": []}, r"is damaged: The manifest's field 'files' is \[\]"),
        ({"files": {"run.json": {"sha256": ""}}}, r"lacks the field 'files\.run\.json\.bytes'"),
        (
            {"files": {"run.json": {"bytes": 1 << 31, "sha256": ""}}},
            r"'files\.run\.json\.bytes' is 2147483648",
        ),
        ({"files": {}}, r"does not list 'topology\.yaml'"),
        ({"artefacts": [{"section": "device_0"}]}, r"is damaged: .*'artefacts\.0\.target'"),
        ({"fingerprint": "ab"}, "its fingerprint is not that of its hierarchy and weights"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(
    bundle: Bundle, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    file = tmp_path / "bundle" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        read_bundle(tmp_path / "bundle")


def test_a_missing_file_is_named(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 'metrics\.json'"):
        read_bundle(tmp_path / "bundle")


def test_a_file_that_is_listed_but_of_no_use_is_checked_too(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    file = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["other.json"] = {"bytes": 1, "sha256": ""}
    file.write_text(json.dumps(manifest))
    with pytest.raises(FileNotFoundError, match=r"lacks 'other\.json'"):
        read_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_process_reads_what_it_asks_for(bundle: Bundle, tmp_path: Path, name: str) -> None:
    write_bundle(bundle, tmp_path / name)
    reader = open_bundle(tmp_path / name)
    for field in ("source", "data_sha256", "topology", "thresholds", "fingerprint"):
        assert getattr(reader, field) == getattr(bundle, field), field
    assert reader.targets == {"device_0": ("tflite",), "cloud": ("savedmodel",)}
    assert [reader.artefact(each.section, each.target) for each in bundle.artefacts] == bundle.artefacts
    assert all(map(np.array_equal, reader.weights(), bundle.weights))
    with pytest.raises(ValueError, match=r"no 'device_0' for 'c', only for tflite: .*--target c"):
        reader.artefact("device_0", "c")
    with pytest.raises(ValueError, match=r"no 'edge_0' for 'tflite', only for no target"):
        reader.artefact("edge_0", "tflite")


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_process_does_not_touch_the_files_of_others(bundle: Bundle, tmp_path: Path, damage: str) -> None:
    place = tmp_path / "bundle"
    write_bundle(bundle, place)
    for name in ("cloud/savedmodel/saved_model.pb", "weights.npz", "metrics.json", "verification.json"):
        if damage == "missing":
            (place / name).unlink()
        else:
            (place / name).write_bytes(b"other")
    reader = open_bundle(place)
    assert reader.artefact("device_0", "tflite") == bundle.artefacts[0]
    for read in (lambda: reader.artefact("cloud", "savedmodel"), reader.weights, lambda: read_bundle(place)):
        with pytest.raises((ValueError, FileNotFoundError), match=r"hash differs|lacks"):
            read()


def test_an_artefact_is_checked_when_it_is_read(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    reader = open_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "device_0" / "tflite.tflite").write_bytes(b"TFL4" * 9)
    with pytest.raises(ValueError, match=r"'device_0/tflite\.tflite' is not the one .* \(hash differs\)"):
        reader.artefact("device_0", "tflite")


def test_networks_of_other_weights_or_hierarchies_have_other_fingerprints(bundle: Bundle) -> None:
    fingerprints = {
        each.fingerprint
        for each in (
            bundle,
            replace(bundle, weights=[bundle.weights[0] + 1, bundle.weights[1]]),
            replace(bundle, weights=[bundle.weights[0].reshape(3, 2), bundle.weights[1]]),
            replace(bundle, topology=Topology.devices_cloud()),
        )
    }
    assert len(fingerprints) == 4
    assert replace(bundle, metrics={}).fingerprint == bundle.fingerprint
    calibrated = replace(bundle, calibration=calibration())
    assert calibrated.fingerprint not in fingerprints


def calibration(**fields: Any) -> Calibration:
    entry = {
        "devices": tuple(f"device_{number}" for number in range(6)),
        "temperatures": {"local": 1.5, "edge": 1.0, "cloud": 0.25},
        "thresholds": {"local": 1e-38, "edge": 0.0},
        "entropies": (0.0, 0.125),
        **fields,
    }
    return Calibration(risk=0.02, delta=0.1, samples=200, sets=(CalibrationOfSet(**entry),))


def test_a_calibration_is_read_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    calibrated = replace(bundle, calibration=calibration())
    write_bundle(calibrated, tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").calibration == calibrated.calibration
    assert read_bundle(tmp_path / "bundle").calibration == calibrated.calibration
    write_bundle(bundle, tmp_path / "without")
    assert open_bundle(tmp_path / "without").calibration is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("devices", ("lamp",), "devices of device_0, .* but got lamp"),
        ("devices", (), "devices of device_0, .* but got none: export the network anew\\.$"),
        ("temperatures", {"local": 1.0}, "temperatures of local, edge, cloud, but got local"),
        ("thresholds", {"cloud": 0.5}, "thresholds of local, edge, but got cloud"),
    ],
)
def test_a_calibration_of_another_network_is_refused(
    bundle: Bundle, tmp_path: Path, field: str, value: object, message: str
) -> None:
    write_bundle(replace(bundle, calibration=calibration(**{field: value})), tmp_path / "bundle")
    with pytest.raises(ValueError, match=f"damaged: ValueError: Expected a calibration with {message}"):
        open_bundle(tmp_path / "bundle")


def test_a_bundle_is_read_without_tensorflow_and_converters(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    program = f"""
import sys
from ddnn_tf.bundle import open_bundle
import ddnn_tf.export
open_bundle({str(tmp_path / "bundle")!r}).artefact("device_0", "tflite")
heavy = ("tensorflow", "larq", "larq_compute_engine", "tflite_micro", "ai_edge_litert")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ddnn export"):
        read_bundle(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"lacks 'manifest\.json'"):
        read_bundle(tmp_path)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="neither a bundle directory nor a zip"):
        read_bundle(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("manifest.json", "{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_bundle(tmp_path / "bad.zip")


def test_a_zip_that_unfolds_to_more_than_it_says_is_not_unfolded(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "good")
    files = {
        str(file.relative_to(tmp_path / "good")): file.read_bytes()
        for file in (tmp_path / "good").rglob("*")
        if file.is_file()
    }
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, "run.json": bytes(50_000_000)}.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="hash differs"):
        read_bundle(tmp_path / "bomb.zip")
