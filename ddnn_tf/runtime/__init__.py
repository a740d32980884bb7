"""The hierarchy as processes: devices, aggregator, edges and cloud, over gRPC with mutual TLS.

    ddnn cluster runs/x                     all of it on this machine
    ddnn serve device|aggregator|edge|cloud|gateway      one process of a deployment
    ddnn classify HOST:PORT                 asks it

`Client` and `AsyncClient` ask a running hierarchy from Python.
"""
