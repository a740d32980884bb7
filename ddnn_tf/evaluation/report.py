"""Results as files: one HTML page, Markdown, CSV, PNG, SVG and JSON.

report.html        self-contained: needs no other file, no server, no script
report.md          the same, with links to the figures
results.json       all tables
tables/*.csv       one for each table
figures/*.png|svg  one pair for each figure
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnn_tf.documents import atomic_write
from ddnn_tf.evaluation.reproduce import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["to_html", "to_markdown", "write_report"]

# Tables with more rows are folded in the page.
_LONG = 20
_KINDS = ("png", "svg")
_TITLE = "Distributed deep neural networks: the paper's evaluation, reproduced"


def write_report(results: Results, directory: str | Path) -> Path:
    """Writes all files of a report, and removes the tables and figures of an earlier one.

    Args:
        results: What `reproduce` returned.
        directory: The directory of the report.

    Returns:
        The path of `report.html`, which is written last.
    """
    place = Path(directory)
    tables = {f"{table.name}.csv" for item in results.items for table in item.tables}
    drawn = {f"{name}.{kind}" for item in results.items for name in item.figures for kind in _KINDS}
    for folder, kept in (("tables", tables), ("figures", drawn)):
        for file in (place / folder).glob("*.*"):
            if file.name not in kept:
                file.unlink()
    for item in results.items:
        for table in item.tables:
            _write(place / "tables" / f"{table.name}.csv", table.to_csv())
        for name, figure in item.figures.items():
            for kind in _KINDS:
                _write(place / "figures" / f"{name}.{kind}", _drawn(figure, kind))
    _write(place / "results.json", json.dumps(results.to_dict(), indent=1) + "\n")
    _write(place / "report.md", to_markdown(results))
    _write(place / "report.html", to_html(results))
    return place / "report.html"


def to_markdown(results: Results) -> str:
    """The report as Markdown; figures are links to `figures/`."""
    lines = [f"# {_TITLE}", "", *(f"{sentence}  " for sentence in results.about), ""]
    for item in results.items:
        lines += [f"## {item.title}", ""]
        lines += [f"![{name}](figures/{name}.png)\n" for name in item.figures]
        lines += [table.to_markdown(heading=table.title != item.title) for table in item.tables]
    for name, reason in results.left_out.items():
        lines += [f"Left out: {name}. {reason}", ""]
    return "\n".join(lines)


def to_html(results: Results) -> str:
    """The report as one self-contained page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddnn_tf.evaluation", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=_TITLE, results=results, image=_embedded, long=_LONG
    )


def _embedded(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(_drawn(figure, "svg")).decode()


def _drawn(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
    figure.savefig(stream, format=kind, **options)
    return stream.getvalue()


def _write(path: Path, content: str | bytes) -> None:
    with atomic_write(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
