"""The one form that every data set takes: named views of the same samples, one for each device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.datasets.splits import PARTS
from ddnn_tf.datasets.stored import StoredView, View
from ddnn_tf.specs import Coding

if TYPE_CHECKING:
    from ddnn_tf.datasets.source import DataSource
    from ddnn_tf.topology import Topology

__all__ = [
    "ABSENT",
    "MultiViewDataset",
    "camera_views",
    "coded_views",
]

ABSENT = -1
"""Label of a view in which the object is not to be seen."""

# One class this many times as frequent as another makes plain accuracy say little about the rare one.
_UNEQUAL = 10
# Views in files are read in pieces.
_DIGEST_SAMPLES = 4096


@dataclass(frozen=True)
class MultiViewDataset:
    """Samples, each seen by all devices at once.

    Attributes:
        name: Name of the data set.
        views: What each device senses, by its name and in the devices' order: `(samples, height, width,
            channels)`, `(samples, steps, channels)` or `(samples, features)`, 8-bit codes as uint8, in memory
            or in a file (`StoredView`).
        labels: `(samples,)` int64, the class of each sample.
        presence: `(samples, devices)` bool, whether the device sees the object.
        class_names: Name of each class.
        split: Indices of the samples of `train`, `validation` and `test`, `(n,)` int64 each.
        split_rule: How it was split, in words, for reports.
        instances: `(samples,)` int64, the physical object or track of each sample; None if unknown.
        times: `(samples,)` numbers or datetime64, when each sample was taken; None if unknown.
        codings: How physical readings became the codes of a view, by device; images have none.
        files: Name of the file that each view comes from, by device, `(samples,)` str: for messages; empty
            for a view that is absent, and for data sets that are not made of one file for each view.
        skipped: How many unreadable files were left out.
        balance: Whether every class counts alike, because their shares are very unequal: training weights
            each class by the inverse of its share, and thresholds are chosen by balanced accuracy.
        origin: The source that loaded exactly these data; None: unknown.

    Raises:
        ValueError: Arrays that do not fit each other, codes or labels out of range.
    """

    name: str
    views: Mapping[str, View]
    labels: NDArray[np.int64]
    presence: NDArray[np.bool_]
    class_names: tuple[str, ...]
    split: Mapping[str, NDArray[np.int64]]
    split_rule: str
    instances: NDArray[np.int64] | None = None
    times: NDArray[Any] | None = None
    codings: Mapping[str, Coding] = field(default_factory=dict)
    balance: bool = False
    # Not copied by `replace`: changed data are no longer those of the source.
    origin: DataSource | None = field(default=None, init=False, compare=False, repr=False)
    files: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    skipped: int = 0

    def __post_init__(self) -> None:
        samples, devices = len(self.labels), len(self.views)
        if not devices:
            raise ValueError(f"Expected `views` of at least one device, but '{self.name}' has none.")
        for device, view in self.views.items():
            if view.dtype != np.uint8 or view.ndim not in (2, 3, 4):
                raise ValueError(
                    f"Expected the view '{device}' to be 8-bit codes (samples, height, width, channels), "
                    f"(samples, steps, channels) or (samples, features) uint8, but got {view.shape} "
                    f"{view.dtype}: code physical readings with `Coding.fit(...).encode(...)`."
                )
            if len(view) != samples:
                raise ValueError(
                    f"Expected the view '{device}' to have {samples} samples, as `labels` has, but got "
                    f"{len(view)}."
                )
        for key, array, shape in (
            ("labels", self.labels, (samples,)),
            ("presence", self.presence, (samples, devices)),
            ("instances", self.instances, (samples,)),
            ("times", self.times, (samples,)),
            *((f"files['{device}']", names, (samples,)) for device, names in self.files.items()),
        ):
            if array is not None and array.shape != shape:
                raise ValueError(f"Expected `{key}` to have shape {shape}, but got {array.shape}.")
        for device in self.codings:
            if device not in self.views:
                raise ValueError(
                    f"Expected `codings` of {', '.join(self.views)}, but got {device!r}: no such device."
                )
        if samples and not (self.labels.min() >= 0 and self.labels.max() < len(self.class_names)):
            raise ValueError(
                f"Expected `labels` between 0 and {len(self.class_names) - 1}, but got "
                f"{self.labels.min()}..{self.labels.max()}."
            )
        self._check_split(samples)

    def _check_split(self, samples: int) -> None:
        if set(self.split) != set(PARTS):
            raise ValueError(f"Expected `split` to have the parts {PARTS}, but got {list(self.split)}.")
        for part, chosen in self.split.items():
            if len(chosen) == 0:
                raise ValueError(
                    f"The {part} part of '{self.name}' is empty: use more samples or a smaller "
                    "validation share."
                )
        rows = np.concatenate([self.split[part] for part in PARTS])
        if rows.min() < 0 or rows.max() >= samples or len(np.unique(rows)) < len(rows):
            raise ValueError(
                f"Expected `split` to hold each of {samples} samples at most once over all parts, but got "
                f"{len(rows)} indices from {rows.min()} to {rows.max()}, {len(np.unique(rows))} of them "
                "different."
            )

    @property
    def device_names(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(self.views)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample's view, by device."""
        return {device: tuple(map(int, view.shape[1:])) for device, view in self.views.items()}

    @property
    def is_unequal(self) -> bool:
        """Whether the classes are so unequal, or weighted, that balanced accuracy belongs beside accuracy."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return self.balance or bool(counts.max() > _UNEQUAL * counts.min())

    def check_fit(self, topology: Topology) -> None:
        """Refuses a network that is built for other data, in the terms of its topology.

        Raises:
            ValueError: A device without a view, a view of another shape or coding, or another number of
                classes.
        """
        for node in topology.hierarchy.devices:
            if node.name not in self.views:
                raise ValueError(
                    f"The network's device '{node.name}' has no input: the data set '{self.name}' has views "
                    f"of {', '.join(self.views)}; name the device like one of them."
                )
            shape = self.shapes[node.name]
            if node.sensor.shape != shape:
                raise ValueError(
                    f"The network's 'input' of device '{node.name}' is {node.sensor.shape}, but the data set "
                    f"'{self.name}' has {shape}: make them equal in its topology."
                )
            if node.coding is not None and node.coding != self.codings.get(node.name):
                raise ValueError(
                    f"The network's 'codings.{node.name}' is not that of the data set '{self.name}': leave "
                    "it out of the topology, training fills it in."
                )
        if topology.classes != len(self.class_names):
            raise ValueError(
                f"The network's 'classes' is {topology.classes}, but the data set '{self.name}' has "
                f"{len(self.class_names)}: make them equal in its topology."
            )

    def part(self, part: str) -> dict[str, View]:
        """The views of a part, `(samples, ...)` uint8 by device; those in files stay there.

        Args:
            part: `train`, `validation` or `test`.
        """
        rows = self.split[part]
        return {
            device: view.take(rows) if isinstance(view, StoredView) else view[rows]
            for device, view in self.views.items()
        }

    def rows(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.uint8]]:
        """The views of some samples, `(samples, ...)` uint8 by device."""
        return {device: view[rows] for device, view in self.views.items()}

    def inputs(self, part: str) -> dict[str, NDArray[np.float32]]:
        """A part's views as `model.fit` takes them: by input name, float32 0..255.

        Args:
            part: `train`, `validation` or `test`.
        """
        return {device: view.astype(np.float32) for device, view in self.rows(self.split[part]).items()}

    def targets(self, part: str) -> NDArray[np.int64]:
        """A part's labels, `(samples,)` int64."""
        return self.labels[self.split[part]]

    def present(self, part: str) -> NDArray[np.bool_]:
        """A part's presence, `(samples, devices)` bool."""
        return self.presence[self.split[part]]

    def class_weights(self) -> NDArray[np.float32]:
        """Weight of each class's samples in training, `(classes,)` float32: 1, or inverse to its share.

        Balanced weights are samples / (classes * samples of the class), so that their mean over the
        training samples is 1.
        """
        classes = len(self.class_names)
        if not self.balance:
            return np.ones(classes, np.float32)
        labels = self.targets("train")
        counts = np.bincount(labels, minlength=classes)
        return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)

    def digest(self) -> str:
        """SHA-256 of views, labels, presence and split, in hexadecimal: same digest, same data."""
        content = hashlib.sha256()
        for device, view in self.views.items():
            content.update(f"{device} {view.shape}".encode())
            for start in range(0, len(view), _DIGEST_SAMPLES):
                content.update(np.ascontiguousarray(view[start : start + _DIGEST_SAMPLES]).data)
        for device, coding in self.codings.items():
            content.update(f"{device} {coding.model_dump_json()}".encode())
        arrays: list[NDArray[Any]] = [self.labels, self.presence, *(self.split[part] for part in PARTS)]
        for array in arrays:
            content.update(f"{array.shape} {array.dtype}".encode())
            content.update(array.tobytes())
        return content.hexdigest()

    def check_digest(self, expected: str) -> None:
        """Refuses data that are not those of a training.

        Args:
            expected: Their `digest`.

        Raises:
            ValueError: They are others.
        """
        if self.digest() != expected:
            raise ValueError(
                f"The data set '{self.name}' is not the one that the network was trained on (other views, "
                "labels or split): bring back the files of the training, or train again."
            )

    def first_devices(self, count: int | None) -> MultiViewDataset:
        """The same samples seen by the first devices only; None: by all.

        Raises:
            ValueError: There are fewer.
        """
        if count is not None and count > len(self.views):
            raise ValueError(
                f"Expected `devices` to be at most {len(self.views)}, as many as '{self.name}' has, but got "
                f"{count}."
            )
        return self.with_devices(self.device_names[:count])

    def with_devices(self, chosen: Sequence[str]) -> MultiViewDataset:
        """The same samples seen by some of the devices only, in the order given.

        Raises:
            ValueError: No device, or one that is not there.
        """
        if not chosen or not all(device in self.views for device in chosen):
            raise ValueError(
                f"Expected devices out of {', '.join(self.views)} (those of '{self.name}'), but got "
                f"{', '.join(map(str, chosen)) or 'none'}."
            )
        columns = [self.device_names.index(device) for device in chosen]
        return replace(
            self,
            views={device: self.views[device] for device in chosen},
            presence=self.presence[:, columns],
            codings={device: coding for device, coding in self.codings.items() if device in chosen},
            files={device: names for device, names in self.files.items() if device in chosen},
        )


def camera_views(images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """The views `device_0`, `device_1`, ... of alike cameras.

    Args:
        images: `(samples, devices, height, width, channels)` uint8.
    """
    return {f"device_{number}": images[:, number] for number in range(images.shape[1])}


def coded_views(
    physical: Mapping[str, NDArray[Any]],
    train: NDArray[np.int64],
    presence: NDArray[np.bool_] | None = None,
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Coding]]:
    """Views and codings of physical readings, whose range is that of the training samples.

    Args:
        physical: `(samples, ..., channels)` numbers by device.
        train: Indices of the training samples.
        presence: `(samples, devices)` bool, whether there are readings of a device; else its codes are 0.
            None: always.

    Raises:
        ValueError: A device without readings among the training samples.
    """
    views: dict[str, NDArray[np.uint8]] = {}
    codings: dict[str, Coding] = {}
    for number, (device, values) in enumerate(physical.items()):
        is_there = np.ones(len(values), bool) if presence is None else presence[:, number]
        known = train[is_there[train]]
        if not len(known):
            raise ValueError(
                f"The device '{device}' has no readings among the training samples, so its range is unknown: "
                "leave it out, or choose another split."
            )
        codings[device] = Coding.fit(values[known])
        codes = np.zeros(values.shape, np.uint8)
        codes[is_there] = codings[device].encode(values[is_there])
        views[device] = codes
    return views, codings
