"""A trial: one network of an experiment, or the individual models of its devices, to be trained once.

A trial is addressed by its content: data, topology, options, code and version make its key. The same key
gives the same result.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

import ddnn_tf
from ddnn_tf.datasets import DataSource
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions

__all__ = ["Trial", "subsets"]

_FORMAT = 3
# The modules that decide what a training gives: other code makes other trials.
_SOURCES = (
    *("aggregation", "blocks", "callbacks", "failures", "feeding", "hierarchy", "network", "parts"),
    *("presence", "recipes", "training", "twins", "wiring"),
)
# Beyond this, the sets of failed devices are too many to look at all of them.
_MOST_DEVICES = 8


@dataclass(frozen=True)
class Trial:
    """One network to train, or the individual models of the devices.

    Attributes:
        title: What it is, for people; not part of its key.
        source: Where its data come from.
        data_sha256: `MultiViewDataset.digest` of them, with all devices.
        devices: The devices of the data set that take part, in the order of the model's inputs.
        topology: Its hierarchy.
        is_individual: Whether it is the individual models in place of the network.
        options: How to train.
        missing: Sets of nodes (devices and edges) without which the samples are classified too.
        samples: Number of training samples, to estimate the time; not part of its key.
    """

    title: str
    source: DataSource
    data_sha256: str
    devices: tuple[str, ...]
    topology: Topology
    is_individual: bool
    options: TrainingOptions
    missing: tuple[tuple[str, ...], ...] = ()
    samples: int = 0

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of all that decides the result, its first 24 hexadecimal digits."""
        receivers = self.topology.hierarchy.receivers
        layers = {node.scheme.module for node in receivers if node.scheme is not None}
        content = {
            "format": _FORMAT,
            "version": ddnn_tf.__version__,
            "tensorflow": tf.__version__,
            "sources": _sources_digest(tuple(sorted(layers))),
            "data": self.data_sha256,
            "class_weights": self.source.class_weights,
            "devices": self.devices,
            "topology": self.topology.model_dump(mode="json"),
            "individual": self.is_individual,
            "options": self.options.to_dict(),
            "missing": self.missing,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What its answers are of: the tiers with an exit, or the devices of individual models."""
        return self.devices if self.is_individual else self.topology.hierarchy.exit_tier_names

    @property
    def cost(self) -> float:
        """Rough work of the training: at six devices, their share and that of the upper tiers are equal."""
        devices = self.topology.hierarchy.devices
        elements = sum(node.sensor.elements for node in devices)
        above = 0.0 if self.is_individual else 6 * elements / len(devices)
        return self.options.epochs * self.samples * (elements + above)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and other.key == self.key


def subsets(devices: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of failed devices: all that exist for up to 8 devices, else those of one or two devices.

    Args:
        devices: Names of the devices.

    Returns:
        The sets, without the empty one, each in the order of `devices`.
    """
    if len(devices) > _MOST_DEVICES:
        few = (itertools.combinations(devices, number) for number in (1, 2))
        return [failed for group in few for failed in group]
    masks = range(1, 2 ** len(devices))
    return [tuple(name for at, name in enumerate(devices) if mask >> at & 1) for mask in masks]


@functools.cache
def _sources_digest(scheme_modules: tuple[str, ...]) -> str:
    """Digest of the code that decides what a training gives, aggregation layers of a user's own included."""
    names = [*(f"ddnn_tf.{name}" for name in _SOURCES), *scheme_modules]
    modules = [importlib.import_module(name) for name in names]
    content = hashlib.sha256()
    for module in modules:
        content.update(Path(str(module.__file__)).read_bytes())
    return content.hexdigest()
