"""What commands print: JSON, tables as wide as the terminal (of a fixed width in a file), and progress."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

__all__ = ["new_table", "print_json", "print_line", "progress_bars", "show", "warn_of_plaintext", "working"]

_FILE_WIDTH = 130


def print_json(content: Any) -> None:
    """Prints one JSON value, indented."""
    print(json.dumps(content, indent=2))


def print_line(content: Any) -> None:
    """Prints one JSON value on one line at once, for programs that read while the process runs."""
    print(json.dumps(content), flush=True)


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


@contextlib.contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """Shows on stderr what is being worked on, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading ...") as status:
        yield status.update


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Shows on stderr how far each stage of a work is, if that is a terminal.

    Yields:
        A function that takes the name of a stage, how much of it is done, and out of how much.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    tasks: dict[str, TaskID] = {}
    bars = Progress(console=console, transient=True)

    def report(stage: str, done: int, total: int) -> None:
        # Not before there is something to show: what runs before may show a bar of its own.
        bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield report
    finally:
        bars.stop()


def warn_of_plaintext() -> None:
    """Warns that processes talk without TLS."""
    print(
        "ddnn: warning: PLAINTEXT: nothing is encrypted and nobody is authenticated; use it on loopback only",
        file=sys.stderr,
    )
