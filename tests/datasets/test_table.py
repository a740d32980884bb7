from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ddnn_tf.datasets import DataSource, fitting_topology, load_table
from ddnn_tf.datasets.table import read_table

LINES = 600
DESCRIPTION: dict[str, Any] = {
    "file": "room.csv",
    "time": ["Date", "Time"],
    "devices": {"air": ["air_Temp", "air_CO2"], "door-1": ["door_Open"]},
    "label": "Persons",
    "window": 8,
    "stride": 2,
    "longest_step": 120,
    "block": 900,
}


def rows(lines: int = LINES) -> list[dict[str, str]]:
    """Readings every half minute; the number of persons changes every five minutes."""
    random = np.random.default_rng(0)
    table = []
    for line in range(lines):
        time = datetime(2026, 3, 1) + timedelta(seconds=30 * line)
        persons = line // 10 % 3
        table.append(
            {
                "Date": f"{time:%Y-%m-%d}",
                "Time": f"{time:%H:%M:%S}",
                "air_Temp": str(line),
                "air_CO2": f"{400 + 100 * persons + random.normal(0, 5):.1f}",
                "door_Open": str(persons % 2),
                "Hall": f"hall {line // 60 % 5}",
                "Persons": str(persons),
            }
        )
    return table


def write(place: Path, table: list[dict[str, str]], **changes: Any) -> Path:
    """The CSV file and its description; a change of None leaves a field out."""
    lines = [",".join(table[0]) if table else "Date", *(",".join(row.values()) for row in table)]
    (place / "room.csv").write_text("\n".join(lines) + "\n")
    fields = {key: value for key, value in {**DESCRIPTION, **changes}.items() if value is not None}
    (place / "room.yaml").write_text(yaml.safe_dump(fields))
    return place / "room.yaml"


def test_windows_of_unlike_devices(tmp_path: Path) -> None:
    data = load_table(write(tmp_path, rows()))
    assert data.shapes == {"air": (8, 2), "door_1": (8, 1)}
    assert data.class_names == ("0", "1", "2")
    assert data.split_rule.startswith("by group")
    for part in data.split:
        assert set(data.targets(part)) == {0, 1, 2}
    # 20 blocks of 30 lines, each with 23 windows; every other of all of them.
    assert len(data.labels) == 230
    assert len(np.unique(data.instances)) == 20
    assert data.presence.all()
    data.check_fit(fitting_topology(data))
    # The temperature counts the lines; a code step stands for several of them.
    lines = data.codings["air"].decode(data.views["air"][data.split["train"]])[..., 0]
    steps = np.diff(lines, axis=1)
    assert np.abs(steps - 1).max() <= data.codings["air"].scale[0] + 1e-6


def test_no_line_stands_in_two_parts(tmp_path: Path) -> None:
    file = write(tmp_path, rows())
    lines = read_table(file).views["air"][..., 0].astype(int)
    for split in ("group", "time"):
        data = load_table(file, split=split)
        train, validation, test = (set(lines[rows].ravel()) for rows in data.split.values())
        assert not train & validation
        assert not (train | validation) & test
        if split == "time":
            gap = (lines.max() - lines[:, -1].min()) / 50
            assert min(validation) > max(train) + gap
            assert min(test) > max(validation) + gap


def test_a_line_may_be_a_sample(tmp_path: Path) -> None:
    data = load_table(write(tmp_path, rows(), window=None, stride=None), split="random", test_share=0.3)
    assert data.shapes == {"air": (2,), "door_1": (1,)}
    assert len(data.labels) == LINES
    assert len(data.split["test"]) == 180
    with pytest.raises(ValueError, match=r"its windows share readings, .* make `stride` as long"):
        load_table(write(tmp_path, rows()), split="random")
    assert load_table(write(tmp_path, rows(), stride=8), split="random").split_rule.startswith("at random")


def test_pauses_groups_and_parts_end_windows(tmp_path: Path) -> None:
    whole = load_table(write(tmp_path, rows(), block=None, stride=None, window=1)).labels
    assert len(whole) == LINES
    table = rows()
    del table[300:310]
    paused = load_table(write(tmp_path, table, block=None, stride=1), split="time")
    assert len(paused.labels) == 590 - 2 * 7
    grouped = load_table(write(tmp_path, rows(), block=None, group="Hall", stride=1))
    assert len(grouped.labels) == LINES - 10 * 7
    assert len(np.unique(grouped.instances)) == 5
    table = rows()
    for line, row in enumerate(table):
        row["Part"] = "train" if line < 400 else "test"
    given = load_table(write(tmp_path, table, part="Part", stride=1, block=None))
    assert len(given.split["test"]) == 200 - 7
    assert given.split_rule == (
        "as the data say, validation by time, the latest samples for test, with gaps between the parts"
    )


def test_names_of_classes(tmp_path: Path) -> None:
    counts = load_table(write(tmp_path, rows())).labels
    data = load_table(write(tmp_path, rows(), classes={0: "empty", 1: "busy", 2: "busy"}))
    assert data.class_names == ("empty", "busy")
    assert np.array_equal(data.labels, counts > 0)
    with pytest.raises(ValueError, match="line 22: the label '2' in the column 'Persons' is none of 0, 1"):
        load_table(write(tmp_path, rows(), classes={0: "empty", 1: "busy"}))


def test_a_node_with_a_file_of_its_own_gives_its_last_reading(tmp_path: Path) -> None:
    sound = [f"{second},{second / 10}" for second in range(5, 30 * LINES, 60) if not 3000 < second < 6000]
    (tmp_path / "sound.csv").write_text("\n".join(["Seconds,Level", *sound]) + "\n")
    table = [{"Seconds": str(30 * line), **row} for line, row in enumerate(rows())]
    devices = {"air": ["air_Temp"], "sound": {"file": "sound.csv", "columns": ["Level"]}}
    file = write(tmp_path, table, time="Seconds", devices=devices, window=None, stride=None, block=900)
    data = load_table(file)
    present = data.presence[:, 1]
    # Nothing before the first reading, and nothing more than two minutes after the last.
    assert not present[0]
    assert present[1]
    assert present[:100].sum() == 99
    assert not present[105:200].any()
    levels = data.codings["sound"].decode(data.views["sound"])[present, 0]
    seconds = 30 * np.flatnonzero(present)
    last = seconds - (seconds - 5) % 60
    inside = np.isin(np.flatnonzero(present), data.split["train"]) & (seconds < 3000)
    assert np.abs(levels - last / 10)[inside].max() <= data.codings["sound"].scale[0]


def changed(line: int, column: str, value: str) -> list[dict[str, str]]:
    table = rows()
    table[line][column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            changed(3, "air_CO2", "nan"),
            r"room.csv', line 5: the column 'air_CO2' holds 'nan': expected a finite",
        ),
        (changed(3, "air_CO2", "high"), "line 5: the column 'air_CO2' holds 'high', which is no number"),
        (changed(0, "air_CO2", ""), "line 2: the column 'air_CO2' is empty"),
        (
            changed(3, "Time", "00:00:00"),
            "line 5: the time 2026-03-01 00:00:00 is before that of the line",
        ),
        (changed(3, "Date", "today"), "line 5: the time 'today 00:01:30' is neither"),
        (changed(3, "Persons", ""), "line 5: the label '' in the column 'Persons'"),
        ([{**row, "Persons": str(line)} for line, row in enumerate(rows())], "600 different values"),
        ([{k: v for k, v in row.items() if k != "air_CO2"} for row in rows()], "no column 'air_CO2'"),
        (rows(5), "`window` to fit into the readings, but 8 lines are longer"),
        ([], "no column 'Time'"),
        (
            [{**row, "Persons": str(int(line < 100))} for line, row in enumerate(rows())],
            "part of 'table' has no",
        ),
    ],
)
def test_bad_content_names_file_and_line(tmp_path: Path, table: list[dict[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_table(write(tmp_path, table), split="time")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "lacks the field 'label'"),
        ({"devices": {}}, "field 'devices'"),
        ({"devices": {"air": []}}, "field 'devices.air"),
        ({"devices": {"air": ["air_CO2", "Persons"]}}, "'devices.air' reads 'Persons', which is the 'label'"),
        ({"devices": {"air": ["air_CO2", "air_CO2"]}}, "'devices.air' names the column 'air_CO2' twice"),
        ({"window": 0}, "field 'window' is 0"),
        ({"windows": 3}, "no field 'windows'"),
        ({"group": "Hall"}, "'group' and 'block' both say what belongs together"),
        (
            {"time": None, "devices": {"air": {"file": "air.csv", "columns": ["a"]}}},
            "no 'time' to join",
        ),
        ({"label": "Dogs"}, "no column 'Dogs'"),
        ({"file": "hall.csv"}, r"no file '.*hall\.csv'"),
    ],
)
def test_bad_descriptions(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_table(write(tmp_path, rows(), **changes))


def test_a_csv_file_is_to_be_described_first(tmp_path: Path) -> None:
    write(tmp_path, rows())
    with pytest.raises(ValueError, match=r"ddnn data describe room\.csv` drafts one"):
        load_table(tmp_path / "room.csv")
    with pytest.raises(ValueError, match=r"--path FILE\.yaml"):
        DataSource(name="table").load()
    with pytest.raises(FileNotFoundError, match="ddnn data describe"):
        load_table(tmp_path / "nowhere.yaml")
