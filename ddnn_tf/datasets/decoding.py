"""Decoding a user's pictures into the views of a data set, in memory or, where they are too large, on disk.

On disk they are decoded once: as long as no file changes, the next command finds the views under
`cache_directory()/pictures`. Remove that directory to free the room.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from ddnn_tf.datasets.pictures import Format, read_pictures
from ddnn_tf.datasets.stored import StoredView, View, memory_budget
from ddnn_tf.documents import atomic_write, cache_directory

__all__ = ["Decoded", "Wanted", "decode"]

_OUTCOME = "outcome.json"
# What a picture has at most, for the size of all of them.
_COLOURS = 3


@dataclass(frozen=True)
class Wanted:
    """A picture, and where it belongs.

    Attributes:
        file: The picture.
        device: Whose view it is, by the device's name in the network.
        row: The sample.
    """

    file: Path
    device: str
    row: int


@dataclass(frozen=True)
class Decoded:
    """What came of decoding.

    Attributes:
        views: `(samples, height, width, channels)` uint8 by device: black where there is no picture.
        channels: Channels of each picture, 1 or 3; 0: it cannot be read.
        reasons: Why a picture cannot be read, by its number.
    """

    views: Mapping[str, View]
    channels: Sequence[int]
    reasons: Mapping[int, str]


def decode(pictures: Sequence[Wanted], formats: Mapping[str, Format], samples: int) -> Decoded:
    """Decodes pictures.

    Args:
        pictures: What to decode.
        formats: What the pictures of each device are brought to.
        samples: Number of samples.

    Raises:
        ImportError: Pillow is not installed.
        OSError: No room for the views on the disk.
    """
    size = sum(samples * each.height * each.width * _COLOURS for each in formats.values())
    if size <= memory_budget():
        return _decoded(pictures, formats, lambda _, shape: np.zeros(shape, np.uint8), samples)
    place = cache_directory() / "pictures" / _key(pictures, formats)
    if place.exists() and _is_damaged(place, formats):
        shutil.rmtree(place)
    if not place.exists():
        _decode_into(place, pictures, formats, samples)
    return _kept(place, formats)


def _decode_into(
    place: Path, pictures: Sequence[Wanted], formats: Mapping[str, Format], samples: int
) -> None:
    """Decodes pictures into files in a directory, which is there whole or not at all."""
    try:
        with atomic_write(place) as aside:
            aside.mkdir()
            made = _decoded(
                pictures,
                formats,
                lambda device, shape: StoredView.create(aside / f"{device}.npy", shape),
                samples,
            )
            outcome = {"channels": made.channels, "reasons": made.reasons}
            (aside / _OUTCOME).write_text(json.dumps(outcome), encoding="utf-8")
    except OSError:
        # Another command may have finished the same meanwhile.
        if not place.exists():
            raise


def _kept(place: Path, formats: Mapping[str, Format]) -> Decoded:
    """What was decoded into a directory."""
    outcome = json.loads((place / _OUTCOME).read_text(encoding="utf-8"))
    return Decoded(
        {device: StoredView(place / f"{device}.npy") for device in formats},
        outcome["channels"],
        {int(number): reason for number, reason in outcome["reasons"].items()},
    )


def _is_damaged(place: Path, formats: Mapping[str, Format]) -> bool:
    """Whether a crash, or someone who made room, left only parts of a directory."""
    try:
        _kept(place, formats)
    except (OSError, ValueError):
        return True
    return False


def _decoded(
    pictures: Sequence[Wanted],
    formats: Mapping[str, Format],
    make: Callable[[str, tuple[int, ...]], View],
    samples: int,
) -> Decoded:
    views: dict[str, View] = {}
    channels: list[int] = []
    reasons: dict[int, str] = {}
    contents = read_pictures(
        [picture.file for picture in pictures], [formats[picture.device] for picture in pictures]
    )
    for picture, content in zip(pictures, contents, strict=True):
        if isinstance(content, ValueError):
            reasons[len(channels)] = str(content)
            channels.append(0)
            continue
        channels.append(content.shape[-1])
        if picture.device not in views:
            form = formats[picture.device]
            views[picture.device] = make(
                picture.device, (samples, form.height, form.width, content.shape[-1])
            )
        view = views[picture.device]
        # The first picture says whether a device's are grey; others are a problem of the data.
        if content.shape[-1] == view.shape[-1]:
            view[picture.row] = content
    for device, form in formats.items():
        if device not in views:
            views[device] = make(device, (samples, form.height, form.width, 1))
    return Decoded({device: views[device] for device in formats}, channels, reasons)


def _key(pictures: Sequence[Wanted], formats: Mapping[str, Format]) -> str:
    """A name for pictures as they are now, in these formats."""
    content = hashlib.sha256(json.dumps({name: astuple(form) for name, form in formats.items()}).encode())
    for picture in pictures:
        state = picture.file.stat()
        line = f"{picture.device} {picture.row} {picture.file.absolute()} {state.st_size} {state.st_mtime_ns}"
        content.update(f"{line}\n".encode())
    return content.hexdigest()[:32]
