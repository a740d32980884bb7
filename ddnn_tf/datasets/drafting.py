"""A first description of a CSV file of sensor readings, to be corrected by whoever knows what it holds."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.csv_files import Table, numbers, read_csv, times
from ddnn_tf.datasets.splits import PARTS
from ddnn_tf.datasets.table import TableDescription, seconds

__all__ = ["draft_description"]

_LABELS = re.compile(r"label|class|target|activity|state|count|occupancy|person", re.IGNORECASE)
_GROUPS = re.compile(r"subject|session|user|group|house|room|day|patient|machine", re.IGNORECASE)
_TIMES = re.compile(r"time|date|second|^t$", re.IGNORECASE)
# A column with more different values than this is a measurement.
_MOST_CLASSES = 20
_WINDOW, _STRIDE = 16, 4
# Longer than so many usual steps is a pause.
_PAUSE = 4
# Where no column says what belongs together, blocks do: the longest of which every class has this many.
_BLOCKS_OF_A_CLASS = 6


def draft_description(file: str | Path, place: str | Path | None = None) -> TableDescription:
    """Describes a CSV file by the names and values of its columns.

    The first parts of the columns' names, up to `_` or another sign, are taken for the devices; the column of
    the class, of the time and of groups are known by their names and values.

    Args:
        file: The CSV file.
        place: Where the description will be written; None: beside the file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no CSV file, or it has no column that could be a class, or none of numbers.
    """
    table = read_csv(Path(file))
    if not len(table):
        raise ValueError(f"'{file}' holds no readings.")
    moments = _time_columns(table)
    numeric = [name for name in table.columns if name not in moments and _is_numeric(table, name)]
    label = _label(table, moments)
    others = [name for name in table.columns if name not in (*moments, label)]
    part = next((name for name in others if set(table.columns[name]) <= set(PARTS)), None)
    group = next(
        (name for name in others if _GROUPS.search(name) and _holds_together(table, name, label)), None
    )
    sensors = [name for name in numeric if name not in (label, group, part)]
    if not sensors:
        raise ValueError(f"'{file}' has no column of numbers besides '{label}': it holds no readings.")
    devices: dict[str, list[str]] = defaultdict(list)
    for name in sensors:
        devices[re.split(r"[^A-Za-z0-9]", name)[0] or "sensors"].append(name)
    if len(devices) == len(sensors) > 1:
        devices = {"sensors": sensors}
    taken = _taken(table, moments)
    step = _usual_step(taken)
    folder = Path(file).parent if place is None else Path(place).parent
    return TableDescription(
        file=Path(os.path.relpath(file, folder)).as_posix(),
        time=None if not moments else moments[0] if len(moments) == 1 else tuple(moments),
        devices={device: tuple(names) for device, names in devices.items()},
        label=label,
        classes={value: value for value in _values(table, label)},
        window=_WINDOW,
        stride=_STRIDE,
        longest_step=float(f"{_PAUSE * step:.3g}") if moments else None,
        group=group,
        block=None if group or part else _block(table, label, taken, step),
        part=part,
    )


def _time_columns(table: Table) -> list[str]:
    """The columns of the time: one of dates, perhaps with one of times of day, or one of numbers."""
    dated = [name for name in table.columns if not _is_numeric(table, name) and _is_time(table, [name])]
    if not dated:
        named = (name for name in table.columns if _TIMES.search(name) and _is_numeric(table, name))
        return [name for name in named if (np.diff(_numbers(table, name)) >= 0).all()][:1]
    first = dated[0]
    of_day = [name for name in table.columns if name != first and _TIMES.search(name)]
    return next(([first, name] for name in of_day if _is_time(table, [first, name])), [first])


def _label(table: Table, moments: Sequence[str]) -> str:
    few = []
    for name, cells in table.columns.items():
        values = set(cells)
        if name not in moments and 2 <= len(values) <= _MOST_CLASSES and not values <= set(PARTS):
            few.append(name)
    if not few:
        raise ValueError(
            f"'{table.file}' has no column of 2 to {_MOST_CLASSES} different values: add one with the class "
            "of each line."
        )
    return next((name for name in reversed(few) if _LABELS.search(name)), few[-1])


def _holds_together(table: Table, group: str, label: str) -> bool:
    """Whether a column has at least three groups of every class, one for each part."""
    groups_of = defaultdict(set)
    for name, value in zip(table.columns[group], table.columns[label], strict=True):
        groups_of[value].add(name)
    return all(len(groups) >= len(PARTS) for groups in groups_of.values())


def _taken(table: Table, moments: Sequence[str]) -> NDArray[np.float64]:
    """When each line was taken, in seconds or the unit of the time, from 0."""
    if not moments:
        return np.arange(float(len(table)))
    cells = [" ".join(row) for row in zip(*(table.columns[name] for name in moments), strict=True)]
    taken = times(cells, table.file, table.lines)
    return seconds(taken - taken[0])


def _usual_step(taken: NDArray[np.float64]) -> float:
    steps = np.diff(taken)
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0


def _block(table: Table, label: str, taken: NDArray[np.float64], step: float) -> float:
    """Time of a block of lines: long, but with several blocks of every class."""
    block = step * len(table) / _BLOCKS_OF_A_CLASS
    while block > 2 * _WINDOW * step:
        number = np.floor(taken / block).astype(int)
        blocks_of = defaultdict(set)
        for value, at in zip(table.columns[label], number, strict=True):
            blocks_of[value].add(at)
        if all(len(blocks) >= _BLOCKS_OF_A_CLASS for blocks in blocks_of.values()):
            break
        block /= 2
    return float(f"{block:.2g}")


def _values(table: Table, name: str) -> list[str]:
    return sorted(set(table.columns[name]), key=lambda value: (value.zfill(20), value))


def _numbers(table: Table, name: str) -> np.ndarray:
    return numbers(table.columns[name], table.file, table.lines, column=name)


def _is_numeric(table: Table, name: str) -> bool:
    try:
        _numbers(table, name)
    except ValueError:
        return False
    return True


def _is_time(table: Table, names: Sequence[str]) -> bool:
    cells = [" ".join(row) for row in zip(*(table.columns[name] for name in names), strict=True)]
    try:
        return times(cells, table.file, table.lines).dtype.kind == "M"
    except ValueError:
        return False
