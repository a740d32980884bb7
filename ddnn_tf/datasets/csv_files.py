"""Reading CSV files that people write: columns by name, times and numbers, with errors that name the line.

>>> times(["2017-12-22 10:49:41", "2017/12/22 10:50:12"], "t.csv", [2, 3]).astype(str).tolist()
['2017-12-22T10:49:41.000', '2017-12-22T10:50:12.000']
>>> times(["0.5", "1"], "t.csv", [2, 3]).tolist()
[0.5, 1.0]
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "is_number", "numbers", "read_csv", "times"]


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        file: Its path.
        columns: The cells of each column, without space around them, by its name.
        lines: The line in the file of each row, from 1.
    """

    file: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def check_columns(self, names: Iterable[str]) -> None:
        """Refuses a file without some column.

        Raises:
            ValueError: A column is missing.
        """
        for name in names:
            if name not in self.columns:
                raise ValueError(
                    f"'{self.file}' has no column '{name}': it has {', '.join(self.columns) or 'none'}."
                )


def read_csv(file: Path) -> Table:
    """Reads a CSV file with a line of names; cells are parted by commas, semicolons or tabs.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not text, a column that is named twice, or a line with fewer or more cells than there are
            names.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file '{file}'.")
    try:
        # Spreadsheets put a mark in front of UTF-8.
        with open(file, newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(",;\t", key=first.count))
            names = [name.strip() for name in next(reader, [])]
            rows, lines = [], []
            for row in reader:
                if not any(row):
                    continue
                if len(row) != len(names):
                    raise ValueError(
                        f"'{file}', line {reader.line_num}: it has {len(row)} cells, but there are "
                        f"{len(names)} columns."
                    )
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{file}' is no CSV file in UTF-8: {error}.") from None
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'{file}' has more than one column '{name}': rename one.")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    return Table(file, {name: columns.get(name, []) for name in names}, lines)


def times(cells: Sequence[str], file: str | Path, lines: Sequence[int]) -> NDArray[Any]:
    """Times out of cells: all numbers, or all dates with or without a time of day.

    Args:
        cells: For instance `12.5` or `2017-12-22 10:49:41`; a time zone is taken into account.
        file: The file, for messages.
        lines: The line of each cell, for messages.

    Returns:
        `(cells,)` float64 or datetime64[ms].

    Raises:
        ValueError: A cell is neither, or they are of both kinds.
    """
    if cells and is_number(cells[0]):
        return numbers(cells, file, lines)
    parsed = []
    for cell, line in zip(cells, lines, strict=True):
        try:
            moment = datetime.fromisoformat(_iso(cell))
        except ValueError:
            raise ValueError(
                f"'{file}', line {line}: the time '{cell}' is neither a number nor like 2017-12-22 10:49:41."
            ) from None
        parsed.append(moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment)
    return np.array(parsed, "datetime64[ms]")


def numbers(
    cells: Sequence[str], file: str | Path, lines: Sequence[int], *, column: str = "time"
) -> NDArray[np.float64]:
    """Finite numbers out of cells, `(cells,)`; an empty cell holds the number above.

    Args:
        cells: The cells.
        file: The file, for messages.
        lines: The line of each cell, for messages.
        column: The name of the column, for messages.

    Raises:
        ValueError: A cell is no finite number, or the first is empty.
    """
    values = np.empty(len(cells))
    last = math.nan
    for at, cell in enumerate(cells):
        try:
            last = float(cell) if cell else last
        except ValueError:
            raise ValueError(
                f"'{file}', line {lines[at]}: the column '{column}' holds '{cell}', which is no number."
            ) from None
        if not math.isfinite(last):
            what = f"holds '{cell}'" if cell else "is empty, and no number stands above"
            raise ValueError(
                f"'{file}', line {lines[at]}: the column '{column}' {what}: expected a finite number."
            )
        values[at] = last
    return values


def _iso(cell: str) -> str:
    """A date as ISO 8601 writes it: `2018/1/5 9:03:07` is written `2018-01-05 09:03:07`."""
    two_digits = re.sub(r"(?<![\d.])(\d)(?![\d.])", r"0\1", cell.replace("/", "-"))
    return two_digits.replace("Z", "+00:00")


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, and not a name."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
