"""Distributed deep neural networks: built, trained jointly, evaluated and deployed by tier.

    import ddnn_tf

    topology = ddnn_tf.Topology.devices_cloud(devices=6, filters=4, classes=3)
    model = ddnn_tf.build(topology)

Importing the package selects Keras 2, which Larq needs, and lets Keras load models of the package's and
Larq's layers; TensorFlow itself is imported when the first name that needs it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import Any

from ddnn_tf._tensorflow import prepare

prepare(layers=("larq", "ddnn_tf.blocks", "ddnn_tf.aggregation"))

__version__ = "0.1.0"

_HOME = {
    "Topology": "topology",
    "Hierarchy": "hierarchy",
    "Scheme": "schemes",
    "register_scheme": "schemes",
    "register_dataset": "datasets",
    "register_target": "export",
    "register_item": "evaluation.item",
    "build": "network",
    "build_individual": "network",
    "with_presence": "network",
    "without_presence": "network",
    "load_model": "saving",
    "convp": "blocks",
    "fc": "blocks",
    "normalized_entropy": "exits",
    "staged_inference": "exits",
    "search_thresholds": "exits",
    "MultiViewDataset": "datasets",
    "load_dataset": "datasets",
    "train": "training",
    "TrainingOptions": "training",
    "Recipe": "recipes",
    "register_recipe": "recipes",
    "BatchStatistics": "callbacks",
    "evaluate": "evaluation",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"ddnn_tf.{_HOME[name]}"), name)
    if importlib.util.find_spec(f"ddnn_tf.{name}") is not None:
        return importlib.import_module(f"ddnn_tf.{name}")
    raise AttributeError(f"module 'ddnn_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *(module.name for module in pkgutil.iter_modules(__path__))})
