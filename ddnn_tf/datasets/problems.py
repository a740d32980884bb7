"""What is wrong with the classes, devices and parts of a data set.

>>> percent(0.684), percent(0.996)
('68 %', '99.6 %')
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.recording import Problem

__all__ = [
    "MOST_NAMES",
    "absences",
    "blind_devices",
    "class_counts",
    "count_of",
    "first_of_each_kind",
    "missing_classes",
    "name_of_view",
    "names_of_views",
    "percent",
    "rare_classes",
]

MOST_NAMES = 100
"""Files that a problem lists; its message says how many there are."""

# A class of fewer training samples is hardly learned; of fewer test samples, each is over 10 % of its recall.
_FEW_TRAINING, _FEW_TEST = 20, 10
# How many times as many samples one class has as another before accuracy hides the rarer one.
_UNBALANCED = 10


def missing_classes(data: MultiViewDataset, parts: Sequence[str]) -> Iterator[Problem]:
    """Classes of which some parts have no sample."""
    for part in parts:
        for name, count in class_counts(data, data.split[part]).items():
            if not count:
                yield Problem(
                    "missing_class",
                    f"The {part} part has no sample of the class '{name}': add samples of it, or choose "
                    "another split or seed.",
                )


def blind_devices(data: MultiViewDataset) -> Iterator[Problem]:
    """Devices that see nothing in training."""
    for number, device in enumerate(data.device_names):
        if not data.presence[data.split["train"], number].any():
            yield Problem(
                "blind_device",
                f"'{device}' has no view of any training sample: leave the device out, or choose another "
                "split.",
            )


def rare_classes(data: MultiViewDataset) -> Iterator[Problem]:
    """Classes with few samples, or with far fewer than another class."""
    train, test = (class_counts(data, data.split[part]) for part in ("train", "test"))
    for name in data.class_names:
        if 0 < train[name] < _FEW_TRAINING:
            yield Problem(
                "few_samples",
                f"The class '{name}' has {count_of(train[name], 'training sample')}, little to learn from: "
                f"add some, up to {_FEW_TRAINING} at least.",
            )
        if 0 < test[name] < _FEW_TEST:
            yield Problem(
                "few_samples",
                f"The class '{name}' has {count_of(test[name], 'test sample')}, so each counts for "
                f"{percent(1 / test[name])} of its recall: add some, or choose another split.",
            )
    most, rarest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    if not data.balance and 0 < _UNBALANCED * train[rarest] <= train[most]:
        yield Problem(
            "unbalanced",
            f"The class '{most}' has {train[most] / train[rarest]:.0f} times as many training samples as "
            f"'{rarest}': judge by balanced accuracy, and train with --class-weights balanced.",
        )


def absences(data: MultiViewDataset) -> Iterator[Problem]:
    """Samples that no device sees, and devices whose samples are not those of the others."""
    devices_of_sample = data.presence.sum(axis=1)
    unseen = np.flatnonzero(devices_of_sample == 0)
    if len(unseen):
        yield Problem(
            "unseen",
            f"No device sees anything of {count_of(len(unseen), 'sample')}: nothing can be learned from "
            "them, so leave them out.",
            tuple(f"sample {row}" for row in unseen[:MOST_NAMES]),
        )
    for number, device in enumerate(data.device_names):
        rows = np.flatnonzero(data.presence[:, number])
        alone = rows[devices_of_sample[rows] == 1]
        if 2 * len(alone) > len(rows) and len(data.device_names) > 1:
            yield Problem(
                "out_of_step",
                f"{len(alone):,} of the {count_of(len(rows), 'sample')} of '{device}' are of no other "
                "device: the views of one sample must have the same name or time on every device.",
                names_of_views(data, device, alone),
            )


def class_counts(data: MultiViewDataset, rows: NDArray[np.int64]) -> dict[str, int]:
    """How many of some samples each class has."""
    counts = np.bincount(data.labels[rows], minlength=len(data.class_names)).tolist()
    return dict(zip(data.class_names, counts, strict=True))


def percent(share: float) -> str:
    """A share for reading: `68 %`, and `99.6 %` where a whole number would say all or nothing."""
    is_extreme = 0 < share < 0.01 or 0.99 < share < 1
    return f"{100 * share:.{1 if is_extreme else 0}f} %"


def name_of_view(data: MultiViewDataset, device: str, row: int) -> str:
    """The file that a view comes from, or `device[row]` where one file holds them all."""
    file = str(data.files[device][row]) if device in data.files else ""
    return file or f"{device}[{row}]"


def names_of_views(data: MultiViewDataset, device: str, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of views, or of the first of them if there are many."""
    return tuple(name_of_view(data, device, int(row)) for row in rows[:MOST_NAMES])


def first_of_each_kind(problems: Sequence[Problem], count: int) -> Iterator[tuple[Problem, int]]:
    """Problems for reading, when there may be thousands of one kind.

    Args:
        problems: All of them.
        count: How many of one kind are enough.

    Yields:
        The first problems of each kind, in their order, with how many more of the kind there are after the
        last one that is yielded; 0 for the others.
    """
    numbers: Counter[str] = Counter()
    totals = Counter(problem.kind for problem in problems)
    for problem in problems:
        numbers[problem.kind] += 1
        if numbers[problem.kind] <= count:
            is_last = numbers[problem.kind] == count
            yield problem, totals[problem.kind] - count if is_last else 0


def count_of(count: int, noun: str) -> str:
    """A number with its noun: `1 picture`, `1,200 pictures`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
