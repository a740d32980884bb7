"""The one form that every data set takes: images of the same samples from several devices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ABSENT", "PARTS", "MultiViewDataset", "split_at_random", "split_by_instance"]

ABSENT = -1
"""Label of a view in which the object is not to be seen."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class MultiViewDataset:
    """Samples, each seen by all devices at once.

    Attributes:
        name: Name of the data set.
        images: `(samples, devices, height, width, channels)` uint8.
        labels: `(samples,)` int64, the class of each sample.
        presence: `(samples, devices)` bool, whether the device sees the object.
        class_names: Name of each class.
        split: Indices of the samples of `train`, `validation` and `test`, `(n,)` int64 each.
        split_rule: How it was split, in words, for reports.
        instances: `(samples,)` int64, the physical object or track of each sample; None if unknown.

    Raises:
        ValueError: Arrays that do not fit each other, or labels out of range.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    presence: NDArray[np.bool_]
    class_names: tuple[str, ...]
    split: Mapping[str, NDArray[np.int64]]
    split_rule: str
    instances: NDArray[np.int64] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.images.ndim != 5 or self.images.dtype != np.uint8:
            raise ValueError(
                "Expected `images` to be (samples, devices, height, width, channels) uint8, but got "
                f"{self.images.shape} {self.images.dtype}."
            )
        samples, devices = self.images.shape[:2]
        for key, array, shape in (
            ("labels", self.labels, (samples,)),
            ("presence", self.presence, (samples, devices)),
            ("instances", self.instances, (samples,)),
        ):
            if array is not None and array.shape != shape:
                raise ValueError(f"Expected `{key}` to have shape {shape}, but got {array.shape}.")
        if samples and not (self.labels.min() >= 0 and self.labels.max() < len(self.class_names)):
            raise ValueError(
                f"Expected `labels` between 0 and {len(self.class_names) - 1}, but got "
                f"{self.labels.min()}..{self.labels.max()}."
            )
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
    def devices(self) -> int:
        """Number of devices."""
        return int(self.images.shape[1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        height, width, channels = self.images.shape[2:]
        return int(height), int(width), int(channels)

    def check_fit(self, devices: int, image_shape: tuple[int, ...], classes: int) -> None:
        """Refuses a network that is built for other data, in the terms of its topology.

        Raises:
            ValueError: Another number of devices or classes, or images of another shape.
        """
        for name, asked, given in (
            ("devices.count", devices, self.devices),
            ("devices.image_shape", image_shape, self.image_shape),
            ("classes", classes, len(self.class_names)),
        ):
            if asked != given:
                raise ValueError(
                    f"The network's '{name}' is {asked}, but the data set '{self.name}' has {given}: "
                    "make them equal in its topology."
                )

    def inputs(self, part: str) -> dict[str, NDArray[np.float32]]:
        """A part's images as `model.fit` takes them: by input name, float32 0..255.

        Args:
            part: `train`, `validation` or `test`.

        Returns:
            `(samples, height, width, channels)` float32 by `device_0`, `device_1`, ...
        """
        chosen = self.images[self.split[part]]
        return {f"device_{number}": chosen[:, number].astype(np.float32) for number in range(self.devices)}

    def targets(self, part: str) -> NDArray[np.int64]:
        """A part's labels, `(samples,)` int64."""
        return self.labels[self.split[part]]

    def present(self, part: str) -> NDArray[np.bool_]:
        """A part's presence, `(samples, devices)` bool."""
        return self.presence[self.split[part]]

    def digest(self) -> str:
        """SHA-256 of images, labels, presence and split, in hexadecimal: same digest, same data."""
        content = hashlib.sha256()
        arrays: list[NDArray[Any]] = [self.images, self.labels, self.presence]
        for array in arrays + [self.split[part] for part in PARTS]:
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
                f"The data set '{self.name}' is not the one that the network was trained on (other images, "
                "labels or split): bring back the files of the training."
            )

    def with_devices(self, chosen: Sequence[int]) -> MultiViewDataset:
        """The same samples seen by some of the devices only, in the order given.

        Raises:
            ValueError: No device, or one that is not there.
        """
        if not chosen or not all(0 <= device < self.devices for device in chosen):
            raise ValueError(
                f"Expected devices between 0 and {self.devices - 1} ('{self.name}' has {self.devices}), "
                f"but got {list(chosen)}."
            )
        columns = list(chosen)
        return replace(self, images=self.images[:, columns], presence=self.presence[:, columns])


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
    return cut(order[:-test], order[-test:], validation_share)


def cut(
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
