"""Data sets, all as one `MultiViewDataset`: `scenes`, `mvmc`, `eth80` and partitioned images.

>>> data = load_dataset("scenes")
>>> data.images.shape, data.class_names
((851, 6, 32, 32, 3), ('car', 'bus', 'person'))
"""

from ddnn_tf.datasets.eth80 import load_eth80
from ddnn_tf.datasets.multiview import ABSENT, PARTS, MultiViewDataset
from ddnn_tf.datasets.mvmc import load_mvmc
from ddnn_tf.datasets.partitioned import load_partitioned
from ddnn_tf.datasets.scenes import load_scenes
from ddnn_tf.datasets.source import DATASETS, DataSource, load_dataset

__all__ = [
    "ABSENT",
    "DATASETS",
    "PARTS",
    "DataSource",
    "MultiViewDataset",
    "load_dataset",
    "load_eth80",
    "load_mvmc",
    "load_partitioned",
    "load_scenes",
]
