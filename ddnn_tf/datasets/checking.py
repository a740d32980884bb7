"""What is wrong with a data set, and whether its test part says anything about new scenes.

>>> check = check_source(DataSource(name="scenes", split="track"))
>>> check.leak_share, check.errors
(0.0, ())

Errors stop a training or make it meaningless; warnings do not. Every problem names the files it is about, or
the samples where one file holds them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddnn_tf.datasets.leaks import Leaks, find_leaks
from ddnn_tf.datasets.multiview import PARTS, MultiViewDataset
from ddnn_tf.datasets.problems import (
    absences,
    blind_devices,
    class_counts,
    count_of,
    missing_classes,
    name_of_view,
    rare_classes,
)
from ddnn_tf.datasets.recording import Problem, Recording
from ddnn_tf.datasets.source import DataSource
from ddnn_tf.datasets.split_problems import shared_groups, shares_by_class, split_problems
from ddnn_tf.datasets.survey import Survey, survey, view_problems

__all__ = ["DataCheck", "Progress", "check_dataset", "check_source"]

Progress = Callable[[str, int, int], None]
"""What is told what is being done, how much of it is done, and out of how much."""

# Most alike pairs that are shown.
_PAIRS = 12
# Picture files of a device whose size is looked up: all of a small folder, some of a large one.
_SIZES_READ = 500
_NOT_COMPARED = (
    "readings in time are not compared, because they repeat by nature (one quiet night is like another): "
    "split them by time or by group"
)


@dataclass(frozen=True)
class DataCheck:
    """What a check found.

    Attributes:
        name: Name of the data set.
        errors: Problems that stop a training or make it meaningless.
        warnings: Other problems.
        data: The data set in its parts; None if the errors keep it from being split.
        surveys: What is known of each device's views.
        leaks: The search for near-identical samples; None if nothing could be compared.
        original_sizes: Width and height of each device's picture files, in words; empty without such files.
        shared_groups: Share of the test samples whose object or group is in the training part, too; None if
            groups are not known.
    """

    name: str
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    data: MultiViewDataset | None = None
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    leaks: Leaks | None = None
    shared_groups: float | None = None
    original_sizes: Mapping[str, str] = field(default_factory=dict)

    @property
    def leak_share(self) -> float | None:
        """Share of the test samples that have a near-identical sample in training; None: not compared."""
        return None if self.leaks is None else self.leaks.share

    @property
    def not_compared(self) -> dict[str, str]:
        """Why a device's views are not compared, by device."""
        return {device: _NOT_COMPARED for device, found in self.surveys.items() if found.numbers is None}

    def pairs(self) -> list[tuple[int, int, float]]:
        """The most alike pairs: test sample, training sample and their difference."""
        if self.leaks is None:
            return []
        found = self.leaks
        return [
            (int(found.test[place]), int(found.twins[place]), float(found.twin_differences[place]))
            for place in found.worst(_PAIRS)
        ]

    def devices_of_pair(self, test: int, train: int) -> list[str]:
        """The devices whose views of both samples were compared."""
        return [
            device
            for device, found in self.surveys.items()
            if found.numbers is not None and found.has_content[test] and found.has_content[train]
        ]

    def to_dict(self) -> dict[str, Any]:
        """The check as JSON holds it."""
        return {
            "data": self.name,
            "problems": [
                {
                    "kind": problem.kind,
                    "severity": severity,
                    "message": problem.message,
                    "files": list(problem.files),
                }
                for severity, problems in (("error", self.errors), ("warning", self.warnings))
                for problem in problems
            ],
            "leak_share": self.leak_share,
            "shared_group_share": self.shared_groups,
            "leaks": self._leaks(),
            "not_compared": self.not_compared,
            "contents": None if self.data is None else self._contents(self.data),
        }

    def _leaks(self) -> dict[str, Any] | None:
        data, leaks = self.data, self.leaks
        if leaks is None or data is None:
            return None
        return {
            "by_class": shares_by_class(data, leaks),
            "by_device": dict(leaks.by_view),
            "thresholds": dict(leaks.thresholds),
            "typical_differences": dict(leaks.typical),
            "test_samples": leaks.test[leaks.has_twin].tolist(),
            "lookup_accuracy": leaks.lookup_accuracy(),
            "lookup_balanced_accuracy": leaks.lookup_accuracy(balanced=True),
            "pairs": [
                {
                    "test": test,
                    "train": train,
                    "difference": difference,
                    "files": {
                        device: [name_of_view(data, device, test), name_of_view(data, device, train)]
                        for device in self.devices_of_pair(test, train)
                    },
                }
                for test, train, difference in self.pairs()
            ],
        }

    def _contents(self, data: MultiViewDataset) -> dict[str, Any]:
        return {
            "samples": len(data.labels),
            "classes": list(data.class_names),
            "split": data.split_rule,
            "parts": {part: class_counts(data, data.split[part]) for part in PARTS},
            "views": {
                device: {
                    "input": list(data.shapes[device]),
                    "original_sizes": self.original_sizes.get(device),
                    "present": class_counts(data, np.flatnonzero(data.presence[:, number])),
                    "absent": int((~data.presence[:, number]).sum()),
                    "without_contrast": int(
                        (data.presence[:, number] & ~self.surveys[device].has_content).sum()
                    ),
                }
                for number, device in enumerate(data.device_names)
            },
        }


def check_source(source: DataSource, progress: Progress | None = None) -> DataCheck:
    """Loads data and checks them.

    Args:
        source: Which data, and how they are split.
        progress: Is told how far the check is.

    Raises:
        FileNotFoundError: There are no data at all.
        ValueError: As `DataSource.load`, of data that are not a user's own.
    """
    recording = source.record()
    if recording is None:
        return check_dataset(source.load(), progress=progress)
    recording = recording.with_devices(source.devices)
    try:
        parts = recording.parts(source.split, test_share=source.test_share, seed=source.seed)
        data = recording.in_parts(*parts)
    except ValueError as error:
        return DataCheck(recording.name, (*recording.problems, Problem("split", str(error))))
    if source.class_weights is not None:
        data = replace(data, balance=source.class_weights == "balanced")
    check = check_dataset(data, recording, progress)
    if data.files and source.path is not None:
        place = Path(source.path)
        check = replace(
            check, original_sizes=_original_sizes(data, place if place.is_dir() else place.parent)
        )
    return check


def check_dataset(
    data: MultiViewDataset, recording: Recording | None = None, progress: Progress | None = None
) -> DataCheck:
    """Checks a data set in its parts.

    Args:
        data: The data set.
        recording: The user's data that it was made of, with the problems that are known already.
        progress: Is told how far the check is.
    """
    known = () if recording is None else recording.problems
    # A user's own data must have every class in every part; built-in data sets may lack one in validation.
    needed, optional = (PARTS, ()) if recording is not None else (("train", "test"), ("validation",))
    surveys = survey(data, _stage(progress, "reading"))
    check = DataCheck(
        name=data.name,
        errors=(*known, *missing_classes(data, needed), *blind_devices(data)),
        data=data,
        surveys=surveys,
        leaks=_leaks(data, surveys, _stage(progress, "comparing")),
        shared_groups=shared_groups(data),
    )
    pair_files = [
        name_of_view(data, device, row)
        for test, train, _ in check.pairs()
        for device in check.devices_of_pair(test, train)[:1]
        for row in (test, train)
    ]
    warnings = (
        *split_problems(data, check.leaks, tuple(pair_files)),
        *_skipped(recording),
        *missing_classes(data, optional),
        *rare_classes(data),
        *absences(data),
        *view_problems(data, surveys),
    )
    return replace(check, warnings=warnings)


def _original_sizes(data: MultiViewDataset, root: Path) -> dict[str, str]:
    """Width and height of picture files, from the smallest to the largest of those that are looked at."""
    from PIL import Image

    words = {}
    for device, names in data.files.items():
        files = names[names != ""]
        sizes = set()
        for file in files[:: -(-len(files) // _SIZES_READ)] if len(files) else ():
            with Image.open(root / file) as picture:
                sizes.add(picture.size)
        ends = [f"{width}x{height}" for width, height in sorted(sizes, key=lambda size: size[0] * size[1])]
        words[device] = " to ".join(dict.fromkeys([*ends[:1], *ends[-1:]]))
    return words


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _leaks(
    data: MultiViewDataset, surveys: Mapping[str, Survey], progress: Callable[[int, int], None] | None
) -> Leaks | None:
    compared = {device: found for device, found in surveys.items() if found.numbers is not None}
    if not compared:
        return None
    return find_leaks(
        {device: found.numbers for device, found in compared.items() if found.numbers is not None},
        np.stack([found.has_content for found in compared.values()], axis=1),
        data.labels,
        train=data.split["train"],
        test=data.split["test"],
        progress=progress,
    )


def _skipped(recording: Recording | None) -> Iterator[Problem]:
    if recording is not None and recording.skipped:
        yield Problem(
            "unreadable",
            f"{count_of(recording.skipped, 'picture')} cannot be read and count as absent views: repair or "
            "remove them; without --skip-unreadable they are listed.",
        )
