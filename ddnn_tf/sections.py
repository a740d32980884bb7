"""A trained network cut at its physical boundaries, into what runs on each machine.

    device_0, ...   pixels -> `features` (its feature map) and `class_vector`
    local           class vectors -> `logits` of the local exit
    edge_0, ...     feature maps -> `features` and `logits` of the edge exit
    cloud           feature maps (of the edges, if there are any) -> `logits` of the cloud exit

Each section is a small Keras model with the trained weights; its inputs carry the name of the sender.
It is the same object whether it is exported, benchmarked or served. Composed, the sections give the
exits of the whole network:

    >>> sections = cut(model, topology)
    >>> logits = compose(topology, {name: section.run for name, section in sections.items()}, images)
    >>> probabilities = tf.nn.softmax(logits["cloud"])

In configuration (a) the devices send their raw images: there are no device sections and no `local`.

Source: Teerapittayanon et al. 2017, Section III-A, Figures 2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.network import (
    PRESENCE,
    aggregator_blocks,
    cloud_blocks,
    device_class_vector,
    device_feature_map,
    edge_blocks,
)
from ddnn_tf.topology import Topology

__all__ = ["Arrays", "Runner", "Section", "compose", "cut"]

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the name of an input or output."""

Runner = Callable[[Arrays], Arrays]
"""What stands in for a section: its inputs to its outputs, all samples at once."""


@dataclass(frozen=True)
class Section:
    """What runs on one machine.

    Attributes:
        name: `device_0`, ..., `local`, `edge_0`, ..., `cloud`.
        tier: `device`, `local`, `edge` or `cloud`.
        model: A Keras model with named inputs, whose outputs are a dictionary.
    """

    name: str
    tier: str
    model: tf.keras.Model

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the senders whose data it takes, in order; `present` is not among them."""
        return tuple(name for name in self.model.input_names if name != PRESENCE)

    @property
    def outputs(self) -> tuple[str, ...]:
        """`features`, `class_vector`, `logits`: those that it has."""
        return tuple(self.model.output)

    @property
    def has_bits(self) -> bool:
        """Whether its `features` are -1 and +1, so that one bit each is sent."""
        return any(
            layer.name.endswith("_sign") and layer.output is self.model.output.get("features")
            for layer in self.model.layers
        )

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Runs it in Keras.

        Args:
            inputs: `(samples, ...)` float32 by sender; `present`, `(samples, senders)` bool, if the
                section was cut with presence.

        Returns:
            `(samples, ...)` float32 by output.
        """
        given = {name: np.asarray(inputs[name]) for name in self.model.input_names}
        return dict(self.model.predict(given, batch_size=256, verbose=0))


def cut(model: tf.keras.Model, topology: Topology, *, presence: bool = False) -> dict[str, Section]:
    """Cuts a trained network.

    Args:
        model: A model of `build(topology)`.
        topology: Its topology.
        presence: The sections that aggregate get an input `present`, `(batch, senders)` bool.

    Returns:
        The sections by name, from the devices to the cloud, with copies of the weights.

    Raises:
        ValueError: The model is not of this topology.
    """
    sections = [_device(topology, name) for name in topology.device_names if topology.devices.blocks]
    if topology.devices.blocks:
        senders = _vectors(topology)
        logits = aggregator_blocks(topology, list(senders.values()), present := _present(senders, presence))
        sections.append(_section("local", senders, present, {"logits": logits}))
    for number, (name, edge) in enumerate(zip(topology.edge_names, topology.edges, strict=True)):
        senders = {
            topology.device_names[device]: tf.keras.Input(
                topology.feature_shape, name=topology.device_names[device]
            )
            for device in edge.devices
        }
        present = _present(senders, presence)
        features, logits = edge_blocks(topology, number, list(senders.values()), present)
        sections.append(_section(name, senders, present, {"features": features, "logits": logits}))
    shapes = {name: topology.edge_feature_shape(at) for at, name in enumerate(topology.edge_names)}
    shapes = shapes or dict.fromkeys(topology.device_names, topology.feature_shape)
    senders = {name: tf.keras.Input(shape, name=name) for name, shape in shapes.items()}
    logits = cloud_blocks(topology, list(senders.values()), present := _present(senders, presence))
    sections.append(_section("cloud", senders, present, {"logits": logits}))
    for section in sections:
        _copy_weights(model, section)
    return {section.name: section for section in sections}


def compose(
    topology: Topology,
    runners: Mapping[str, Runner],
    images: NDArray[np.uint8],
    present: ArrayLike | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Runs all samples through all sections, whatever engine each of them runs on.

    Args:
        topology: The hierarchy.
        runners: One for each section, by its name.
        images: `(samples, devices, height, width, channels)`, 0..255.
        present: `(samples, devices)` bool, the devices that take part, for sections cut with presence;
            None: all, for sections cut without.

    Returns:
        Logits `(samples, classes)` by exit.

    Raises:
        ValueError: A section has no runner.
    """
    wanted = _names(topology)
    missing = [name for name in wanted if name not in runners]
    if missing:
        raise ValueError(f"Expected `runners` for {', '.join(wanted)}, but {missing[0]} has none.")
    mask = None if present is None else np.asarray(present, dtype=bool)

    def run(name: str, inputs: Arrays, members: NDArray[np.bool_] | None) -> Arrays:
        return runners[name](inputs if members is None else {**inputs, PRESENCE: members})

    features: dict[str, NDArray[np.float32]] = {
        name: images[:, at].astype(np.float32) for at, name in enumerate(topology.device_names)
    }
    logits: dict[str, NDArray[np.float32]] = {}
    if topology.devices.blocks:
        answers = {name: runners[name]({name: image}) for name, image in features.items()}
        vectors = {name: answer["class_vector"] for name, answer in answers.items()}
        logits["local"] = run("local", vectors, mask)["logits"]
        features = {name: answer["features"] for name, answer in answers.items()}
    if topology.edges:
        of_edges: dict[str, NDArray[np.float32]] = {}
        for name, edge in zip(topology.edge_names, topology.edges, strict=True):
            group = {
                topology.device_names[device]: features[topology.device_names[device]]
                for device in edge.devices
            }
            answer = run(name, group, None if mask is None else mask[:, list(edge.devices)])
            of_edges[name], logits[name] = answer["features"], answer["logits"]
        features = of_edges
        if mask is not None:
            mask = np.stack([mask[:, list(edge.devices)].any(axis=1) for edge in topology.edges], axis=1)
    logits["cloud"] = run("cloud", features, mask)["logits"]
    return logits


def _names(topology: Topology) -> list[str]:
    lower = [*topology.device_names, "local"] if topology.devices.blocks else []
    return [*lower, *topology.edge_names, "cloud"]


def _device(topology: Topology, name: str) -> Section:
    image = tf.keras.Input(topology.devices.image_shape, name=name)
    features = device_feature_map(topology, image, name)
    vector = device_class_vector(topology, features, name)
    return _section(name, {name: image}, None, {"features": features, "class_vector": vector})


def _vectors(topology: Topology) -> dict[str, tf.Tensor]:
    return {name: tf.keras.Input((topology.classes,), name=name) for name in topology.device_names}


def _present(senders: Mapping[str, tf.Tensor], presence: bool) -> tf.Tensor | None:
    return tf.keras.Input((len(senders),), dtype="bool", name=PRESENCE) if presence else None


def _section(
    name: str,
    senders: Mapping[str, tf.Tensor],
    present: tf.Tensor | None,
    outputs: Mapping[str, tf.Tensor],
) -> Section:
    inputs = [*senders.values(), *([] if present is None else [present])]
    return Section(name, name.split("_")[0], tf.keras.Model(inputs, dict(outputs), name=name))


def _copy_weights(model: tf.keras.Model, section: Section) -> None:
    trained = {layer.name: layer for layer in model.layers}
    for layer in section.model.layers:
        if not layer.weights:
            continue
        source = trained.get(layer.name)
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if source is None or [tuple(weight.shape) for weight in source.weights] != shapes:
            raise ValueError(
                f"Expected a model of the given topology, but its layer '{layer.name}' is missing or of "
                "another shape: give the topology that it was built from."
            )
        layer.set_weights(source.get_weights())
