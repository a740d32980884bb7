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
from ddnn_tf.export.c import export_c
from ddnn_tf.export.c.boards import BOARDS, SPEEDS, emulate
from ddnn_tf.sections import cut
from ddnn_tf.topology import Devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", default="1,4,8,16,32", help="filters of the devices, by commas")
    parser.add_argument("--json", action="store_true", help="print one JSON list and nothing else")
    options = parser.parse_args()

    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    rows = []
    for filters in map(int, options.filters.split(",")):
        device = Devices(name="device", input=(32, 32, 3), filters=(filters,))
        topology = ddnn_tf.Topology.device_cloud(devices=[device])
        sections = cut(ddnn_tf.build(topology), topology)
        source = export_c(sections["device"].model, name="ddnn_device").source
        for board in BOARDS:
            usage = {speed: emulate(source, images, board, speed)[0] for speed in SPEEDS}
            for speed, measured in usage.items():
                ratio = measured.instructions / usage["plain"].instructions
                row = {"filters": filters, "board": board, "build": speed}
                rows.append({**row, **asdict(measured), "ratio": ratio})
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
