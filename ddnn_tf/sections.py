"""A trained network cut at its physical boundaries, into what runs on each machine.

    device_0, ...   codes -> `features` (its feature map) and `class_vector`
    local           class vectors -> `logits` of the local exit
    edge_0, ...     feature maps -> `features`, and `logits` if it has an exit
    cloud           feature maps -> `logits` of the cloud exit
    cloud_from_S1   an adapter: a feature map -> `features` of the shape that its receiver joins

Each section is a small Keras model with the trained weights; its inputs carry the name of the sender.
It is the same object whether it is exported, benchmarked or served. Composed, the sections give the
exits of the whole network:

    >>> from ddnn_tf.network import build
    >>> topology = Topology.devices_cloud(devices=2, image_shape=(8, 8, 1))
    >>> sections = cut(build(topology), topology)
    >>> images = np.zeros((1, 8, 8, 1), np.uint8)
    >>> runners = {name: section.run for name, section in sections.items()}
    >>> logits = compose(topology, runners, {"device_0": images, "device_1": images})
    >>> logits["cloud"].shape
    (1, 3)

A device without blocks sends its raw input and has no section.

Source: Teerapittayanon et al. 2017, Section III-A, Figures 2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.hierarchy import Hierarchy, Node, Role
from ddnn_tf.input_range import check_input_range
from ddnn_tf.network import PRESENCE, class_vector, exit_logits, feature_map, join, with_weights_of
from ddnn_tf.topology import Topology

__all__ = [
    "CLASS_VECTOR",
    "FEATURES",
    "LOGITS",
    "Arrays",
    "Runner",
    "Section",
    "check_codes",
    "compose",
    "cut",
    "received",
]

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the name of an input or output."""

Runner = Callable[[Arrays], Arrays]
"""What stands in for a section: its inputs to its outputs, all samples at once."""

FEATURES, CLASS_VECTOR, LOGITS = "features", "class_vector", "logits"
"""Names of a section's outputs."""

_ON_CODES = "fit it on the codes themselves, without a scaling such as `/ 255`, which batch norm absorbs"


@dataclass(frozen=True)
class Section:
    """What runs on one machine, for one node.

    Attributes:
        node: The node.
        model: A Keras model with named inputs, whose outputs are a dictionary.
    """

    node: Node
    model: tf.keras.Model

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.node.name

    @property
    def role(self) -> Role:
        """Role of the node."""
        return self.node.role

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
        return self.node.output is not None and self.node.output.kind == "bits"

    @property
    def takes_codes(self) -> bool:
        """Whether its inputs are codes 0..255: of its own sensor, or of devices that send theirs."""
        return all(spec.kind == "bytes" for spec in self.node.inputs)

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


def cut(
    model: tf.keras.Model, topology: Topology, *, presence: bool = False, check_inputs: bool = True
) -> dict[str, Section]:
    """Cuts a trained network.

    Args:
        model: A model of `build(topology)`.
        topology: Its topology.
        presence: The sections that aggregate get an input `present`, `(batch, senders)` bool.
        check_inputs: Refuse a network whose statistics say that it was trained on scaled codes. False for
            codes that vary very little, such as 0 and 1.

    Returns:
        The sections by name, from the devices to the cloud, with copies of the weights.

    Raises:
        ValueError: The model is not of this topology, or was trained on something else than codes 0..255.
    """
    hierarchy = topology.hierarchy
    sections = {node.name: _section(hierarchy, node, presence) for node in hierarchy.sections}
    for section in sections.values():
        with_weights_of(model, section.model)
        if check_inputs and section.takes_codes:
            check_input_range(
                section.model,
                remedy=f"{_ON_CODES}, or cut it with `check_inputs=False` if its codes do vary so little",
            )
    return sections


def check_codes(sections: Mapping[str, Section], inputs: Mapping[str, Arrays]) -> None:
    """Compares the statistics of sections that take codes with what some codes give.

    Args:
        sections: The sections.
        inputs: What each of them receives, as `received` gives it.

    Raises:
        ValueError: A section was trained on something else than codes 0..255.
    """
    for name, section in sections.items():
        if section.takes_codes:
            check_input_range(section.model, codes=inputs[name], remedy=_ON_CODES)


def compose(
    topology: Topology,
    runners: Mapping[str, Runner],
    views: Mapping[str, NDArray[np.uint8]],
    present: ArrayLike | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Runs all samples through all sections, whatever engine each of them runs on.

    Args:
        topology: The hierarchy.
        runners: One for each section, by its name.
        views: `(samples, ...)` uint8 by device, 0..255.
        present: `(samples, failable)` bool, which nodes are up, or `(samples, devices)` where all edges are;
            None: all, for sections cut without presence. Those get stand-ins for what is absent, and answer
            nothing sensible where they hear nobody.

    Returns:
        Logits `(samples, classes)` by exit.

    Raises:
        ValueError: A section has no runner.
    """
    hierarchy = topology.hierarchy
    missing = [node.name for node in hierarchy.sections if node.name not in runners]
    if missing:
        wanted = ", ".join(node.name for node in hierarchy.sections)
        raise ValueError(f"Expected `runners` for {wanted}, but {missing[0]} has none.")
    heard = hierarchy.heard(hierarchy.presence() if present is None else present).senders
    features: dict[str, NDArray[np.float32]] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    logits: dict[str, NDArray[np.float32]] = {}
    for node in hierarchy.devices:
        codes = views[node.name].astype(np.float32)
        answer = runners[node.name]({node.name: codes}) if node.has_section else {FEATURES: codes}
        features[node.name] = answer[FEATURES]
        if node.class_vector is not None:
            vectors[node.name] = answer[CLASS_VECTOR]
    for node in hierarchy.receivers:
        sent = vectors if node.role is Role.LOCAL else features
        given: dict[str, NDArray[Any]] = {sender: sent[sender] for sender in node.all_senders}
        for adapter in hierarchy.adapters_of(node.name):
            (sender,) = adapter.senders
            given[sender] = runners[adapter.name]({sender: given[sender]})[FEATURES]
        mask = np.stack(heard[node.name], axis=1)
        given = _completed(node, given, mask)
        if present is not None:
            given[PRESENCE] = mask
        answer = runners[node.name](given)
        if FEATURES in answer:
            features[node.name] = answer[FEATURES]
        if LOGITS in answer:
            logits[node.name] = answer[LOGITS]
    return logits


def received(
    topology: Topology, sections: Mapping[str, Section], views: Mapping[str, NDArray[np.uint8]]
) -> dict[str, Arrays]:
    """What each section receives when all of them run in Keras.

    Where there are skip links, the nodes past which they lead are down in turn, one in each sample, so that
    each section receives of each sender.

    Args:
        topology: The hierarchy.
        sections: Its sections.
        views: `(samples, ...)` uint8 by device.

    Returns:
        Inputs `(samples, ...)` float32 by sender, by section.
    """
    found: dict[str, Arrays] = {}

    def listening(section: Section) -> Runner:
        def run(inputs: Arrays) -> Arrays:
            found[section.name] = {name: array for name, array in inputs.items() if name != PRESENCE}
            return section.run(inputs)

        return run

    runners = {name: listening(section) for name, section in sections.items()}
    compose(topology, runners, views, _down_in_turn(topology.hierarchy, len(next(iter(views.values())))))
    return found


def _completed(
    node: Node, given: Mapping[str, NDArray[Any]], heard: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """What a node joins, with stand-ins for the senders that it does not hear; as it is where all are silent.

    Args:
        node: A node above the devices.
        given: `(samples, ...)` by sender.
        heard: `(samples or 1, senders)` bool.
    """
    assert node.scheme is not None
    completed = dict(given)
    for pattern in np.unique(heard, axis=0):
        if pattern.all() or not pattern.any():
            continue
        rows = np.broadcast_to((heard == pattern).all(axis=1), len(next(iter(given.values()))))
        some = {name: given[name][rows] for name, is_heard in zip(given, pattern, strict=True) if is_heard}
        for name, array in node.scheme.complete(list(given), some).items():
            if completed[name] is given[name]:
                completed[name] = given[name].copy()
            completed[name][rows] = array
    return completed


def _down_in_turn(hierarchy: Hierarchy, samples: int) -> NDArray[np.bool_] | None:
    """`(samples, failable)` bool: all up, or one down past which a skip link leads; None: there is none."""
    past = {str(hierarchy[skip].receiver) for node in hierarchy.receivers for skip in node.skips}
    if not past:
        return None
    patterns = np.concatenate([hierarchy.presence(), *(hierarchy.presence([name]) for name in sorted(past))])
    return patterns[np.arange(samples) % len(patterns)]


def _section(hierarchy: Hierarchy, node: Node, presence: bool) -> Section:
    senders = node.all_senders or (node.name,)
    inputs = {
        sender: tf.keras.Input(spec.shape, name=sender)
        for sender, spec in zip(senders, node.inputs, strict=True)
    }
    given = list(inputs.values())
    present = None
    if presence and node.scheme is not None:
        present = tf.keras.Input((len(senders),), dtype="bool", name=PRESENCE)
    outputs: dict[str, tf.Tensor] = {}
    joined = given[0] if node.scheme is None else join(node, given, present)
    if node.role is Role.LOCAL:
        outputs[LOGITS] = joined
    else:
        features = feature_map(node, joined)
        if node.output is not None:
            outputs[FEATURES] = features
        if node.class_vector is not None:
            outputs[CLASS_VECTOR] = class_vector(node, features, hierarchy.classes)
        if node.exit is not None:
            outputs[LOGITS] = exit_logits(node, features, hierarchy.classes)
    everything = [*given, *([] if present is None else [present])]
    return Section(node, tf.keras.Model(everything, outputs, name=node.name))
