"""Tables on stdout: as wide as the terminal, or of a fixed width in a file."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["new_table", "show"]

_FILE_WIDTH = 130


def new_table(title: str, first: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def show(*things: Any) -> None:
    """Prints tables and lines."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    for thing in things:
        console.print(thing)
