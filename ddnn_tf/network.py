"""A topology as one Keras functional model, which reads like Figures 2 and 4 of the paper.

    >>> model = build(Topology.devices_cloud(devices=2))
    >>> model.input_names, model.output_names
    (['device_0', 'device_1'], ['local', 'cloud'])
    >>> model.compile("adam", "sparse_categorical_crossentropy", loss_weights={"local": 1, "cloud": 1})

Inputs are 8-bit codes of each device's sensor (pixels, or coded readings), integer-valued float32 0..255 of
shape `(batch, height, width, channels)`, `(batch, steps, channels)` or `(batch, features)`. Outputs are class
probabilities `(batch, classes)` float32; the logits behind them are the layers `<exit>_logits`.

Source: Teerapittayanon et al. 2017, Section III, Figures 2 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ddnn_tf.aggregation import HeardSenders
from ddnn_tf.blocks import convp, fc
from ddnn_tf.hierarchy import Hierarchy, Node, Role
from ddnn_tf.topology import Topology

__all__ = [
    "PRESENCE",
    "build",
    "build_individual",
    "class_vector",
    "device_class_vectors",
    "device_features",
    "exit_logits",
    "feature_map",
    "join",
    "with_presence",
    "with_weights_of",
    "without_presence",
]

PRESENCE = "present"
"""Name of the optional input that marks which nodes are up."""


def build(topology: Topology, *, presence: bool = False) -> tf.keras.Model:
    """Builds the network of a topology, untrained.

    Args:
        topology: The hierarchy.
        presence: Adds an input `present`, `(batch, failable)` bool, by which devices and edges can be marked
            absent, in the order of `Hierarchy.failable`. Weights and their order stay the same: see
            `with_presence`. Without it all nodes are up, and skip links are not used.

    Returns:
        A model with one input per device (`device_0`, ...) and one output per exit (`local`,
        `edge_0`, ..., `cloud`, those that the topology has).

    Source: Section III-A, Figure 2.
    """
    hierarchy = topology.hierarchy
    inputs = _sensors(hierarchy)
    present = tf.keras.Input((len(hierarchy.failable),), dtype="bool", name=PRESENCE) if presence else None
    heard = _heard(hierarchy, inputs[hierarchy.device_names[0]], present)
    features = {node.name: feature_map(node, inputs[node.name]) for node in hierarchy.devices}
    vectors = {
        node.name: class_vector(node, features[node.name], hierarchy.classes)
        for node in hierarchy.devices
        if node.class_vector is not None
    }
    logits: dict[str, tf.Tensor] = {}
    for node in hierarchy.receivers:
        received = vectors if node.role is Role.LOCAL else features
        given = {sender: received[sender] for sender in node.all_senders}
        for adapter in hierarchy.adapters_of(node.name):
            (sender,) = adapter.senders
            given[sender] = feature_map(adapter, given[sender])
        joined = join(node, list(given.values()), heard.get(node.name))
        if node.role is Role.LOCAL:
            logits[node.name] = joined
            continue
        features[node.name] = feature_map(node, joined)
        if node.exit is not None:
            logits[node.name] = exit_logits(node, features[node.name], hierarchy.classes)
    outputs = [_probabilities(logits[exit_.name], exit_.name) for exit_ in hierarchy.exits]
    everything = [*inputs.values(), *([] if present is None else [present])]
    return tf.keras.Model(everything, outputs, name="ddnn")


def build_individual(topology: Topology) -> tf.keras.Model:
    """Builds the individual models of the topology's devices: each device alone, with an exit of its own.

    They stand side by side in one model and share no weight, so training them together is training
    each alone.

    Args:
        topology: The hierarchy whose devices are meant; each needs at least one block.

    Returns:
        A model with one input per device and one output per device, `individual_<name>`: class
        probabilities `(batch, classes)` float32.

    Raises:
        ValueError: A device has no block.

    Source: Section III-F.
    """
    hierarchy = topology.hierarchy
    inputs = _sensors(hierarchy)
    outputs = []
    for node in hierarchy.devices:
        if not node.blocks:
            raise ValueError(
                f"'{node.name}' has neither 'filters' nor 'units': a device that only sends its raw input "
                "has no individual model."
            )
        vector = class_vector(node, feature_map(node, inputs[node.name]), hierarchy.classes)
        outputs.append(_probabilities(vector, f"individual_{node.name}"))
    return tf.keras.Model(list(inputs.values()), outputs, name="individual")


def with_presence(model: tf.keras.Model, topology: Topology) -> tf.keras.Model:
    """The same trained network with the additional input `present`.

    Args:
        model: A model of `build(topology)`.
        topology: Its topology.

    Returns:
        A model with an input for each device and `present`, holding a copy of the weights.
    """
    masked = build(topology, presence=True)
    masked.set_weights(model.get_weights())
    return masked


def without_presence(model: tf.keras.Model, topology: Topology) -> tf.keras.Model:
    """The same trained network without the input `present`: the one to keep, to cut and to export.

    Args:
        model: A model of `build(topology, presence=True)`.
        topology: Its topology.

    Returns:
        A model of `build(topology)`, holding a copy of the weights.
    """
    plain = build(topology)
    plain.set_weights(model.get_weights())
    return plain


def device_features(model: tf.keras.Model, topology: Topology) -> tf.keras.Model:
    """The devices of a trained network alone, up to their feature maps.

    Args:
        model: A model of `build(topology)`, with or without presence.
        topology: Its topology.

    Returns:
        A model with an input per device and the device's feature map `(batch, *shape)` float32 as the output
        of its name, in a dictionary, holding a copy of the weights.
    """
    inputs = _sensors(topology.hierarchy)
    features = {node.name: feature_map(node, inputs[node.name]) for node in topology.hierarchy.devices}
    return with_weights_of(model, tf.keras.Model(inputs, features, name="devices"))


def device_class_vectors(model: tf.keras.Model, topology: Topology) -> tf.keras.Model:
    """As `device_features`, up to the class vectors `(batch, classes)` of those devices that have one."""
    hierarchy = topology.hierarchy
    inputs = _sensors(hierarchy)
    vectors = {
        node.name: class_vector(node, feature_map(node, inputs[node.name]), hierarchy.classes)
        for node in hierarchy.devices
        if node.class_vector is not None
    }
    return with_weights_of(model, tf.keras.Model(inputs, vectors, name="devices"))


def with_weights_of(model: tf.keras.Model, part: tf.keras.Model) -> tf.keras.Model:
    """A part of a network, after the weights of the layers of the same names are copied to it.

    Args:
        model: A model of `build(topology)`.
        part: A model of some of the layers.

    Raises:
        ValueError: The model lacks a layer of the part, or has it in another shape.
    """
    trained = {layer.name: layer for layer in model.layers}
    for layer in part.layers:
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
    return part


def feature_map(node: Node, inputs: tf.Tensor) -> tf.Tensor:
    """A node's feature map: what it sends up a tier when the sample does not exit.

    Args:
        node: A device, an adapter, an edge or the cloud.
        inputs: `(batch, ...)` float32: codes 0..255 of a device, else what the node has joined.

    Returns:
        `(batch, *node.output.shape)` float32; the inputs themselves if the node has no block.
    """
    is_bits = node.takes_bits
    feature = inputs
    for number, block in enumerate(node.blocks):
        layer = convp if block.kind == "convp" else fc
        feature = layer(
            feature,
            block.size,
            name=f"{node.name}_{block.kind if block.kind == 'convp' else 'units'}_{number}",
            precision=node.precision,
            binary_input=is_bits,
        )
        is_bits = node.is_binary
    if node.output is not None and tuple(feature.shape[1:]) != node.output.shape:
        feature = tf.keras.layers.Reshape(node.output.shape, name=f"{node.name}_shape")(feature)
    return feature


def class_vector(node: Node, feature: tf.Tensor, classes: int) -> tf.Tensor:
    """A device's class vector `(batch, classes)`: what it sends to its local aggregator for every sample.

    Args:
        node: A device with at least one block.
        feature: Its feature map.
        classes: Number of classes.
    """
    return _exit(node, feature, classes, node.is_binary)


def join(node: Node, inputs: Sequence[tf.Tensor], present: tf.Tensor | None = None) -> tf.Tensor:
    """What a node makes of the inputs of its senders: one tensor of their shape.

    Args:
        node: A local aggregator, an edge or the cloud.
        inputs: `(batch, ...)` of each sender, all of one shape.
        present: `(batch, senders)` bool, None: all.
    """
    assert node.scheme is not None
    layer = node.scheme.make_layer(name=f"{node.name}_aggregation")
    return layer(list(inputs)) if present is None else layer(list(inputs), present=present)


def exit_logits(node: Node, feature: tf.Tensor, classes: int) -> tf.Tensor:
    """The logits `(batch, classes)` of an edge's or the cloud's exit, out of its feature map."""
    is_bits = node.is_binary if node.blocks else node.takes_bits
    hidden = feature
    for number, block in enumerate(node.hidden):
        hidden = fc(
            hidden,
            block.size,
            name=f"{node.name}_fc_{number}",
            precision=node.precision,
            binary_input=is_bits,
        )
        is_bits = node.is_binary
    return _exit(node, hidden, classes, is_bits)


def _exit(node: Node, inputs: tf.Tensor, classes: int, is_bits: bool) -> tf.Tensor:
    return fc(
        inputs,
        classes,
        name=f"{node.name}_exit",
        precision=node.precision,
        binary_input=is_bits,
        activation=False,
    )


def _sensors(hierarchy: Hierarchy) -> dict[str, tf.Tensor]:
    return {node.name: tf.keras.Input(node.sensor.shape, name=node.name) for node in hierarchy.devices}


def _heard(hierarchy: Hierarchy, sensor: tf.Tensor, present: tf.Tensor | None) -> dict[str, tf.Tensor]:
    """`(batch, senders)` bool by receiver that needs to know which of its senders it hears."""
    if present is None and not any(node.skips for node in hierarchy.receivers):
        return {}
    masks = HeardSenders(hierarchy.failable_names, hierarchy.hearing, name="presence")(
        sensor if present is None else present
    )
    by_receiver = zip(hierarchy.receivers, masks, strict=True)
    return {node.name: mask for node, mask in by_receiver if present is not None or node.skips}


def _probabilities(logits: tf.Tensor, name: str) -> tf.Tensor:
    named = tf.keras.layers.Activation("linear", name=f"{name}_logits")(logits)
    return tf.keras.layers.Softmax(name=name)(named)
