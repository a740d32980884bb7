"""A topology as one Keras functional model, which reads like Figures 2 and 4 of the paper.

    >>> model = ddnn_tf.build(ddnn_tf.Topology.devices_cloud(devices=6))
    >>> model.input_names, model.output_names
    (['device_0', ..., 'device_5'], ['local', 'cloud'])
    >>> model.compile("adam", "sparse_categorical_crossentropy", loss_weights={"local": 1, "cloud": 1})

Inputs are images `(batch, height, width, channels)`, integer-valued float32 0..255. Outputs are class
probabilities `(batch, classes)` float32; the logits behind them are the layers `<exit>_logits`.

Source: Teerapittayanon et al. 2017, Section III, Figures 2 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ddnn_tf.aggregation import GroupPresence, aggregation
from ddnn_tf.blocks import convp, fc
from ddnn_tf.topology import Tier, Topology

__all__ = [
    "PRESENCE",
    "aggregator_blocks",
    "build",
    "build_individual",
    "cloud_blocks",
    "device_class_vector",
    "device_feature_map",
    "edge_blocks",
    "with_presence",
]

PRESENCE = "present"
"""Name of the optional input that marks which devices take part."""


def build(topology: Topology, *, presence: bool = False) -> tf.keras.Model:
    """Builds the network of a topology, untrained.

    Args:
        topology: The hierarchy.
        presence: Adds an input `present`, `(batch, devices)` bool, by which a device can be marked
            absent. Weights and their order stay the same: see `with_presence`.

    Returns:
        A model with one input per device (`device_0`, ...) and one output per exit (`local`,
        `edge_0`, ..., `cloud`, those that the topology has).

    Source: Section III-A, Figure 2.
    """
    images = _images(topology)
    present = tf.keras.Input((topology.devices.count,), dtype="bool", name=PRESENCE) if presence else None
    inputs = images if present is None else [*images, present]
    logits: dict[str, tf.Tensor] = {}

    features = [
        device_feature_map(topology, *named) for named in zip(images, topology.device_names, strict=True)
    ]
    if topology.devices.blocks:
        vectors = [
            device_class_vector(topology, *named)
            for named in zip(features, topology.device_names, strict=True)
        ]
        logits["local"] = aggregator_blocks(topology, vectors, present)

    if topology.edges:
        edge_features = []
        for number, (name, edge) in enumerate(zip(topology.edge_names, topology.edges, strict=True)):
            members = _presence(present, [[device] for device in edge.devices], name)
            group = [features[device] for device in edge.devices]
            feature, logits[name] = edge_blocks(topology, number, group, members)
            edge_features.append(feature)
        features = edge_features
        present = _presence(present, [edge.devices for edge in topology.edges], "cloud")

    logits["cloud"] = cloud_blocks(topology, features, present)
    outputs = [_probabilities(logits[name], name) for name in topology.exit_names]
    return tf.keras.Model(inputs, outputs, name="ddnn")


def build_individual(topology: Topology) -> tf.keras.Model:
    """Builds the individual models of the topology's devices: each one a device alone, ConvP and FC.

    They stand side by side in one model and share no weight, so training them together is training
    each alone.

    Args:
        topology: The hierarchy whose devices are meant; they need at least one block.

    Returns:
        A model with one input per device and one output per device, `individual_0`, ..., class
        probabilities `(batch, classes)` float32.

    Raises:
        ValueError: The devices have no block.

    Source: Section III-F.
    """
    if topology.devices.blocks == 0:
        raise ValueError("'devices.blocks' is 0: a device that only sends its image has no individual model.")
    images = _images(topology)
    outputs = []
    for number, (image, name) in enumerate(zip(images, topology.device_names, strict=True)):
        vector = device_class_vector(topology, device_feature_map(topology, image, name), name)
        outputs.append(_probabilities(vector, f"individual_{number}"))
    return tf.keras.Model(images, outputs, name="individual")


def with_presence(model: tf.keras.Model, topology: Topology) -> tf.keras.Model:
    """The same trained network with the additional input `present`.

    Args:
        model: A model of `build(topology)`.
        topology: Its topology.

    Returns:
        A model with inputs `device_0`, ..., `present`, holding a copy of the weights.
    """
    masked = build(topology, presence=True)
    masked.set_weights(model.get_weights())
    return masked


def device_feature_map(topology: Topology, image: tf.Tensor, name: str) -> tf.Tensor:
    """A device's feature map: what it sends up a tier when the sample does not exit.

    Args:
        topology: The hierarchy.
        image: `(batch, height, width, channels)` float32, 0..255.
        name: `device_0`, ...

    Returns:
        `(batch, *topology.feature_shape)` float32; the image itself if the devices have no block.
    """
    devices = topology.devices
    feature = image
    for number in range(devices.blocks):
        feature = convp(
            feature,
            devices.filters,
            name=f"{name}_convp_{number}",
            precision=devices.precision,
            binary_input=number > 0 and devices.precision == "binary",
        )
    return feature


def device_class_vector(topology: Topology, feature: tf.Tensor, name: str) -> tf.Tensor:
    """A device's class vector: what it sends to the local aggregator for every sample.

    Args:
        topology: The hierarchy; its devices have at least one block.
        feature: `(batch, *topology.feature_shape)` float32.
        name: `device_0`, ...

    Returns:
        `(batch, classes)` float32.
    """
    is_binary = topology.devices.precision == "binary"
    return fc(
        feature,
        topology.classes,
        name=f"{name}_exit",
        precision=topology.devices.precision,
        binary_input=is_binary,
        activation=False,
    )


def aggregator_blocks(
    topology: Topology, vectors: Sequence[tf.Tensor], present: tf.Tensor | None = None
) -> tf.Tensor:
    """The local exit's logits `(batch, classes)` from the devices' class vectors.

    Args:
        topology: The hierarchy.
        vectors: `(batch, classes)` of each device.
        present: `(batch, devices)` bool, None: all.
    """
    return _aggregate(topology, "local", vectors, present)


def edge_blocks(
    topology: Topology, number: int, features: Sequence[tf.Tensor], present: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """An edge: its feature map, which it sends to the cloud, and its exit's logits.

    Args:
        topology: The hierarchy.
        number: Which edge.
        features: The feature map of each device in its group.
        present: `(batch, devices of the group)` bool, None: all.
    """
    name = topology.edge_names[number]
    joined = _aggregate(topology, name, features, present)
    return _tier(topology, topology.edges[number], name, joined, topology.devices.precision == "binary")


def cloud_blocks(
    topology: Topology, features: Sequence[tf.Tensor], present: tf.Tensor | None = None
) -> tf.Tensor:
    """The cloud exit's logits `(batch, classes)`.

    Args:
        topology: The hierarchy.
        features: The feature map of each edge; without edges that of each device, or its raw image.
        present: `(batch, senders)` bool, None: all.
    """
    if topology.edges:
        is_binary = all(edge.precision == "binary" for edge in topology.edges)
    else:
        is_binary = topology.devices.blocks > 0 and topology.devices.precision == "binary"
    joined = _aggregate(topology, "cloud", features, present)
    return _tier(topology, topology.cloud, "cloud", joined, is_binary)[1]


def _images(topology: Topology) -> list[tf.Tensor]:
    return [tf.keras.Input(topology.devices.image_shape, name=name) for name in topology.device_names]


def _aggregate(
    topology: Topology, exit_name: str, inputs: Sequence[tf.Tensor], present: tf.Tensor | None
) -> tf.Tensor:
    layer = aggregation(topology.exits[exit_name].aggregation, name=f"{exit_name}_aggregation")
    return layer(list(inputs)) if present is None else layer(list(inputs), present=present)


def _presence(present: tf.Tensor | None, groups: Sequence[Sequence[int]], name: str) -> tf.Tensor | None:
    return None if present is None else GroupPresence(groups, name=f"{name}_presence")(present)


def _tier(
    topology: Topology, tier: Tier, name: str, joined: tf.Tensor, binary_inputs: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """The blocks of an edge or the cloud: its feature map and its exit's logits.

    The maximum of binary feature maps is binary; an average or a linear layer is not, so after
    those the first block takes real numbers, as a device's first block takes pixels.
    """
    is_binary = binary_inputs and topology.exits[name].aggregation == "MP"
    feature = joined
    for number, filters in enumerate(tier.filters):
        feature = convp(
            feature,
            filters,
            name=f"{name}_convp_{number}",
            precision=tier.precision,
            binary_input=is_binary,
        )
        is_binary = tier.precision == "binary"
    hidden = feature
    for number, units in enumerate(tier.hidden):
        hidden = fc(
            hidden,
            units,
            name=f"{name}_fc_{number}",
            precision=tier.precision,
            binary_input=is_binary,
        )
        is_binary = tier.precision == "binary"
    logits = fc(
        hidden,
        topology.classes,
        name=f"{name}_exit",
        precision=tier.precision,
        binary_input=is_binary,
        activation=False,
    )
    return feature, logits


def _probabilities(logits: tf.Tensor, name: str) -> tf.Tensor:
    named = tf.keras.layers.Activation("linear", name=f"{name}_logits")(logits)
    return tf.keras.layers.Softmax(name=name)(named)
