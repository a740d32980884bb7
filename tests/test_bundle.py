from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.bundle import Bundle, read_bundle, write_bundle
from ddnn_tf.datasets import DataSource
from ddnn_tf.export.artefact import Artefact
from ddnn_tf.topology import Topology


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
    )


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_what_is_written_is_read(bundle: Bundle, tmp_path: Path, name: str) -> None:
    write_bundle(bundle, tmp_path / "deep" / name)
    found = read_bundle(tmp_path / "deep" / name)
    assert all(map(np.array_equal, found.weights, bundle.weights))
    for field in ("source", "data_sha256", "topology", "thresholds", "metrics", "artefacts", "verification"):
        assert getattr(found, field) == getattr(bundle, field), field
    assert [file.name for file in (tmp_path / "deep").iterdir()] == [name]
    with pytest.raises(FileExistsError, match="new place"):
        write_bundle(bundle, tmp_path / "deep" / name)


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
    manifest = {"format": 1, "artefacts": [], "files": {name: {"bytes": 4, "sha256": ""}}}
    store(tmp_path / form, {"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ValueError, match="leaves the bundle"):
        read_bundle(tmp_path / form)


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    manifest = {"format": 1, "artefacts": [], "files": {"run.json": {"bytes": 4, "sha256": ""}}}
    store(tmp_path / "bundle", {"manifest.json": json.dumps(manifest).encode()})
    (tmp_path / "bundle" / "run.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leaves the bundle"):
        read_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "bundle format 9, this version"),
        ({"files": []}, "lists no files"),
        ({"files": {"run.json": {}}}, "size of 'run.json'"),
        ({"files": {"other.json": {"bytes": 1, "sha256": ""}}}, "lacks 'other.json'"),
        ({"artefacts": [{"section": "device_0"}]}, "is damaged"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(
    bundle: Bundle, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    file = tmp_path / "bundle" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_bundle(tmp_path / "bundle")


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
