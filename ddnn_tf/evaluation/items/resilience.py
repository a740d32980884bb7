"""Beyond the paper: expected accuracy when devices and edges fail independently, as ResiliNet measured it.

Six cameras, eight nodes on four levels, the cloud. Each node is up with a probability of its own; the
cameras always are. The expected accuracy is the sum over all 2^8 sets of failed nodes of the probability of
the set times the accuracy without these nodes. Where nothing reaches the cloud, the class is drawn by the
training frequencies, and the accuracy is the expected one of that draw.

Source: Yousefpour et al. 2020, ResiliNet (arXiv 2002.07386), camera experiment; its wiring, survival rates
and results are in `resilinet.json`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import DataSource
from ddnn_tf.evaluation.drawing import bars, canvas, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.result_table import Cell, Table, percent
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.hierarchy import Hierarchy, Precision
from ddnn_tf.parts import Cloud, Devices, Edge
from ddnn_tf.recipes import RECIPES, Recipe
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["equal_sets", "expected", "figures", "obstacle", "probability", "tables", "trials", "wiring"]

_TITLE = "Expected accuracy when nodes fail"
_PARTS = {"validation": "validation", "holdout": "test"}
# 32 units are the reference's.
_ADAPTER, _UNITS, _CLOUD_UNITS = 64, 32, 64
# Chosen on validation samples, where `low` is worse in all three rows.
_TRAINED_FOR = "medium"
# By network: which of the reference's it stands beside, whether nodes are protected, and the precision of
# edges and cloud.
_NETWORKS: Mapping[str, tuple[str, bool, Precision]] = {
    "plain": ("no protection", False, "binary"),
    "robust": ("skip connections and failout", True, "binary"),
    "robust, float above": ("skip connections and failout", True, "float"),
}

FailedNodes = tuple[str, ...]
"""Names of the nodes of a set that are down."""


def obstacle(experiment: Experiment) -> str | None:
    """Nothing stands in the way if the recordings are there, whatever the experiment's data.

    Raises:
        FileNotFoundError: The recordings are not on this machine.
    """
    _cameras(experiment).data()
    return None


def trials(experiment: Experiment) -> list[Trial]:
    """Each network for each seed.

    Raises:
        FileNotFoundError: The recordings are not on this machine.
    """
    return [trial for name in _NETWORKS for trial in _of(experiment, name)]


def tables(experiment: Experiment) -> list[Table]:
    """Ours beside what the reference printed, for each of its rows of survival rates."""
    cameras = _cameras(experiment)
    reference = _reference()
    rows: list[dict[str, Cell]] = []
    for network, (theirs, _, _) in _NETWORKS.items():
        found = _of(experiment, network)
        for level, rates in reference["survival"].items():
            survival = dict(zip(reference["nodes"], rates, strict=True))
            columns: dict[str, Cell] = {}
            for number, (part, ours) in enumerate(_PARTS.items()):
                values = [_expected(cameras, trial, ours, survival) for trial in found]
                columns[f"{part} %"] = percent([value for value, _ in values])
                columns[f"{part} limit %"] = 100 * values[0][1]
                columns[f"reference {part} %"] = reference["expected_accuracy_pct"][theirs][level][number]
            rows.append({"network": network, "survival": level, **columns})
    notes = (
        f"{reference['source']}. {reference['survival_note'].capitalize()}. Its network: "
        f"{reference['network']}.",
        "Ours: one ConvP block of 4 binary filters on each camera. Every sample is answered by the cloud, no "
        "earlier exit is used. Plain: no skip links, the paper's recipe, concatenation. Robust: every skip "
        f"link to a grandparent, the recipe robust with failout at the rates of '{_TRAINED_FOR}', one "
        "network for all three rows.",
        "Limit: every set of which anything reaches the cloud answered right. Validation (146 samples) chose "
        "the epoch and the rates to train with, the holdout (123) nothing.",
    )
    return [Table("resilience", _TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """The holdout part, by survival rates."""
    rows = tables[0].rows
    figure, (axes,) = canvas(_TITLE, "survival rates", "expected accuracy on the holdout / %", size=(8, 4))
    levels = list(dict.fromkeys(str(row["survival"]) for row in rows))
    groups: dict[str, Sequence[Cell]] = {}
    for network, (theirs, _, _) in _NETWORKS.items():
        own = [row for row in rows if row["network"] == network]
        groups[network] = [row["holdout %"] for row in own]
        groups[f"reference, {theirs}"] = [row["reference holdout %"] for row in own]
    bars(axes, levels, groups)
    axes.set_ylim(50, 118)
    legend(axes, columns=2)
    return {"resilience": figure}


def wiring(experiment: Experiment, *, is_protected: bool, precision: Precision) -> Topology:
    """The reference's wiring, for cameras with one ConvP block of 4 filters.

    Args:
        experiment: Six cameras.
        is_protected: With all skip links, and wide concatenation in place of the paper's.
        precision: Of edges and cloud.
    """
    data = experiment.data()
    cameras = {f"camera{number}": name for number, name in enumerate(data.device_names, start=1)}
    senders = {
        name: [cameras.get(sender, sender) for sender in below]
        for name, below in _reference()["wiring"].items()
    }
    common: dict[str, Any] = {
        "adapter": (_ADAPTER,),
        "aggregation": "WCC" if is_protected else "CC",
        "precision": precision,
    }
    topology = Topology(
        devices=tuple(Devices(name=name, input=shape, filters=(4,)) for name, shape in data.shapes.items()),
        edges=tuple(
            Edge(name=name, senders=tuple(below), units=(_UNITS,), **common)
            for name, below in senders.items()
            if name != "cloud"
        ),
        cloud=Cloud(units=(_CLOUD_UNITS,), **common),
        classes=len(data.class_names),
    )
    return topology.with_skips() if is_protected else topology


def equal_sets(hierarchy: Hierarchy, nodes: Sequence[str]) -> dict[FailedNodes, FailedNodes | None]:
    """All sets of failed nodes, and which of them are the same to the cloud.

    Args:
        hierarchy: The hierarchy.
        nodes: Names of the nodes that may fail.

    Returns:
        By set: the first set in which the same links carry what reaches the cloud; None: nothing reaches it.
    """
    numbers = range(len(nodes) + 1)
    sets = [failed for number in numbers for failed in itertools.combinations(nodes, number)]
    present = np.concatenate([hierarchy.presence(failed) for failed in sets])
    used = _used_links(hierarchy, present)
    first: dict[bytes, FailedNodes] = {}
    return {
        failed: first.setdefault(links.tobytes(), failed) if links.any() else None
        for failed, links in zip(sets, used, strict=True)
    }


def probability(failed: FailedNodes, survival: Mapping[str, float]) -> float:
    """How likely exactly these nodes are down, out of those that have a survival rate."""
    return math.prod(1 - rate if name in failed else rate for name, rate in survival.items())


def expected(accuracy: Mapping[FailedNodes, float], survival: Mapping[str, float]) -> float:
    """Expected accuracy under independent failures.

    Args:
        accuracy: By set of failed nodes, all sets.
        survival: By node: how likely it is up.
    """
    return sum(probability(failed, survival) * value for failed, value in accuracy.items())


def _expected(
    experiment: Experiment, trial: Trial, part: str, survival: Mapping[str, float]
) -> tuple[float, float]:
    """Expected accuracy of a network, and its limit."""
    labels = experiment.labels(trial, part)
    shares = np.bincount(experiment.labels(trial, "train"), minlength=trial.topology.classes)
    drawn = float((shares / shares.sum())[labels].mean())
    answers = experiment.answers(trial)

    @functools.cache
    def accuracy(alike: FailedNodes | None) -> float:
        if alike is None:
            return drawn
        return float((answers.of(part, alike)["cloud"].argmax(axis=1) == labels).mean())

    sets = equal_sets(trial.topology.hierarchy, tuple(survival))
    reached = {failed: accuracy(alike) for failed, alike in sets.items()}
    limit = {failed: drawn if alike is None else 1.0 for failed, alike in sets.items()}
    return expected(reached, survival), expected(limit, survival)


def _used_links(hierarchy: Hierarchy, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which links carry what reaches the cloud, `(sets, links)` bool."""
    heard = hierarchy.heard(present)
    reaches = {hierarchy.cloud.name: np.ones(len(present), bool)}
    links = []
    for node in reversed(hierarchy.receivers):
        if node.name not in reaches:  # a local aggregator
            continue
        for sender, mask in zip(node.all_senders, heard.senders[node.name], strict=True):
            links.append(mask & reaches[node.name])
            reaches[sender] = reaches.get(sender, np.zeros(len(present), bool)) | links[-1]
    return np.stack(links, axis=1)


def _of(experiment: Experiment, network: str) -> list[Trial]:
    """A trial for each seed, which classifies each distinct set of failed nodes once."""
    cameras = _cameras(experiment)
    _, is_protected, precision = _NETWORKS[network]
    topology = wiring(cameras, is_protected=is_protected, precision=precision)
    alike = equal_sets(topology.hierarchy, _reference()["nodes"]).values()
    sets = [failed for failed in dict.fromkeys(alike) if failed]
    recipe = _failout() if is_protected else RECIPES["paper"]
    return [
        cameras.network(seed, topology=topology, recipe=recipe, missing=sets) for seed in experiment.seeds
    ]


def _failout() -> Recipe:
    reference = _reference()
    survival = dict(zip(reference["nodes"], reference["survival"][_TRAINED_FOR], strict=True))
    return dataclasses.replace(RECIPES["robust"], name="robust, failout", survival=survival)


def _cameras(experiment: Experiment) -> Experiment:
    """The experiment on the recordings as the reference split them, whatever its own data."""
    path = experiment.source.path if experiment.source.name == "epfl" else None
    source = DataSource(name="epfl", path=path, split="holdout")
    if experiment.source.model_copy(update={"seed": source.seed}) == source:
        return experiment
    return experiment.with_source(source, experiment.epochs)


@functools.cache
def _reference() -> dict[str, Any]:
    content = resources.files("ddnn_tf.evaluation").joinpath("resilinet.json").read_text("utf-8")
    reference: dict[str, Any] = json.loads(content)
    return reference


register_item(
    Item(
        "resilience",
        order=85,
        title=_TITLE,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=obstacle,
        is_extra=True,
    )
)
