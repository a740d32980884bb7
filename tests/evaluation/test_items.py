"""Every table against its definition, on random answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.evaluation import (
    claims,
    confusion,
    edge,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    pareto,
    reduction,
    reliability,
    table_1,
    table_2,
)
from ddnn_tf.evaluation.experiment import Experiment, Trained, Unit, subsets
from ddnn_tf.evaluation.reproduce import ITEMS, Item, choose
from ddnn_tf.evaluation.tables import Estimate, mean, percent
from ddnn_tf.exits import normalized_entropy
from ddnn_tf.topology import Topology

OFFLINE = [name for name in ITEMS if name != "missing-devices"]


class RandomAnswers(Experiment):
    """Three seeds on the tiny data; `asked` collects the units that tables look at."""

    def __init__(self, data: MultiViewDataset, directory: Path) -> None:
        super().__init__(DataSource(name="scenes"), directory, seeds=3, epochs=7)
        self._data = dict.fromkeys(self.seeds, data)
        self.asked: set[Unit] = set()
        self._trained: dict[Unit, Trained] = {}
        self.changes: dict[str, object] = {}

    def train(self, units: Sequence[Unit], workers: int | None = None) -> None:
        raise AssertionError("A table must not train here.")

    def trained(self, unit: Unit) -> Trained:
        self.asked.add(unit)
        if unit not in self._trained:
            self._trained[unit] = self._invent(unit)
        return self._trained[unit]

    def _invent(self, unit: Unit) -> Trained:
        random = np.random.default_rng(int(unit.key, 16) % 2**32)
        names = unit.topology.device_names if unit.is_individual else unit.topology.exit_tiers

        def answers(part: str) -> dict[str, np.ndarray]:
            count = len(self.data().split[part])
            sharp = random.uniform(1, 4)
            logits = random.normal(size=(len(names), count, unit.topology.classes)) * sharp
            odds = np.exp(logits)
            return dict(zip(names, odds / odds.sum(axis=-1, keepdims=True), strict=True))

        without = {missing: answers("test") for missing in unit.missing}
        return Trained(answers("validation"), answers("test"), without, seconds=1.0)


@pytest.fixture
def experiment(tiny_data: MultiViewDataset, tmp_path: Path) -> RandomAnswers:
    return RandomAnswers(tiny_data, tmp_path / "results")


@pytest.mark.parametrize("name", OFFLINE)
def test_an_item_asks_for_all_that_it_reads_and_draws_its_tables(
    name: str, experiment: RandomAnswers
) -> None:
    item: Item = ITEMS[name]
    tables = item.tables(experiment)
    planned = {*item.units(experiment), *getattr(item, "first_units", lambda _: [])(experiment)}
    assert experiment.asked <= planned
    for table in tables:
        assert table.rows
        assert all(list(row) == table.columns for row in table.rows)
        assert all(
            isinstance(cell, str | int | float | Estimate | None)
            for row in table.rows
            for cell in row.values()
        )
    for figure in item.figures(tables).values():
        figure.draw_without_rendering()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"out of claims, figure-6, table-1.*but got 'table-9'"):
        choose(["table-1", "table-9"])
    with pytest.raises(ValueError, match="at least one"):
        choose([])
    assert choose(["figure-8", "table-1"]) == ["table-1", "figure-8"]


def test_table_1_has_the_papers_nine_schemes(experiment: RandomAnswers) -> None:
    (table,) = table_1.tables(experiment)
    assert [row["scheme"] for row in table.rows][:3] == ["MP-MP", "MP-CC", "AP-AP"]
    assert len(table.rows) == 9
    unit = experiment.network(1, local="AP", upper="CC")
    assert unit.topology.exits["local"].aggregation == "AP"
    labels = experiment.labels(unit)
    right = [
        float(
            (
                experiment.trained(experiment.network(seed, local="AP", upper="CC")).test["cloud"].argmax(1)
                == labels
            ).mean()
        )
        for seed in experiment.seeds
    ]
    row = next(row for row in table.rows if row["scheme"] == "AP-CC")
    assert row["cloud %"] == percent(right)
    assert (row["paper local %"], row["paper cloud %"]) == (75, 96)


def test_table_2_ends_and_threshold_chosen_on_validation_only(experiment: RandomAnswers) -> None:
    (table,) = table_2.tables(experiment)
    by_threshold = {row["T"]: row for row in table.rows}
    at_one = by_threshold["1.0"]
    assert mean(at_one["local exit %"]) == 100
    assert mean(at_one["bytes"]) == 4 * 2
    chosen = table_2.sweet_spot(experiment)
    unit = experiment.network(0)
    before = experiment.thresholds(unit)
    # Other answers to the test samples leave the thresholds as they are; to validation samples, not.
    trained = experiment.trained(unit)
    trained.test["local"][:] = 0.5
    assert experiment.thresholds(unit) == before
    assert table_2.sweet_spot(experiment) == chosen
    trained.validation["local"][:] = 0.5
    trained.validation["cloud"][:] = np.eye(2)[experiment.labels(unit, "validation")] * 0.98 + 0.01
    assert experiment.thresholds(unit) == {"local": 0.0}


def test_figure_6_counts_every_view(experiment: RandomAnswers) -> None:
    (table,) = figure_6.tables(experiment)
    data = experiment.data()
    assert [sum(mean(row[name]) for name in table.columns[1:]) for row in table.rows] == [60, 60]
    assert [row["absent"] for row in table.rows] == (~data.presence).sum(0).tolist()


def test_figure_7_sweeps_from_all_to_the_cloud_to_all_local(experiment: RandomAnswers) -> None:
    (table,) = figure_7.tables(experiment)
    *sweep, chosen = table.rows
    shares = [mean(row["local exit %"]) for row in sweep]
    assert (shares[0], shares[-1]) == (0, 100)
    assert shares == sorted(shares)
    assert chosen["sweet spot"] == "chosen"


def test_figure_8_adds_devices_from_worst_to_best(experiment: RandomAnswers) -> None:
    (table,) = figure_8.tables(experiment)
    individual = [mean(row["individual %"]) for row in table.rows]
    assert individual == sorted(individual)
    for seed in experiment.seeds:
        accuracy = experiment.individual_accuracy(seed)
        assert accuracy[experiment.worst_to_best(seed)[0]] == min(accuracy)
    columns = {unit.columns for unit in figure_8.units(experiment) if len(unit.columns) == 1}
    assert columns == {(experiment.worst_to_best(seed)[0],) for seed in experiment.seeds}
    # The largest network is the one of all other tables, not trained again.
    assert experiment.network(0) in figure_8.units(experiment)
    assert table.rows[0]["paper cloud %"] == 55


@given(
    st_numpy.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(0.01, 1)),
    st.floats(0.01, 1),
)
def test_threshold_for_share_is_the_lowest_that_lets_enough_leave(weights: np.ndarray, share: float) -> None:
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    entropies = normalized_entropy(probabilities)
    threshold = figure_9.threshold_for_share(probabilities, share)
    assert (entropies <= threshold).mean() >= share - 1e-12
    below = entropies[entropies < threshold]
    assert len(below) < math.ceil(share * len(entropies))


def test_threshold_for_share_knows_certain_samples_and_bad_shares() -> None:
    assert figure_9.threshold_for_share([[1.0, 0.0], [1.0, 0.0]], 0.75) > 0
    with pytest.raises(ValueError, match="share"):
        figure_9.threshold_for_share([[0.5, 0.5]], 0.0)


def test_device_memory_follows_its_formula() -> None:
    four = Topology.devices_cloud(filters=4)
    # 27*4 bits, 4 int16 and 4 bits, 3*256*4 bits, 3 pairs of float32
    assert figure_9.device_memory(four) == 14 + 8 + 1 + 384 + 24
    assert figure_9.device_memory(Topology.devices_cloud(filters=8)) < 1024
    two_blocks = Topology.devices_cloud(filters=4, blocks=2)
    assert figure_9.device_memory(two_blocks) == 14 + 9 + 18 + 9 + 96 + 24
    floats = Topology.devices_cloud(filters=4, precision="float")
    assert figure_9.device_memory(floats) == 4 * 108 + 32 + 4 * 3072 + 24
    with pytest.raises(ValueError, match="stores no weights"):
        figure_9.device_memory(Topology.cloud_only())


def test_figure_10_covers_every_set_once(experiment: RandomAnswers) -> None:
    single, several = figure_10.tables(experiment)
    assert [row["rank"] for row in single.rows] == [1, 2]
    assert [row["sets"] for row in several.rows] == [1, 2, 1]
    for row in several.rows:
        for name in ("local", "cloud", "overall"):
            worst, middle, best = (mean(row[f"{name} {which} %"]) for which in ("worst", "mean", "best"))
            assert worst <= middle + 1e-9
            assert middle <= best + 1e-9
    device = experiment.worst_to_best(0)[0]
    assert (device,) in experiment.network(0).missing


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (3, 7), (6, 63), (8, 255), (9, 9 + 36)])
def test_subsets(devices: int, count: int) -> None:
    found = subsets(devices)
    assert len(found) == len(set(found)) == count
    assert all(failed and list(failed) == sorted(set(failed)) for failed in found)


def test_reduction_is_raw_bytes_over_ours(experiment: RandomAnswers) -> None:
    (table,) = reduction.tables(experiment)
    raw, all_maps, chosen, local = table.rows
    assert mean(raw["bytes"]) == 64
    assert mean(all_maps["bytes"]) == 8 + 4 * 4 * 4 / 8
    assert mean(local["reduction"]) == 64 / 8
    assert mean(all_maps["reduction"]) <= mean(chosen["reduction"]) <= mean(local["reduction"])


def test_edge_shares_and_links_add_up(experiment: RandomAnswers) -> None:
    table, links = edge.tables(experiment)
    assert [str(row["configuration"])[:3] for row in table.rows] == ["(d)", "(e)", "(f)"]
    for row, devices in zip(table.rows, (1, 2, 2), strict=True):
        assert sum(mean(row[f"left at {tier} %"]) for tier in ("local", "edge", "cloud")) == pytest.approx(
            100
        )
        own = [mean(link["bytes"]) for link in links.rows if link["configuration"] == row["configuration"]]
        assert sum(own) / devices == pytest.approx(mean(row["bytes"]))
    names = [link["link"] for link in links.rows]
    assert "edge_1 -> cloud" in names


def test_confusion_rows_are_shares_of_a_class(experiment: RandomAnswers) -> None:
    (table,) = confusion.tables(experiment)
    assert [row["exit"] for row in table.rows] == ["local"] * 2 + ["cloud"] * 2 + ["edge of (e)"] * 2
    assert all(mean(row["as dark %"]) + mean(row["as bright %"]) == pytest.approx(100) for row in table.rows)
    local = [row for row in table.rows if row["exit"] == "local"]
    right = sum(mean(row[f"as {row['true class']} %"]) * mean(row["samples"]) for row in local)
    accuracies = [experiment.measure(experiment.network(seed)).local_accuracy for seed in experiment.seeds]
    assert right / sum(mean(row["samples"]) for row in local) == pytest.approx(percent(accuracies).mean)


def test_calibration_by_hand() -> None:
    probabilities = [[0.95, 0.05], [0.93, 0.07], [0.45, 0.55], [1.0, 0.0]]
    counts, confidence, accuracy = reliability.calibration(probabilities, [0, 1, 1, 0])
    assert counts.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert confidence[9] == pytest.approx((0.95 + 0.93 + 1) / 3)
    assert accuracy[[5, 9]].tolist() == pytest.approx([1, 2 / 3])


def test_reliability_of_an_exit_that_is_right_as_often_as_it_says(experiment: RandomAnswers) -> None:
    labels = experiment.data().targets("test")
    for seed in experiment.seeds:
        answers = experiment.trained(experiment.network(seed)).test["cloud"]
        # 12 of 16 right, and always 75 % sure.
        answered = np.where(np.arange(16) < 12, labels, 1 - labels)
        answers[:] = np.where(np.eye(2)[answered] > 0, 0.75, 0.25)
    summary, bins = reliability.tables(experiment)
    cloud = next(row for row in summary.rows if row["exit"] == "cloud")
    assert mean(cloud["ECE %"]) == pytest.approx(0)
    assert [mean(row["samples"]) for row in bins.rows if row["exit"] == "cloud"] == [48]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_front_is_what_no_point_beats(points: list[tuple[int, int]]) -> None:
    found = pareto.front([(float(cost), float(gain)) for cost, gain in points])
    chosen = [points[at] for at in found]
    assert chosen == sorted(set(chosen))
    for cost, gain in points:
        assert any(cost >= other and gain <= better for other, better in chosen)
    for cost, gain in chosen:
        assert not any(
            (other, better) != (cost, gain) and other <= cost and better >= gain for other, better in points
        )


def test_pareto_front_is_chosen_on_validation(experiment: RandomAnswers) -> None:
    best, everything = pareto.tables(experiment)
    assert len(everything.rows) == 12 * 51
    accuracy = [mean(row["validation overall %"]) for row in best.rows]
    assert accuracy == sorted(accuracy)
    assert accuracy[-1] == max(mean(row["validation overall %"]) for row in everything.rows)


def test_claims_are_decided_by_the_numbers(experiment: RandomAnswers) -> None:
    (table,) = claims.tables(experiment)
    assert [row["holds (means)"] for row in table.rows][-1] == "no"  # 64 bytes of raw image
    labels = experiment.data().targets("test")
    right = np.eye(2)[labels] * 0.98 + 0.01
    for unit in table_1.units(experiment):
        for tier in ("local", "cloud"):
            experiment.trained(unit).test[tier][:] = (
                right if unit == experiment.network(unit.source.seed) else 0.5
            )
    (table,) = claims.tables(experiment)
    assert table.rows[0]["holds (means)"] == "yes"
    assert "MP-CC 100 ± 0 %" in str(table.rows[0]["numbers"])


def test_units_are_addressed_by_content(experiment: RandomAnswers) -> None:
    unit = experiment.network(0)
    assert unit == experiment.network(0, local="MP", upper="CC", filters=4)
    others = [
        experiment.network(1),
        experiment.network(0, local="AP"),
        experiment.network(0, filters=2),
        experiment.network(0, columns=[1, 0]),
        experiment.network(0, missing=[(0,)]),
        experiment.individual(0),
        Experiment.network(_longer(experiment), 0),
    ]
    assert len({unit, *others}) == 1 + len(others)


def _longer(experiment: RandomAnswers) -> RandomAnswers:
    longer = RandomAnswers(experiment.data(), experiment.directory)
    longer.epochs = 8
    return longer
