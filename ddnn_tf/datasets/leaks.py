"""Which test samples have a near-identical sample in training.

>>> random = np.random.default_rng(0)
>>> scenes = random.integers(0, 256, (40, 32, 32, 1), dtype=np.uint8)
>>> copies = {"camera": small_copies(np.concatenate([scenes, scenes[:5]]))}
>>> content = np.stack([has_contrast(grey) for grey in copies.values()], axis=1)
>>> leaks = find_leaks(copies, content, np.arange(45) % 2, train=np.arange(35), test=np.arange(35, 45))
>>> leaks.share, leaks.twins[-5:]
(0.5, array([0, 1, 2, 3, 4]))

Pictures are compared as grey copies of 16x16 pixels, which hide noise and compression, and vectors as
standardised features. The difference of two views is the root mean square of their differences, relative to
what two random training samples differ by: 0 for equal views, about 1 for any two. Views are near-identical
up to a difference of 0.1 (pictures of like brightness and contrast then correlate by 0.99), or up to half the
median difference between a training sample and the nearest of another class, if that is less: where classes
differ by little, near-identical means less. Samples are near-identical when most of the views that either has
are near-identical. Views that are absent or show nothing have no content, and resemble nothing. The same
picture moved by a pixel of 32 or a tenth brighter is not near-identical: what is found is a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIDE", "Leaks", "find_leaks", "has_contrast", "small_copies", "standardised"]

SIDE = 16
"""Height and width of the grey copies, in pixels, of pictures that are not smaller."""

_NEAR = 0.1
# Half of what the nearest of another class differs by.
_OF_OTHER_CLASS = 0.5
# Grey copies are rounded to whole levels: a root mean square below 1 may be rounding.
_ROUNDING = {"u": 1.0, "f": 0.01}
# Standard deviation, in grey levels, below which a picture shows nothing: 3 % of the range.
_LEAST_CONTRAST = 8.0
# Training samples that are drawn to learn how much any two differ.
_DRAWN = 1000
# A block of differences stays in the processor's cache.
_TRAIN_BLOCK, _TEST_BLOCK = 4096, 256

Progress = Callable[[int, int], None]
"""What is told how much is done, out of how much."""


@dataclass(frozen=True)
class Leaks:
    """What a search found, for each test sample in the order of the test part.

    Attributes:
        test: `(n,)` int64, the test samples.
        twins: `(n,)` int64, the training sample that is near-identical; -1: there is none.
        twin_differences: `(n,)` float32, the difference to it, relative to that of two random samples.
        nearest: `(n,)` int64, the training sample that differs least in the views that both have, if they
            have at least half of their views in common; -1: there is none.
        labels: `(n,)` int64, the class of the test sample.
        nearest_labels: `(n,)` int64, the class of the nearest training sample; -1: there is none.
        by_view: Share of the test views with content that have a near-identical view in training, by device.
        thresholds: Up to which difference views are near-identical, by device, relative.
        typical: What two random training samples differ by, by device: grey levels, or standard deviations.
    """

    test: NDArray[np.int64]
    twins: NDArray[np.int64]
    twin_differences: NDArray[np.float32]
    nearest: NDArray[np.int64]
    labels: NDArray[np.int64]
    nearest_labels: NDArray[np.int64]
    by_view: Mapping[str, float]
    thresholds: Mapping[str, float]
    typical: Mapping[str, float]

    @property
    def has_twin(self) -> NDArray[np.bool_]:
        """`(n,)` bool, whether the test sample has a near-identical sample in training."""
        return self.twins >= 0

    @property
    def share(self) -> float:
        """Share of the test samples that have a near-identical sample in training."""
        return float(self.has_twin.mean())

    def share_of_class(self, label: int) -> float | None:
        """Share of a class's test samples that have one; None: the class has no test samples."""
        is_of_class = self.labels == label
        return float(self.has_twin[is_of_class].mean()) if is_of_class.any() else None

    def lookup_accuracy(self, *, balanced: bool = False) -> float:
        """How often the label of the nearest training sample is right, without any training.

        Args:
            balanced: The mean over the classes in place of the mean over the samples.
        """
        is_right = self.nearest_labels == self.labels
        if balanced:
            return float(np.mean([is_right[self.labels == label].mean() for label in np.unique(self.labels)]))
        return float(is_right.mean())

    def worst(self, count: int) -> list[int]:
        """The most alike pairs, by their place in `test`; each training sample occurs once."""
        order = np.argsort(self.twin_differences, kind="stable")[: np.count_nonzero(self.has_twin)]
        _, first = np.unique(self.twins[order], return_index=True)
        return [int(place) for place in order[np.sort(first)][:count]]


def small_copies(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey copies of pictures, of at most `SIDE` pixels each way, each pixel the mean of the area below it.

    Args:
        view: `(samples, height, width, channels)` uint8.

    Returns:
        `(samples, pixels)` uint8.
    """
    samples, height, width, channels = view.shape
    rows = _area_means(height)
    columns = np.repeat(_area_means(width), channels, axis=1).T / channels
    lines = view.reshape(samples, height, width * channels).astype(np.float32)
    grey = np.matmul(rows, lines) @ columns
    return np.rint(grey).astype(np.uint8).reshape(samples, -1)


def has_contrast(copies: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether pictures show anything: their grey levels have a standard deviation of at least 8.

    Args:
        copies: `(samples, pixels)` uint8, from `small_copies`.

    Returns:
        `(samples,)` bool.
    """
    return np.std(copies, axis=1, dtype=np.float32) >= _LEAST_CONTRAST


def standardised(view: NDArray[Any], train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features with mean 0 and standard deviation 1 over the training samples; constant ones are 0.

    Args:
        view: `(samples, features)`.
        train: Indices of the training samples.

    Returns:
        `(samples, features)` float32.
    """
    mean, deviation = view[train].mean(axis=0), view[train].std(axis=0)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return ((view - mean) * scale).astype(np.float32)


def find_leaks(
    copies: Mapping[str, NDArray[Any]],
    content: NDArray[np.bool_],
    labels: NDArray[np.int64],
    *,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    progress: Progress | None = None,
) -> Leaks:
    """Searches the training part for near-identical samples of every test sample.

    Args:
        copies: `(samples, numbers)` by device: grey copies uint8, or standardised features float32.
        content: `(samples, devices)` bool, whether a view is there and shows something.
        labels: `(samples,)` int, the class of each sample.
        train: Indices of the training samples.
        test: Indices of the test samples.
        progress: Is told how many of the comparisons are done.
    """
    scales = [
        _scale(view, train[content[train, column]], labels) for column, view in enumerate(copies.values())
    ]
    # A view of which no two training samples differ tells nothing.
    content = content & np.array([scale.typical > 0 for scale in scales])
    best = _Best(len(test), len(copies))
    blocks = [train[start : start + _TRAIN_BLOCK] for start in range(0, len(train), _TRAIN_BLOCK)]
    for done, candidates in enumerate(blocks):
        there = content[candidates]
        right = [
            scale.right(view[candidates], there[:, column])
            for column, (scale, view) in enumerate(zip(scales, copies.values(), strict=True))
        ]
        for start in range(0, len(test), _TEST_BLOCK):
            rows = slice(start, start + _TEST_BLOCK)
            asked = content[test[rows]]
            left = [
                scale.left(view[test[rows]], asked[:, column])
                for column, (scale, view) in enumerate(zip(scales, copies.values(), strict=True))
            ]
            limits = [scale.threshold**2 for scale in scales]
            best.update(rows, candidates, _compare(left, right, asked, there, limits))
            if progress is not None:
                progress(done * len(test) + min(start + _TEST_BLOCK, len(test)), len(blocks) * len(test))
    has_view = content[test]
    shares = best.has_near_view.sum(axis=0) / np.maximum(has_view.sum(axis=0), 1)
    return Leaks(
        test=test,
        twins=best.twins,
        twin_differences=np.sqrt(best.twin_squares),
        nearest=best.nearest,
        labels=labels[test],
        nearest_labels=np.where(best.nearest >= 0, labels[best.nearest], -1),
        by_view=dict(zip(copies, map(float, shares), strict=True)),
        thresholds={device: scale.threshold for device, scale in zip(copies, scales, strict=True)},
        typical={device: scale.typical for device, scale in zip(copies, scales, strict=True)},
    )


@dataclass(frozen=True)
class _Scale:
    """Centre and scale of a device's numbers, so that squared distances are squared relative differences.

    A squared distance is one row times one column: `|a|^2 + |b|^2 - 2ab` = `(-2a, |a|^2, 1) (b, 1, |b|^2)`.
    Rows of views without content are 0, and so are their distances.
    """

    centre: NDArray[np.float32]
    typical: float
    threshold: float

    def left(self, numbers: NDArray[Any], has_content: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Rows `(samples, numbers + 2)` float32."""
        centred, squares = self._centred(numbers, has_content)
        return np.concatenate([-2 * centred, squares, has_content[:, None]], axis=1, dtype=np.float32)

    def right(self, numbers: NDArray[Any], has_content: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Columns `(samples, numbers + 2)` float32, not yet transposed."""
        centred, squares = self._centred(numbers, has_content)
        return np.concatenate([centred, has_content[:, None], squares], axis=1, dtype=np.float32)

    def _centred(
        self, numbers: NDArray[Any], has_content: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        unit = has_content[:, None] / (max(self.typical, 1e-6) * np.sqrt(numbers.shape[1]))
        centred = (numbers - self.centre) * unit.astype(np.float32)
        return centred, np.square(centred).sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Comparison:
    """Test samples beside training samples, `(test, train)` each.

    Attributes:
        squares: Mean squared difference of the views that both have; infinite if they have none.
        is_comparable: Whether at least half of the views that either has are there in both.
        is_twin: Whether most of the views that either has are near-identical.
        has_near_view: `(test, devices)` bool, whether any of the training samples has a near-identical view.
    """

    squares: NDArray[np.float32]
    is_comparable: NDArray[np.bool_]
    is_twin: NDArray[np.bool_]
    has_near_view: NDArray[np.bool_]


class _Best:
    """The best training sample so far for every test sample."""

    def __init__(self, samples: int, devices: int) -> None:
        self.twins = np.full(samples, -1, np.int64)
        self.twin_squares = np.full(samples, np.inf, np.float32)
        self.nearest = np.full(samples, -1, np.int64)
        self.has_near_view = np.zeros((samples, devices), bool)
        self._nearest_squares = np.full(samples, np.inf, np.float32)

    def update(self, rows: slice, candidates: NDArray[np.int64], found: _Comparison) -> None:
        """Takes what is better among more training samples."""
        self.has_near_view[rows] |= found.has_near_view
        _take_less(found.squares, found.is_twin, candidates, self.twin_squares[rows], self.twins[rows])
        _take_less(
            found.squares, found.is_comparable, candidates, self._nearest_squares[rows], self.nearest[rows]
        )


def _take_less(
    squares: NDArray[np.float32],
    counts: NDArray[np.bool_],
    candidates: NDArray[np.int64],
    least: NDArray[np.float32],
    chosen: NDArray[np.int64],
) -> None:
    """Puts the least squares that count into `least`, and their candidates into `chosen`."""
    allowed = np.where(counts, squares, np.inf)
    column = allowed.argmin(axis=1)
    value = allowed[np.arange(len(allowed)), column]
    is_less = value < least
    least[is_less] = value[is_less]
    chosen[is_less] = candidates[column[is_less]]


def _compare(
    left: list[NDArray[np.float32]],
    right: list[NDArray[np.float32]],
    asked: NDArray[np.bool_],
    there: NDArray[np.bool_],
    limits: list[float],
) -> _Comparison:
    in_both = asked.astype(np.float32) @ there.T.astype(np.float32)
    in_either = asked.sum(axis=1, keepdims=True) + there.sum(axis=1) - in_both
    total = np.zeros(in_both.shape, np.float32)
    near_views = np.zeros(in_both.shape, np.int16)
    has_near_view = np.zeros(asked.shape, bool)
    for column, (rows, columns, limit) in enumerate(zip(left, right, limits, strict=True)):
        squares = rows @ columns.T
        total += squares
        # Views without content have a square of 0, and do not count.
        is_near = (squares <= limit) & there[:, column]
        is_near &= asked[:, column, None]
        near_views += is_near
        has_near_view[:, column] = is_near.any(axis=1)
    mean = np.divide(np.maximum(total, 0), in_both, out=np.full_like(total, np.inf), where=in_both > 0)
    is_comparable = (in_both > 0) & (2 * in_both >= in_either)
    return _Comparison(mean, is_comparable, 2 * near_views > in_either, has_near_view)


def _scale(view: NDArray[Any], known: NDArray[np.int64], labels: NDArray[np.int64]) -> _Scale:
    """How much a device's training views differ.

    Args:
        view: `(samples, numbers)`.
        known: Training samples whose views have content.
        labels: `(samples,)` int.
    """
    if len(known) < 2:
        return _Scale(np.zeros(view.shape[1], np.float32), 0.0, 0.0)
    drawn = np.sort(np.random.default_rng(0).permutation(known)[:_DRAWN])
    sample = view[drawn].astype(np.float32)
    differences = _differences(sample, sample)
    typical = float(np.median(differences[~np.eye(len(drawn), dtype=bool)]))
    if typical <= _ROUNDING[view.dtype.kind]:
        return _Scale(sample.mean(axis=0), 0.0, 0.0)
    nearest = np.full(len(drawn), np.inf, np.float32)
    for start in range(0, len(known), _TRAIN_BLOCK):
        rows = known[start : start + _TRAIN_BLOCK]
        is_other = labels[drawn][:, None] != labels[rows]
        between = np.where(is_other, _differences(sample, view[rows].astype(np.float32)), np.inf)
        nearest = np.minimum(nearest, between.min(axis=1))
    threshold = min(_NEAR, _OF_OTHER_CLASS * float(np.median(nearest)) / typical)
    return _Scale(sample.mean(axis=0), typical, max(threshold, _ROUNDING[view.dtype.kind] / typical))


def _differences(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square differences, `(left, right)` float32."""
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1) - 2 * (left @ right.T)
    return np.sqrt(np.maximum(squares, 0) / left.shape[1])


def _area_means(size: int) -> NDArray[np.float32]:
    """Weights `(means, size)` float32 with which `size` pixels become at most `SIDE` means of areas."""
    edges = np.linspace(0, size, min(SIDE, size) + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(covered, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
