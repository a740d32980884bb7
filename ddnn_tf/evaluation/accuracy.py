"""The measures of Section III-F: individual, local, edge, cloud and overall accuracy, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.communication import bytes_at_exit, bytes_per_link, bytes_per_sample, raw_bytes
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.exits import most_confident, search_thresholds, staged_inference
from ddnn_tf.network import PRESENCE
from ddnn_tf.topology import Topology

__all__ = [
    "Evaluation",
    "best_thresholds",
    "by_tier",
    "choose_thresholds",
    "evaluate",
    "individual_accuracy",
    "measure",
    "tier_probabilities",
]


@dataclass(frozen=True)
class Evaluation:
    """Measures on the test part of a data set; accuracies are fractions, None where no such exit is.

    Attributes:
        individual_accuracy: Each device alone; a sample that it does not see counts as wrong. Empty
            without individual models.
        local_accuracy: All samples classified at the local exit.
        edge_accuracy: All samples classified at the edge, by the surest edge if there are several.
        cloud_accuracy: All samples classified in the cloud.
        overall_accuracy: Every sample classified where it leaves.
        exit_shares: Fraction of the samples that leave at each tier.
        thresholds: T by tier, for all tiers but the last.
        bytes_per_sample: Average bytes per sample and device, Eq. (1).
        bytes_per_link: Average bytes per sample on each link.
        reduction: Bytes of a raw image divided by `bytes_per_sample`.
        test_samples: How many samples the accuracies are measured on.
    """

    individual_accuracy: tuple[float, ...]
    local_accuracy: float | None
    edge_accuracy: float | None
    cloud_accuracy: float
    overall_accuracy: float
    exit_shares: Mapping[str, float]
    thresholds: Mapping[str, float]
    bytes_per_sample: float
    bytes_per_link: Mapping[str, float]
    reduction: float
    test_samples: int


def tier_probabilities(
    model: tf.keras.Model,
    topology: Topology,
    images: NDArray[np.uint8],
    present: ArrayLike | None = None,
) -> dict[str, NDArray[np.float64]]:
    """What every tier would answer to every sample.

    Args:
        model: A model of `build(topology)`, or one `with_presence` if `present` is given.
        topology: Its topology.
        images: `(samples, devices, height, width, channels)`, 0..255.
        present: `(samples, devices)` bool, the devices that take part; None: all.

    Returns:
        Class probabilities `(samples, classes)` by tier, in the order of `topology.exit_tiers`.
    """
    inputs = {name: images[:, at].astype(np.float32) for at, name in enumerate(topology.device_names)}
    if present is not None:
        inputs[PRESENCE] = np.asarray(present, dtype=bool)
    outputs = model.predict(inputs, batch_size=256, verbose=0)
    by_exit = dict(zip(model.output_names, outputs if isinstance(outputs, list) else [outputs], strict=True))
    return by_tier(topology, by_exit, present)


def by_tier(
    topology: Topology, by_exit: Mapping[str, NDArray[Any]], present: ArrayLike | None = None
) -> dict[str, NDArray[np.float64]]:
    """Class probabilities by tier out of those by exit: the surest edge speaks for the edge tier.

    Args:
        topology: The hierarchy.
        by_exit: `(samples, classes)` by `topology.exit_names`.
        present: `(samples, devices)` bool, the devices that take part; None: all.
    """
    edges_present = None
    if present is not None and topology.edges:
        mask = np.asarray(present, dtype=bool)
        edges_present = np.stack([mask[:, list(edge.devices)].any(axis=1) for edge in topology.edges], axis=1)
    tiers = {}
    for tier in topology.exit_tiers:
        if tier == "edge":
            tiers[tier] = most_confident([by_exit[name] for name in topology.edge_names], edges_present)
        else:
            tiers[tier] = by_exit[tier].astype(np.float64)
    return tiers


def best_thresholds(
    topology: Topology, probabilities: Mapping[str, ArrayLike], labels: ArrayLike
) -> dict[str, float]:
    """Thresholds of best overall accuracy, by tier, for all tiers but the last.

    Args:
        topology: The hierarchy.
        probabilities: `tier_probabilities` of validation samples.
        labels: Their classes, `(samples,)` int.
    """
    found = search_thresholds(list(probabilities.values()), labels, bytes_at_exit(topology))
    return dict(zip(topology.exit_tiers, found, strict=False))


def choose_thresholds(model: tf.keras.Model, topology: Topology, data: MultiViewDataset) -> dict[str, float]:
    """`best_thresholds` of a trained model on the validation part of its data."""
    images = data.images[data.split["validation"]]
    return best_thresholds(topology, tier_probabilities(model, topology, images), data.targets("validation"))


def evaluate(
    model: tf.keras.Model,
    topology: Topology,
    data: MultiViewDataset,
    thresholds: Mapping[str, float],
    individual: tf.keras.Model | None = None,
) -> Evaluation:
    """Evaluates a trained network on the test part of its data.

    Args:
        model: A trained model of `build(topology)`.
        topology: Its topology.
        data: The data set.
        thresholds: T by tier (`choose_thresholds`), for all tiers but the last.
        individual: A trained model of `build_individual(topology)`, or None to leave it out.

    Raises:
        ValueError: Thresholds of other tiers than the topology has.

    Source: Section III-F.
    """
    probabilities = tier_probabilities(model, topology, data.images[data.split["test"]])
    alone: tuple[float, ...] = ()
    if individual is not None:
        outputs = individual.predict(data.inputs("test"), batch_size=256, verbose=0)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        alone = individual_accuracy(outputs, data.targets("test"), data.present("test"))
    return measure(topology, probabilities, data.targets("test"), thresholds, alone)


def measure(
    topology: Topology,
    probabilities: Mapping[str, ArrayLike],
    labels: ArrayLike,
    thresholds: Mapping[str, float],
    individual: tuple[float, ...] = (),
) -> Evaluation:
    """The measures of samples whose probabilities at every tier are known.

    Args:
        topology: The hierarchy.
        probabilities: `(samples, classes)` by tier, as `tier_probabilities` gives them.
        labels: `(samples,)` int, the true classes.
        thresholds: T by tier, for all tiers but the last.
        individual: Accuracies of the devices alone, to be handed on.

    Raises:
        ValueError: Thresholds of other tiers than the topology has.

    Source: Section III-F.
    """
    early = topology.exit_tiers[:-1]
    if set(thresholds) != set(early):
        raise ValueError(
            f"Expected `thresholds` for {', '.join(early) or 'no tier'}, but got "
            f"{', '.join(thresholds) or 'none'}."
        )
    tiers = {tier: np.asarray(probabilities[tier]) for tier in topology.exit_tiers}
    truth = np.asarray(labels)
    staged = staged_inference(list(tiers.values()), [thresholds[tier] for tier in early])
    accuracy = {tier: float((p.argmax(axis=1) == truth).mean()) for tier, p in tiers.items()}
    cost = bytes_per_sample(topology, staged.shares.tolist())
    return Evaluation(
        individual_accuracy=individual,
        local_accuracy=accuracy.get("local"),
        edge_accuracy=accuracy.get("edge"),
        cloud_accuracy=accuracy["cloud"],
        overall_accuracy=float((staged.labels == truth).mean()),
        exit_shares=dict(zip(tiers, staged.shares.tolist(), strict=True)),
        thresholds={tier: thresholds[tier] for tier in early},
        bytes_per_sample=cost,
        bytes_per_link=bytes_per_link(topology, staged.shares.tolist()),
        reduction=raw_bytes(topology) / cost,
        test_samples=len(truth),
    )


def individual_accuracy(
    outputs: Sequence[ArrayLike], labels: ArrayLike, present: ArrayLike
) -> tuple[float, ...]:
    """Accuracy of each device alone; a sample that it does not see counts as wrong.

    Args:
        outputs: `(samples, classes)` of each device's individual model.
        labels: `(samples,)` int, the true classes.
        present: `(samples, devices)` bool, whether the device sees the object.

    Source: Section III-F, "individual accuracy".
    """
    truth, seen = np.asarray(labels), np.asarray(present, dtype=bool)
    return tuple(
        float(((np.asarray(output).argmax(axis=1) == truth) & seen[:, number]).mean())
        for number, output in enumerate(outputs)
    )
