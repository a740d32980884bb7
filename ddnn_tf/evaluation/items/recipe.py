"""Beyond the paper: plain training against the robust recipe, gain by gain.

Each row changes one thing of the paper's network and training; the last ones are the robust recipe whole. The
gains are differences from the first row, seed by seed, so that the draw of the split does not hide them.

Source: ours; those of the single changes stand in `ddnn_tf.recipes.Recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddnn_tf.evaluation.drawing import bars, canvas, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items.figure_8 import one_device
from ddnn_tf.evaluation.measures import OVERALL, accuracies, accuracy_columns
from ddnn_tf.evaluation.result_table import Cell, Estimate, Table, mean, percent
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CHANGES", "Change", "figures", "tables", "trials"]

_TITLE = "Recipes: plain against robust, gain by gain"
# What is judged: the cloud exit with all devices, without the worst single one, and without half of them.
_SITUATIONS = ("all", "one missing", "half missing")


@dataclass(frozen=True)
class Change:
    """One row: what differs from the paper's network and training.

    Attributes:
        name: What it is.
        recipe: How to train.
        network: What `Experiment.network` is given besides.
    """

    name: str
    recipe: Recipe = RECIPES["paper"]
    network: dict[str, Any] = field(default_factory=dict)


CHANGES = (
    Change("paper"),
    Change("cosine from 0.003", Recipe(learning_rate=0.003, schedule="cosine")),
    Change("cosine, warm-up", Recipe(learning_rate=0.003, schedule="cosine", warm_up=0.1)),
    Change("devices dropped", Recipe(drop=0.5)),
    Change("wide concatenation", network={"upper": "WCC"}),
    Change("float cloud", network={"cloud_precision": "float"}),
    Change("averaged weights", Recipe(averaging=0.99)),
    Change("distillation", Recipe(distillation=0.5)),
    Change("loss weights move up", Recipe(weight_shift=0.5)),
    Change("branch gradient halved", Recipe(branch_gradient=0.5)),
    Change("label smoothing", Recipe(label_smoothing=0.1)),
    Change("approx_sign", Recipe(activation_gradient="approx_sign")),
    Change("swish_sign", Recipe(activation_gradient="swish_sign")),
    Change("magnitude-aware sign", Recipe(kernel_gradient="magnitude_aware_sign")),
    Change("real values first", Recipe(real_epochs=0.3)),
    Change("Bop", Recipe(optimizer="bop")),
    Change("robust", RECIPES["robust"]),
    Change("robust, float cloud", RECIPES["robust"], {"cloud_precision": "float"}),
)
"""The rows; the first is what the others are compared with."""


def trials(experiment: Experiment) -> list[Trial]:
    """A network for each change and seed."""
    return [trial for change in CHANGES for trial in _of(experiment, change)]


def tables(experiment: Experiment) -> list[Table]:
    """Accuracy of each change, and its gains over the first row."""
    plain = _by_situation(experiment, CHANGES[0])
    rows: list[dict[str, Cell]] = []
    for change in CHANGES:
        changed = _by_situation(experiment, change)
        gains = {
            name: percent([new - old for new, old in zip(changed[name], plain[name], strict=True)])
            for name in _SITUATIONS
        }
        found = [experiment.measure(trial) for trial in _of(experiment, change)]
        rows.append(
            {
                "change": change.name,
                **accuracy_columns(("local", "cloud", OVERALL), found, balance=experiment.shows_balance),
                **{f"cloud {name} %": percent(changed[name]) for name in _SITUATIONS[1:]},
                **{f"gain {name}": "" if change is CHANGES[0] else gain for name, gain in gains.items()},
                "effect": "" if change is CHANGES[0] else _effect(list(gains.values())),
            }
        )
    half = ", ".join(_half(experiment))
    judged = "balanced accuracy" if experiment.balance else "accuracy"
    notes = (
        "One change each of the paper's network (MP-CC, binary, 4 filters) and training; at the end the "
        "whole robust recipe, with its wide concatenation.",
        f"One missing: without the device whose absence costs most, in each seed; half missing: without "
        f"{half}. Gains: points of {judged} of the cloud exit over the first row, seed by seed.",
        "Effect: helps, if the interval of a gain lies above 0 and none below; hurts, the other way round.",
    )
    return [Table("recipe", _TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """The cloud exit in the three situations, change by change."""
    rows = tables[0].rows
    figure, (axes,) = canvas(_TITLE, "change", "accuracy of the cloud exit / %", size=(11, 4.5))
    columns = {name: "cloud %" if name == "all" else f"cloud {name} %" for name in _SITUATIONS}
    groups: dict[str, Sequence[Cell]] = {
        name: [row[column] for row in rows] for name, column in columns.items()
    }
    bars(axes, [str(row["change"]) for row in rows], groups)
    axes.tick_params(axis="x", labelrotation=40)
    lowest = min(mean(cell) for cells in groups.values() for cell in cells)
    axes.set_ylim(bottom=max(0, lowest - 10), top=112)
    legend(axes, columns=3)
    return {"recipe": figure}


def _half(experiment: Experiment) -> tuple[str, ...]:
    """The last half of the devices: 3 to 5 of six."""
    return experiment.devices[-(len(experiment.devices) // 2) :]


def _of(experiment: Experiment, change: Change) -> list[Trial]:
    sets = list(dict.fromkeys([*((device,) for device in experiment.devices), _half(experiment)]))
    found = []
    for seed in experiment.seeds:
        # The first row is the network of the other tables, if that one is asked for all of these sets.
        trial = experiment.network(seed, recipe=change.recipe, **change.network)
        if not {*sets} <= {*trial.missing}:
            trial = experiment.network(seed, recipe=change.recipe, missing=sets, **change.network)
        found.append(trial)
    return found


def _by_situation(experiment: Experiment, change: Change) -> dict[str, list[float]]:
    """The judged accuracy of the cloud exit by situation, one number per seed."""
    situations: dict[str, list[float]] = {name: [] for name in _SITUATIONS}
    for trial in _of(experiment, change):
        alone = [_cloud_accuracy(experiment, trial, (device,)) for device in experiment.devices]
        situations["all"].append(_cloud_accuracy(experiment, trial, ()))
        situations["one missing"].append(min(alone))
        situations["half missing"].append(_cloud_accuracy(experiment, trial, _half(experiment)))
    return situations


def _cloud_accuracy(experiment: Experiment, trial: Trial, missing: tuple[str, ...]) -> float:
    # No sample leaves early: the thresholds are not looked at.
    never = dict.fromkeys(trial.topology.hierarchy.early_tier_names, 0.0)
    measured = experiment.measure(trial, never, missing=missing)
    return accuracies(measured, balanced=experiment.balance)["cloud"]


def _effect(gains: Sequence[Estimate]) -> str:
    """What the intervals of the gains say together; from one seed, nothing."""
    if any(gain.half_width is None for gain in gains):
        return ""
    is_better = any(gain.mean > (gain.half_width or 0) for gain in gains)
    is_worse = any(-gain.mean > (gain.half_width or 0) for gain in gains)
    if is_better and is_worse:
        return "both"
    return "helps" if is_better else "hurts" if is_worse else "unclear"


register_item(
    Item(
        "recipe",
        order=95,
        title=_TITLE,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=one_device,
        is_extra=True,
    )
)
