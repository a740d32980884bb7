"""`ddnn data check`: what is wrong with data, before a network is trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, progress_bars, show
from ddnn_tf.datasets import PARTS
from ddnn_tf.documents import check_writable, write_text

if TYPE_CHECKING:
    from ddnn_tf.datasets.checking import DataCheck

__all__ = ["check"]

_FOUND_ERRORS = 1
_FILES_SHOWN = 3
_PAIRS_SHOWN = 5
_OF_ONE_KIND = 5


@options.takes_data
def check(
    name: Annotated[
        str, typer.Argument(help=f"{options.DATA_NAMES}, or one of a plug-in.", metavar="NAME")
    ] = "scenes",
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page with pictures into that file.", metavar="FILE"),
    ] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    *,
    chosen: options.DataOptions,
) -> None:
    """Show what is wrong with a data set, and whether test samples leak into training.

    The exit code is 1 if there are errors, which stop a training or make it meaningless, and 0 if there are
    warnings only.

    Examples:

        ddnn data check folder --path pictures --html check.html

        ddnn data check eth80 --path eth80_32.npz
    """
    from ddnn_tf.datasets.check_page import to_html
    from ddnn_tf.datasets.checking import check_source

    if html is not None:
        options.check_installed("pictures", "jinja2")
        if html.is_dir():
            raise IsADirectoryError(f"'{html}' is a directory: name a file in it.")
        check_writable(html)
    with progress_bars() as report:
        found = check_source(chosen.source(name, seed), report)
    if html is not None:
        write_text(html, to_html(found))
    if as_json:
        print_json(found.to_dict())
    else:
        show(*_page(found))
    if found.errors:
        raise typer.Exit(_FOUND_ERRORS)


def _page(found: DataCheck) -> Iterator[Any]:
    from ddnn_tf.datasets.problems import first_of_each_kind

    contents = found.to_dict()["contents"]
    if contents is not None:
        yield from _tables(found, contents)
    if found.leaks is not None:
        yield from _leaks(found)
    for reason in dict.fromkeys(found.not_compared.values()):
        devices = [device for device, known in found.not_compared.items() if known == reason]
        yield Text(f"{', '.join(devices)}: {reason}.")
    for severity, style, problems in (("error", "red", found.errors), ("warning", "yellow", found.warnings)):
        for problem, further in first_of_each_kind(problems, _OF_ONE_KIND):
            yield Text.assemble((f"{severity} ({problem.kind})", style), f": {problem.message}")
            # The files of a leak stand in a table of their own.
            if problem.files and problem.kind != "leak":
                rest = len(problem.files) - _FILES_SHOWN
                more = f" and {rest} more (--json lists them)" if rest > 0 else ""
                yield Text(f"    {', '.join(problem.files[:_FILES_SHOWN])}{more}")
            if further:
                yield Text(f"    and {further:,} more of this kind (--json lists them)")
    yield Text(f"{_count(len(found.errors), 'error')}, {_count(len(found.warnings), 'warning')}")


def _tables(found: DataCheck, contents: dict[str, Any]) -> Iterator[Any]:
    devices = contents["views"]
    classes = new_table(
        f"{found.name}: {contents['samples']:,} samples, {len(devices)} devices", "class", *PARTS
    )
    for name in contents["classes"]:
        classes.add_row(Text(name), *(f"{contents['parts'][part][name]:,}" for part in PARTS))
    yield classes
    yield Text(f"Split {contents['split']}.")
    sizes = ("pictures",) if found.original_sizes else ()
    views = new_table("Views of each device", "device", "input", *sizes, "there", "absent", "no contrast")
    for device, view in devices.items():
        views.add_row(
            Text(device),
            "x".join(map(str, view["input"])),
            *((found.original_sizes[device],) if sizes else ()),
            f"{sum(view['present'].values()):,}",
            f"{view['absent']:,}",
            f"{view['without_contrast']:,}",
        )
    yield views


def _leaks(found: DataCheck) -> Iterator[Any]:
    from ddnn_tf.datasets.problems import percent

    if found.leaks is None:
        return
    leaks = new_table(
        "Near-identical in training", "test samples and views", "share", "up to", "two random views"
    )
    leaks.add_row("samples", percent(found.leaks.share), "", "")
    for device, share in found.leaks.by_view.items():
        leaks.add_row(
            f"views of {device}",
            percent(share),
            f"{found.leaks.thresholds[device]:.3f}",
            f"{found.leaks.typical[device]:.1f}",
        )
    yield leaks
    pairs = new_table("Most alike", "test", "difference")
    pairs.add_column("training", justify="left")
    for pair in found.to_dict()["leaks"]["pairs"][:_PAIRS_SHOWN]:
        test, training = next(iter(pair["files"].values()))
        pairs.add_row(Text(test), f"{pair['difference']:.3f}", Text(training))
    if pairs.row_count:
        yield pairs


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
