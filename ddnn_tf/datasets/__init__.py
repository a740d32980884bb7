"""Data sets, all as one `MultiViewDataset` of named views.

>>> data = load_dataset("scenes")
>>> data.shapes["device_0"], data.class_names
((32, 32, 3), ('car', 'bus', 'person'))

Every module here registers its data sets; it is imported when one of its names is first asked for, so that a
new data set touches no list, and a device imports none that it does not read.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ddnn_tf.datasets.multiview import ABSENT, MultiViewDataset, coded_views
from ddnn_tf.datasets.recording import Problem, Recording
from ddnn_tf.datasets.source import (
    DATASETS,
    DataSource,
    PictureSize,
    load_dataset,
    register_dataset,
    register_recording,
)
from ddnn_tf.datasets.splits import PARTS, hold_out, split_at_random, split_by_instance

if TYPE_CHECKING:
    from ddnn_tf.datasets.arrays import load_arrays
    from ddnn_tf.datasets.checking import check_dataset, check_source
    from ddnn_tf.datasets.epfl import load_epfl
    from ddnn_tf.datasets.eth80 import load_eth80
    from ddnn_tf.datasets.fitting import fitting_topology
    from ddnn_tf.datasets.folder import load_folder
    from ddnn_tf.datasets.mfeat import load_mfeat
    from ddnn_tf.datasets.mvmc import load_mvmc
    from ddnn_tf.datasets.occupancy import load_occupancy
    from ddnn_tf.datasets.partitioned import load_partitioned
    from ddnn_tf.datasets.scenes import load_scenes
    from ddnn_tf.datasets.table import load_table

__all__ = [
    "ABSENT",
    "DATASETS",
    "PARTS",
    "DataSource",
    "MultiViewDataset",
    "PictureSize",
    "Problem",
    "Recording",
    "check_dataset",
    "check_source",
    "coded_views",
    "fitting_topology",
    "hold_out",
    "load_arrays",
    "load_dataset",
    "load_epfl",
    "load_eth80",
    "load_folder",
    "load_mfeat",
    "load_mvmc",
    "load_occupancy",
    "load_partitioned",
    "load_scenes",
    "load_table",
    "register_dataset",
    "register_recording",
    "split_at_random",
    "split_by_instance",
]

_HOME = {
    "check_dataset": "checking",
    "check_source": "checking",
    "fitting_topology": "fitting",
    "load_arrays": "arrays",
    "load_epfl": "epfl",
    "load_eth80": "eth80",
    "load_folder": "folder",
    "load_mfeat": "mfeat",
    "load_mvmc": "mvmc",
    "load_occupancy": "occupancy",
    "load_partitioned": "partitioned",
    "load_scenes": "scenes",
    "load_table": "table",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
