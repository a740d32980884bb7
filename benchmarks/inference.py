"""Time per sample of the paper's sections on every engine, one thread, beside LiteRT with XNNPACK.

    python benchmarks/inference.py [--filters 4] [--json]

Six devices, MP-CC, as drawn at random (untrained): what is timed does not depend on the weights. A
device, the local aggregator and the cloud are timed; `ddnn benchmark BUNDLE` does the same for a
trained and exported network.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.table import Table

import ddnn_tf
from ddnn_tf.export import TARGETS
from ddnn_tf.export.benchmark import COLUMNS, NOTE, benchmark, use_one_thread
from ddnn_tf.export.timing import SAMPLES
from ddnn_tf.sections import cut, received


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=4, help="filters of a device")
    parser.add_argument("--json", action="store_true", help="print one JSON list and nothing else")
    options = parser.parse_args()

    use_one_thread()
    topology = ddnn_tf.Topology.devices_cloud(filters=options.filters)
    sections = cut(ddnn_tf.build(topology), topology)
    random = np.random.default_rng(0)
    views = {
        node.name: random.integers(0, 256, (SAMPLES, *node.sensor.shape), dtype=np.uint8)
        for node in topology.hierarchy.devices
    }
    inputs = received(topology, sections, views)
    targets = [TARGETS[name] for name in TARGETS]
    artefacts = [
        target.convert(sections[name], inputs[name])
        for name in ("device_0", "local", "cloud")
        for target in targets
        if target.takes(sections[name])
    ]
    timings = benchmark(sections, artefacts, inputs)
    if options.json:
        print(json.dumps([asdict(timing) for timing in timings], indent=2))
        return
    table = Table(title=f"Six devices, {options.filters} filters, MP-CC: one thread")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("section", "engine") else "right")
    for timing in timings:
        table.add_row(*timing.cells())
    Console(width=130).print(table)
    print(NOTE)


if __name__ == "__main__":
    main()
