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

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.recording import Recording
from ddnn_tf.datasets.source import DataSource, register_dataset
from ddnn_tf.datasets.splits import PARTS
from ddnn_tf.datasets.table import TableDescription, ends_of_windows, read_series
from ddnn_tf.documents import data_directory

__all__ = ["WINDOW", "load_occupancy"]

WINDOW = 16
"""Readings in a window: about eight minutes."""

_FILE = "occupancy.csv"
_DESCRIPTION = TableDescription(
    file=_FILE,
    time=("Date", "Time"),
    devices={
        **{f"S{node}": (f"S{node}_Temp", f"S{node}_Light", f"S{node}_Sound") for node in range(1, 5)},
        "S5": ("S5_CO2", "S5_CO2_Slope"),
        "S6": ("S6_PIR",),
        "S7": ("S7_PIR",),
    },
    label="Room_Occupancy_Count",
    classes={"0": "empty", "1": "one", "2": "two", "3": "three"},
)
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
    series = read_series(_DESCRIPTION.model_copy(update={"file": file.name}), file.parent)
    days = series.times.astype("datetime64[D]")
    part_of, rule = _split_by_day(file, days, series.labels, seed)
    breaks = (series.steps > _LONGEST_STEP_S) | (days[1:] > days[:-1]) | (np.diff(part_of) != 0)
    ends = ends_of_windows(breaks, window)[::stride]
    if not len(ends):
        raise ValueError(
            f"Expected `window` to fit into the readings of '{file}', but {window} readings are longer than "
            "any recording without a gap: choose a shorter window."
        )
    rows = ends[:, None] + np.arange(1 - window, 1)
    recording = Recording(
        name="occupancy",
        views={node: readings[rows] for node, readings in series.readings.items()},
        labels=series.labels[ends],
        presence=np.ones((len(ends), len(series.readings)), dtype=bool),
        class_names=series.class_names,
        group=days[ends],
        balance=True,
    )
    parts = {part: np.flatnonzero(part_of[ends] == number) for number, part in enumerate(PARTS)}
    return recording.in_parts(parts, rule)


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
