"""The hierarchy as processes: devices, aggregator, edges and cloud, over gRPC with mutual TLS.

    ddnn cluster runs/x                     all of it on this machine
    ddnn serve device|aggregator|edge|cloud|gateway      one process of a deployment
    ddnn classify HOST:PORT                 asks it

`Client` and `AsyncClient` ask a running hierarchy from Python.
"""

import os

# gRPC's native code writes to stderr of every connection that ends; what matters comes as an exception.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
