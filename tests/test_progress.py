from __future__ import annotations

import re
from typing import Any

import pytest
from rich.console import Console

from ddnn_tf.progress import Progress


def test_a_terminal_shows_a_bar(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    with Progress("training", 4, done=1) as progress:
        progress.update(3, "3 done")
    out, err = capfd.readouterr()
    assert out == ""
    assert "training" in err
    assert "3 done" in err
    assert "ddnn:" not in err


def test_80_columns_hold_the_losses_and_the_time_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", "80")
    with Progress("training ddnn", 20) as progress:
        progress.update(10, "epoch 10 of 20: loss 1.573, validation 0.976")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capfd.readouterr().err)
    assert re.search(r"loss 1\.573, validation 0\.976 left: [-\d]:[-\d]{2}:[-\d]{2}\s", shown)


def test_a_notebook_shows_one_line_that_changes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("IPython")
    shown: list[tuple[str, Any]] = []

    class Handle:
        def update(self, content: dict[str, str], raw: bool) -> None:
            shown.append(("changed", content))

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(("new", content))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with Progress("training", 2) as progress:
        progress.update(1, "epoch 1")
        progress.update(2, "epoch 2")
    assert shown == [
        ("new", {"text/plain": "training: epoch 1"}),
        ("changed", {"text/plain": "training: epoch 2"}),
    ]
    with Progress("training", 2, show=False) as progress:
        progress.update(1, "epoch 1")
    assert len(shown) == 2
    assert capfd.readouterr() == ("", "")
