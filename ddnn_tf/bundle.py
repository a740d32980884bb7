"""A trained and exported DDNN on disk: one directory, or the same as one `.zip` file.

    manifest.json           version, and size and SHA-256 of every other file
    topology.yaml           the hierarchy
    run.json                data set and digest of its samples
    thresholds.json         T by tier
    metrics.json            the measures of the training run
    weights.npz             the weights of the network, plain arrays
    verification.json       how each artefact compares with the network
    <section>/<file>        the artefacts

Reading checks the hash of every file before it is used, takes no path that leaves the bundle, and
neither unpickles nor runs anything: an artefact is bytes until an engine is asked to run it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ddnn_tf
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.documents import atomic_write
from ddnn_tf.export.artefact import Artefact
from ddnn_tf.topology import Topology

__all__ = ["Bundle", "read_bundle", "write_bundle"]

_FORMAT = 1
_MANIFEST = "manifest.json"
_LIMIT = 1 << 30


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        source: The data that the network was trained on.
        data_sha256: Digest of those data.
        topology: The hierarchy.
        thresholds: T by tier.
        metrics: The measures of the training run.
        weights: The weights, in the order of `build(topology).get_weights()`.
        artefacts: The sections, converted.
        verification: One record for each artefact.
    """

    source: DataSource
    data_sha256: str
    topology: Topology
    thresholds: Mapping[str, float]
    metrics: Mapping[str, Any]
    weights: Sequence[NDArray[Any]]
    artefacts: Sequence[Artefact]
    verification: Sequence[Mapping[str, Any]]

    def load_data(self) -> MultiViewDataset:
        """The data that the network was trained on.

        Raises:
            FileNotFoundError: Their files are not there.
            ValueError: There are others in their place.
        """
        data = self.source.load()
        data.check_digest(self.data_sha256)
        return data


def write_bundle(bundle: Bundle, path: str | Path) -> None:
    """Writes a bundle: a zip file if the path ends in `.zip`, else a directory; whole or not at all.

    Args:
        bundle: What to write.
        path: Where to; nothing may stand there.

    Raises:
        FileExistsError: Something stands there.
    """
    place = Path(path)
    if place.exists():
        raise FileExistsError(f"'{place}' exists: name a new place for the bundle.")
    files = _files(bundle)
    if place.suffix == ".zip":
        with atomic_write(place) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        for name, content in files.items():
            file = aside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        os.replace(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_bundle(path: str | Path) -> Bundle:
    """Reads a bundle, directory or zip file.

    Raises:
        FileNotFoundError: There is none, or a file of it is missing.
        ValueError: A file was changed or is damaged, a path leaves the bundle, or it is of another
            version of the format.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"There is no bundle '{place}': make one with `ddnn export`.")
    with contextlib.ExitStack() as stack:
        if place.is_dir():
            fetch = _from_directory(place)
        else:
            try:
                fetch = _from_zip(place, stack.enter_context(zipfile.ZipFile(place)))
            except zipfile.BadZipFile:
                raise ValueError(f"'{place}' is neither a bundle directory nor a zip file.") from None
        manifest = _json(place, _MANIFEST, fetch(_MANIFEST, _LIMIT))
        files = _verified(place, manifest, fetch)
    with _blaming(place):
        return _bundle(manifest, files)


def _files(bundle: Bundle) -> dict[str, bytes]:
    """Every file by its path in the bundle, the manifest first."""
    weights = io.BytesIO()
    np.savez(weights, **{f"weight_{at}": array for at, array in enumerate(bundle.weights)})
    source = {"data": bundle.source.model_dump(), "data_sha256": bundle.data_sha256}
    files = {
        "topology.yaml": bundle.topology.to_yaml().encode(),
        "run.json": _dumped(source),
        "thresholds.json": _dumped(dict(bundle.thresholds)),
        "metrics.json": _dumped(dict(bundle.metrics)),
        "verification.json": _dumped(list(bundle.verification)),
        "weights.npz": weights.getvalue(),
    }
    listed = []
    for artefact in bundle.artefacts:
        files |= {f"{artefact.section}/{name}": content for name, content in artefact.files.items()}
        listed.append(
            {
                "section": artefact.section,
                "target": artefact.target,
                "files": list(artefact.files),
                "details": dict(artefact.details),
            }
        )
    manifest = {
        "format": _FORMAT,
        "version": ddnn_tf.__version__,
        "artefacts": listed,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    return {_MANIFEST: _dumped(manifest), **files}


def _verified(place: Path, manifest: Any, fetch: Callable[[str, int], bytes]) -> dict[str, bytes]:
    """Content of every file in the manifest, after its path, size and hash were checked."""
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise ValueError(
            f"'{place}' is of bundle format {found!r}, this version of ddnn_tf reads {_FORMAT}: export it "
            "anew."
        )
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not isinstance(manifest.get("artefacts"), list):
        raise ValueError(f"'{place}' is damaged: its manifest lists no files.")
    files = {}
    for name, entry in listed.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
            raise ValueError(f"'{place}': the manifest names '{name}', which leaves the bundle.")
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
            raise ValueError(f"'{place}' is damaged: its manifest does not tell the size of '{name}'.")
        content = fetch(name, entry["bytes"])
        if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry.get("sha256"):
            raise ValueError(f"'{place}': the file '{name}' is not the one that was exported (hash differs).")
        files[name] = content
    return files


def _bundle(manifest: Any, files: Mapping[str, bytes]) -> Bundle:
    def document(name: str) -> Any:
        return json.loads(files[name])

    run = document("run.json")
    with np.load(io.BytesIO(files["weights.npz"]), allow_pickle=False) as archive:
        weights = [archive[f"weight_{at}"] for at in range(len(archive.files))]
    artefacts = [
        Artefact(
            entry["section"],
            entry["target"],
            {name: files[f"{entry['section']}/{name}"] for name in entry["files"]},
            entry["details"],
        )
        for entry in manifest["artefacts"]
    ]
    return Bundle(
        source=DataSource(**run["data"]),
        data_sha256=str(run["data_sha256"]),
        topology=Topology.from_yaml(files["topology.yaml"].decode()),
        thresholds={tier: float(value) for tier, value in document("thresholds.json").items()},
        metrics=document("metrics.json"),
        weights=weights,
        artefacts=artefacts,
        verification=document("verification.json"),
    )


def _from_directory(place: Path) -> Callable[[str, int], bytes]:
    root = place.resolve()

    def fetch(name: str, size: int) -> bytes:
        file = (place / name).resolve()
        if root not in file.parents:
            raise ValueError(f"'{place}': '{name}' leaves the bundle.")
        if not file.is_file():
            raise FileNotFoundError(f"'{place}' lacks '{name}': it is no bundle, or a damaged one.")
        with open(file, "rb") as stream:
            return stream.read(size + 1)

    return fetch


def _from_zip(place: Path, archive: zipfile.ZipFile) -> Callable[[str, int], bytes]:
    def fetch(name: str, size: int) -> bytes:
        try:
            with archive.open(name) as stream:
                # One byte more than promised at the most: a zip may unfold to any size.
                return stream.read(size + 1)
        except KeyError:
            raise FileNotFoundError(f"'{place}' lacks '{name}': it is no bundle, or a damaged one.") from None
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise ValueError(f"'{place}' is damaged at '{name}': {error}.") from None

    return fetch


@contextlib.contextmanager
def _blaming(place: Path) -> Any:
    """Turns what goes wrong with unfit content into one sentence about the bundle."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"'{place}' is damaged: {type(error).__name__}: {error}.") from None


def _json(place: Path, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"'{place}' is damaged: '{name}' is not valid JSON ({error}).") from None


def _dumped(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
