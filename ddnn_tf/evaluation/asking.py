"""What a trained network answers if it asks only the surest devices, as its aggregator would.

>>> from ddnn_tf.runs import load_run  # doctest: +SKIP
>>> run = load_run("runs/scenes")  # doctest: +SKIP
>>> data = run.source.load()  # doctest: +SKIP
>>> asking = ask_surest(run.model, run.topology, data.part("test"), 2)  # doctest: +SKIP
>>> labels = data.targets("test")  # doctest: +SKIP
>>> measure(
...     run.topology, asking.probabilities, labels, run.thresholds, asked=asking.asked
... ).bytes_per_sample  # doctest: +SKIP
19.7
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.datasets.stored import View
from ddnn_tf.evaluation.accuracy import tier_probabilities
from ddnn_tf.exits import softmax
from ddnn_tf.network import device_class_vectors, with_presence
from ddnn_tf.offload import certainty, check_asked, highest, ranked_devices
from ddnn_tf.topology import Topology

__all__ = ["Asking", "ask_surest"]


@dataclass(frozen=True)
class Asking:
    """What comes of asking some devices only.

    Attributes:
        asked: `(samples, failable)` bool, the nodes that take part above the local exit.
        probabilities: `(samples, classes)` by tier, as `measure` takes them with `asked`.
    """

    asked: NDArray[np.bool_]
    probabilities: Mapping[str, NDArray[np.float64]]


def ask_surest(
    model: tf.keras.Model,
    topology: Topology,
    views: Mapping[str, View],
    number: int,
    missing: Collection[str] = (),
) -> Asking:
    """Asks the surest devices of each sample.

    Args:
        model: A trained model of `build(topology)`.
        topology: Its topology.
        views: `(samples, ...)` uint8 by device, 0..255.
        number: How many devices to ask.
        missing: Names of the nodes that are down.

    Raises:
        ValueError: As `offload.check_asked`, or a missing node that there is not.
    """
    hierarchy = topology.hierarchy
    check_asked(number, hierarchy)
    ranked = ranked_devices(hierarchy)
    columns = [hierarchy.failable_names.index(name) for name in ranked]
    codes = {name: views[name] for name in hierarchy.device_names}
    vectors = device_class_vectors(model, topology).predict(codes, batch_size=256, verbose=0)
    present = hierarchy.presence(missing, len(vectors[ranked[0]]))
    scores = certainty(softmax(np.stack([vectors[name] for name in ranked], axis=1)))
    asked = present.copy()
    asked[:, columns] = highest(scores, number, present[:, columns])
    masked = with_presence(model, topology)
    local = hierarchy.exit_tier_names[0]
    below = tier_probabilities(masked, topology, views, present)
    above = tier_probabilities(masked, topology, views, asked)
    return Asking(asked, {**above, local: below[local]})
