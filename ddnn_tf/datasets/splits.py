"""Splitting samples into training, validation and test: at random, by group, by time, or as given.

>>> labels = np.arange(100) % 2
>>> parts = split(len(labels), at_random(labels, seed=0), test_share=0.2, validation_share=0.25)
>>> {part: len(rows) for part, rows in parts.items()}
{'train': 60, 'validation': 20, 'test': 20}

A rule takes a share off some samples. It takes the test samples off all of them, then the validation samples
off what is left, with the same care both times: no group stands in two parts, and parts in time have gaps
between. `hold_out`, `split_at_random` and `split_by_instance` are the rules of built-in data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PARTS",
    "Rule",
    "as_given",
    "at_random",
    "by_group",
    "by_time",
    "check_classes",
    "check_groups",
    "check_share",
    "hold_out",
    "hold_out_by",
    "split",
    "split_at_random",
    "split_by_instance",
]

PARTS = ("train", "validation", "test")

Rows = NDArray[np.int64]
"""Indices of samples, `(n,)`, in ascending order."""

Rule = Callable[[Rows, float], tuple[Rows, Rows]]
"""Takes a share off rows: what is left, and what is taken; rows in a gap are in neither."""

# Draws of whole groups among which the best is kept: enough that seven days are split as well as can be.
_DRAWS = 200


def split(samples: int, rule: Rule, *, test_share: float, validation_share: float) -> dict[str, Rows]:
    """Splits samples by a rule.

    Args:
        samples: Number of samples.
        rule: `at_random`, `by_group` or `by_time`.
        test_share: Fraction of the samples for the test part, between 0 and 1.
        validation_share: Fraction of the other samples for the validation part.

    Raises:
        ValueError: A share outside 0..1.
    """
    check_share(test_share)
    rest, test = rule(np.arange(samples), test_share)
    return {**hold_out_by(rule, rest, validation_share), "test": test}


def as_given(part: NDArray[Any], rule: Rule, *, validation_share: float) -> dict[str, Rows]:
    """Splits samples as the data say; validation samples that they do not name come off the training part.

    Args:
        part: `(samples,)` str: `train`, `validation` or `test`.
        rule: How to take validation samples off the training part.
        validation_share: Fraction of the training part for validation.

    Raises:
        ValueError: Another name of a part.
    """
    for name in np.unique(part):
        if name not in PARTS:
            raise ValueError(f"Expected `part` out of {', '.join(PARTS)}, but got '{name}'.")
    rows = {name: np.flatnonzero(part == name) for name in PARTS}
    if len(rows["validation"]):
        return rows
    return {**hold_out_by(rule, rows["train"], validation_share), "test": rows["test"]}


def hold_out_by(rule: Rule, rows: Rows, share: float) -> dict[str, Rows]:
    """Takes validation samples off the training samples by a rule.

    Raises:
        ValueError: A share outside 0..1, or fewer than two samples.
    """
    check_share(share)
    if len(rows) < 2:
        raise ValueError(
            f"Expected at least two samples outside the test part, one of them for validation, but got "
            f"{len(rows)}."
        )
    train, validation = rule(rows, share)
    return {"train": train, "validation": validation}


def at_random(labels: NDArray[np.int64], seed: int) -> Rule:
    """A rule that draws from every class alike.

    Args:
        labels: `(samples,)` int, class of each sample.
        seed: Seed of the draw.
    """
    random = np.random.default_rng(seed)

    def take(rows: Rows, share: float) -> tuple[Rows, Rows]:
        drawn = []
        for label in np.unique(labels[rows]):
            order = random.permutation(rows[labels[rows] == label])
            # At least one sample, never all.
            drawn.append(order[: max(1, min(round(share * len(order)), len(order) - 1))])
        return _parted(rows, np.isin(rows, np.concatenate(drawn)))

    return take


def by_group(groups: NDArray[Any], labels: NDArray[np.int64], seed: int) -> Rule:
    """A rule that draws whole groups, so that none stands in two parts.

    Of many draws it keeps the one in which every class's share comes closest to the share asked for. Where
    each group is of one class, as physical objects are, groups are drawn class by class.

    Args:
        groups: `(samples,)`, group of each sample: an object, a person, a place, a day.
        labels: `(samples,)` int, class of each sample.
        seed: Seed of the draw.
    """
    random = np.random.default_rng(seed)

    def take(rows: Rows, share: float) -> tuple[Rows, Rows]:
        _, group_of = np.unique(groups[rows], return_inverse=True)
        counts = np.zeros((group_of.max() + 1, labels.max() + 1), np.int64)
        np.add.at(counts, (group_of, labels[rows]), 1)
        is_of_one_class = (np.count_nonzero(counts, axis=1) == 1).all()
        draw = _draw_by_class if is_of_one_class else _best_draw
        drawn = draw(counts, share, random)
        return _parted(rows, np.isin(group_of, drawn))

    return take


def by_time(
    end: NDArray[Any],
    start: NDArray[Any] | None = None,
    *,
    gap: Any = None,
    borders: Sequence[Any] = (),
) -> Rule:
    """A rule that takes the latest samples, with a gap before them.

    Args:
        end: `(samples,)` numbers or datetime64, when each sample ends.
        start: When each sample begins, for windows; None: when it ends.
        gap: Samples that begin no later than this after the border are in no part. None: a fiftieth of the
            time from the first sample to the last.
        borders: The time up to which samples are left, by the calls of the rule, in place of what the share
            says.
    """
    start = end if start is None else start
    if gap is None:
        gap = (end.max() - end.min()) * 0.02
    remaining = list(borders)

    def take(rows: Rows, share: float) -> tuple[Rows, Rows]:
        if remaining:
            border = remaining.pop(0)
        else:
            kept = max(1, round((1 - share) * len(rows)))
            border = np.sort(end[rows])[kept - 1]
        return rows[end[rows] <= border], rows[start[rows] > border + gap]

    return take


def check_classes(
    labels: NDArray[np.int64], parts: Mapping[str, Rows], class_names: Sequence[str], name: str
) -> None:
    """Refuses a split that leaves a part without some class.

    Args:
        labels: `(samples,)` int, class of each sample.
        parts: Rows of each part.
        class_names: Name of each class.
        name: Name of the data set, for the message.

    Raises:
        ValueError: A part has no sample of a class.
    """
    for part, rows in parts.items():
        missing = np.flatnonzero(np.bincount(labels[rows], minlength=len(class_names)) == 0)
        if len(missing):
            samples = int((labels == missing[0]).sum())
            raise ValueError(
                f"The {part} part of '{name}' has no sample of the class '{class_names[missing[0]]}' "
                f"({samples} samples in all): add samples of it, or choose another split, share of test "
                "samples or seed."
            )


def check_groups(
    groups: NDArray[Any], labels: NDArray[np.int64], class_names: Sequence[str], name: str
) -> None:
    """Refuses groups of which there are too few to give every part one of each class.

    Args:
        groups: `(samples,)`, group of each sample.
        labels: `(samples,)` int, class of each sample.
        class_names: Name of each class.
        name: Name of the data set, for the message.

    Raises:
        ValueError: A class occurs in fewer than three groups.
    """
    for label, class_name in enumerate(class_names):
        count = len(np.unique(groups[labels == label]))
        if count < len(PARTS):
            raise ValueError(
                f"The class '{class_name}' of '{name}' occurs in {count} groups: a split by group needs at "
                "least 3 (train, validation, test); add groups of it, or choose another split."
            )


def check_share(share: float) -> None:
    """Refuses a share that is not strictly between 0 and 1."""
    if not 0 < share < 1:
        raise ValueError(f"Expected a share between 0 and 1, both excluded, but got {share}.")


def split_at_random(
    samples: int, *, test: int, validation_share: float, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Splits samples at random; validation samples come off the training set.

    Args:
        samples: Number of samples.
        test: Number of test samples.
        validation_share: Fraction of what is left that becomes validation, between 0 and 1.
        seed: Seed of the permutation.

    Raises:
        ValueError: A share outside 0..1 or more test samples than there are samples.
    """
    if not 0 < test < samples:
        raise ValueError(f"Expected between 1 and {samples - 1} test samples, but got {test}.")
    order = np.random.default_rng(seed).permutation(samples)
    return hold_out(order[:-test], order[-test:], validation_share)


def hold_out(
    train: NDArray[np.int64], test: NDArray[np.int64], validation_share: float
) -> dict[str, NDArray[np.int64]]:
    """Takes the last samples of the training set, in its order, as validation."""
    check_share(validation_share)
    validation = max(1, round(len(train) * validation_share))
    return {"train": train[:-validation], "validation": train[-validation:], "test": test}


def split_by_instance(
    instances: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    test_share: float,
    validation_share: float,
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    """Splits so that no physical object (or track) stands in two parts.

    Whole instances of each class are drawn until the part holds its share of the class's samples;
    one that would overshoot the share is passed over, so parts come out as large as asked for when
    instances are small.

    Args:
        instances: `(samples,)` int, instance of each sample.
        labels: `(samples,)` int, class of each sample; constant within an instance.
        test_share: Fraction of the samples for the test set.
        validation_share: Fraction of the samples outside the test set for validation.
        seed: Seed of the draw.

    Raises:
        ValueError: A share outside 0..1, or a class with fewer than three instances.
    """
    check_share(validation_share)
    check_share(test_share)
    random = np.random.default_rng(seed)
    part_of = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        ids, sizes = np.unique(instances[labels == label], return_counts=True)
        if len(ids) < 3:
            raise ValueError(
                f"Class {label} has {len(ids)} instances: a split by instance needs at least 3 "
                "(train, validation, test); split at random instead."
            )
        order = random.permutation(len(ids))
        total = sizes.sum()
        wanted = (
            (2, round(total * test_share)),
            (1, round(total * (1 - test_share) * validation_share)),
        )
        for part, size in wanted:
            drawn = _draw(order, sizes, size)
            order = np.array([at for at in order if at not in drawn])
            part_of[np.isin(instances, ids[sorted(drawn)]) & (labels == label)] = part
    parts = {name: np.flatnonzero(part_of == number) for number, name in enumerate(PARTS)}
    return {name: random.permutation(chosen) for name, chosen in parts.items()}


def _parted(rows: Rows, is_taken: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    return rows[~is_taken], rows[is_taken]


def _draw_by_class(counts: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Groups of one class each: of every class, those that fit in its share."""
    drawn: list[int] = []
    for sizes in counts.T:
        groups = np.flatnonzero(sizes)
        if len(groups) > 1:
            order = random.permutation(len(groups))
            # The next part needs a group, too.
            keep = 2 if len(groups) > 2 else 1
            chosen = _draw(order, sizes[groups], round(share * sizes.sum()), keep)
            drawn += [int(groups[at]) for at in chosen]
    return np.array(drawn, np.int64)


def _best_draw(counts: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Of many draws of groups, the one in which each class's share is closest to the share asked for.

    Args:
        counts: `(groups, classes)`, samples of each class in each group.
        share: Fraction of the samples to draw.
        random: Where the draws come from.
    """
    best, least = np.arange(0), np.inf
    if len(counts) == 1:
        return best
    total = counts.sum(axis=0)
    occurs = total > 0
    groups_of_class = np.count_nonzero(counts, axis=0)
    needed = np.minimum(2, groups_of_class[occurs] - 1)
    for _ in range(_DRAWS):
        order = random.permutation(len(counts))
        sizes = np.cumsum(counts[order].sum(axis=1))
        # At least one group, never all.
        drawn = order[: 1 + np.abs(sizes - share * total.sum())[:-1].argmin()]
        of_class = counts[drawn].sum(axis=0)[occurs]
        left = (groups_of_class - np.count_nonzero(counts[drawn], axis=0))[occurs]
        error = np.abs(of_class / total[occurs] - share).sum()
        # A class that is missing counts for more than any deviation; the next part needs a group of it, too.
        error += len(total) * (np.count_nonzero(of_class == 0) + np.maximum(needed - left, 0).sum())
        if error < least:
            best, least = drawn, error
    return best


def _draw(order: NDArray[np.int64], sizes: NDArray[np.int64], wanted: int, keep: int = 1) -> set[int]:
    """Instances in `order` while they fit in `wanted` samples; at least one, and not the last `keep`."""
    drawn: set[int] = set()
    room = wanted
    for at in order[:-keep]:
        if sizes[at] <= room:
            drawn.add(int(at))
            room -= int(sizes[at])
    return drawn or {int(min(order, key=lambda at: sizes[at]))}
