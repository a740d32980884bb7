from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets import DataSource, MultiViewDataset, fitting_topology, load_occupancy
from ddnn_tf.datasets.splits import PARTS

NODES = {"S1": 3, "S2": 3, "S3": 3, "S4": 3, "S5": 2, "S6": 1, "S7": 1}
COLUMNS = [
    *(f"S{number}_Temp" for number in range(1, 5)),
    *(f"S{number}_Light" for number in range(1, 5)),
    *(f"S{number}_Sound" for number in range(1, 5)),
    "S5_CO2",
    "S5_CO2_Slope",
    "S6_PIR",
    "S7_PIR",
]
STEP_S = 30
PER_DAY = 600


def rows(days: int = 4, per_day: int = PER_DAY) -> list[dict[str, str]]:
    """Readings of some days; even days have every number of persons, odd ones none."""
    random = np.random.default_rng(0)
    table = []
    for day in range(days):
        for reading in range(per_day):
            time = datetime(2017, 12, 22 + day) + timedelta(seconds=STEP_S * reading)
            persons = (reading // 20) % 4 if day % 2 == 0 else 0
            row = {"Date": time.strftime("%Y/%m/%d").replace("/", "-"), "Time": time.strftime("%H:%M:%S")}
            row |= {name: f"{random.normal(persons, 0.1):.4f}" for name in COLUMNS}
            row["S1_Temp"] = str(len(table))
            table.append({**row, "Room_Occupancy_Count": str(persons)})
    return table


def write(path: Path, table: list[dict[str, str]]) -> Path:
    lines = [",".join(table[0]), *(",".join(row.values()) for row in table)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("occupancy") / "occupancy.csv", rows())


@pytest.fixture(scope="module")
def data(file: Path) -> MultiViewDataset:
    return load_occupancy(file)


def test_windows_of_seven_unlike_nodes(data: MultiViewDataset) -> None:
    assert data.shapes == {node: (16, channels) for node, channels in NODES.items()}
    assert data.class_names == ("empty", "one", "two", "three")
    assert data.balance
    for part in PARTS:
        assert set(data.targets(part)) == {0, 1, 2, 3}, part
    # Test: one day with every number of persons, one empty day; both whole.
    assert data.instances is not None
    test_days = np.unique(data.instances[data.split["test"]])
    assert len(test_days) == 2
    assert len(data.split["test"]) == 2 * (PER_DAY - 15)
    others = np.concatenate([data.split["train"], data.split["validation"]])
    assert not set(data.instances[others]) & set(test_days)


def test_a_window_is_of_consecutive_readings_and_its_label_that_of_its_end(data: MultiViewDataset) -> None:
    coding = data.codings["S1"]
    numbers = coding.decode(data.views["S1"])[..., 0]
    train = data.split["train"]
    step = np.diff(numbers[train], axis=1)
    # S1_Temp counts the readings; a code step stands for several of them.
    assert np.abs(step - 1).max() <= coding.scale[0] + 1e-6
    ends = numbers[train, -1]
    inside = np.abs(ends % 20 - 10) < 20 / 2 - 2 * coding.scale[0]
    is_even_day = data.instances[train] % 2 == 0  # type: ignore[index]
    expected = np.where(is_even_day, (ends % PER_DAY // 20) % 4, 0)
    assert np.array_equal(expected[inside], data.labels[train][inside])


def test_no_reading_stands_in_two_parts(file: Path) -> None:
    """With windows of one reading every reading is a sample; longer ones must not reach over a border."""
    single = load_occupancy(file, window=1)
    assert sum(len(chosen) for chosen in single.split.values()) == len(single.labels) == 4 * PER_DAY
    part_of = np.zeros(4 * PER_DAY, int)
    for number, part in enumerate(PARTS):
        part_of[single.split[part]] = number
    borders = np.flatnonzero(np.diff(part_of)) + 1
    starts = {0, *borders.tolist(), *(PER_DAY * day for day in range(4))}
    longer = load_occupancy(file, window=16)
    assert len(longer.labels) == 4 * PER_DAY - 15 * len(starts)


def test_a_gap_ends_a_window(tmp_path: Path) -> None:
    table = rows()
    del table[100:110]  # five minutes
    with_gap = load_occupancy(write(tmp_path / "gap.csv", table), window=16)
    whole = load_occupancy(write(tmp_path / "whole.csv", rows()), window=16)
    assert len(with_gap.labels) <= len(whole.labels) - 10 - 15 + 16


def test_stride_thins_the_windows(file: Path, data: MultiViewDataset) -> None:
    assert len(load_occupancy(file, stride=3).labels) == -(-len(data.labels) // 3)


def test_an_empty_cell_holds_the_value_above(tmp_path: Path) -> None:
    table = rows()
    filled = [dict(row) for row in table]
    filled[7]["S5_CO2"] = table[6]["S5_CO2"]
    table[7]["S5_CO2"] = ""
    first = load_occupancy(write(tmp_path / "hole.csv", table))
    second = load_occupancy(write(tmp_path / "filled.csv", filled))
    assert first.digest() == second.digest()


def test_a_topology_that_fits(data: MultiViewDataset) -> None:
    topology = fitting_topology(data, "f")
    assert topology.hierarchy.device_names == tuple(NODES)
    assert topology.codings == dict(data.codings)
    data.check_fit(topology)


def test_the_seed_draws_the_split(file: Path) -> None:
    source = DataSource(name="occupancy", path=str(file))
    digests = {source.model_copy(update={"seed": seed}).load().digest() for seed in range(6)}
    assert len(digests) > 1
    assert source.load().digest() == source.load().digest()


def changed(row: int, column: str, value: str) -> list[dict[str, str]]:
    table = rows()
    table[row][column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([{k: v for k, v in row.items() if k != "S5_CO2"} for row in rows()], "no column 'S5_CO2'"),
        (
            changed(3, "S2_Light", "nan"),
            "line 5: the column 'S2_Light' holds 'nan': expected a finite number",
        ),
        (
            changed(3, "S2_Light", "bright"),
            "line 5: the column 'S2_Light' holds 'bright', which is no number",
        ),
        (changed(0, "S6_PIR", ""), "line 2: the column 'S6_PIR' is empty, and no number stands above"),
        (changed(3, "Time", "00:00:00"), "line 5: the time .* is before that of the line above"),
        (
            changed(3, "Date", "yesterday"),
            "line 5: the time 'yesterday 00:01:30' is neither a number nor like 2017",
        ),
        (
            changed(3, "Room_Occupancy_Count", "4"),
            "line 5: the label '4' in the column 'Room_Occupancy_Count' is none of 0, 1, 2, 3",
        ),
        (rows(days=1), "needs two days on which every number of persons occurs.*got 1 and 0"),
    ],
)
def test_bad_content_names_file_and_line(tmp_path: Path, table: list[dict[str, str]], message: str) -> None:
    file = write(tmp_path / "bad.csv", table)
    with pytest.raises(ValueError, match=message) as caught:
        load_occupancy(file)
    assert str(file) in str(caught.value)


def test_bad_windows(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"`window` to fit.*1000 readings are longer"):
        load_occupancy(file, window=1000)
    with pytest.raises(ValueError, match=r"`window` to fit.*100000 readings are longer"):
        load_occupancy(file, window=100_000)
    with pytest.raises(ValueError, match="at least 1, but got 0 and 1"):
        load_occupancy(file, window=0)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="no column 'Date'"):
        load_occupancy(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text(",".join(rows()[0]) + "\n")
    with pytest.raises(ValueError, match="holds no readings"):
        load_occupancy(tmp_path / "header.csv")
    monkeypatch.setenv("DDNN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"occupancy\.csv.*--path.*DDNN_DATA"):
        load_occupancy()


def test_the_real_file(shared: Path) -> None:
    data = load_occupancy(shared / "data" / "occupancy.csv")
    assert data.shapes == {node: (16, channels) for node, channels in NODES.items()}
    for part in PARTS:
        assert set(data.targets(part)) == {0, 1, 2, 3}
    assert (data.labels == 0).mean() == pytest.approx(0.81, abs=0.02)
    assert len(np.unique(data.instances)) == 7
