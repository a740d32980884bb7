"""Sensor readings of a user's own: CSV files of which a short YAML file says what is in them.

    file: room.csv
    time: [Date, Time]
    devices:
      air: [Temperature, CO2]
      door: {file: door.csv, columns: [Open]}
    label: Persons
    classes: {'0': empty, '1': one, '2': two}
    window: 16
    stride: 4
    longest_step: 120
    block: 1800

A sample is a line, or with `window` so many consecutive ones; its label is that of its last line. Readings
become 8-bit codes by the range of the training samples. `ddnn data describe FILE.csv` drafts such a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ddnn_tf.datasets.csv_files import Table, numbers, read_csv, times
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.recording import Recording, device_names
from ddnn_tf.datasets.source import DataSource, register_recording
from ddnn_tf.documents import Document, Strict

__all__ = [
    "NodeFile",
    "Series",
    "TableDescription",
    "ends_of_windows",
    "load_table",
    "read_series",
    "read_table",
]

# More values than this are measurements, not classes.
_MOST_CLASSES = 256

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class NodeFile(Strict):
    """A device whose readings stand in a file of their own.

    Attributes:
        file: The CSV file, relative to the description; it has the same time columns.
        columns: The columns of the device.
    """

    file: str
    columns: Names


class TableDescription(Document):
    """What stands in a user's CSV files.

    Attributes:
        file: The CSV file with the labels, relative to this description.
        time: The column of the time, or several that make one together, like date and time of day; numbers,
            or dates. None: lines follow each other in equal steps.
        devices: The columns of each device, in this file or in one of its own. A device in a file of its own
            contributes its last reading before each line's time, if that is no older than `longest_step`.
        label: The column of the class.
        classes: The name of each value of the label; None: its values are the names.
        window: Lines in a sample, which is then a series `(window, columns)`; None: a sample is one line, a
            vector `(columns,)`.
        stride: Lines from the start of one window to that of the next.
        longest_step: A longer time between two lines ends a window, in seconds or the unit of `time`.
        group: The column that says what must not stand in two parts: a person, a place, a day.
        block: In place of a column: lines of so much time in a row are a group, in seconds or the unit of
            `time`.
        part: The column that says which part a line is for: `train`, `validation` or `test`.

    Raises:
        ValueError: A field is missing or out of its range, or two contradict each other.
    """

    subject: ClassVar[str] = "description of the table"

    file: str
    time: str | Names | None = None
    devices: Annotated[dict[str, Names | NodeFile], Field(min_length=1)]
    label: str
    classes: dict[str, str] | None = None
    window: Annotated[int, Field(ge=1)] | None = None
    stride: Annotated[int, Field(ge=1)] = 1
    longest_step: Annotated[float, Field(gt=0)] | None = None
    group: str | None = None
    block: Annotated[float, Field(gt=0)] | None = None
    part: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _spell_classes(cls, fields: Any) -> Any:
        """Values of labels as text: YAML reads `0: empty` as a number."""
        if isinstance(fields, dict) and isinstance(fields.get("classes"), dict):
            named = {str(value): str(name) for value, name in fields["classes"].items()}
            return {**fields, "classes": named}
        return fields

    @model_validator(mode="after")
    def _check(self) -> TableDescription:
        if self.group is not None and self.block is not None:
            raise ValueError("'group' and 'block' both say what belongs together: leave one out")
        for name, device in self.devices.items():
            if isinstance(device, NodeFile) and self.time is None:
                raise ValueError(
                    f"'devices.{name}' has a file of its own, but there is no 'time' to join it by"
                )
            columns = device.columns if isinstance(device, NodeFile) else device
            repeated = next((column for column in columns if columns.count(column) > 1), None)
            if repeated is not None:
                raise ValueError(f"'devices.{name}' names the column '{repeated}' twice: remove one")
            # A network that reads the label learns nothing else.
            answers = {"label": self.label, "group": self.group, "part": self.part}
            for role, column in answers.items():
                if not isinstance(device, NodeFile) and column in columns:
                    raise ValueError(
                        f"'devices.{name}' reads '{column}', which is the '{role}': remove it from the device"
                    )
        return self

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns that make the time together."""
        return (self.time,) if isinstance(self.time, str) else self.time or ()


@dataclass(frozen=True)
class Series:
    """Readings of several nodes line by line.

    Attributes:
        times: `(lines,)` float64 or datetime64, when each line was taken.
        readings: `(lines, columns)` float64 by device.
        presence: `(lines,)` bool by device, whether there is a reading.
        labels: `(lines,)` int64.
        class_names: Name of each class.
        group: `(lines,)`, what must not stand in two parts; None: unknown.
        part: `(lines,)` str; None: not given.
    """

    times: NDArray[Any]
    readings: Mapping[str, NDArray[np.float64]]
    presence: Mapping[str, NDArray[np.bool_]]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    group: NDArray[Any] | None
    part: NDArray[np.str_] | None

    @property
    def steps(self) -> NDArray[np.float64]:
        """`(lines - 1,)`, time from each line to the next, in seconds or the unit of the time."""
        return seconds(np.diff(self.times))


def load_table(
    path: str | Path,
    *,
    split: str | None = None,
    test_share: float | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads sensor readings as a multi-view data set.

    Args:
        path: The YAML file, a `TableDescription`.
        split: `group`, `time`, `part`, or `random` if windows share no readings; None: the strictest that the
            data allow.
        test_share: Fraction of the samples for test; None: 0.2.
        validation_share: Fraction of the other samples for validation.
        seed: Seed of the split.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A contradictory description, a missing column, a reading that is no number, times that run
            backwards, a window longer than the data, or a split that is not possible.
    """
    recording = read_table(path)
    return recording.split(split, test_share=test_share, validation_share=validation_share, seed=seed)


def read_table(path: str | Path) -> Recording:
    """Reads sensor readings as samples that are not split yet; raises as `load_table`."""
    place = Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"There is no file '{place}': `ddnn data describe FILE.csv` drafts one.")
    if place.suffix.lower() == ".csv":
        raise ValueError(
            f"Expected a description of the table in YAML, but got '{place}': `ddnn data describe "
            f"{place.name}` drafts one."
        )
    description = TableDescription.load(place)
    series = read_series(description, place.parent)
    window = description.window or 1
    breaks = np.zeros(len(series.times) - 1, bool)
    if description.longest_step is not None:
        breaks |= series.steps > description.longest_step
    for column in (series.group, series.part):
        if column is not None:
            breaks |= column[1:] != column[:-1]
    ends = ends_of_windows(breaks, window)[:: description.stride]
    if not len(ends):
        raise ValueError(
            f"{place}: Expected `window` to fit into the readings, but {window} lines are longer than any "
            "stretch without a pause or a change of group: choose a shorter one."
        )
    rows = ends[:, None] + np.arange(1 - window, 1)
    presence = np.stack([is_there[rows].all(axis=1) for is_there in series.presence.values()], axis=1)
    views = {device: values[rows] for device, values in series.readings.items()}
    if description.window is None:
        views = {device: view[:, 0] for device, view in views.items()}
    return Recording(
        name="table",
        views=views,
        labels=series.labels[ends],
        presence=presence,
        class_names=series.class_names,
        group=None if series.group is None else series.group[ends],
        time=series.times[ends],
        start=series.times[rows[:, 0]],
        shares_readings=description.stride < window,
        part=None if series.part is None else series.part[ends],
    )


def read_series(description: TableDescription, folder: Path) -> Series:
    """Reads the files of a description line by line.

    Args:
        description: What is in them.
        folder: Where they are.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: As `load_table`.
    """
    table = read_csv(folder / description.file)
    own = {device: columns for device, columns in description.devices.items() if isinstance(columns, tuple)}
    columns = [*description.time_columns, *(name for names in own.values() for name in names)]
    named = [name for name in (description.label, description.group, description.part) if name is not None]
    table.check_columns([*columns, *named])
    if not len(table):
        raise ValueError(f"'{table.file}' holds no readings.")
    group = None if description.group is None else np.array(table.columns[description.group])
    moments = _times(table, description.time_columns, group)
    if description.block is not None:
        group = np.floor(seconds(moments - moments[0]) / description.block).astype(np.int64)
    readings: dict[str, NDArray[np.float64]] = {}
    presence: dict[str, NDArray[np.bool_]] = {}
    names = device_names(description.devices)
    for device, source in description.devices.items():
        if isinstance(source, NodeFile):
            values, is_there = _joined(source, description, folder, moments)
        else:
            values, is_there = _numbers(table, source), np.ones(len(table), bool)
        readings[names[device]], presence[names[device]] = values, is_there
    labels, class_names = _labels(table, description)
    part = None if description.part is None else np.array(table.columns[description.part])
    return Series(moments, readings, presence, labels, class_names, group, part)


def ends_of_windows(breaks: NDArray[np.bool_], window: int) -> NDArray[np.int64]:
    """Last lines of windows without a break, `(windows,)`.

    Args:
        breaks: `(lines - 1,)`, whether a window ends between a line and the next.
        window: Lines in a window.
    """
    run = np.concatenate([[0], np.cumsum(breaks)])
    ends = np.arange(window - 1, len(run))
    return ends[run[ends] == run[ends - (window - 1)]]


def seconds(steps: NDArray[Any]) -> NDArray[np.float64]:
    """Times between dates in seconds; numbers stay."""
    return steps / np.timedelta64(1, "s") if steps.dtype.kind == "m" else steps.astype(np.float64)


def _times(table: Table, columns: Sequence[str], group: NDArray[Any] | None) -> NDArray[Any]:
    """When each line was taken; within a group, no line is before the one above."""
    if not columns:
        return np.arange(len(table), dtype=np.float64)
    cells = [" ".join(row) for row in zip(*(table.columns[name] for name in columns), strict=True)]
    moments = times(cells, table.file, table.lines)
    backwards = seconds(np.diff(moments)) < 0
    if group is not None:
        backwards &= group[1:] == group[:-1]
    if backwards.any():
        at = int(np.flatnonzero(backwards)[0]) + 1
        raise ValueError(
            f"'{table.file}', line {table.lines[at]}: the time {cells[at]} is before that of the line above: "
            "sort the lines by time."
        )
    return moments


def _numbers(table: Table, columns: Sequence[str]) -> NDArray[np.float64]:
    read = [numbers(table.columns[name], table.file, table.lines, column=name) for name in columns]
    return np.stack(read, axis=1)


def _joined(
    node: NodeFile, description: TableDescription, folder: Path, moments: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A device's last readings at some times, and whether they are recent enough."""
    table = read_csv(folder / node.file)
    table.check_columns([*description.time_columns, *node.columns])
    if not len(table):
        raise ValueError(f"'{table.file}' holds no readings.")
    own = _times(table, description.time_columns, None)
    if own.dtype.kind != moments.dtype.kind:
        raise ValueError(
            f"'{table.file}' and '{description.file}' have times of different kinds, numbers and dates: "
            "write both alike."
        )
    last = np.searchsorted(own, moments, side="right") - 1
    is_there = last >= 0
    last = np.maximum(last, 0)
    if description.longest_step is not None:
        is_there &= seconds(moments - own[last]) <= description.longest_step
    return _numbers(table, node.columns)[last], is_there


def _labels(table: Table, description: TableDescription) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    cells = table.columns[description.label]
    named = description.classes
    if named is None:
        values = sorted(set(cells), key=lambda value: (not value.isdecimal(), value.zfill(20), value))
        if len(values) > _MOST_CLASSES:
            raise ValueError(
                f"'{table.file}': the label '{description.label}' has {len(values)} different values: "
                f"expected a column of at most {_MOST_CLASSES} classes."
            )
        named = {value: value for value in values}
    class_names = tuple(dict.fromkeys(named.values()))
    number_of = {value: class_names.index(name) for value, name in named.items()}
    for cell, line in zip(cells, table.lines, strict=True):
        if cell not in number_of or not cell:
            raise ValueError(
                f"'{table.file}', line {line}: the label '{cell}' in the column '{description.label}' is "
                f"none of {', '.join(filter(None, named))}."
            )
    return np.array([number_of[cell] for cell in cells], np.int64), class_names


def _record(source: DataSource) -> Recording:
    if source.path is None:
        raise ValueError(
            "The data set 'table' is your own sensor readings: give the place of their description with "
            "--path FILE.yaml (`ddnn data describe FILE.csv` drafts one)."
        )
    return read_table(source.path)


register_recording(
    "table",
    _record,
    about="your own sensor readings in CSV files, described in YAML (`ddnn data describe`; --path)",
)
