"""Data sets by name, and what it takes to load the very same data again.

    >>> load_dataset("scenes").class_names
    ('car', 'bus', 'person')

A data set of a user's own is a function that is registered under a name, and is then known to every command:

    >>> register_dataset("my_site", load_my_site, about="two cameras in a hall")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.recording import Recording
from ddnn_tf.documents import Document, Strict
from ddnn_tf.registry import Registry

__all__ = [
    "DATASETS",
    "DataSource",
    "DatasetKind",
    "PictureSize",
    "load_dataset",
    "register_dataset",
    "register_recording",
]

_OPTIONS = (
    "path",
    "devices",
    "split",
    "split_file",
    "test_share",
    "sizes",
    "fit",
    "channels",
    "skip_unreadable",
)
_CAMERAS = 6


class PictureSize(Strict):
    """The size that a device's pictures are brought to.

    Attributes:
        width: In pixels.
        height: In pixels.
        device: Whose pictures; None: of all devices that have no size of their own.
    """

    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    device: str | None = None

    def __repr__(self) -> str:
        """As the command line writes it."""
        size = f"{self.width}x{self.height}"
        return size if self.device is None else f"{self.device}={size}"


class DataSource(Document):
    """Which data set, and how it is split: enough to load the very same data again.

    Attributes:
        name: One of `DATASETS`.
        path: Where its files are, for those that are read from files.
        devices: Number of devices; None: 6 cameras or tiles, or all devices of a user's own data. Camera data
            sets and a user's own give the first ones, `eth80` places as many round the object, partitioned
            images are cut into as many tiles (6: 2 rows of 3, 12: 3 rows of 4, a prime number: one row); the
            built-in data sets of unlike devices have all of theirs.
        split: How it is split, for those that can be split in several ways.
        split_file: For `mvmc`, the authors' order.
        test_share: Fraction of the samples for test, of a user's own data; None: 0.2.
        sizes: For `folder`, the size that pictures are brought to; none: 32x32.
        fit: For `folder`, how: `pad` keeps the aspect ratio and fills with black, `stretch` does not; None:
            `pad`.
        channels: For `folder`, `grey` or `colour`; None: as the pictures of each device are.
        skip_unreadable: For `folder`, whether pictures that cannot be read are taken for absent views.
        class_weights: `balanced` weights each class in training by the inverse of its share, `none` does not;
            None: as the data set does by itself.
        seed: Seed of the split.

    Raises:
        ValueError: A field out of its range.
    """

    subject: ClassVar[str] = "data source"

    name: str
    path: str | None = None
    devices: Annotated[int, Field(ge=1)] | None = None
    split: str | None = None
    split_file: str | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    sizes: tuple[PictureSize, ...] = ()
    fit: Literal["pad", "stretch"] | None = None
    channels: Literal["grey", "colour"] | None = None
    skip_unreadable: bool = False
    class_weights: Literal["balanced", "none"] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def cameras(self) -> int:
        """Number of devices of a data set that has as many as asked for."""
        return _CAMERAS if self.devices is None else self.devices

    @property
    def picture_fit(self) -> Literal["pad", "stretch"] | None:
        """How pictures are brought to a device's input; None: the data set is not made of pictures.

        Raises:
            ValueError: Unknown name.
        """
        return (self.fit or "pad") if "fit" in DATASETS[self.name].options else None

    def load(self) -> MultiViewDataset:  # type: ignore[override]
        """Loads it.

        Raises:
            FileNotFoundError: Its files are not there (the message says where to put them).
            ValueError: Unknown name, an option that the data set does not have, or bad content.
        """
        data = self._kind().load(self)
        if self.class_weights is not None:
            data = replace(data, balance=self.class_weights == "balanced")
        object.__setattr__(data, "origin", self)
        return data

    def record(self) -> Recording | None:
        """A user's own data as they are, with all their problems; None for other data sets.

        Raises:
            FileNotFoundError: Its files are not there.
            ValueError: As `load`, where there is nothing to be read at all.
        """
        kind = self._kind()
        return None if kind.record is None else kind.record(self)

    def _kind(self) -> DatasetKind:
        kind = DATASETS[self.name]
        for option in _OPTIONS:
            value = getattr(self, option)
            if option not in kind.options and value != type(self).model_fields[option].default:
                raise ValueError(
                    f"Expected no `{option}` for the data set '{self.name}', but got {value!r}: it takes "
                    f"{', '.join(kind.options) or 'no option'}."
                )
        return kind


@dataclass(frozen=True)
class DatasetKind:
    """A data set that is known by its name.

    Attributes:
        load: Makes the data out of a source.
        about: What it is, in a few words.
        options: The fields of a `DataSource` that it takes, besides name, class weights and seed.
        record: Reads a user's own data before they are split; None for other data sets.
    """

    load: Callable[[DataSource], MultiViewDataset]
    about: str
    options: tuple[str, ...]
    record: Callable[[DataSource], Recording] | None = None


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
        options: The fields of a `DataSource` that it takes: of `path`, `devices`, `split`, `split_file`,
            `test_share`, `sizes`, `fit`, `channels`, `skip_unreadable`.

    Raises:
        ValueError: Another data set has that name, or an option that there is not.
    """
    _register(name, DatasetKind(load, about, tuple(options)), load.__module__)


def register_recording(
    name: str,
    record: Callable[[DataSource], Recording],
    *,
    about: str,
    options: Sequence[str] = (),
) -> None:
    """Makes data that are split by the options of `DataSource` known by a name.

    Args:
        name: Its name for `--data`.
        record: Reads the data of a source, with all their devices and problems.
        about: What it is, in a few words.
        options: The fields of a `DataSource` that `record` takes, besides `path`; the split's and `devices`
            are taken care of.

    Raises:
        ValueError: As `register_dataset`.
    """

    def load(source: DataSource) -> MultiViewDataset:
        recording = record(source)
        recording.check()
        return recording.with_devices(source.devices).split(
            source.split, test_share=source.test_share, seed=source.seed
        )

    taken = ("path", "devices", "split", "test_share", *options)
    _register(name, DatasetKind(load, about, taken, record), record.__module__)


def _register(name: str, kind: DatasetKind, module: str) -> None:
    for option in kind.options:
        if option not in _OPTIONS:
            raise ValueError(f"Expected `options` out of {', '.join(_OPTIONS)}, but got {option!r}.")
    DATASETS.register(name, kind, module)


def load_dataset(name: str, **options: Any) -> MultiViewDataset:
    """Loads a data set by name; the options are the fields of `DataSource`."""
    return DataSource(name=name, **options).load()
