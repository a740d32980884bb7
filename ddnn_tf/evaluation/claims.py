"""The paper's qualitative claims, each checked against what was measured here.

Source: Teerapittayanon et al. 2017, Sections IV-C to IV-H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation import figure_7, figure_8, figure_10, reduction, table_1, table_2
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.figure_8 import first_units
from ddnn_tf.evaluation.tables import Cell, Table, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TITLE", "figures", "first_units", "tables", "units"]

TITLE = "The paper's claims"
_FEW_POINTS = 5.0


def units(experiment: Experiment) -> list[Unit]:
    """Those of Tables I and II and of Figures 8 and 10."""
    sources = (table_1, table_2, figure_8, figure_10)
    return [unit for source in sources for unit in source.units(experiment)]


def tables(experiment: Experiment) -> list[Table]:
    """One row for each claim: whether it holds on these data, and the numbers that say so."""
    checks: dict[str, Callable[[Experiment], tuple[bool, str]]] = {
        "MP-CC is the best scheme (mean of local and cloud accuracy)": _best_scheme,
        "the cloud is above the local exit for every number of devices": _cloud_above_local,
        "T trades bytes for accuracy, with a sweet spot between the ends": _sweet_spot,
        "validation data find a T that loses no accuracy and saves bytes": _chosen_threshold,
        f"any single failure costs only a few points (at most {_FEW_POINTS:.0f})": _failures,
        "over 20 times fewer bytes than raw images, even if all feature maps go to the cloud": _reduction,
    }
    rows: list[dict[str, Cell]] = []
    for claim, check in checks.items():
        holds, numbers = check(experiment)
        rows.append({"claim": claim, "holds here": "yes" if holds else "no", "numbers": numbers})
    return [Table("claims", TITLE, rows, ("Judged by the means over the seeds.",))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """None."""
    return {}


def _best_scheme(experiment: Experiment) -> tuple[bool, str]:
    (table,) = table_1.tables(experiment)
    scores = {str(row["scheme"]): (mean(row["local %"]) + mean(row["cloud %"])) / 2 for row in table.rows}
    ranked = sorted(scores, key=lambda scheme: -scores[scheme])
    text = ", ".join(f"{scheme} {scores[scheme]:.1f} %" for scheme in ranked[:3])
    place = ranked.index("MP-CC") + 1
    return place == 1, text + (
        "" if place == 1 else f"; MP-CC is number {place} with {scores['MP-CC']:.1f} %"
    )


def _cloud_above_local(experiment: Experiment) -> tuple[bool, str]:
    (table,) = figure_8.tables(experiment)
    gaps = {row["devices"]: mean(row["cloud %"]) - mean(row["local %"]) for row in table.rows}
    text = ", ".join(f"{gap:+.1f}" for gap in gaps.values())
    return all(
        gap > 0 for gap in gaps.values()
    ), f"cloud minus local, 1 to {len(gaps)} devices: {text} points"


def _sweet_spot(experiment: Experiment) -> tuple[bool, str]:
    """On the test curve, as in the paper: some T is more accurate than both ends, for fewer bytes."""
    (table,) = figure_7.tables(experiment)
    never, *between, always = table.rows[:-1]
    best = max(between, key=lambda row: (mean(row["overall %"]), -mean(row["bytes"])))
    highest = max(mean(never["overall %"]), mean(always["overall %"]))
    holds = mean(best["overall %"]) > highest and mean(best["bytes"]) < mean(never["bytes"])
    return holds, f"T = {best['T']}: {_at(best)}; all to the cloud: {_at(never)}; all local: {_at(always)}"


def _chosen_threshold(experiment: Experiment) -> tuple[bool, str]:
    chosen, never = (table_2.at_threshold(experiment, threshold) for threshold in (None, 0.0))
    gain = mean(chosen["overall %"]) - mean(never["overall %"])
    saved = mean(never["bytes"]) - mean(chosen["bytes"])
    return gain >= 0 and saved > 0, f"T = {table_2.sweet_spot(experiment)}: {_at(chosen)}, {gain:+.1f} points"


def _at(row: Mapping[str, Cell]) -> str:
    return f"{mean(row['overall %']):.1f} % at {mean(row['bytes']):.0f} B"


def _failures(experiment: Experiment) -> tuple[bool, str]:
    single, _ = figure_10.tables(experiment)
    whole = mean(percent([experiment.measure(unit).overall_accuracy for unit in table_2.units(experiment)]))
    losses = [whole - mean(row["overall %"]) for row in single.rows]
    text = f"overall {whole:.1f} %; loss by failed device, worst to best: " + ", ".join(
        f"{loss:.1f}" for loss in losses
    )
    return max(losses) <= _FEW_POINTS, text + " points"


def _reduction(experiment: Experiment) -> tuple[bool, str]:
    (table,) = reduction.tables(experiment)
    _, all_maps, chosen, _ = (mean(row["reduction"]) for row in table.rows)
    return all_maps > 20, f"{all_maps:.1f}x with T = 0, {chosen:.1f}x with the chosen T"
