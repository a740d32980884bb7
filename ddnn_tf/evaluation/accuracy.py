"""The measures of Section III-F: individual, exit and overall accuracy, and bytes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.communication import bytes_at_exit, bytes_per_link, raw_bytes
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.datasets.stored import View
from ddnn_tf.exits import most_confident, search_thresholds, staged_inference
from ddnn_tf.hierarchy import Hierarchy
from ddnn_tf.network import PRESENCE
from ddnn_tf.offload import bytes_of_asked
from ddnn_tf.topology import Topology

__all__ = [
    "Evaluation",
    "balanced_accuracy",
    "best_thresholds",
    "by_tier",
    "choose_thresholds",
    "class_recall",
    "evaluate",
    "individual_accuracy",
    "measure",
    "named_outputs",
    "tier_probabilities",
]

# Samples that are predicted at a time.
_PIECE = 1024


@dataclass(frozen=True)
class Evaluation:
    """Measures on the test part of a data set; accuracies are fractions.

    Attributes:
        individual_accuracy: Each device alone, by its name; a sample that it does not see counts as wrong.
            Empty without individual models.
        exit_accuracy: All samples classified at one tier, by the surest of its exits; by tier.
        overall_accuracy: Every sample classified where it leaves.
        exit_balanced_accuracy: As `exit_accuracy`, but the mean over the classes of each class's accuracy.
        overall_balanced_accuracy: As `overall_accuracy`, but the mean over the classes.
        class_recall: Share of each class's samples that is classified right where they leave, in the classes'
            order; None for a class without test samples. Their mean is the balanced accuracy.
        exit_shares: Fraction of the samples that leave at each tier.
        thresholds: T by tier, for all tiers but the last.
        bytes_per_sample: Average bytes per sample and device, Eq. (1).
        bytes_per_link: Average bytes per sample on each link.
        reduction: Bytes of a raw input divided by `bytes_per_sample`; infinite if every device is down.
        test_samples: How many samples the accuracies are measured on.
    """

    individual_accuracy: Mapping[str, float]
    exit_accuracy: Mapping[str, float]
    overall_accuracy: float
    exit_balanced_accuracy: Mapping[str, float]
    overall_balanced_accuracy: float
    class_recall: Sequence[float | None]
    exit_shares: Mapping[str, float]
    thresholds: Mapping[str, float]
    bytes_per_sample: float
    bytes_per_link: Mapping[str, float]
    reduction: float
    test_samples: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with individual accuracies as a list in the order of `devices`, and the
        accuracies of the paper's tiers under the names that they have always had; None: no such tier.
        """
        return {
            **asdict(self),
            "devices": list(self.individual_accuracy),
            "individual_accuracy": list(self.individual_accuracy.values()),
            "class_recall": list(self.class_recall),
            "local_accuracy": self.exit_accuracy.get("local"),
            "edge_accuracy": self.exit_accuracy.get("edge"),
            "cloud_accuracy": self.exit_accuracy.get("cloud"),
        }


def tier_probabilities(
    model: tf.keras.Model,
    topology: Topology,
    views: Mapping[str, View],
    present: ArrayLike | None = None,
) -> dict[str, NDArray[np.float64]]:
    """What every tier would answer to every sample.

    Args:
        model: A model of `build(topology)`, or one `with_presence` if `present` is given.
        topology: Its topology.
        views: `(samples, ...)` uint8 by device, 0..255.
        present: `(samples, failable)` bool, which nodes are up, in the order of `Hierarchy.failable`, or
            `(samples, devices)` where all edges are; None: all.

    Returns:
        Class probabilities `(samples, classes)` by tier, in the order of `Hierarchy.exit_tiers`.
    """
    inputs: dict[str, Any] = {name: views[name] for name in topology.hierarchy.device_names}
    if present is not None:
        inputs[PRESENCE] = topology.hierarchy.all_present(present)
    return by_tier(topology, named_outputs(model, inputs), present)


def named_outputs(model: tf.keras.Model, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """What a model predicts, by the name of its outputs, which Keras gives bare if there is one."""
    samples = len(next(iter(inputs.values())))
    pieces = []
    # A piece at a time, because Keras copies what it is given: views in files may be larger than memory.
    for start in range(0, samples, _PIECE):
        piece = {name: view[start : start + _PIECE] for name, view in inputs.items()}
        outputs = model.predict(piece, batch_size=256, verbose=0)
        pieces.append(outputs if isinstance(outputs, list) else [outputs])
    outputs = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return dict(zip(model.output_names, outputs, strict=True))


def by_tier(
    topology: Topology, by_exit: Mapping[str, NDArray[Any]], present: ArrayLike | None = None
) -> dict[str, NDArray[np.float64]]:
    """Class probabilities by tier out of those by exit: the surest exit speaks for its tier.

    Args:
        topology: The hierarchy.
        by_exit: `(samples, classes)` by exit name.
        present: As for `tier_probabilities`.
    """
    hierarchy = topology.hierarchy
    tiers = {}
    for tier in hierarchy.exit_tiers:
        names = [exit_.name for exit_ in tier.exits]
        if len(names) == 1 and _hears_all(hierarchy, names[0]):
            tiers[tier.name] = by_exit[names[0]].astype(np.float64)
            continue
        heard = None
        if present is not None:
            nodes = hierarchy.heard(present).nodes
            heard = np.stack([nodes[name] for name in names], axis=1)
        tiers[tier.name] = most_confident([by_exit[name] for name in names], heard)
    return tiers


def _hears_all(hierarchy: Hierarchy, name: str) -> bool:
    """Whether a node above which there is none for its samples hears every device.

    Its answer stands even with no device at all, when it knows nothing but its bias: somebody must answer.
    """
    is_top = hierarchy[name].receiver is None
    return is_top and len(hierarchy.devices_below(name)) == len(hierarchy.devices)


def best_thresholds(
    topology: Topology,
    probabilities: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    balanced: bool = False,
) -> dict[str, float]:
    """Thresholds of best overall accuracy, by tier, for all tiers but the last.

    Args:
        topology: The hierarchy.
        probabilities: `tier_probabilities` of validation samples.
        labels: Their classes, `(samples,)` int.
        balanced: By balanced accuracy, for data with very unequal classes.
    """
    costs = bytes_at_exit(topology)
    found = search_thresholds(list(probabilities.values()), labels, costs, balanced=balanced)
    return dict(zip(topology.hierarchy.early_tier_names, found, strict=True))


def choose_thresholds(model: tf.keras.Model, topology: Topology, data: MultiViewDataset) -> dict[str, float]:
    """`best_thresholds` of a trained model on the validation part of its data."""
    probabilities = tier_probabilities(model, topology, data.part("validation"))
    return best_thresholds(topology, probabilities, data.targets("validation"), balanced=data.balance)


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
    probabilities = tier_probabilities(model, topology, data.part("test"))
    alone: dict[str, float] = {}
    if individual is not None:
        chosen = data.with_devices(topology.hierarchy.device_names)
        answers = list(named_outputs(individual, chosen.part("test")).values())
        found = individual_accuracy(answers, data.targets("test"), chosen.present("test"))
        alone = dict(zip(chosen.device_names, found, strict=True))
    return measure(topology, probabilities, data.targets("test"), thresholds, alone)


def measure(
    topology: Topology,
    probabilities: Mapping[str, ArrayLike],
    labels: ArrayLike,
    thresholds: Mapping[str, float],
    individual: Mapping[str, float] | None = None,
    *,
    missing: Collection[str] = (),
    asked: ArrayLike | None = None,
) -> Evaluation:
    """The measures of samples whose probabilities at every tier are known.

    Args:
        topology: The hierarchy.
        probabilities: `(samples, classes)` by tier, as `tier_probabilities` gives them.
        labels: `(samples,)` int, the true classes.
        thresholds: T by tier, for all tiers but the last.
        individual: Accuracies of the devices alone, to be handed on.
        missing: Names of the nodes that were down: their links carry nothing.
        asked: `(samples, failable)` or `(samples, devices)` bool, who was asked for a feature map
            (`ddnn_tf.offload`); None: all.

    Raises:
        ValueError: Thresholds of other tiers than the topology has.

    Source: Section III-F.
    """
    early = topology.hierarchy.early_tier_names
    if set(thresholds) != set(early):
        raise ValueError(
            f"Expected `thresholds` for {', '.join(early) or 'no tier'}, but got "
            f"{', '.join(thresholds) or 'none'}."
        )
    tiers = {tier: np.asarray(probabilities[tier]) for tier in topology.hierarchy.exit_tier_names}
    truth = np.asarray(labels)
    staged = staged_inference(list(tiers.values()), [thresholds[tier] for tier in early])
    shares = staged.shares.tolist()
    answers = {tier: given.argmax(axis=1) for tier, given in tiers.items()}
    present = topology.hierarchy.presence(missing)
    if asked is None:
        links = bytes_per_link(topology, shares, present)
    else:
        links = bytes_of_asked(topology, staged.exits, asked, np.repeat(present, len(truth), axis=0))
    cost = sum(links.values()) / len(topology.hierarchy.devices)
    return Evaluation(
        individual_accuracy=dict(individual or {}),
        exit_accuracy={tier: float((answer == truth).mean()) for tier, answer in answers.items()},
        overall_accuracy=float((staged.labels == truth).mean()),
        exit_balanced_accuracy={tier: balanced_accuracy(answer, truth) for tier, answer in answers.items()},
        overall_balanced_accuracy=balanced_accuracy(staged.labels, truth),
        class_recall=class_recall(staged.labels, truth, topology.classes),
        exit_shares=dict(zip(tiers, shares, strict=True)),
        thresholds={tier: thresholds[tier] for tier in early},
        bytes_per_sample=cost,
        bytes_per_link=links,
        reduction=raw_bytes(topology) / cost if cost else math.inf,
        test_samples=len(truth),
    )


def class_recall(answers: ArrayLike, labels: ArrayLike, classes: int) -> tuple[float | None, ...]:
    """Share of each class's samples that is classified right; None for a class that does not occur.

    Args:
        answers: `(samples,)` int, the classes that were given.
        labels: `(samples,)` int, the true classes.
        classes: Number of classes.
    """
    is_right, truth = np.asarray(answers) == np.asarray(labels), np.asarray(labels)
    occurs = [truth == label for label in range(classes)]
    return tuple(float(is_right[rows].mean()) if rows.any() else None for rows in occurs)


def balanced_accuracy(answers: ArrayLike, labels: ArrayLike) -> float:
    """Mean over the classes that occur of the share of each class's samples that is classified right.

    Args:
        answers: `(samples,)` int, the classes that were given.
        labels: `(samples,)` int, the true classes; at least one.
    """
    truth = np.asarray(labels)
    recalls = class_recall(answers, truth, int(truth.max()) + 1)
    return float(np.mean([recall for recall in recalls if recall is not None]))


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
