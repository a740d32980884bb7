"""One pass over each device's views: what to compare samples by, and what is wrong with single views.

>>> from ddnn_tf.datasets import load_dataset
>>> scenes = survey(load_dataset("scenes"))["device_0"]
>>> scenes.numbers.shape, scenes.constant
((851, 256), {})
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.leaks import has_contrast, small_copies, standardised
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.problems import MOST_NAMES, count_of, names_of_views
from ddnn_tf.datasets.recording import Problem

__all__ = ["Survey", "survey", "view_problems"]

# Views may be mapped from a file and large: so many bytes of them are in memory at a time, and four times as
# many while their grey copies are made.
_CHUNK_BYTES = 2**25


@dataclass(frozen=True)
class Survey:
    """What a pass over a device's views found.

    Attributes:
        numbers: `(samples, numbers)`, what to compare samples by: grey copies uint8 of pictures, standardised
            features float32 of vectors; None for readings in time, which are not compared.
        has_content: `(samples,)` bool, whether the view is there and shows something.
        is_uniform: `(samples,)` bool, whether a picture that is there has one colour only.
        digests: `(samples,)` uint64, equal for equal pictures, of those with content; 0 for others.
        constant: Value of each channel that is the same in all training samples, by the channel's number.
    """

    numbers: NDArray[Any] | None
    has_content: NDArray[np.bool_]
    is_uniform: NDArray[np.bool_]
    digests: NDArray[np.uint64]
    constant: Mapping[int, int]


def survey(data: MultiViewDataset, progress: Callable[[int, int], None] | None = None) -> dict[str, Survey]:
    """Reads all views once.

    Args:
        data: The data set.
        progress: Is told how many views are read, and out of how many.
    """
    samples = len(data.labels)
    surveys = {}
    for number, device in enumerate(data.device_names):
        before = number * samples

        def tell(rows: int, before: int = before) -> None:
            if progress is not None:
                progress(before + rows, samples * len(data.views))

        surveys[device] = _survey(data, number, tell)
    return surveys


def view_problems(data: MultiViewDataset, surveys: Mapping[str, Survey]) -> Iterator[Problem]:
    """What is wrong with single views: constant channels, pictures of one colour, duplicates and copies."""
    for device, found in surveys.items():
        if found.constant:
            yield _constant_channels(data, device, found)
        uniform = np.flatnonzero(found.is_uniform)
        if len(uniform):
            yield Problem(
                "single_colour",
                f"'{device}' has {count_of(len(uniform), 'picture')} of a single colour: if the device saw "
                "nothing, remove such pictures or mark them as absent.",
                names_of_views(data, device, uniform),
            )
    # In pictures that were cut into tiles some tiles are equal; files are equal by mistake.
    if data.files:
        for device in data.files:
            yield from _duplicates(data, device, surveys[device].digests, f"pictures of '{device}'")
    else:
        together = np.stack([found.digests for found in surveys.values()], axis=1)
        _, of_sample = np.unique(together, axis=0, return_inverse=True)
        digests = np.where(together.any(axis=1), 1 + of_sample.reshape(-1), 0).astype(np.uint64)
        yield from _duplicates(data, data.device_names[0], digests, "samples")
    for device, other in itertools.combinations(surveys, 2):
        equal = surveys[device].digests == surveys[other].digests
        rows = np.flatnonzero(equal & (surveys[device].digests > 0))
        if len(rows):
            pairs = zip(names_of_views(data, device, rows), names_of_views(data, other, rows), strict=True)
            yield Problem(
                "copied_view",
                f"'{device}' and '{other}' have the very same picture in {count_of(len(rows), 'sample')}: "
                "one of the two is a copy.",
                tuple(name for pair in pairs for name in pair)[:MOST_NAMES],
            )


def _survey(data: MultiViewDataset, number: int, tell: Callable[[int], None]) -> Survey:
    view, is_there = data.views[data.device_names[number]], data.presence[:, number]
    samples = len(view)
    is_training = np.zeros(samples, bool)
    is_training[data.split["train"]] = True
    has_content = is_there.copy()
    is_uniform = np.zeros(samples, bool)
    digests = np.zeros(samples, np.uint64)
    copies: list[NDArray[np.uint8]] = []
    constants = _Constants()
    step = max(1, _CHUNK_BYTES // view[:1].nbytes)
    for start in range(0, samples, step):
        rows = slice(start, start + step)
        chunk = np.asarray(view[rows])
        constants.see(chunk[(is_there & is_training)[rows]])
        if view.ndim == 4:
            copies.append(small_copies(chunk))
            has_content[rows] &= has_contrast(copies[-1])
            pixels = chunk.reshape(len(chunk), -1, chunk.shape[-1])
            plain = np.flatnonzero(is_there[rows] & ~has_content[rows])
            is_uniform[start + plain] = (pixels[plain] == pixels[plain, :1]).all(axis=(1, 2))
            shown = np.flatnonzero(has_content[rows])
            digests[start + shown] = [_digest(pixels[place]) for place in shown]
        tell(start + len(chunk))
    numbers: NDArray[Any] | None = None
    if view.ndim == 4:
        numbers = np.concatenate(copies)
    elif view.ndim == 2:
        numbers = standardised(np.asarray(view), data.split["train"])
    return Survey(numbers, has_content, is_uniform, digests, constants.values)


class _Constants:
    """Channels that have had one value so far: `values`, by their number."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self._has_begun = False

    def see(self, chunk: NDArray[np.uint8]) -> None:
        """Drops the channels that vary in `(samples, ..., channels)`; they are not looked at again."""
        if not len(chunk):
            return
        if not self._has_begun:
            self._has_begun = True
            self.values = dict(enumerate(map(int, chunk.reshape(-1, chunk.shape[-1])[0])))
        self.values = {
            channel: value for channel, value in self.values.items() if (chunk[..., channel] == value).all()
        }


def _digest(picture: NDArray[np.uint8]) -> int:
    content = np.ascontiguousarray(picture).data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _constant_channels(data: MultiViewDataset, device: str, found: Survey) -> Problem:
    channel, value = next(iter(found.constant.items()))
    if len(found.constant) == 1:
        which = f"Channel {channel} of '{device}' is {value}"
    else:
        channels = data.shapes[device][-1]
        which = (
            f"{len(found.constant)} of the {channels} channels of '{device}' are constant (channel {channel} "
            f"is {value})"
        )
    return Problem(
        "constant_channel",
        f"{which} in every training sample, so it tells nothing: look for a dead sensor or an empty column, "
        "or leave it out.",
    )


def _duplicates(
    data: MultiViewDataset, device: str, digests: NDArray[np.uint64], what: str
) -> Iterator[Problem]:
    known = np.flatnonzero(digests)
    _, group, sizes = np.unique(digests[known], return_inverse=True, return_counts=True)
    is_repeated = sizes[group] > 1
    if not is_repeated.any():
        return
    # Equal ones stand side by side in the list of files.
    order = np.argsort(group[is_repeated], kind="stable")
    rows, group = known[is_repeated][order], group[is_repeated][order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    labels = data.labels[rows]
    disagrees = np.maximum.reduceat(labels, starts) > np.minimum.reduceat(labels, starts)
    yield Problem(
        "duplicate",
        f"{len(rows):,} {what} are copies of each other ({len(starts):,} different): keep one of each.",
        names_of_views(data, device, rows),
    )
    if disagrees.any():
        among = np.repeat(disagrees, np.diff(starts, append=len(rows)))
        yield Problem(
            "labels",
            f"{int(among.sum()):,} {what} are copies with different labels: at most one label is right.",
            names_of_views(data, device, rows[among]),
        )
