"""The paper's qualitative claims, each checked against what was measured here.

Source: Teerapittayanon et al. 2017, Sections IV-C to IV-H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddnn_tf.evaluation import figure_7, figure_8, figure_10, reduction, table_1, table_2
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.figure_8 import first_units
from ddnn_tf.evaluation.tables import Cell, Estimate, Table, mean, percent

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
    """One row for each claim: whether the means say so, whether chance could, and the numbers."""
    checks: dict[str, Callable[[Experiment], _Finding]] = {
        "MP-CC is the best scheme (mean of local and cloud accuracy)": _best_scheme,
        "the cloud is above the local exit for every number of devices": _cloud_above_local,
        "T trades bytes for accuracy, with a sweet spot between the ends": _sweet_spot,
        "validation data find a T that loses no accuracy and saves bytes": _chosen_threshold,
        f"any single failure costs only a few points (at most {_FEW_POINTS:.0f})": _failures,
        "over 20 times fewer bytes than raw images, even if all feature maps go to the cloud": _reduction,
    }
    rows: list[dict[str, Cell]] = []
    for claim, check in checks.items():
        found = check(experiment)
        rows.append(
            {
                "claim": claim,
                "holds (means)": "yes" if found.holds else "no",
                "beyond chance (95 %)": found.certainty,
                "numbers": found.numbers,
            }
        )
    notes = (
        "Judged by the means over the seeds; differences are taken seed by seed. Beyond chance: the 95 % "
        "intervals of all differences concerned stand on one side; a few seeds rarely suffice for that.",
    )
    return [Table("claims", TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """None."""
    return {}


@dataclass(frozen=True)
class _Finding:
    holds: bool
    certainty: str
    numbers: str


def _certainty(differences: Sequence[Estimate], limit: float = 0.0) -> str:
    """Whether the intervals say that all differences are above a limit, or that one is below."""
    if any(one.half_width is None for one in differences):
        return "one seed"
    lows = [one.mean - (one.half_width or 0) for one in differences]
    highs = [one.mean + (one.half_width or 0) for one in differences]
    if all(low > limit for low in lows):
        return "holds"
    return "does not hold" if any(high < limit for high in highs) else "undecided"


def _above(value: float, other: float) -> bool:
    """Greater by more than the rounding of means."""
    return round(value - other, 9) > 0


def _best_scheme(experiment: Experiment) -> _Finding:
    scores: dict[str, list[float]] = {}
    for unit in table_1.units(experiment):
        found = experiment.measure(unit)
        exits = unit.topology.exits
        scheme = f"{exits['local'].aggregation}-{exits['cloud'].aggregation}"
        scores.setdefault(scheme, []).append(((found.local_accuracy or 0) + found.cloud_accuracy) / 2)
    means = {scheme: percent(values) for scheme, values in scores.items()}
    ranked = sorted(means, key=lambda scheme: -round(means[scheme].mean, 9))
    ours = scores["MP-CC"]
    differences = [
        percent([mine - other for mine, other in zip(ours, values, strict=True)])
        for scheme, values in scores.items()
        if scheme != "MP-CC"
    ]
    holds = all(_above(one.mean, 0) for one in differences)
    place = ranked.index("MP-CC") + 1
    text = ", ".join(f"{scheme} {means[scheme]} %" for scheme in ranked[:3])
    rank = "" if place <= 3 else f"; MP-CC is number {place} with {means['MP-CC']} %"
    return _Finding(holds, _certainty(differences), text + rank)


def _cloud_above_local(experiment: Experiment) -> _Finding:
    gaps = []
    for number in range(1, experiment.devices + 1):
        found = [experiment.measure(unit) for unit in figure_8.with_devices(experiment, number)]
        gaps.append(percent([one.cloud_accuracy - (one.local_accuracy or 0) for one in found]))
    text = ", ".join(map(str, gaps))
    holds = all(_above(gap.mean, 0) for gap in gaps)
    return _Finding(holds, _certainty(gaps), f"cloud minus local, 1 to {len(gaps)} devices: {text} points")


def _sweet_spot(experiment: Experiment) -> _Finding:
    """On the test curve, as in the paper: some T is more accurate than both ends, for fewer bytes."""
    (table,) = figure_7.tables(experiment)
    never, *between, always = table.rows[:-1]
    best = max(between, key=lambda row: (round(mean(row["overall %"]), 9), -mean(row["bytes"])))
    holds = all(_above(mean(best["overall %"]), mean(end["overall %"])) for end in (never, always))
    saves = mean(best["bytes"]) < mean(never["bytes"])
    text = (
        f"T = {best['T']}, picked on the test curve: {_at(best)}; all to the cloud: {_at(never)}; all local: "
        f"{_at(always)}"
    )
    return _Finding(holds and saves, "undecided (T picked on test data)", text)


def _chosen_threshold(experiment: Experiment) -> _Finding:
    gains, saved = [], []
    for unit in table_2.units(experiment):
        chosen, never = experiment.measure(unit), experiment.measure(unit, {"local": 0.0})
        gains.append(chosen.overall_accuracy - never.overall_accuracy)
        saved.append(never.bytes_per_sample - chosen.bytes_per_sample)
    gain = percent(gains)
    row = table_2.at_threshold(experiment, None)
    text = f"T = {table_2.sweet_spot(experiment)}: {_at(row)}, {gain} points against all to the cloud"
    holds = not _above(0, gain.mean) and sum(saved) > 0
    return _Finding(holds, _certainty([gain]), text)


def _failures(experiment: Experiment) -> _Finding:
    losses: dict[str, list[Estimate]] = {"overall": [], "cloud": []}
    for rank in range(experiment.devices):
        for name, column in losses.items():
            by_seed = []
            for unit in table_2.units(experiment):
                device = experiment.worst_to_best(unit.source.seed)[rank]
                whole, failed = experiment.measure(unit), experiment.measure(unit, missing=(device,))
                by_seed.append(getattr(whole, f"{name}_accuracy") - getattr(failed, f"{name}_accuracy"))
            column.append(percent(by_seed))
    text = "; ".join(
        f"{name} loses " + ", ".join(map(str, column)) + " points" for name, column in losses.items()
    )
    holds = all(not _above(one.mean, _FEW_POINTS) for one in losses["overall"])
    room = [Estimate(_FEW_POINTS - one.mean, one.half_width) for one in losses["overall"]]
    return _Finding(holds, _certainty(room), f"by failed device, worst to best: {text}")


def _reduction(experiment: Experiment) -> _Finding:
    (table,) = reduction.tables(experiment)
    _, all_maps, chosen, _ = (mean(row["reduction"]) for row in table.rows)
    return _Finding(all_maps > 20, "exact", f"{all_maps:.1f}x with T = 0, {chosen:.1f}x with the chosen T")


def _at(row: Mapping[str, Cell]) -> str:
    return f"{mean(row['overall %']):.1f} % at {mean(row['bytes']):.0f} B"
