"""Plain tables of results, and means with their 95 % intervals.

A `Table` is a list of rows, each a dictionary; it prints as Markdown, CSV and JSON, and displays itself
in a notebook. A cell is a number, a text, None (not measured) or an `Estimate`.

    >>> print(Table("demo", "Demo", [{"scheme": "MP-CC", "cloud %": 98.25}]).to_markdown(heading=False))
    | scheme | cloud % |
    |---|---|
    | MP-CC | 98.2 |
    <BLANKLINE>
    <BLANKLINE>
"""

from __future__ import annotations

import csv
import html
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cell", "Estimate", "Table", "estimate", "mean", "percent"]

# Smaller numbers are the rounding of a mean.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its uncertainty.

    Attributes:
        mean: The mean.
        half_width: Half of the 95 % interval (Student's t over the seeds); None from one seed.
    """

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        return _number(self.mean) + ("" if self.half_width is None else f" ± {_number(self.half_width)}")


Cell = float | int | str | Estimate | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of one number per seed.

    Raises:
        ValueError: No value.
    """
    from scipy import stats

    if not values:
        raise ValueError("Expected `values` to hold at least one number, but got none.")
    number = len(values)
    if number == 1:
        return Estimate(float(values[0]), None)
    error = statistics.stdev(values) / math.sqrt(number)
    return Estimate(statistics.fmean(values), float(stats.t.ppf(0.975, number - 1)) * error)


def mean(cell: Cell) -> float:
    """The number in a cell; of an estimate the mean.

    Raises:
        TypeError: The cell holds no number.
    """
    if isinstance(cell, Estimate):
        return cell.mean
    if isinstance(cell, int | float):
        return float(cell)
    raise TypeError(f"Expected a cell with a number, but got {cell!r}.")


def percent(fractions: Sequence[float | None]) -> Estimate:
    """`estimate` of fractions, in percent.

    Raises:
        ValueError: No value, or one that is None: the network has no such exit.
    """
    values = [fraction for fraction in fractions if fraction is not None]
    if len(values) < len(fractions):
        raise ValueError("Expected `fractions` to hold numbers only, but got None: there is no such exit.")
    return estimate([100 * value for value in values])


@dataclass(frozen=True)
class Table:
    """Results in rows.

    Attributes:
        name: File name without ending, e.g. `table_1`.
        title: One line, for people.
        rows: The rows; all have the same keys, which are the columns.
        notes: What a reader must know, one sentence each.
        bold: Indices of the rows that stand out.
    """

    name: str
    title: str
    rows: Sequence[dict[str, Cell]]
    notes: tuple[str, ...] = ()
    bold: frozenset[int] = frozenset()

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.rows[0]) if self.rows else []

    def texts(self) -> list[list[str]]:
        """The cells as text, row by row."""
        return [[_text(cell) for cell in row.values()] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """The rows with numbers only: an estimate's half width stands under `<column> ±95%`."""
        uncertain = {column for row in self.rows for column, cell in row.items() if _is_estimate(cell)}
        records = []
        for row in self.rows:
            record: dict[str, Any] = {}
            for column, cell in row.items():
                record[column] = cell.mean if isinstance(cell, Estimate) else cell
                if column in uncertain:
                    record[f"{column} ±95%"] = cell.half_width if isinstance(cell, Estimate) else None
            records.append(record)
        return records

    def to_csv(self) -> str:
        """The records as CSV."""
        stream = io.StringIO()
        records = self.records()
        writer = csv.DictWriter(stream, list(records[0]) if records else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return stream.getvalue()

    def to_markdown(self, heading: bool = True) -> str:
        """The table as Markdown, its notes below.

        Args:
            heading: Whether the title stands above.
        """
        lines = [f"### {self.title}", ""] if heading else []
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        for at, texts in enumerate(self.texts()):
            marked = [f"**{text}**" if at in self.bold and text else text for text in texts]
            lines.append("| " + " | ".join(marked) + " |")
        lines += ["", *(f"{note}  " for note in self.notes), ""]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in texts) + "</tr>"
            for texts in self.texts()
        )
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>{body}</table>"


def _is_estimate(cell: Cell) -> bool:
    return isinstance(cell, Estimate)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return _number(cell) if isinstance(cell, float) else str(cell)


def _number(value: float) -> str:
    """One decimal from 10 on, two below, three below 0.1; whole numbers as they are."""
    if value == round(value):
        return str(round(value))
    size = abs(value)
    if size < _NOTHING:
        return "0"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"
