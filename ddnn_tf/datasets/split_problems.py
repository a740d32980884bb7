"""What a split gives away: test samples that are in training, too, as pictures, objects or moments.

>>> from ddnn_tf.datasets import load_dataset
>>> shared_groups(load_dataset("scenes", split="track"))
0.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ddnn_tf.datasets.leaks import Leaks
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.problems import percent
from ddnn_tf.datasets.recording import Problem

__all__ = ["shared_groups", "shares_by_class", "split_problems"]

# Below this share, pairs also come up among unrelated samples that can differ but little (MNIST: 0.06 %).
_SMALL = 0.01
# From this share on the leak, not the network, may be what an accuracy tells of.
_LARGE = 0.1
_CLASSES_NAMED = 5


def split_problems(
    data: MultiViewDataset, leaks: Leaks | None, pair_files: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """What an accuracy that is measured on the split does not tell, and how to split better.

    Args:
        data: The data set in its parts.
        leaks: The search for near-identical samples; None if nothing could be compared.
        pair_files: Files of the most alike pairs.
    """
    shared = shared_groups(data)
    if leaks is not None and leaks.share >= _SMALL:
        yield Problem(
            "leak",
            f"{percent(leaks.share)} of the test samples have a near-identical sample in the training part "
            f"({_most_concerned(shares_by_class(data, leaks))}): {_verdict(data, leaks.share, shared)}. Even "
            "without any training, the label of the nearest training sample is right for "
            f"{percent(leaks.lookup_accuracy())} of the test samples (balanced: "
            f"{percent(leaks.lookup_accuracy(balanced=True))}).",
            pair_files,
        )
    if shared:
        yield Problem(
            "shared_group",
            f"{percent(shared)} of the test samples show an object, or belong to a group, that is in the "
            "training part, too: accuracy measured on this split says little about new ones; split by group "
            "(--split).",
        )
    near_in_time = _near_in_time(data)
    if shared is None and near_in_time >= _SMALL:
        yield Problem(
            "near_in_time",
            f"{percent(near_in_time)} of the test samples were taken right beside a training sample in time: "
            "accuracy measured on this split says little about other times; split by time (--split).",
        )


def shared_groups(data: MultiViewDataset) -> float | None:
    """Share of the test samples whose object or group is in the training part, too; None: not known."""
    if data.instances is None:
        return None
    return float(np.isin(data.instances[data.split["test"]], data.instances[data.split["train"]]).mean())


def shares_by_class(data: MultiViewDataset, leaks: Leaks) -> dict[str, float]:
    """Share of each class's test samples that have a near-identical sample in training."""
    shares = {name: leaks.share_of_class(label) for label, name in enumerate(data.class_names)}
    return {name: share for name, share in shares.items() if share is not None}


def _most_concerned(shares: Mapping[str, float]) -> str:
    """The classes and their shares; of many, those with the largest."""
    listed = sorted(shares, key=shares.__getitem__, reverse=True)
    if len(listed) > _CLASSES_NAMED:
        listed = [name for name in listed[:_CLASSES_NAMED] if shares[name]]
    return ", ".join(f"{name}: {percent(shares[name])}" for name in listed)


def _verdict(data: MultiViewDataset, share: float, shared: float | None) -> str:
    """What follows from a leak, and what to do about it."""
    if shared == 0 or _is_later(data):
        way = "by time" if shared == 0 else "by group, with what stays the same as the group"
        return (
            "the split keeps times or groups apart, so these are things that stay where they are, such as "
            "parked cars; report the accuracy of the other samples beside that of all, or split "
            f"{way} (--split)"
        )
    known = {"time": data.times is not None, "group": data.instances is not None}
    ways = " or by ".join(way for way, is_known in known.items() if is_known)
    remedy = f"split by {ways} (--split)"
    if not ways:
        remedy = "tell the `time` or the `group` (an object, a person, a day) of each sample, and split by it"
    if share < _LARGE:
        # Only these samples can be right for the wrong reason.
        return f"accuracy measured on this split may be up to {100 * share:.0f} points too high; {remedy}"
    return f"accuracy measured on this split says little about new scenes; {remedy}"


def _is_later(data: MultiViewDataset) -> bool:
    """Whether all test samples were taken after all training samples."""
    if data.times is None:
        return False
    return bool(data.times[data.split["train"]].max() < data.times[data.split["test"]].min())


def _near_in_time(data: MultiViewDataset) -> float:
    """Share of the test samples with a training sample as near as samples follow each other; 0: unknown."""
    moments = np.unique(data.times) if data.times is not None else np.arange(0)
    if data.times is None or len(moments) < 2:
        return 0.0
    step = np.median(np.diff(moments))
    train, test = np.unique(data.times[data.split["train"]]), data.times[data.split["test"]]
    following = np.searchsorted(train, test)
    before = train[np.maximum(following - 1, 0)]
    after = train[np.minimum(following, len(train) - 1)]
    return float(np.mean((np.abs(test - before) <= step) | (np.abs(test - after) <= step)))
