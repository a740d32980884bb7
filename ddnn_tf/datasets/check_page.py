"""A data check as one self-contained HTML page: problems, classes, devices, samples and leaks as pictures.

The page needs no other file, no server and no script.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.checking import DataCheck
from ddnn_tf.datasets.multiview import PARTS, MultiViewDataset
from ddnn_tf.datasets.problems import class_counts, first_of_each_kind, name_of_view, percent
from ddnn_tf.datasets.split_problems import shares_by_class
from ddnn_tf.palette import colour

if TYPE_CHECKING:
    import jinja2

__all__ = ["to_html"]

# Enough to see what a class looks like, and a page of a few megabytes at most.
_SAMPLES_OF_CLASS, _MOST_PICTURES = 5, 600
_LARGEST_SIDE = 96
_FILES_SHOWN = 20
_OF_ONE_KIND = 20


@dataclass(frozen=True)
class _Row:
    """A sample in a montage: its caption, and by device a picture's data URI and name; None if absent."""

    caption: str
    pictures: list[tuple[str, str] | None]


def to_html(check: DataCheck) -> str:
    """The page of a check.

    Raises:
        ImportError: Jinja2 is not installed.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddnn_tf.datasets", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return _page(environment, check)


def _page(environment: jinja2.Environment, check: DataCheck) -> str:
    data = check.data
    parts = {} if data is None else {part: class_counts(data, data.split[part]) for part in PARTS}
    return environment.get_template("check_page.html.j2").render(
        check=check,
        contents=check.to_dict()["contents"],
        by_class={} if data is None or check.leaks is None else shares_by_class(data, check.leaks),
        parts=parts,
        largest={part: max(counts.values()) for part, counts in parts.items()},
        colour=colour,
        montage={} if data is None else _montage(data),
        pairs=[] if data is None else _pairs(check, data),
        problems={
            severity: list(first_of_each_kind(problems, _OF_ONE_KIND))
            for severity, problems in (("error", check.errors), ("warning", check.warnings))
        },
        files_shown=_FILES_SHOWN,
    )


def _montage(data: MultiViewDataset) -> dict[str, list[_Row]]:
    """Some training samples of each class, spread over the training part."""
    room = _MOST_PICTURES // (len(data.class_names) * len(data.device_names))
    count = min(_SAMPLES_OF_CLASS, max(1, room))
    train = np.sort(data.split["train"])
    montage = {}
    for label, name in enumerate(data.class_names):
        rows = train[data.labels[train] == label]
        places = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int)) if len(rows) else []
        montage[name] = [_row(data, int(rows[place]), f"sample {rows[place]}") for place in places]
    return montage


def _pairs(check: DataCheck, data: MultiViewDataset) -> list[tuple[_Row, _Row, float]]:
    return [
        (
            _row(data, test, f"test {test}: {data.class_names[data.labels[test]]}"),
            _row(data, train, f"training {train}: {data.class_names[data.labels[train]]}"),
            difference,
        )
        for test, train, difference in check.pairs()
    ]


def _row(data: MultiViewDataset, row: int, caption: str) -> _Row:
    pictures: list[tuple[str, str] | None] = []
    for number, (device, view) in enumerate(data.views.items()):
        if data.presence[row, number]:
            pictures.append((_data_uri(_as_picture(view[row])), name_of_view(data, device, row)))
        else:
            pictures.append(None)
    return _Row(caption, pictures)


def _as_picture(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels `(height, width, 1 or 3)` of a view; readings in time run from left to right."""
    if view.ndim == 1:
        return view[None, :, None]
    if view.ndim == 2:
        return view.T[:, :, None]
    step = -(-max(view.shape[:2]) // _LARGEST_SIDE)
    return view[::step, ::step, : 3 if view.shape[-1] == 3 else 1]


def _data_uri(picture: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(picture)).decode()


def _png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG file of `(height, width, 1 or 3)` uint8, without Pillow."""
    height, width, channels = picture.shape
    colour_type = 2 if channels == 3 else 0
    # Every line begins with the number of its filter: 0, none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    framed = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)
