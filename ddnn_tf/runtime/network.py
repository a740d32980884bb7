"""What a process of the runtime knows of the network: a bundle, and the sections that it serves.

Needs no TensorFlow for sections that run as TFLite.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.bundle import Bundle, read_bundle
from ddnn_tf.export.litert import Tflite
from ddnn_tf.frames import pack_bits, unpack_bits
from ddnn_tf.runtime.absence import complete

if TYPE_CHECKING:
    from ddnn_tf.sections import Runner

__all__ = ["ENGINES", "Codec", "Network"]

ENGINES = ("tflite", "c", "keras")
"""What a section can run on."""

_FLOAT = np.dtype("<f4")
_LARGEST = 1e6


@dataclass(frozen=True)
class Codec:
    """How an array travels: as bits, as bytes, or as float32, little-endian.

    Attributes:
        shape: Of the array.
        kind: `bits` (-1 and +1, one bit each), `bytes` (0..255) or `floats`.
    """

    shape: tuple[int, ...]
    kind: str

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the payload."""
        count = math.prod(self.shape)
        return {"bits": -(-count // 8), "bytes": count, "floats": count * _FLOAT.itemsize}[self.kind]

    def encode(self, array: NDArray[Any]) -> bytes:
        """The payload of one array of the codec's shape."""
        if self.kind == "bits":
            return pack_bits(array[None]).tobytes()
        return np.ascontiguousarray(array, np.uint8 if self.kind == "bytes" else _FLOAT).tobytes()

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """The array `(1, *shape)` float32 of a payload.

        Raises:
            ValueError: Of another size, or no numbers that a network could give.
        """
        if len(payload) != self.size:
            raise ValueError(f"Expected {self.size} bytes for {self.shape}, but got {len(payload)}.")
        if self.kind == "bits":
            return unpack_bits(np.frombuffer(payload, np.uint8), self.shape)[None]
        kind = np.uint8 if self.kind == "bytes" else _FLOAT
        array = np.frombuffer(payload, kind).astype(np.float32).reshape(1, *self.shape)
        # Far above any real class vector, and far below where sums and softmax overflow.
        if self.kind == "floats" and not (np.abs(array) <= _LARGEST).all():
            raise ValueError(f"Expected finite numbers of at most {_LARGEST:g}, but got others.")
        return array


class Network:
    """A trained network as a bundle holds it, and what its tiers send each other.

    Args:
        bundle: The bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.topology = bundle.topology

    @classmethod
    def read(cls, path: str | Path) -> Network:
        """Reads a bundle; raises as `read_bundle`."""
        return cls(read_bundle(path))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of hierarchy and weights: processes of different networks do not talk."""
        content = hashlib.sha256(self.topology.to_yaml().encode())
        for array in self.bundle.weights:
            content.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
        return content.hexdigest()

    @property
    def has_local(self) -> bool:
        """Whether devices have blocks, and so there is a local exit."""
        return self.topology.devices.blocks > 0

    @functools.cached_property
    def image(self) -> Codec:
        """A device's raw image."""
        return Codec(self.topology.devices.image_shape, "bytes")

    @functools.cached_property
    def class_vector(self) -> Codec:
        """A class vector."""
        return Codec((self.topology.classes,), "floats")

    @functools.cached_property
    def features(self) -> Codec:
        """What a device sends up a tier."""
        if not self.has_local:
            return self.image
        kind = "bits" if self.topology.devices.precision == "binary" else "floats"
        return Codec(self.topology.feature_shape, kind)

    def edge_features(self, edge: int) -> Codec:
        """What an edge sends to the cloud."""
        kind = "bits" if self.topology.edges[edge].precision == "binary" else "floats"
        return Codec(self.topology.edge_feature_shape(edge), kind)

    def senders(self, section: str) -> tuple[str, ...]:
        """Who sends to `local`, an edge or the cloud."""
        topology = self.topology
        if section in topology.edge_names:
            group = topology.edges[topology.edge_names.index(section)].devices
            return tuple(topology.device_names[device] for device in group)
        if section == "cloud" and topology.edges:
            return topology.edge_names
        return topology.device_names

    def upper_of(self, device: str) -> str:
        """Where a device sends its feature map: an edge, or the cloud."""
        for name in self.topology.edge_names:
            if device in self.senders(name):
                return name
        return "cloud"

    def codec_to(self, section: str, sender: str) -> Codec:
        """What a sender's payload to an edge or the cloud is."""
        if sender in self.topology.edge_names:
            return self.edge_features(self.topology.edge_names.index(sender))
        return self.features

    def aggregate(
        self, section: str, given: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Inputs of all senders of a section out of those that are there (`absence.complete`)."""
        return complete(self.topology.exits[section].aggregation, self.senders(section), given)

    def runner(self, section: str, engine: str = "tflite") -> Runner:
        """A function that runs a section.

        Args:
            section: Its name.
            engine: One of `ENGINES`; `c` for binary devices only.

        Raises:
            ValueError: An unknown section or engine, or the bundle has none for it.
            ImportError: The engine is not installed.
        """
        if engine not in ENGINES:
            raise ValueError(f"Expected the engine to be one of {', '.join(ENGINES)}, but got {engine!r}.")
        if engine == "keras":
            from ddnn_tf.export.pipeline import bundle_sections

            return _in_keras(bundle_sections(self.bundle)[section])
        found = [one for one in self.bundle.artefacts if (one.section, one.target) == (section, engine)]
        if not found:
            raise ValueError(
                f"The bundle holds no '{section}' for '{engine}': export it with --target {engine}, or "
                "choose another --engine."
            )
        if engine == "c":
            from ddnn_tf.export.c.target import C
            from ddnn_tf.export.pipeline import bundle_sections

            target = C()
            target.check(found[0], bundle_sections(self.bundle)[section])
            return target.runner(found[0])
        return Tflite().runner(found[0])


def _in_keras(section: Any) -> Runner:
    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        given = {name: np.asarray(inputs[name], np.float32) for name in section.inputs}
        return {name: value.numpy() for name, value in section.model(given, training=False).items()}

    return run
