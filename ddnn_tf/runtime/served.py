"""The trained network as one process of the runtime sees it: the hierarchy, and the sections that it runs.

A process reads only the artefacts of its own sections from the bundle, and needs TensorFlow for the engine
`keras` only:

    >>> network = ServedNetwork.read("bundle.zip")  # doctest: +SKIP
    >>> join = network.joining("cloud")  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.bundle import BundleReader, open_bundle
from ddnn_tf.runtime.policy import Policy

if TYPE_CHECKING:
    from ddnn_tf.datasets import MultiViewDataset
    from ddnn_tf.datasets.pictures import Fit
    from ddnn_tf.sections import Runner

__all__ = ["ENGINES", "Arrays", "ServedNetwork"]

ENGINES = ("tflite", "c", "keras")
"""What a section can run on; a target of a plug-in (`ddnn_tf.register_target`) can be named as well."""

_TARGETS = "ddnn_tf.export.targets"

Arrays = Mapping[str, NDArray[Any]]


class ServedNetwork:
    """A trained network in a bundle, read section by section.

    Args:
        bundle: The bundle.

    Attributes:
        topology: The topology.
        hierarchy: Its hierarchy.
        policy: What the hierarchy means for every sample.
        thresholds: T by tier.
        class_names: Name of each class; empty in bundles of earlier versions.
        fingerprint: SHA-256 of hierarchy and weights: processes of different networks do not talk.
    """

    def __init__(self, bundle: BundleReader) -> None:
        self._bundle = bundle
        self.topology = bundle.topology
        self.hierarchy = bundle.topology.hierarchy
        self.policy = Policy(self.hierarchy, bundle.calibration)
        self.thresholds = dict(bundle.thresholds)
        self.class_names = bundle.class_names
        self.fingerprint = bundle.fingerprint

    @classmethod
    def read(cls, path: str | Path) -> ServedNetwork:
        """Opens a bundle; raises as `open_bundle`."""
        return cls(open_bundle(path))

    @property
    def picture_fit(self) -> Fit | None:
        """How pictures were brought to the network's input in training; None: they had its size."""
        return self._bundle.source.picture_fit

    def load_data(self) -> MultiViewDataset:
        """The data that the network was trained on; raises as `BundleReader.load_data`."""
        return self._bundle.load_data()

    def joined(self, node: str, given: Arrays) -> dict[str, NDArray[np.float32]]:
        """The inputs of a node's section out of those of the senders that are present.

        Args:
            node: Name of a local aggregator, an edge or the cloud.
            given: `(samples, ...)` float32 by sender, adapted if the node has adapters.

        Raises:
            ValueError: No sender is present.
        """
        described = self.hierarchy[node]
        assert described.scheme is not None
        return described.scheme.complete(described.all_senders, given)

    def runner(self, section: str, engine: str = "tflite") -> Runner:
        """A function that runs a section: its inputs by sender to its outputs.

        Args:
            section: Name of a node that computes.
            engine: One of `ENGINES`, or a target of a plug-in; `c` for binary devices only.

        Raises:
            ValueError: An unknown engine, or the bundle has no such section for it.
            ImportError: The engine is not installed.
        """
        if engine == "keras":
            return _in_keras(self._keras_sections[section])
        from ddnn_tf.export.targets import TARGETS

        if engine in ENGINES:
            # Its own module alone; the registry would import those of all targets.
            importlib.import_module(f"{_TARGETS}.{engine}")
        if engine not in TARGETS:
            raise ValueError(f"Expected the engine to be one of {', '.join(ENGINES)}, but got {engine!r}.")
        return TARGETS[engine].runner(self._bundle.artefact(section, engine))

    @functools.cached_property
    def _keras_sections(self) -> Mapping[str, Any]:
        from ddnn_tf.network import build
        from ddnn_tf.sections import cut

        model = build(self.topology)
        model.set_weights(self._bundle.weights())
        return cut(model, self.topology, check_inputs=False)  # checked when it was exported


def _in_keras(section: Any) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    import tensorflow as tf

    shapes = {tensor.name: tensor.shape[1:] for tensor in section.model.inputs}
    signature = {name: tf.TensorSpec((None, *shape), tf.float32) for name, shape in shapes.items()}
    # Traced once for any number of samples: calling the model itself takes milliseconds each time.
    compute = tf.function(lambda tensors: section.model(tensors, training=False), input_signature=[signature])

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        tensors = {name: tf.constant(np.asarray(inputs[name], np.float32)) for name in signature}
        return {name: value.numpy() for name, value in compute(tensors).items()}

    return run
