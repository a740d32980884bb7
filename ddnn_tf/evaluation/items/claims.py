"""The paper's qualitative claims, each checked against what was measured here.

Source: Teerapittayanon et al. 2017, Sections IV-C to IV-H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ddnn_tf.evaluation.accuracy import Evaluation
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items import figure_7, figure_8, figure_10, reduction, table_1, table_2
from ddnn_tf.evaluation.measures import OVERALL, accuracies, column
from ddnn_tf.evaluation.result_table import Cell, Estimate, Table, mean, percent
from ddnn_tf.evaluation.trial import Trial

__all__ = ["first_trials", "tables", "trials"]

_TITLE = "The paper's claims"
_FEW_POINTS = 5.0


def first_trials(experiment: Experiment) -> list[Trial]:
    """The individual models, where there are several devices to rank."""
    return figure_8.first_trials(experiment) if _has_several_devices(experiment) else []


def trials(experiment: Experiment) -> list[Trial]:
    """Those of Tables I and II and, where there are several devices, of Figures 8 and 10."""
    wanted = [*table_1.trials(experiment), *table_2.trials(experiment)]
    if _has_several_devices(experiment):
        wanted += [*figure_8.trials(experiment), *figure_10.trials(experiment)]
    return wanted


def tables(experiment: Experiment) -> list[Table]:
    """One row for each claim: whether the means say so, whether chance could, and the numbers."""
    rows: list[dict[str, Cell]] = []
    for claim, check in _checks(experiment).items():
        finding = check(experiment)
        rows.append(
            {
                "claim": claim,
                "holds (means)": "yes" if finding.holds else "no",
                "beyond chance (95 %)": finding.certainty,
                "numbers": finding.numbers,
            }
        )
    notes = [
        "Judged by the means over the seeds; differences are taken seed by seed. Beyond chance: the 95 % "
        "intervals of all differences concerned stand on one side; a few seeds rarely suffice for that."
    ]
    if experiment.balance:
        notes.append("Accuracies are balanced: the mean over the classes.")
    return [Table("claims", _TITLE, rows, tuple(notes))]


@dataclass(frozen=True)
class _Finding:
    holds: bool
    certainty: str
    numbers: str


def _checks(experiment: Experiment) -> dict[str, Callable[[Experiment], _Finding]]:
    """The claims that can be checked on the data; those about several devices need several."""
    checks: dict[str, Callable[[Experiment], _Finding]] = {
        "MP-CC is the best scheme (mean of local and cloud accuracy)": _best_scheme,
        "the cloud is above the local exit for every number of devices": _cloud_above_local,
        "T trades bytes for accuracy, with a sweet spot between the ends": _sweet_spot,
        "validation data find a T that loses no accuracy and saves bytes": _chosen_threshold,
        f"any single failure costs only a few points (at most {_FEW_POINTS:.0f})": _failures,
        "over 20 times fewer bytes than raw images, even if all feature maps go to the cloud": _reduction,
    }
    if _has_several_devices(experiment):
        return checks
    return {claim: check for claim, check in checks.items() if check not in (_cloud_above_local, _failures)}


def _has_several_devices(experiment: Experiment) -> bool:
    return figure_8.one_device(experiment) is None


def _scores(experiment: Experiment, evaluation: Evaluation) -> dict[str, float]:
    """The accuracies that judge a claim: balanced ones where the classes are weighted."""
    return accuracies(evaluation, balanced=experiment.balance)


def _certainty(differences: Sequence[Estimate], limit: float = 0.0) -> str:
    """Whether the intervals say that all differences are above a limit, or that one is below."""
    if any(each.half_width is None for each in differences):
        return "one seed"
    lows = [each.mean - (each.half_width or 0) for each in differences]
    highs = [each.mean + (each.half_width or 0) for each in differences]
    if all(low > limit for low in lows):
        return "holds"
    return "does not hold" if any(high < limit for high in highs) else "undecided"


def _above(value: float, other: float) -> bool:
    """Greater by more than the rounding of means."""
    return round(value - other, 9) > 0


def _best_scheme(experiment: Experiment) -> _Finding:
    scores: dict[str, list[float]] = {}
    for pair in table_1.schemes():
        for seed in experiment.seeds:
            local, upper = pair
            trial = experiment.network(seed, local=local, upper=upper)
            found = _scores(experiment, experiment.measure(trial))
            scores.setdefault("-".join(pair), []).append((found["local"] + found["cloud"]) / 2)
    means = {scheme: percent(values) for scheme, values in scores.items()}
    ranked = sorted(means, key=lambda scheme: -round(means[scheme].mean, 9))
    ours = scores["MP-CC"]
    differences = [
        percent([mine - other for mine, other in zip(ours, values, strict=True)])
        for scheme, values in scores.items()
        if scheme != "MP-CC"
    ]
    holds = all(_above(each.mean, 0) for each in differences)
    place = ranked.index("MP-CC") + 1
    text = ", ".join(f"{scheme} {means[scheme]} %" for scheme in ranked[:3])
    rank = "" if place <= 3 else f"; MP-CC is number {place} with {means['MP-CC']} %"
    return _Finding(holds, _certainty(differences), text + rank)


def _cloud_above_local(experiment: Experiment) -> _Finding:
    gaps = []
    for number in range(1, len(experiment.devices) + 1):
        by_seed = []
        for trial in figure_8.with_devices(experiment, number):
            found = _scores(experiment, experiment.measure(trial))
            by_seed.append(found["cloud"] - found["local"])
        gaps.append(percent(by_seed))
    text = ", ".join(map(str, gaps))
    holds = all(_above(gap.mean, 0) for gap in gaps)
    return _Finding(holds, _certainty(gaps), f"cloud minus local, 1 to {len(gaps)} devices: {text} points")


def _sweet_spot(experiment: Experiment) -> _Finding:
    """On the test curve, as in the paper: some T is more accurate than both ends, for fewer bytes."""
    (table,) = figure_7.tables(experiment)
    never, *between, always = table.rows[:-1]
    score = column(OVERALL, balanced=experiment.balance)
    best = max(between, key=lambda row: (round(mean(row[score]), 9), -mean(row["bytes"])))
    holds = all(_above(mean(best[score]), mean(end[score])) for end in (never, always))
    saves = mean(best["bytes"]) < mean(never["bytes"])
    at_best, at_never, at_always = (_accuracy_and_bytes(experiment, row) for row in (best, never, always))
    text = (
        f"T = {best['T']}, picked on the test curve: {at_best}; all to the cloud: {at_never}; all local: "
        f"{at_always}"
    )
    return _Finding(holds and saves, "undecided (T picked on test data)", text)


def _chosen_threshold(experiment: Experiment) -> _Finding:
    gains, saved = [], []
    for trial in table_2.trials(experiment):
        chosen, never = experiment.measure(trial), experiment.measure(trial, {"local": 0.0})
        gains.append(_scores(experiment, chosen)[OVERALL] - _scores(experiment, never)[OVERALL])
        saved.append(never.bytes_per_sample - chosen.bytes_per_sample)
    gain = percent(gains)
    row = table_2.at_threshold(experiment, None)
    threshold = table_2.sweet_spot(experiment)
    at_chosen = _accuracy_and_bytes(experiment, row)
    text = f"T = {threshold}: {at_chosen}, {gain} points against all to the cloud"
    holds = not _above(0, gain.mean) and sum(saved) > 0
    return _Finding(holds, _certainty([gain]), text)


def _failures(experiment: Experiment) -> _Finding:
    losses: dict[str, list[Estimate]] = {OVERALL: [], "cloud": []}
    for rank in range(len(experiment.devices)):
        for name, by_rank in losses.items():
            by_seed = []
            for trial in table_2.trials(experiment):
                device = experiment.worst_to_best(trial.source.seed)[rank]
                whole = _scores(experiment, experiment.measure(trial))
                failed = _scores(experiment, experiment.measure(trial, missing=(device,)))
                by_seed.append(whole[name] - failed[name])
            by_rank.append(percent(by_seed))
    text = "; ".join(
        f"{name} loses " + ", ".join(map(str, by_rank)) + " points" for name, by_rank in losses.items()
    )
    holds = all(not _above(each.mean, _FEW_POINTS) for each in losses[OVERALL])
    room = [Estimate(_FEW_POINTS - each.mean, each.half_width) for each in losses[OVERALL]]
    return _Finding(holds, _certainty(room), f"by failed device, worst to best: {text}")


def _reduction(experiment: Experiment) -> _Finding:
    (table,) = reduction.tables(experiment)
    _, all_maps, chosen, _ = (mean(row["reduction"]) for row in table.rows)
    return _Finding(all_maps > 20, "exact", f"{all_maps:.1f}x with T = 0, {chosen:.1f}x with the chosen T")


def _accuracy_and_bytes(experiment: Experiment, row: Mapping[str, Cell]) -> str:
    accuracy = mean(row[column(OVERALL, balanced=experiment.balance)])
    return f"{accuracy:.1f} % at {mean(row['bytes']):.0f} B"


register_item(Item("claims", order=0, title=_TITLE, first_trials=first_trials, trials=trials, tables=tables))
