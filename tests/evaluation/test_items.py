"""Every table against its definition, on random answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.datasets.splits import PARTS
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import ITEMS, Item, items_in_order, register_item
from ddnn_tf.evaluation.items import (
    accuracy_against_bytes,
    claims,
    confusion,
    edge,
    fewer_bytes,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    missing_devices,
    recipe,
    reduction,
    reliability,
    resilience,
    table_1,
    table_2,
)
from ddnn_tf.evaluation.reproduce import chosen_items
from ddnn_tf.evaluation.result_table import Estimate, mean, percent
from ddnn_tf.evaluation.store import Answers
from ddnn_tf.evaluation.trial import Trial, subsets
from ddnn_tf.exits import normalized_entropy
from ddnn_tf.network import PRESENCE, build
from ddnn_tf.recipes import RECIPES, Recipe
from ddnn_tf.schemes import SCHEMES, Scheme, zero
from ddnn_tf.specs import Coding
from ddnn_tf.topology import Topology

OFFLINE = [name for name in ITEMS if name not in ("missing-devices", "resilience")]


class RandomAnswers(Experiment):
    """Three seeds on the tiny data; `asked` collects the trials that tables look at."""

    def __init__(self, data: MultiViewDataset, directory: Path, name: str = "scenes") -> None:
        super().__init__(DataSource(name=name), directory, seeds=3, epochs=7)
        self._data = dict.fromkeys(self.seeds, data)
        self.asked: set[Trial] = set()
        self.invented: dict[Trial, Answers] = {}

    def train(self, trials: Sequence[Trial], workers: int | None = None) -> None:
        raise AssertionError("A table must not train here.")

    def answers(self, trial: Trial) -> Answers:
        self.asked.add(trial)
        if trial not in self.invented:
            self.invented[trial] = self._invent(trial)
        return self.invented[trial]

    def feature_maps(self, trial: Trial, part: str = "test") -> dict[str, np.ndarray]:
        self.asked.add(trial)
        random = np.random.default_rng(int(trial.key, 16) % 2**32)
        count = len(self.data().split[part])
        shapes = {node.name: node.output.shape for node in trial.topology.hierarchy.devices if node.output}
        return {
            name: random.choice([-1, 1], (count, *shape)).astype(np.float32) for name, shape in shapes.items()
        }

    def _invent(self, trial: Trial) -> Answers:
        random = np.random.default_rng(int(trial.key, 16) % 2**32)
        names = trial.outputs

        def answers(part: str) -> dict[str, np.ndarray]:
            count = len(self.data().split[part])
            sharp = random.uniform(1, 4)
            logits = random.normal(size=(len(names), count, trial.topology.classes)) * sharp
            odds = np.exp(logits)
            return dict(zip(names, odds / odds.sum(axis=-1, keepdims=True), strict=True))

        without = {
            part: {missing: answers(part) for missing in trial.missing} for part in ("validation", "test")
        }
        return Answers(answers("validation"), answers("test"), without, seconds=1.0)


@pytest.fixture
def experiment(tiny_data: MultiViewDataset, tmp_path: Path) -> RandomAnswers:
    return RandomAnswers(tiny_data, tmp_path / "results")


def unlike_data(shapes: Mapping[str, tuple[int, ...]], *, balance: bool = False) -> MultiViewDataset:
    """Random codes of unlike devices, four classes, most samples of the first."""
    random = np.random.default_rng(1)
    labels = np.where(np.arange(120) % 5 < 3, 0, np.arange(120) % 4).astype(np.int64)
    views = {name: random.integers(0, 256, (120, *shape), dtype=np.uint8) for name, shape in shapes.items()}
    return MultiViewDataset(
        name="unlike",
        views=views,
        labels=labels,
        presence=np.ones((120, len(shapes)), dtype=bool),
        class_names=("empty", "one", "two", "three"),
        split=dict(zip(PARTS, np.split(np.arange(120), [72, 92]), strict=True)),
        split_rule="in order",
        codings={
            name: Coding(scale=(0.5,) * shape[-1], offset=(1.0,) * shape[-1])
            for name, shape in shapes.items()
        },
        balance=balance,
    )


def check(item: Item, experiment: RandomAnswers) -> None:
    """An item asks for all that it reads, and draws its tables."""
    tables = item.tables(experiment)
    planned = {*item.trials(experiment), *item.first_trials(experiment)}
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


@pytest.mark.parametrize("name", OFFLINE)
def test_an_item_asks_for_all_that_it_reads_and_draws_its_tables(
    name: str, experiment: RandomAnswers
) -> None:
    assert ITEMS[name].obstacle(experiment) is None
    check(ITEMS[name], experiment)


SERIES = {"S1": (6, 3), "S5": (6, 2), "S7": (6, 1)}
VECTORS = {"fac": (9,), "mor": (6,)}
MIXED = {"camera": (6, 4, 3), "microphone": (8, 1), "co2": (2,)}


@pytest.mark.parametrize("shapes", [SERIES, VECTORS, MIXED], ids=["series", "vectors", "mixed"])
@pytest.mark.parametrize("name", OFFLINE)
def test_an_item_works_for_unlike_devices_or_says_why_not(
    name: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    unlike = RandomAnswers(unlike_data(shapes, balance=shapes is SERIES), tmp_path, "occupancy")
    reason = ITEMS[name].obstacle(unlike)
    if reason is None:
        check(ITEMS[name], unlike)
    assert (reason is not None) == (name == "figure-9" and shapes is VECTORS)
    assert reason is None or "'occupancy' senses a vector: no device has a ConvP block" in reason


@pytest.mark.parametrize("name", OFFLINE)
def test_an_item_works_for_one_device_or_says_why_not(
    name: str, tiny_data: MultiViewDataset, tmp_path: Path
) -> None:
    alone = RandomAnswers(tiny_data.with_devices(["device_1"]), tmp_path)
    reason = ITEMS[name].obstacle(alone)
    if reason is None:
        check(ITEMS[name], alone)
    assert (reason is not None) == (name in ("figure-8", "figure-10", "recipe", "fewer-bytes"))
    assert reason is None or "has one device" in reason


def test_claims_about_several_devices_need_several(tiny_data: MultiViewDataset, tmp_path: Path) -> None:
    (several,) = claims.tables(RandomAnswers(tiny_data, tmp_path))
    (one,) = claims.tables(RandomAnswers(tiny_data.with_devices(["device_0"]), tmp_path))
    assert len(several.rows) == 6
    left = [row["claim"] for row in several.rows if row["claim"] not in [row["claim"] for row in one.rows]]
    assert left == [
        "the cloud is above the local exit for every number of devices",
        "any single failure costs only a few points (at most 5)",
    ]


@pytest.mark.parametrize(
    ("item", "names"),
    [
        (table_1, ("local", "cloud", "overall")),
        (table_2, ("overall",)),
        (figure_7, ("overall",)),
        (figure_8, ("individual", "local", "cloud", "overall")),
        (figure_9, ("local", "cloud", "overall")),
        (figure_10, ("individual", "local", "cloud", "overall")),
        (edge, ("local", "edge", "cloud", "overall")),
        (reduction, ("overall",)),
        (accuracy_against_bytes, ("overall",)),
    ],
)
def test_balanced_accuracy_stands_beside_accuracy_where_classes_are_weighted(
    item: Item, names: Sequence[str], tmp_path: Path
) -> None:
    table = item.tables(RandomAnswers(unlike_data(SERIES, balance=True), tmp_path))[0]
    for name in names:
        plain = table.columns.index(f"{name} %")
        assert table.columns[plain + 1] == f"{name} balanced %"
    plain_table = item.tables(RandomAnswers(unlike_data(SERIES), tmp_path))[0]
    assert [column for column in table.columns if "balanced" not in column] == plain_table.columns


def test_balanced_accuracy_is_the_mean_over_the_classes(tmp_path: Path) -> None:
    weighted = RandomAnswers(unlike_data(SERIES, balance=True), tmp_path)
    trial = weighted.network(0)
    weighted.answers(trial).test["cloud"][:] = [0.97, 0.01, 0.01, 0.01]  # always "empty"
    found = weighted.measure(trial, {"local": 0.0})
    labels = weighted.labels(trial)
    assert found.overall_accuracy == (labels == 0).mean() > 0.5
    assert found.overall_balanced_accuracy == 0.25
    # A device alone that always says "empty" is the worst, though most samples are.
    alone = weighted.answers(weighted.individual(0)).test
    alone["S5"][:] = [0.97, 0.01, 0.01, 0.01]
    for device in ("S1", "S7"):
        alone[device][:] = np.eye(4)[np.where(np.arange(len(labels)) % 2, labels, 3 - labels)]
    accuracy = weighted.individual_accuracy(0)
    assert accuracy["S5"] > max(accuracy["S1"], accuracy["S7"])
    assert weighted.individual_accuracy(0, balanced=True)["S5"] == 0.25
    assert weighted.worst_to_best(0)[0] == "S5"


def test_codings_of_a_trial_are_those_of_its_seed(tmp_path: Path) -> None:
    coded = RandomAnswers(unlike_data(SERIES), tmp_path)
    other = replace(coded.data(1), codings={"S1": Coding(scale=(2.0,) * 3, offset=(0.0,) * 3)})
    coded._data[1] = other
    assert coded.network(1).topology.codings == other.codings
    assert coded.network(0).topology.codings == coded.data(0).codings
    assert coded.network(1).missing == tuple(subsets(coded.devices))


def test_a_new_figure_touches_one_file(experiment: RandomAnswers) -> None:
    """Items are found by discovery, in the order of the report; a user registers his own."""
    names = list(items_in_order())
    assert names == [
        "claims", "figure-6", "table-1", "table-2", "figure-7", "figure-8", "figure-9", "figure-10",
        "missing-devices", "resilience", "reduction", "recipe", "edge", "confusion", "reliability", "pareto",
        "fewer-bytes",
    ]  # fmt: skip
    own = Item("mine", order=25, title="Mine", tables=table_1.tables)
    with pytest.raises(ValueError, match="'table-1' is registered by"):
        register_item(replace(own, name="table-1"))
    register_item(own)
    try:
        assert list(items_in_order())[2:5] == ["table-1", "mine", "table-2"]
        assert list(chosen_items(["table-2", "mine"])) == ["mine", "table-2"]
    finally:
        del ITEMS._parts["mine"]
    assert own.trials(experiment) == own.first_trials(experiment) == own.lines([]) == []
    assert own.obstacle(experiment) is None


def test_fewer_bytes_with_all_asked_is_the_network_itself(experiment: RandomAnswers) -> None:
    """And with fewer, each asked device costs its share of Eq. (1)."""
    asking, coding = fewer_bytes.tables(experiment)
    group = fewer_bytes.trials(experiment)
    number = len(experiment.devices)
    whole = [experiment.measure(trial) for trial in group]
    for ranking in fewer_bytes.RANKINGS:
        rows = [row for row in asking.rows if (row["T"], row["ranking"]) == ("chosen", ranking)]
        assert [row["asked"] for row in rows] == list(range(1, number + 1))
        assert mean(rows[-1]["overall %"]) == pytest.approx(
            100 * np.mean([each.overall_accuracy for each in whole])
        )
        full = np.mean([each.bytes_per_sample for each in whole])
        assert mean(rows[-1]["bytes"]) == pytest.approx(full)
        vectors = group[0].topology.hierarchy.class_vector.size
        assert mean(rows[0]["bytes"]) == pytest.approx(vectors + (full - vectors) / number)
        # Random bits cannot be coded.
        assert mean(rows[0]["coded bytes"]) == pytest.approx(mean(rows[0]["bytes"]), rel=0.05)
    assert [row["device"] for row in coding.rows] == list(experiment.devices)


def test_fewer_bytes_of_a_network_that_listens_to_one_device(experiment: RandomAnswers) -> None:
    """Where only one device knows the answer, by its certainty it is the one that is asked."""
    for trial in fewer_bytes.trials(experiment):
        answers = experiment.answers(trial)
        labels = experiment.labels(trial)
        classes = trial.topology.classes
        right, unknown = np.eye(classes)[labels], np.full((len(labels), classes), 1 / classes)
        for missing, probabilities in answers.without["test"].items():
            for output in probabilities.values():
                output[:] = unknown if experiment.devices[-1] in missing else right
    asking, _ = fewer_bytes.tables(experiment)
    best = {
        row["ranking"]: mean(row["cloud %"])
        for row in asking.rows
        if (row["T"], row["asked"]) == ("always", 1)
    }
    assert best["certainty"] == 100
    assert best["random"] < 100


def test_table_1_has_rows_for_schemes_of_others(
    experiment: RandomAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = Scheme("GATED", False, zero, "ddnn_tf.aggregation:ConcatAggregation")
    monkeypatch.setitem(SCHEMES._parts, "GATED", gated)
    (table,) = table_1.tables(experiment)
    assert [row["scheme"] for row in table.rows][9:] == ["GATED-CC", "MP-WCC", "MP-GATED"]
    assert table.rows[9]["paper cloud %"] is None
    assert {*table_1.trials(experiment)} >= experiment.asked
    for figure in table_1.figures([table]).values():
        figure.draw_without_rendering()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"out of claims, figure-6, table-1.*but got 'table-9'"):
        chosen_items(["table-1", "table-9"])
    with pytest.raises(ValueError, match="at least one"):
        chosen_items([])
    assert list(chosen_items(["figure-8", "table-1"])) == ["table-1", "figure-8"]


def test_table_1_has_the_papers_nine_schemes_and_ours(experiment: RandomAnswers) -> None:
    (table,) = table_1.tables(experiment)
    assert [row["scheme"] for row in table.rows][:3] == ["MP-MP", "MP-CC", "AP-AP"]
    assert [row["scheme"] for row in table.rows][9:] == ["MP-WCC"]
    trial = experiment.network(1, local="AP", upper="CC")
    scheme = trial.topology.hierarchy["local"].scheme
    assert scheme is not None
    assert scheme.name == "AP"
    labels = experiment.labels(trial)
    right = [
        float(
            (
                experiment.answers(experiment.network(seed, local="AP", upper="CC")).test["cloud"].argmax(1)
                == labels
            ).mean()
        )
        for seed in experiment.seeds
    ]
    row = next(row for row in table.rows if row["scheme"] == "AP-CC")
    assert row["cloud %"] == percent(right)
    assert (row["paper local %"], row["paper cloud %"]) == (75, 96)


def test_table_2_ends_and_threshold_chosen_on_validation_only(experiment: RandomAnswers) -> None:
    table, recall = table_2.tables(experiment)
    overall = [experiment.measure(trial).overall_balanced_accuracy for trial in table_2.trials(experiment)]
    assert len(recall.rows) == len(experiment.data().class_names)
    recalls = [mean(row["recall %"]) for row in recall.rows]
    assert np.mean(recalls) == pytest.approx(100 * np.mean(overall))
    by_threshold = {row["T"]: row for row in table.rows}
    at_one = by_threshold["1.0"]
    assert mean(at_one["local exit %"]) == 100
    assert mean(at_one["bytes"]) == 4 * 2
    chosen = table_2.sweet_spot(experiment)
    trial = experiment.network(0)
    before = experiment.thresholds(trial)
    # Other answers to the test samples leave the thresholds as they are; to validation samples, not.
    answers = experiment.answers(trial)
    answers.test["local"][:] = 0.5
    assert experiment.thresholds(trial) == before
    assert table_2.sweet_spot(experiment) == chosen
    answers.validation["local"][:] = 0.5
    answers.validation["cloud"][:] = np.eye(2)[experiment.labels(trial, "validation")] * 0.98 + 0.01
    assert experiment.thresholds(trial) == {"local": 0.0}


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
        assert accuracy[experiment.worst_to_best(seed)[0]] == min(accuracy.values())
    chosen = {trial.devices for trial in figure_8.trials(experiment) if len(trial.devices) == 1}
    assert chosen == {(experiment.worst_to_best(seed)[0],) for seed in experiment.seeds}
    # The largest network is the one of all other tables, not trained again.
    assert experiment.network(0) in figure_8.trials(experiment)
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
    names = [f"device_{number}" for number in range(devices)]
    found = subsets(names)
    assert len(found) == len(set(found)) == count
    assert all(failed and sorted(set(failed), key=names.index) == list(failed) for failed in found)


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
    accuracies = [
        experiment.measure(experiment.network(seed)).exit_accuracy["local"] for seed in experiment.seeds
    ]
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
        answers = experiment.answers(experiment.network(seed)).test["cloud"]
        # 12 of 16 right, and always 75 % sure.
        answered = np.where(np.arange(16) < 12, labels, 1 - labels)
        answers[:] = np.where(np.eye(2)[answered] > 0, 0.75, 0.25)
    summary, bins = reliability.tables(experiment)
    cloud = next(row for row in summary.rows if row["exit"] == "cloud")
    assert mean(cloud["ECE %"]) == pytest.approx(0)
    assert [mean(row["samples"]) for row in bins.rows if row["exit"] == "cloud"] == [48]


def test_pareto_front_is_chosen_on_validation(experiment: RandomAnswers) -> None:
    best, everything = accuracy_against_bytes.tables(experiment)
    assert len(everything.rows) == 13 * 51  # ten pairs of schemes, and three other numbers of filters
    accuracy = [mean(row["validation overall %"]) for row in best.rows]
    assert accuracy == sorted(accuracy)
    assert accuracy[-1] == max(mean(row["validation overall %"]) for row in everything.rows)


def test_claims_are_decided_by_the_numbers(experiment: RandomAnswers) -> None:
    (table,) = claims.tables(experiment)
    assert [row["holds (means)"] for row in table.rows][-1] == "no"  # 64 bytes of raw image
    labels = experiment.data().targets("test")
    right = np.eye(2)[labels] * 0.98 + 0.01
    for trial in table_1.trials(experiment):
        for tier in ("local", "cloud"):
            experiment.answers(trial).test[tier][:] = (
                right if trial == experiment.network(trial.source.seed) else 0.5
            )
    (table,) = claims.tables(experiment)
    assert table.rows[0]["holds (means)"] == "yes"
    assert "MP-CC 100 ± 0 %" in str(table.rows[0]["numbers"])


def test_trials_are_addressed_by_content(experiment: RandomAnswers) -> None:
    trial = experiment.network(0)
    assert trial == experiment.network(0, local="MP", upper="CC", filters=4)
    others = [
        experiment.network(1),
        experiment.network(0, local="AP"),
        experiment.network(0, filters=2),
        experiment.network(0, devices=["device_1", "device_0"]),
        experiment.network(0, missing=[("device_0",)]),
        experiment.network(0, recipe="robust"),
        experiment.network(0, recipe=Recipe(survival={"device_0": 0.9})),
        experiment.network(0, cloud_precision="float"),
        experiment.network(0, topology=experiment.topology("a")),
        experiment.individual(0),
        Experiment.network(_longer(experiment), 0),
    ]
    assert len({trial, *others}) == 1 + len(others)
    assert experiment.network(0, recipe=RECIPES["paper"], topology=experiment.topology()).key == trial.key
    scheme = experiment.network(0, recipe="robust").topology.hierarchy.cloud.scheme
    assert scheme is not None
    assert scheme.name == "WCC"
    with pytest.raises(ValueError, match="'plain'"):
        experiment.network(0, recipe="plain")


def _longer(experiment: RandomAnswers) -> RandomAnswers:
    longer = RandomAnswers(experiment.data(), experiment.directory)
    longer.epochs = 8
    return longer


def test_missing_devices_reads_digits_where_the_experiment_does(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **__: object) -> Path:
        raise FileNotFoundError("no network")

    monkeypatch.setattr("ddnn_tf.datasets.partitioned._keras_file", download)
    monkeypatch.setenv("DDNN_DATA", str(tmp_path))
    source = DataSource(name="mnist", path=str(shared / "data" / "mnist"), devices=2)
    experiment = Experiment(source, tmp_path, seeds=1, epochs=10)
    assert missing_devices.obstacle(experiment) is None
    assert len(missing_devices.trials(experiment)) == 1


def test_extras_take_part_only_where_they_are_named() -> None:
    everything = chosen_items(None)
    assert "table-1" in everything
    assert not {"recipe", "resilience"} & set(everything)
    assert list(chosen_items(["recipe", "table-1"])) == ["table-1", "recipe"]


def test_recipe_compares_each_change_with_the_papers_network(experiment: RandomAnswers) -> None:
    (table,) = recipe.tables(experiment)
    first, *others = table.rows
    assert (first["change"], first["gain all"], first["effect"]) == ("paper", "", "")
    assert experiment.network(0) in recipe.trials(experiment)
    drop = next(row for row in others if row["change"] == "devices dropped")
    cells = [drop["cloud %"], first["cloud %"], drop["gain all"]]
    assert mean(cells[0]) - mean(cells[1]) == pytest.approx(mean(cells[2]))
    # Of two devices, half is the second; the worst is the one whose absence costs most.
    trials = [experiment.network(seed, recipe=Recipe(drop=0.5), missing=SETS) for seed in experiment.seeds]
    alone = np.array(
        [
            [experiment.measure(trial, missing=failed).exit_accuracy["cloud"] for failed in SETS]
            for trial in trials
        ]
    )
    assert drop["cloud one missing %"] == percent(alone.min(axis=1))
    assert drop["cloud half missing %"] == percent(alone[:, 1])
    robust = next(change for change in recipe.CHANGES if change.name == "robust")
    assert robust.recipe == RECIPES["robust"]


SETS = [("device_0",), ("device_1",)]


@pytest.mark.parametrize(
    ("gains", "effect"),
    [
        (((2, 1), (0, 1), (-1, 2)), "helps"),
        (((0, 1), (-3, 1), (1, 2)), "hurts"),
        (((2, 1), (-3, 1), (0, 2)), "both"),
        (((1, 2), (-1, 2), (0, 2)), "unclear"),
        (((2, None), (0, None), (1, None)), ""),
    ],
)
def test_a_change_helps_only_beyond_its_interval(
    gains: Sequence[tuple[float, float | None]], effect: str
) -> None:
    assert recipe._effect([Estimate(*gain) for gain in gains]) == effect


@pytest.fixture
def cameras(tmp_path: Path) -> RandomAnswers:
    """Six cameras of 8x8 in place of the recordings that `resilience` reads."""
    shapes = {f"device_{number}": (8, 8, 1) for number in range(6)}
    cameras = RandomAnswers(unlike_data(shapes), tmp_path, "epfl")
    cameras.source = DataSource(name="epfl", split="holdout")
    return cameras


NODES = ("fog1", "fog2", "fog3", "fog4", "edge1", "edge2", "edge3", "edge4")


def test_resilience_asks_for_all_that_it_reads_and_stands_beside_the_reference(
    cameras: RandomAnswers,
) -> None:
    assert resilience.obstacle(cameras) is None
    check(ITEMS["resilience"], cameras)
    (table,) = resilience.tables(cameras)
    row = next(row for row in table.rows if (row["network"], row["survival"]) == ("robust", "medium"))
    assert (row["reference validation %"], row["reference holdout %"]) == (89.27, 89.86)
    robust = next(trial for trial in resilience.trials(cameras) if trial.options.recipe.survival)
    assert robust.options.recipe.survival["edge3"] == 0.75
    assert cameras.network(0).topology.hierarchy.device_names == robust.devices


def test_resilience_without_the_recordings_says_where_they_belong(
    experiment: RandomAnswers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"epfl_six_cameras\.npz.*--path"):
        resilience.obstacle(experiment)


@pytest.mark.parametrize("is_protected", [False, True])
def test_sets_of_failed_nodes_that_are_the_same_to_the_cloud_give_one_answer(
    cameras: RandomAnswers, is_protected: bool
) -> None:
    topology = resilience.wiring(cameras, is_protected=is_protected, precision="float")
    hierarchy = topology.hierarchy
    sets = resilience.equal_sets(hierarchy, NODES)
    assert len(sets) == 2**8
    model = build(topology, presence=True)
    views = {name: np.repeat(view[:1], len(sets), axis=0) for name, view in cameras.data().views.items()}
    present = np.concatenate([hierarchy.presence(failed) for failed in sets])
    outputs = model.predict({**views, PRESENCE: present}, batch_size=256, verbose=0)
    answer = dict(zip(sets, outputs[model.output_names.index("cloud")], strict=True))
    for failed, alike in sets.items():
        if alike is not None:
            assert np.allclose(answer[failed], answer[alike], atol=1e-6), (failed, alike)
    # Answers that differ come from sets that differ.
    distinct = len(np.unique(np.stack(list(answer.values())).round(5), axis=0))
    assert distinct <= len(set(sets.values())) < 2**8
    heard = hierarchy.heard(present).nodes["cloud"]
    assert [alike is not None for alike in sets.values()] == heard.tolist()
    assert sets[("fog1", "fog2")] is None
    assert (sets[("fog1",)] is None) != is_protected


def test_expected_accuracy_weights_each_set_by_its_probability() -> None:
    survival = {"a": 0.9, "b": 0.6}
    assert resilience.probability(("b",), survival) == pytest.approx(0.9 * 0.4)
    accuracy = {(): 1.0, ("a",): 0.5, ("b",): 0.25, ("a", "b"): 0.0}
    expected = 0.9 * 0.6 + 0.1 * 0.6 * 0.5 + 0.9 * 0.4 * 0.25
    assert resilience.expected(accuracy, survival) == pytest.approx(expected)


def test_a_network_that_is_always_right_reaches_the_limit_of_the_wiring(cameras: RandomAnswers) -> None:
    plain = [trial for trial in resilience.trials(cameras) if not trial.options.recipe.survival]
    for trial in plain:
        right = np.eye(4)[cameras.labels(trial, "test")]
        answers = cameras.answers(trial)
        for probabilities in (answers.test, *answers.without["test"].values()):
            probabilities["cloud"][:] = right
    (table,) = resilience.tables(cameras)
    row = next(row for row in table.rows if (row["network"], row["survival"]) == ("plain", "low"))
    # Written out: fog1 and fog2 are up, and either fog3 with its edge or fog4 with any of its edges.
    reached = 0.8 * 0.8 * (1 - (1 - 0.75 * 0.7) * (1 - 0.75 * (1 - 0.3 * 0.35 * 0.35)))
    data = cameras.data()
    drawn = np.mean([np.mean(data.targets("train") == label) for label in data.targets("test")])
    expected = 100 * (reached + (1 - reached) * drawn)
    assert mean(row["holdout %"]) == pytest.approx(expected)
    assert row["holdout limit %"] == pytest.approx(expected)
