"""Room occupancy: how many persons are in a room, from seven unlike sensor nodes.

S1 to S4 read temperature, light and sound, S5 carbon dioxide and its slope, S6 and S7 passive infrared,
every 30 seconds or so over seven days. A sample is a window of consecutive readings of every node; its label
is the number of persons at the window's end, 0 to 3. Windows stay within a day and a recording without gaps.

Neighbouring windows are nearly equal, so the split is by day: one day on which every number of persons
occurs and one on which the room was empty are for test. (Only two of the seven days have every number, so a
third day cannot validate: every fifth half hour of the training days does, and no reading stands in two
parts.) 81 % of the readings are of an empty room: weights balance the classes in training, and balanced
accuracy is what to look at. A reading that is missing in the file is the node's last one.

Source: Singh and Chaudhari, Room Occupancy Estimation, UCI Machine Learning Repository (CC BY 4.0).
"""

from __future__ import annotations

import csv
import itertools
import math
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.multiview import MultiViewDataset, coded_views
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import PARTS
from ddnn_tf.documents import data_directory

__all__ = ["WINDOW", "load_occupancy"]

WINDOW = 16
"""Readings in a window: about eight minutes."""

_FILE = "occupancy.csv"
_NODES = {
    **{f"S{number}": (f"S{number}_Temp", f"S{number}_Light", f"S{number}_Sound") for number in range(1, 5)},
    "S5": ("S5_CO2", "S5_CO2_Slope"),
    "S6": ("S6_PIR",),
    "S7": ("S7_PIR",),
}
_LABEL = "Room_Occupancy_Count"
_CLASSES = ("empty", "one", "two", "three")
# Readings come about every 30 s; the recording has pauses of hours.
_LONGEST_STEP_S = 120.0
_BLOCK, _EVERY = 60, 5  # readings of half an hour; one block in so many validates


def load_occupancy(
    path: str | Path | None = None, *, window: int = WINDOW, stride: int = 1, seed: int = 0
) -> MultiViewDataset:
    """Loads room occupancy as windows of seven nodes.

    Args:
        path: The CSV file as distributed. Default: `occupancy.csv` in `data_directory()`.
        window: Readings in a window.
        stride: Readings from the start of one window to that of the next.
        seed: Seed of the draw of the test days, and of which half hours validate.

    Raises:
        FileNotFoundError: No file there.
        ValueError: A missing column, a reading that is no number, times that run backwards, a window longer
            than the data, or days that cannot be split so that every part has every class.
    """
    file = data_directory() / _FILE if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file '{file}': give the place of the occupancy CSV with --path, or put it into the "
            "directory that the environment variable DDNN_DATA names."
        )
    if window < 1 or stride < 1:
        raise ValueError(f"Expected `window` and `stride` to be at least 1, but got {window} and {stride}.")
    times, readings, counts = _read(file)
    days = times.astype("datetime64[D]")
    part_of, rule = _split_by_day(file, days, counts, seed)
    ends = _ends_of_windows(times, part_of, window)[::stride]
    if not len(ends):
        raise ValueError(
            f"Expected `window` to fit into the readings of '{file}', but {window} readings are longer than "
            "any recording without a gap: choose a shorter window."
        )
    rows = ends[:, None] + np.arange(1 - window, 1)
    labels = counts[ends]
    split = {part: np.flatnonzero(part_of[ends] == number) for number, part in enumerate(PARTS)}
    physical = {node: readings[node][rows] for node in _NODES}
    views, codings = coded_views(physical, split["train"])
    return MultiViewDataset(
        name="occupancy",
        views=views,
        labels=labels,
        presence=np.ones((len(labels), len(views)), dtype=bool),
        class_names=_CLASSES,
        split=split,
        split_rule=rule,
        instances=(days[ends] - days[0]).astype(np.int64),
        codings=codings,
        balance=True,
    )


def _read(file: Path) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """Times `(readings,)`, readings by node `(readings, channels)`, and persons `(readings,)`."""
    with open(file, newline="", encoding="utf-8") as stream:
        table = list(csv.reader(stream))
    header = table[0] if table else []
    columns = ["Date", "Time", *(name for names in _NODES.values() for name in names), _LABEL]
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"'{file}' has no column '{missing[0]}': it is not the occupancy file.")
    at = {name: header.index(name) for name in columns}
    times: list[datetime] = []
    values: list[list[float]] = []
    counts: list[int] = []
    for number, row in enumerate(table[1:], start=2):
        try:
            time = datetime.strptime(f"{row[at['Date']]} {row[at['Time']]}", "%Y-%m-%d %H:%M:%S")
            cells = [row[at[name]].strip() for name in columns[2:-1]]
            last = values[-1] if values else [math.nan] * len(cells)
            reading = [float(cell) if cell else held for cell, held in zip(cells, last, strict=True)]
            counts.append(int(row[at[_LABEL]]))
        except (ValueError, IndexError) as error:
            raise ValueError(f"'{file}', line {number}: {error}.") from None
        if not np.isfinite(reading).all():
            raise ValueError(f"'{file}', line {number}: a reading is missing or not a finite number.")
        if times and time < times[-1]:
            raise ValueError(f"'{file}', line {number}: the time {time} is before that of the line above.")
        times.append(time)
        values.append(reading)
    if not times:
        raise ValueError(f"'{file}' holds no readings.")
    persons = np.array(counts, np.int64)
    if persons.min() < 0 or persons.max() >= len(_CLASSES):
        raise ValueError(f"'{file}': '{_LABEL}' is outside 0 to {len(_CLASSES) - 1}.")
    array = np.array(values)
    bounds = np.cumsum([0, *(len(names) for names in _NODES.values())])
    readings = {
        node: array[:, start:stop]
        for node, (start, stop) in zip(_NODES, itertools.pairwise(bounds), strict=True)
    }
    return np.array(times, "datetime64[s]"), readings, persons


def _ends_of_windows(
    times: NDArray[np.datetime64], part_of: NDArray[np.int64], window: int
) -> NDArray[np.int64]:
    """Last readings of windows without a gap, within one day and one part, `(windows,)`."""
    steps = np.diff(times).astype(np.float64)
    is_new_day = np.diff(times.astype("datetime64[D]")).astype(np.int64) > 0
    breaks = (steps > _LONGEST_STEP_S) | is_new_day | (np.diff(part_of) != 0)
    run = np.concatenate([[0], np.cumsum(breaks)])
    ends = np.arange(window - 1, len(times))
    return ends[run[ends] == run[ends - (window - 1)]]


def _split_by_day(
    file: Path, days: NDArray[np.datetime64], counts: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], str]:
    """The part of every reading, by its number in `PARTS`, and the rule in words."""
    random = np.random.default_rng(seed)
    known = np.unique(days)
    classes = len(np.unique(counts))
    full = [day for day in known if len(np.unique(counts[days == day])) == classes]
    empty = [day for day in known if not counts[days == day].any()]
    if len(full) < 2 or not empty:
        raise ValueError(
            f"'{file}': a split by day needs two days on which every number of persons occurs and one on "
            f"which the room is empty, but got {len(full)} and {len(empty)}."
        )
    test = sorted([full[random.integers(len(full))], empty[random.integers(len(empty))]])
    block = np.concatenate([np.arange((days == day).sum()) // _BLOCK for day in known])

    def rarest(first: int) -> int:
        """Readings of the rarest number of persons in validation, if it starts with that block."""
        chosen = counts[(block % _EVERY == first) & ~np.isin(days, test)]
        return int(np.bincount(chosen, minlength=classes).min())

    first = max(random.permutation(_EVERY), key=rarest)
    part_of = np.where(np.isin(days, test), 2, np.where(block % _EVERY == first, 1, 0))
    rule = (
        f"by day: test {test[0]} and {test[1]}, validation every fifth half hour of the others, seed {seed}"
    )
    return part_of.astype(np.int64), rule


def _from_source(source: DataSource) -> MultiViewDataset:
    return load_occupancy(source.path, seed=source.seed)


register_dataset(
    "occupancy",
    _from_source,
    about="persons in a room from seven unlike sensor nodes (bring the file: --path)",
)
