"""The hierarchy as processes: devices, aggregators, edges and cloud, over gRPC with mutual TLS.

    ddnn cluster runs/x                                        all of it on this machine
    ddnn serve device|aggregator|local|edge|cloud|gateway      one process of a deployment
    ddnn classify HOST:PORT                                    asks it

`Client` and `AsyncClient` ask a running hierarchy from Python.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# gRPC's native code writes to stderr of every connection that ends; what matters comes as an exception.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_CLIENT = ("Answer", "AsyncClient", "ClassificationError", "Client")
__all__ = [*_CLIENT]


def __getattr__(name: str) -> Any:
    if name in _CLIENT:
        return getattr(importlib.import_module("ddnn_tf.runtime.client"), name)
    raise AttributeError(f"module 'ddnn_tf.runtime' has no attribute {name!r}")
