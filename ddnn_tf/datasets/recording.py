"""Data before they are split: what a user's files hold, and what is wrong with them.

    >>> recording = Recording(
    ...     name="hall",
    ...     views={"camera": np.zeros((40, 8, 8, 1), np.uint8), "air": np.zeros((40, 2), np.float32)},
    ...     labels=np.arange(40) % 2,
    ...     presence=np.ones((40, 2), bool),
    ...     class_names=("empty", "busy"),
    ... )
    >>> recording.split(seed=1).split_rule
    'at random within each class, seed 1'

`DataSource.record` reads one from a user's files; `Recording.split` makes the data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets import splits
from ddnn_tf.datasets.multiview import MultiViewDataset, coded_views
from ddnn_tf.datasets.stored import StoredView

__all__ = ["SPLITS", "Problem", "Recording", "device_names"]

SPLITS = ("part", "group", "time", "random")
"""Ways to split, the strictest that the data allow first."""

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Problem:
    """Something wrong with a user's data.

    Attributes:
        kind: What sort of thing, in a word or two, e.g. `unreadable`.
        message: One sentence that names file, value and remedy.
        files: The files that it is about, relative to the data's place.
    """

    kind: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """Samples, each seen by all devices at once, before they are split.

    Attributes:
        name: Name of the data set.
        views: What each device senses, by its name and in the devices' order: `(samples, ...)` uint8 codes or
            floating-point readings, which become codes when the training samples are known.
        labels: `(samples,)` int64, the class of each sample.
        presence: `(samples, devices)` bool, whether the device has a view of it.
        class_names: Name of each class.
        group: `(samples,)`, what must not stand in two parts: an object, a person, a day; None: unknown.
        time: `(samples,)` numbers or datetime64, when the sample was taken; None: unknown.
        start: When a window of readings begins that ends at `time`; None: samples are moments.
        shares_readings: Whether neighbouring windows share readings, so that no split at random is honest.
        part: `(samples,)` str, `train`, `validation` or `test`; None: not given.
        files: Name of the file of each view, by device, `(samples,)` str, empty if absent.
        problems: What is wrong with the data; whoever loads them is told the first.
        skipped: How many unreadable files were left out.
        balance: Whether every class counts alike in training.
    """

    name: str
    views: Mapping[str, NDArray[Any] | StoredView]
    labels: NDArray[np.int64]
    presence: NDArray[np.bool_]
    class_names: tuple[str, ...]
    group: NDArray[Any] | None = None
    time: NDArray[Any] | None = None
    start: NDArray[Any] | None = None
    shares_readings: bool = False
    part: NDArray[np.str_] | None = None
    files: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    skipped: int = 0
    balance: bool = False

    def check(self) -> None:
        """Refuses data with problems.

        Raises:
            ValueError: There are some; the message is the first one's.
        """
        if self.problems:
            others = len(self.problems) - 1
            rest = f" ({others} more: `ddnn data check` lists all problems.)" if others else ""
            raise ValueError(f"{self.problems[0].message}{rest}")

    def with_devices(self, count: int | None) -> Recording:
        """The same samples of the first devices; None: of all.

        Raises:
            ValueError: There are fewer.
        """
        if count is None:
            return self
        if count > len(self.views):
            raise ValueError(
                f"Expected {count} devices, but '{self.name}' has {len(self.views)}: {', '.join(self.views)}."
            )
        chosen = list(self.views)[:count]
        return replace(
            self,
            views={device: self.views[device] for device in chosen},
            presence=self.presence[:, :count],
            files={device: names for device, names in self.files.items() if device in chosen},
        )

    def split(
        self,
        rule: str | None = None,
        *,
        test_share: float | None = None,
        validation_share: float = _VALIDATION_SHARE,
        seed: int = 0,
    ) -> MultiViewDataset:
        """The data set in parts of which each has every class.

        Args:
            rule: `random`, `group`, `time` or `part`; None: the strictest that the data allow.
            test_share: Fraction of the samples for test; None: 0.2. Not with `part`.
            validation_share: Fraction of the other samples for validation.
            seed: Seed of the draw.

        Raises:
            ValueError: As `parts`, or a part without some class.
        """
        parts, words = self.parts(rule, test_share=test_share, validation_share=validation_share, seed=seed)
        splits.check_classes(self.labels, parts, self.class_names, self.name)
        return self.in_parts(parts, words)

    def parts(
        self,
        rule: str | None = None,
        *,
        test_share: float | None = None,
        validation_share: float = _VALIDATION_SHARE,
        seed: int = 0,
    ) -> tuple[dict[str, NDArray[np.int64]], str]:
        """Rows of `train`, `validation` and `test`, and the rule in words; a part may lack a class.

        Args:
            rule: As `split`, like the others.
            test_share: Fraction of the samples for test.
            validation_share: Fraction of the other samples for validation.
            seed: Seed of the draw.

        Raises:
            ValueError: Fewer than two classes, a rule that the data do not allow, or a share outside 0..1.
        """
        if len(self.class_names) < 2:
            raise ValueError(
                f"Expected at least two classes, but '{self.name}' has "
                f"{', '.join(self.class_names) or 'none'} only: there is nothing to tell apart."
            )
        known = {"part": self.part, "group": self.group, "time": self.time, "random": self.labels}
        allowed = [name for name in SPLITS if known[name] is not None]
        if self.shares_readings:
            allowed.remove("random")
        rule = allowed[0] if rule is None and allowed else rule
        if rule not in allowed:
            raise ValueError(self._why_not(str(rule), allowed))
        if test_share is not None and rule == "part":
            raise ValueError(
                f"Expected no share of test samples for the split 'part' of '{self.name}', but got "
                f"{test_share}: the data say which samples are for test."
            )
        if rule == "group":
            assert self.group is not None
            splits.check_groups(self.group, self.labels, self.class_names, self.name)
        share = _TEST_SHARE if test_share is None else test_share
        if rule == "part" and self.part is not None:
            off = next(name for name in allowed if name != "part")
            parts = splits.as_given(self.part, self._rule(off, seed), validation_share=validation_share)
            words = "as the data say"
            if not np.isin("validation", self.part):
                words = f"{words}, validation {self._words(off, seed)}"
        else:
            taken = self._rule(rule, seed)
            parts = splits.split(len(self.labels), taken, test_share=share, validation_share=validation_share)
            words = self._words(rule, seed)
        return parts, words

    def in_parts(self, parts: Mapping[str, NDArray[np.int64]], words: str) -> MultiViewDataset:
        """The data set in the parts given.

        Args:
            parts: Rows of `train`, `validation` and `test`.
            words: The rule, for reports.

        Raises:
            ValueError: As `MultiViewDataset`, or a device without readings among the training samples.
        """
        physical = {
            device: view
            for device, view in self.views.items()
            if isinstance(view, np.ndarray) and view.dtype != np.uint8
        }
        columns = [number for number, device in enumerate(self.views) if device in physical]
        coded, codings = coded_views(physical, parts["train"], self.presence[:, columns])
        instances = None
        if self.group is not None:
            instances = np.unique(self.group, return_inverse=True)[1].astype(np.int64)
        return MultiViewDataset(
            name=self.name,
            views={device: coded.get(device, view) for device, view in self.views.items()},
            labels=self.labels,
            presence=self.presence,
            class_names=self.class_names,
            split=parts,
            split_rule=words,
            instances=instances,
            times=self.time,
            codings=codings,
            files=self.files,
            skipped=self.skipped,
            balance=self.balance,
        )

    def _why_not(self, rule: str, allowed: list[str]) -> str:
        listed = f"Expected `split` of '{self.name}' out of {', '.join(allowed) or 'none'}, but got '{rule}'"
        if rule == "random" and self.shares_readings:
            return (
                f"{listed}: its windows share readings, so that neighbours would stand in training and test; "
                "make `stride` as long as `window`, or choose another split."
            )
        return f"{listed}: it has no `{rule}`." if rule in SPLITS else f"{listed}: there is no such split."

    def _rule(self, rule: str, seed: int) -> splits.Rule:
        if rule == "group":
            return splits.by_group(self.group, self.labels, seed)  # type: ignore[arg-type]
        if rule == "time":
            return splits.by_time(self.time, self.start)  # type: ignore[arg-type]
        return splits.at_random(self.labels, seed)

    def _words(self, rule: str, seed: int) -> str:
        if rule == "group":
            return f"by group (none stands in two parts), seed {seed}"
        if rule == "time":
            return "by time, the latest samples for test, with gaps between the parts"
        return f"at random within each class, seed {seed}"


def device_names(given: Iterable[str]) -> dict[str, str]:
    """Names of nodes for a user's names of devices: letters, digits and underscores, a letter first.

    >>> device_names(["front door", "2", "門"])
    {'front door': 'front_door', '2': 'device_2', '門': 'device_at_2'}

    Args:
        given: Names of folders, columns or arrays.

    Raises:
        ValueError: Two of them become the same.
    """
    names: dict[str, str] = {}
    for place, original in enumerate(given):
        name = re.sub(r"[^A-Za-z0-9_]", "_", original)
        if not re.search(r"[A-Za-z0-9]", name):
            name = f"device_at_{place}"
        elif not name[0].isalpha():
            name = f"device_{name}"
        for other, taken in names.items():
            if taken == name:
                raise ValueError(
                    f"The devices '{other}' and '{original}' would both be called '{name}' in a network, "
                    "whose names have letters, digits and underscores only: rename one."
                )
        names[original] = name
    return names
