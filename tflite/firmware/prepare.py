"""Exports a device for the firmware, with test samples and what the trained network gives for them.

    python prepare.py --out build/network [--bundle runs/x.zip --section device_0]

Without a bundle a small DDNN is trained for a moment on rendered scenes. Writes ddnn_device.h and .c,
inputs.bin, and expected.bin: for each sample the output structure and the framed messages.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import ddnn_tf  # isort: skip  it selects Keras 2, so it comes before TensorFlow
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ddnn_tf.bundle import read_bundle
from ddnn_tf.datasets import MultiViewDataset, fitting_topology, load_dataset
from ddnn_tf.export.c import export_c
from ddnn_tf.export.c.host import write_outputs
from ddnn_tf.export.c.source import Member
from ddnn_tf.export.pipeline import bundle_sections
from ddnn_tf.frames import CLASS_VECTOR, FEATURES, Frame, pack_bits, write_frame
from ddnn_tf.hierarchy import Node
from ddnn_tf.sections import Section, cut
from ddnn_tf.topology import Topology

SAMPLES = 50
DEVICE = 7  # the number in the frames, as in main.c


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument("--bundle", help="a bundle made by `ddnn export`")
    parser.add_argument("--section", default="device_0", help="a device of the bundle")
    options = parser.parse_args()

    if options.bundle is None:
        data = load_dataset("scenes")
        topology = fitting_topology(data, "c", filters=4)
        check_device(topology.hierarchy.devices, options.section)
        sections = trained(data, topology)
    else:
        bundle = read_bundle(options.bundle)
        check_device(bundle.topology.hierarchy.devices, options.section)
        data = bundle.load_data()
        sections = bundle_sections(bundle)
    section = sections[options.section]
    rows = np.resize(data.split["test"], SAMPLES)
    codes = data.views[section.name][rows]
    exported = export_c(section.model, name="ddnn_device", coding=section.node.coding)
    exported.save(options.out)
    (options.out / "inputs.bin").write_bytes(codes.tobytes())
    answers = section.run({section.name: codes.astype(np.float32)})
    (options.out / "expected.bin").write_bytes(expected(exported.source.outputs, answers))


def expected(members: Sequence[Member], answers: Mapping[str, NDArray[np.float32]]) -> bytes:
    """What the firmware writes: for each sample the output structure, then its framed messages."""
    rows = write_outputs(members, answers)
    written = []
    for sample, row in enumerate(rows):
        written.append(row.tobytes())
        if "class_vector" in answers:
            vector = answers["class_vector"][sample].tobytes()
            written.append(write_frame(Frame(CLASS_VECTOR, DEVICE, sample, vector)))
        features = pack_bits(answers["features"][sample : sample + 1]).tobytes()
        written.append(write_frame(Frame(FEATURES, DEVICE, sample, features)))
    return b"".join(written)


def trained(data: MultiViewDataset, topology: Topology, epochs: int = 3) -> dict[str, Section]:
    """The sections of a DDNN trained for a moment."""
    tf.keras.utils.set_random_seed(0)
    model = ddnn_tf.build(topology)
    model.compile("adam", "sparse_categorical_crossentropy")
    inputs = data.inputs("train")
    targets = {name: data.targets("train") for name in model.output_names}
    model.fit(inputs, targets, epochs=epochs, verbose=0, callbacks=[ddnn_tf.BatchStatistics(inputs)])
    return cut(model, topology)


def check_device(devices: Sequence[Node], name: str) -> None:
    """Ends the program unless a device of that name has a section."""
    names = [node.name for node in devices if node.has_section]
    if name not in names:
        raise SystemExit(f"Expected --section to be one of {', '.join(names)}, but got {name!r}.")


if __name__ == "__main__":
    main()
