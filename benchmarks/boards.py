"""Flash, RAM and instructions of exported devices on emulated boards, three builds side by side.

    python benchmarks/boards.py [--filters 1,4,8,16,32] [--json]

A device for 32x32x3 images, as drawn at random (untrained): what it takes hardly depends on the weights.
The builds are the same C: `small` is -Os, `plain` -O2, and `fast` -O2 -DDDNN_FAST; ratios are of
instructions to those of `plain`. Needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.table import Table

import ddnn_tf
from ddnn_tf.export.c import convert
from ddnn_tf.export.c.boards import BOARDS, SPEEDS, measure
from ddnn_tf.sections import cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", default="1,4,8,16,32", help="filters of the devices, by commas")
    parser.add_argument("--json", action="store_true", help="print one JSON list and nothing else")
    options = parser.parse_args()

    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    rows = []
    for filters in map(int, options.filters.split(",")):
        topology = ddnn_tf.Topology.devices_cloud(devices=1, filters=filters)
        source = convert(cut(ddnn_tf.build(topology), topology)["device_0"].model, name="ddnn_device").source
        for board in BOARDS:
            found = {speed: measure(source, images, board, speed)[0] for speed in SPEEDS}
            rows += [
                {
                    "filters": filters,
                    "board": board,
                    "build": speed,
                    **asdict(one),
                    "ratio": one.instructions / found["plain"].instructions,
                }
                for speed, one in found.items()
            ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title="A device on emulated boards: bytes, and instructions per image")
    for column in rows[0]:
        table.add_column(
            column.removesuffix("_bytes"), justify="left" if column in ("board", "build") else "right"
        )
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
