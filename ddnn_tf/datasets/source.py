"""Data sets by name, and what it takes to load the very same data again.

    >>> load_dataset("scenes").class_names
    ('car', 'bus', 'person')

A data set of a user's own is a function that is registered under a name, and is then known to every command:

    >>> register_dataset("my_site", load_my_site, about="two cameras in a hall")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.documents import Document
from ddnn_tf.registry import Registry

__all__ = ["DATASETS", "DataSource", "DatasetKind", "load_dataset", "register_dataset"]

_OPTIONS = ("path", "devices", "split", "split_file")


class DataSource(Document):
    """Which data set, and how it is split: enough to load the very same data again.

    Attributes:
        name: One of `DATASETS`.
        path: Where its files are, for those that are read from files.
        devices: Number of devices. Camera data sets give the first ones, `eth80` places as many
            round the object, partitioned images are cut into 1x1, 1x2, 1x3, 2x2 or 2x3 tiles; data sets of
            unlike devices have all of theirs.
        split: How it is split, for those that can be split in several ways.
        split_file: For `mvmc`, the authors' order.
        seed: Seed of the split.

    Raises:
        ValueError: A field out of its range.
    """

    subject: ClassVar[str] = "data source"

    name: str
    path: str | None = None
    devices: Annotated[int, Field(ge=1)] = 6
    split: str | None = None
    split_file: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    def load(self) -> MultiViewDataset:  # type: ignore[override]
        """Loads it.

        Raises:
            FileNotFoundError: Its files are not there (the message says where to put them).
            ValueError: Unknown name, an option that the data set does not have, or bad content.
        """
        kind = DATASETS[self.name]
        for option in _OPTIONS:
            value = getattr(self, option)
            if option not in kind.options and value != type(self).model_fields[option].default:
                raise ValueError(
                    f"Expected no `{option}` for the data set '{self.name}', but got {value!r}: it takes "
                    f"{', '.join(kind.options) or 'no option'}."
                )
        return kind.load(self)


@dataclass(frozen=True)
class DatasetKind:
    """A data set that is known by its name.

    Attributes:
        load: Makes the data out of a source.
        about: What it is, in a few words.
        options: The fields of a `DataSource` that it takes, besides name and seed.
    """

    load: Callable[[DataSource], MultiViewDataset]
    about: str
    options: tuple[str, ...]


DATASETS: Registry[DatasetKind] = Registry("data set", package="ddnn_tf.datasets")
"""Every data set by the name that `load_dataset` and the command line take."""


def register_dataset(
    name: str,
    load: Callable[[DataSource], MultiViewDataset],
    *,
    about: str,
    options: Sequence[str] = ("path",),
) -> None:
    """Makes a data set known by a name.

    Args:
        name: Its name for `--data`.
        load: Makes the data out of a source; its seed draws the split.
        about: What it is, in a few words.
        options: The fields of a `DataSource` that it takes: of `path`, `devices`, `split`, `split_file`.

    Raises:
        ValueError: Another data set has that name, or an option that there is not.
    """
    for option in options:
        if option not in _OPTIONS:
            raise ValueError(f"Expected `options` out of {', '.join(_OPTIONS)}, but got {option!r}.")
    DATASETS.register(name, DatasetKind(load, about, tuple(options)), load.__module__)


def load_dataset(name: str, **options: Any) -> MultiViewDataset:
    """Loads a data set by name; the options are the fields of `DataSource`."""
    return DataSource(name=name, **options).load()
