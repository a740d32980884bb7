"""How far long work is: a bar on a terminal, a line that changes in a notebook, else a line for each step.

    >>> with Progress("training ddnn", total=2, show=False) as progress:
    ...     progress.update(1, "epoch 1 of 2")

All of it goes to stderr, so that stdout holds results only.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """The progress of one piece of work, to be entered as a context around it.

    Args:
        title: What is being done.
        total: How much there is to do.
        done: How much of it was done before.
        show: False shows nothing anywhere.
    """

    def __init__(self, title: str, total: float, *, done: int = 0, show: bool = True) -> None:
        console = Console(stderr=True)
        self._title = title
        self._in_notebook = show and console.is_jupyter
        self._on_terminal = show and console.is_terminal and not self._in_notebook
        self._in_lines = show and not self._in_notebook and not self._on_terminal
        self._notebook_line: Any = None
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            # No elapsed time: beside the losses, 80 columns would not hold the time left.
            TextColumn("{task.fields[state]}"),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._on_terminal,
            # Steps can take minutes: estimate from all of them, not from the last seconds.
            speed_estimate_period=float("inf"),
        )
        self._task = self._bar.add_task(title, total=total, completed=done, state="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: float, state: str) -> None:
        """Shows how much is done by now, and what else there is to say."""
        self._bar.update(self._task, completed=done, state=state)
        if self._in_notebook:
            self._show_in_notebook(f"{self._title}: {state}")
        elif self._in_lines:
            print(f"ddnn: {self._title}: {state}", file=sys.stderr, flush=True)

    def _show_in_notebook(self, line: str) -> None:
        from IPython.display import display

        content = {"text/plain": line}
        if self._notebook_line is None:
            self._notebook_line = display(content, raw=True, display_id=True)
        else:
            self._notebook_line.update(content, raw=True)
