"""A trained and exported DDNN on disk: one directory, or the same as one `.zip` file.

    manifest.json           version, fingerprint, and size and SHA-256 of every other file
    topology.yaml           the hierarchy
    run.json                data set, digest of its samples, and names of its classes
    thresholds.json         T by tier
    metrics.json            the measures of the training run
    weights.npz             the weights of the network, plain arrays
    verification.json       how each artefact compares with the network
    <section>/<file>        the artefacts

`read_bundle` reads everything. `open_bundle` reads what every process needs, and each further file when it is
asked for, so that a device reads its own section and nothing of the cloud's:

    >>> reader = open_bundle("runs/scenes.zip")  # doctest: +SKIP
    >>> reader.artefact("device_0", "tflite").size  # doctest: +SKIP
    3256

Both check the hash of a file before they use it, take no path that leaves the bundle, and neither unpickle
nor run anything: an artefact is bytes until an engine is asked to run it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

import ddnn_tf
from ddnn_tf.calibration import Calibration
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.documents import Strict, atomic_write, one_sentence
from ddnn_tf.topology import Topology

__all__ = ["Artefact", "Bundle", "BundleReader", "open_bundle", "read_bundle", "write_bundle"]

_FORMAT = 2
_MANIFEST = "manifest.json"
_TOPOLOGY, _RUN, _THRESHOLDS = "topology.yaml", "run.json", "thresholds.json"
_CALIBRATION = "calibration.json"
_METRICS, _VERIFICATION, _WEIGHTS = "metrics.json", "verification.json", "weights.npz"
# No file of a real bundle comes near it, and a machine survives reading it.
_LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Artefact:
    """One section, converted by an export target.

    Attributes:
        section: Name of the section.
        target: Name of the target.
        files: Content by file name; the first is the one that the engine loads.
        details: What there is to know: operators, arena size, binary layers.
    """

    section: str
    target: str
    files: Mapping[str, bytes]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The file that the engine loads."""
        return next(iter(self.files.values()))

    @property
    def size(self) -> int:
        """Bytes of the file that the engine loads."""
        return len(self.content)


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
        class_names: Name of each class; empty in bundles of earlier versions.
        calibration: Thresholds by risk and temperatures by set of devices, if it was exported with.
    """

    source: DataSource
    data_sha256: str
    topology: Topology
    thresholds: Mapping[str, float]
    metrics: Mapping[str, Any]
    weights: Sequence[NDArray[Any]]
    artefacts: Sequence[Artefact]
    verification: Sequence[Mapping[str, Any]]
    class_names: Sequence[str] = ()
    calibration: Calibration | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that processes must have in common: those of different networks do not talk.

        That is the hierarchy, the weights, and the calibration if there is one.
        """
        content = hashlib.sha256(self.topology.to_yaml().encode())
        for array in self.weights:
            content.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
        if self.calibration is not None:
            content.update(self.calibration.model_dump_json().encode())
        return content.hexdigest()

    def load_data(self) -> MultiViewDataset:
        """The data that the network was trained on.

        Raises:
            FileNotFoundError: Their files are not there.
            ValueError: There are others in their place.
        """
        return _load_data(self.source, self.data_sha256)


class BundleReader:
    """A bundle of which each file is read, and its hash checked, when it is asked for.

    Args:
        path: The bundle, directory or zip file.

    Attributes:
        topology: The hierarchy.
        thresholds: T by tier.
        source: The data that the network was trained on.
        data_sha256: Digest of those data.
        class_names: Name of each class; empty in bundles of earlier versions.
        calibration: Thresholds by risk and temperatures by set of devices; None if exported without.
        fingerprint: `Bundle.fingerprint`: processes of different networks do not talk.

    Raises:
        FileNotFoundError: There is no bundle, or a file of it is missing.
        ValueError: A file was changed or is damaged, a path leaves the bundle, or it is of another version of
            the format.
    """

    def __init__(self, path: str | Path) -> None:
        self._place = Path(path)
        if not self._place.exists():
            raise FileNotFoundError(f"There is no bundle '{path}': make one with `ddnn export`.")
        self._manifest = _checked_manifest(self._place, _fetch(self._place, _MANIFEST, _LARGEST_FILE))
        self.fingerprint: str = self._manifest.fingerprint
        topology, run, thresholds = self._read(_TOPOLOGY), self._document(_RUN), self._document(_THRESHOLDS)
        with self._blaming():
            self.topology = Topology.from_yaml(topology.decode())
            self.source = DataSource(**run["data"])
            self.data_sha256 = str(run["data_sha256"])
            self.class_names = tuple(map(str, run.get("class_names", ())))
            if self.class_names and len(self.class_names) != self.topology.classes:
                raise ValueError(f"{len(self.class_names)} names of {self.topology.classes} classes")
            self.thresholds = {tier: float(value) for tier, value in thresholds.items()}
            self.calibration: Calibration | None = None
            if _CALIBRATION in self._manifest.files:
                self.calibration = Calibration(**self._document(_CALIBRATION))
                self.calibration.check_fit(self.topology.hierarchy)

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """The targets for which the bundle has an artefact, by section."""
        names: dict[str, tuple[str, ...]] = {}
        for listed in self._manifest.artefacts:
            names[listed.section] = (*names.get(listed.section, ()), listed.target)
        return names

    def artefact(self, section: str, target: str) -> Artefact:
        """The artefact of a section for a target; no other section's files are read.

        Raises:
            FileNotFoundError: A file of it is missing.
            ValueError: The bundle has none, or a file of it was changed.
        """
        for listed in self._manifest.artefacts:
            if (listed.section, listed.target) == (section, target):
                return self._artefact(listed)
        raise ValueError(
            f"The bundle '{self._place}' holds no '{section}' for '{target}', only for "
            f"{', '.join(self.targets.get(section, ())) or 'no target'}: export it with --target {target}."
        )

    def weights(self) -> list[NDArray[Any]]:
        """The weights, in the order of `build(topology).get_weights()`.

        Raises:
            FileNotFoundError: Their file is missing.
            ValueError: It was changed or is damaged.
        """
        content = self._read(_WEIGHTS)
        with self._blaming(), np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return [archive[f"weight_{number}"] for number in range(len(archive.files))]

    def load_data(self) -> MultiViewDataset:
        """The data that the network was trained on.

        Raises:
            FileNotFoundError: Their files are not there.
            ValueError: There are others in their place.
        """
        return _load_data(self.source, self.data_sha256)

    def read_all(self) -> Bundle:
        """Everything that the bundle holds; raises as `read_bundle`."""
        for name in self._manifest.files:
            self._read(name)
        bundle = Bundle(
            source=self.source,
            data_sha256=self.data_sha256,
            topology=self.topology,
            thresholds=self.thresholds,
            metrics=self._document(_METRICS),
            weights=self.weights(),
            artefacts=[self._artefact(listed) for listed in self._manifest.artefacts],
            verification=self._document(_VERIFICATION),
            class_names=self.class_names,
            calibration=self.calibration,
        )
        if bundle.fingerprint != self.fingerprint:
            raise ValueError(
                f"'{self._place}': its fingerprint is not that of its hierarchy and weights: export it anew."
            )
        return bundle

    def _artefact(self, listed: _ListedArtefact) -> Artefact:
        files = {name: self._read(f"{listed.section}/{name}") for name in listed.files}
        return Artefact(listed.section, listed.target, files, listed.details)

    def _document(self, name: str) -> Any:
        return _json(self._place, name, self._read(name))

    def _read(self, name: str) -> bytes:
        """A file of the bundle, after its size and hash were checked."""
        listed = self._manifest.files.get(name)
        if listed is None:
            raise ValueError(f"'{self._place}' is damaged: its manifest does not list '{name}'.")
        content = _fetch(self._place, name, listed.bytes)
        if len(content) != listed.bytes or hashlib.sha256(content).hexdigest() != listed.sha256:
            raise ValueError(
                f"'{self._place}': the file '{name}' is not the one that was exported (hash differs)."
            )
        return content

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        """Turns what goes wrong with unfit content into one sentence about the bundle."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"'{self._place}' is damaged: {type(error).__name__}: {error}.") from None


def open_bundle(path: str | Path) -> BundleReader:
    """Opens a bundle, directory or zip file, and reads what every process needs; raises as `BundleReader`."""
    return BundleReader(path)


def read_bundle(path: str | Path) -> Bundle:
    """Reads everything in a bundle, directory or zip file.

    Raises:
        FileNotFoundError: There is none, or a file of it is missing.
        ValueError: A file was changed or is damaged, a path leaves the bundle, or it is of another version of
            the format.
    """
    return BundleReader(path).read_all()


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
    with atomic_write(place) as aside:
        if place.suffix == ".zip":
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            return
        for name, content in files.items():
            file = aside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


class _ListedFile(Strict):
    bytes: Annotated[int, Field(ge=0, le=_LARGEST_FILE)]
    sha256: str


class _ListedArtefact(Strict):
    section: str
    target: str
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    details: dict[str, Any]


class _Manifest(Strict):
    format: int
    version: str
    fingerprint: str
    artefacts: tuple[_ListedArtefact, ...]
    files: dict[str, _ListedFile]


def _files(bundle: Bundle) -> dict[str, bytes]:
    """Every file by its path in the bundle, the manifest first."""
    weights = io.BytesIO()
    np.savez(weights, **{f"weight_{number}": array for number, array in enumerate(bundle.weights)})
    source = {
        "data": bundle.source.model_dump(),
        "data_sha256": bundle.data_sha256,
        "class_names": list(bundle.class_names),
    }
    files = {
        _TOPOLOGY: bundle.topology.to_yaml().encode(),
        _RUN: _dumped(source),
        _THRESHOLDS: _dumped(dict(bundle.thresholds)),
        _METRICS: _dumped(dict(bundle.metrics)),
        _VERIFICATION: _dumped(list(bundle.verification)),
        _WEIGHTS: weights.getvalue(),
    }
    if bundle.calibration is not None:
        files[_CALIBRATION] = bundle.calibration.model_dump_json().encode()
    for artefact in bundle.artefacts:
        files |= {f"{artefact.section}/{name}": content for name, content in artefact.files.items()}
    manifest = _Manifest(
        format=_FORMAT,
        version=ddnn_tf.__version__,
        fingerprint=bundle.fingerprint,
        artefacts=tuple(
            _ListedArtefact(
                section=artefact.section,
                target=artefact.target,
                files=tuple(artefact.files),
                details=dict(artefact.details),
            )
            for artefact in bundle.artefacts
        ),
        files={
            name: _ListedFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        },
    )
    return {_MANIFEST: _dumped(manifest.model_dump(mode="json")), **files}


def _checked_manifest(place: Path, content: bytes) -> _Manifest:
    fields = _json(place, _MANIFEST, content)
    number = fields.get("format") if isinstance(fields, dict) else None
    if number != _FORMAT:
        raise ValueError(
            f"'{place}' has bundle format {number!r}, but this version of ddnn_tf reads {_FORMAT}: train the "
            "network anew with `ddnn train`, and export it anew with `ddnn export`."
        )
    try:
        manifest = _Manifest(**fields)
    except ValidationError as error:
        raise ValueError(f"'{place}' is damaged: {one_sentence(error, 'manifest')}") from None
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise ValueError(f"'{place}': the manifest names '{name}', which leaves the bundle.")
    return manifest


def _fetch(place: Path, name: str, size: int) -> bytes:
    """The first `size` bytes of a file and one more: a zip may unfold to any size."""
    read = _from_directory if place.is_dir() else _from_zip
    try:
        return read(place, name, size + 1)
    except (FileNotFoundError, KeyError):
        raise FileNotFoundError(f"'{place}' lacks '{name}': it is no bundle, or a damaged one.") from None


def _from_directory(place: Path, name: str, size: int) -> bytes:
    file = (place / name).resolve()
    if place.resolve() not in file.parents:
        raise ValueError(f"'{place}': '{name}' leaves the bundle.")
    if not file.is_file():
        raise FileNotFoundError(file)
    with open(file, "rb") as stream:
        return stream.read(size)


def _from_zip(place: Path, name: str, size: int) -> bytes:
    try:
        archive = zipfile.ZipFile(place)
    except zipfile.BadZipFile:
        raise ValueError(f"'{place}' is neither a bundle directory nor a zip file.") from None
    with archive:
        try:
            with archive.open(name) as stream:
                return stream.read(size)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise ValueError(f"'{place}' is damaged at '{name}': {error}.") from None


def _load_data(source: DataSource, digest: str) -> MultiViewDataset:
    data = source.load()
    data.check_digest(digest)
    return data


def _json(place: Path, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"'{place}' is damaged: '{name}' is not valid JSON ({error}).") from None


def _dumped(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
