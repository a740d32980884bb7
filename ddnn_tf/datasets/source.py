"""Data sets by name."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ddnn_tf.datasets.eth80 import load_eth80
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.mvmc import load_mvmc
from ddnn_tf.datasets.partitioned import load_partitioned
from ddnn_tf.datasets.scenes import load_scenes

__all__ = ["DATASETS", "DataSource", "load_dataset"]

DATASETS: dict[str, str] = {
    "scenes": "rendered street scenes: cars, buses, persons from six cameras (built in)",
    "mvmc": "the paper's file MVMC.npz (bring it: --path)",
    "eth80": "photographs of 80 objects from cameras all round (default: ../shared/data/eth80_32.npz)",
    "mnist": "handwritten digits cut into tiles (local files or download)",
    "fashion_mnist": "clothes cut into tiles (local files or download)",
    "cifar10": "small photographs cut into tiles (local files or download)",
}
"""What each data set is, by the name that `load_dataset` and the command line take."""


class DataSource(BaseModel):
    """Which data set, and how it is split: enough to load the very same data again.

    Attributes:
        name: One of `DATASETS`.
        path: Where its files are, for those that are read from files.
        devices: Number of devices. Camera data sets give the first ones, `eth80` places as many
            round the object, partitioned images are cut into 1x1, 1x2, 1x3, 2x2 or 2x3 tiles.
        split: For `scenes`, `random` (default) or `track`; the others have one split each.
        split_file: For `mvmc`, the authors' order.
        seed: Seed of the split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str | None = None
    devices: int = 6
    split: str | None = None
    split_file: str | None = None
    seed: int = 0

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            finding = error.errors()[0]
            field = ".".join(map(str, finding["loc"]))
            known = ", ".join(type(self).model_fields)
            raise ValueError(
                f"The data source's '{field}' is {finding['input']!r}: {finding['msg'].lower()} (its fields "
                f"are {known})."
            ) from None

    def load(self) -> MultiViewDataset:
        """Loads it.

        Raises:
            FileNotFoundError: Its files are not there (the message says where to put them).
            ValueError: Unknown name, an option that the data set does not have, or bad content.
        """
        name = self.name
        if name not in DATASETS:
            raise ValueError(f"Expected the data set to be one of {', '.join(DATASETS)}, but got {name!r}.")
        _refuse("path", self.path, name != "scenes", "its images are rendered, not read")
        _refuse("split", self.split, name == "scenes", f"'{name}' has one split only")
        _refuse("split_file", self.split_file, name == "mvmc", f"'{name}' has no authors' order")
        if name == "eth80":
            return load_eth80(self.path, devices=self.devices, seed=self.seed)
        if name == "scenes":
            data = load_scenes(split=self.split or "random", seed=self.seed)
        elif name == "mvmc":
            data = load_mvmc(self.path, split_file=self.split_file, seed=self.seed)
        else:
            return load_partitioned(name, self.path, grid=_grid(self.devices), seed=self.seed)
        return data.with_devices(range(self.devices))


def load_dataset(name: str, **options: Any) -> MultiViewDataset:
    """Loads a data set by name; the options are the fields of `DataSource`."""
    return DataSource(name=name, **options).load()


def _refuse(option: str, value: object, is_known: bool, reason: str) -> None:
    if value is not None and not is_known:
        raise ValueError(f"Expected no `{option}` here, but got {str(value)!r}: {reason}.")


def _grid(devices: int) -> tuple[int, int]:
    grids = {rows * columns: (rows, columns) for rows, columns in ((1, 1), (1, 2), (1, 3), (2, 2), (2, 3))}
    if devices not in grids:
        raise ValueError(
            f"Expected `devices` to be one of {', '.join(map(str, grids))} for a partitioned image, but "
            f"got {devices}; `load_partitioned` takes any grid."
        )
    return grids[devices]
