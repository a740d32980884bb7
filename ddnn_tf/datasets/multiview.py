"""The one form that every data set takes: named views of the same samples, one for each device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.specs import Coding

if TYPE_CHECKING:
    from ddnn_tf.topology import Topology

__all__ = [
    "ABSENT",
    "PARTS",
    "MultiViewDataset",
    "camera_views",
    "check_share",
    "coded_views",
    "hold_out",
    "split_at_random",
    "split_by_instance",
]

ABSENT = -1
"""Label of a view in which the object is not to be seen."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class MultiViewDataset:
    """Samples, each seen by all devices at once.

    Attributes:
        name: Name of the data set.
        views: What each device senses, by its name and in the devices' order: `(samples, height, width,
            channels)`, `(samples, steps, channels)` or `(samples, features)`, 8-bit codes as uint8.
        labels: `(samples,)` int64, the class of each sample.
        presence: `(samples, devices)` bool, whether the device sees the object.
        class_names: Name of each class.
        split: Indices of the samples of `train`, `validation` and `test`, `(n,)` int64 each.
        split_rule: How it was split, in words, for reports.
        instances: `(samples,)` int64, the physical object or track of each sample; None if unknown.
        codings: How physical readings became the codes of a view, by device; images have none.
        balance: Whether every class counts alike, because their shares are very unequal: training weights
            each class by the inverse of its share, and thresholds are chosen by balanced accuracy.

    Raises:
        ValueError: Arrays that do not fit each other, codes or labels out of range.
    """

    name: str
    views: Mapping[str, NDArray[np.uint8]]
    labels: NDArray[np.int64]
    presence: NDArray[np.bool_]
    class_names: tuple[str, ...]
    split: Mapping[str, NDArray[np.int64]]
    split_rule: str
    instances: NDArray[np.int64] | None = None
    codings: Mapping[str, Coding] = field(default_factory=dict)
    balance: bool = False

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

    def part(self, part: str) -> dict[str, NDArray[np.uint8]]:
        """The views of a part, `(samples, ...)` uint8 by device.

        Args:
            part: `train`, `validation` or `test`.
        """
        return self.rows(self.split[part])

    def rows(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.uint8]]:
        """The views of some samples, `(samples, ...)` uint8 by device."""
        return {device: view[rows] for device, view in self.views.items()}

    def inputs(self, part: str) -> dict[str, NDArray[np.float32]]:
        """A part's views as `model.fit` takes them: by input name, float32 0..255.

        Args:
            part: `train`, `validation` or `test`.
        """
        return {device: view.astype(np.float32) for device, view in self.part(part).items()}

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
            content.update(np.ascontiguousarray(view).data)
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
        )


def camera_views(images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """The views `device_0`, `device_1`, ... of alike cameras.

    Args:
        images: `(samples, devices, height, width, channels)` uint8.
    """
    return {f"device_{number}": images[:, number] for number in range(images.shape[1])}


def coded_views(
    physical: Mapping[str, NDArray[Any]], train: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Coding]]:
    """Views and codings of physical readings, whose range is that of the training samples.

    Args:
        physical: `(samples, ..., channels)` numbers by device.
        train: Indices of the training samples.
    """
    codings = {device: Coding.fit(values[train]) for device, values in physical.items()}
    return {device: codings[device].encode(values) for device, values in physical.items()}, codings


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


def check_share(share: float) -> None:
    """Refuses a share that is not strictly between 0 and 1."""
    if not 0 < share < 1:
        raise ValueError(f"Expected a share between 0 and 1, both excluded, but got {share}.")


def _draw(order: NDArray[np.int64], sizes: NDArray[np.int64], wanted: int) -> set[int]:
    """Instances in `order` while they fit in `wanted` samples; at least one, never all."""
    drawn: set[int] = set()
    room = wanted
    for at in order[:-1]:
        if sizes[at] <= room:
            drawn.add(int(at))
            room -= int(sizes[at])
    return drawn or {int(min(order, key=lambda at: sizes[at]))}
