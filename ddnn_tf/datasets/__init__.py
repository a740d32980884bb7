"""Data sets, all as one `MultiViewDataset` of named views.

>>> data = load_dataset("scenes")
>>> data.shapes["device_0"], data.class_names
((32, 32, 3), ('car', 'bus', 'person'))
"""

import importlib
import pkgutil

from ddnn_tf.datasets.eth80 import load_eth80
from ddnn_tf.datasets.fitting import fitting_topology
from ddnn_tf.datasets.mfeat import load_mfeat
from ddnn_tf.datasets.multiview import ABSENT, PARTS, MultiViewDataset
from ddnn_tf.datasets.mvmc import load_mvmc
from ddnn_tf.datasets.occupancy import load_occupancy
from ddnn_tf.datasets.partitioned import load_partitioned
from ddnn_tf.datasets.scenes import load_scenes
from ddnn_tf.datasets.source import DATASETS, DataSource, load_dataset, register_dataset

__all__ = [
    "ABSENT",
    "DATASETS",
    "PARTS",
    "DataSource",
    "MultiViewDataset",
    "fitting_topology",
    "load_dataset",
    "load_eth80",
    "load_mfeat",
    "load_mvmc",
    "load_occupancy",
    "load_partitioned",
    "load_scenes",
    "register_dataset",
]

# Every module here registers its data sets when it is imported, so that a new one touches no list.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
