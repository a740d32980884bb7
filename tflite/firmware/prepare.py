"""Exports a device for the firmware, with test images and what the trained network gives for them.

    python prepare.py --out build/network [--bundle runs/x.zip --section device_0]

Without a bundle a small DDNN is trained for a moment on rendered scenes. Writes ddnn_device.h and .c,
inputs.bin, and expected.bin: for each image the output structure and the two framed messages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import ddnn_tf
from ddnn_tf.bundle import read_bundle
from ddnn_tf.datasets import MultiViewDataset, load_dataset
from ddnn_tf.export.c import convert
from ddnn_tf.export.c.host import write_outputs
from ddnn_tf.export.pipeline import bundle_sections
from ddnn_tf.frames import CLASS_VECTOR, FEATURES, Frame, write_frame
from ddnn_tf.sections import Section, cut

IMAGES = 50
DEVICE = 7  # the number in the frames, as in main.c


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument("--bundle", help="a bundle made by `ddnn export`")
    parser.add_argument("--section", default="device_0", help="a device of the bundle")
    options = parser.parse_args()

    sections, data = trained() if options.bundle is None else bundled(options.bundle)
    section = device(sections, options.section)
    number = int(options.section.removeprefix("device_"))
    images = data.images[np.resize(data.split["test"], IMAGES), number]
    exported = convert(section.model, name="ddnn_device")
    exported.save(options.out)
    (options.out / "inputs.bin").write_bytes(images.tobytes())
    answers = section.run({section.inputs[0]: images.astype(np.float32)})
    words = write_outputs(exported.source.outputs, answers)
    (options.out / "expected.bin").write_bytes(
        b"".join(map(sent, range(IMAGES), words, answers["class_vector"]))
    )


def sent(sample: int, words: NDArray[np.uint32], vector: NDArray[np.float32]) -> bytes:
    """What the firmware writes for one sample: the class vector stands last in the output structure."""
    bits = words[: -len(vector)].tobytes()
    frames = (Frame(CLASS_VECTOR, DEVICE, sample, vector.tobytes()), Frame(FEATURES, DEVICE, sample, bits))
    return words.tobytes() + b"".join(map(write_frame, frames))


def trained(epochs: int = 3) -> tuple[dict[str, Section], MultiViewDataset]:
    """The sections of a DDNN trained for a moment on scenes, and its data."""
    tf.keras.utils.set_random_seed(0)
    data = load_dataset("scenes")
    topology = ddnn_tf.Topology.devices_cloud(devices=data.devices, filters=4, classes=3)
    model = ddnn_tf.build(topology)
    model.compile("adam", "sparse_categorical_crossentropy")
    inputs = data.inputs("train")
    targets = {name: data.targets("train") for name in model.output_names}
    model.fit(inputs, targets, epochs=epochs, verbose=0, callbacks=[ddnn_tf.BatchStatistics(inputs)])
    return cut(model, topology), data


def bundled(path: str) -> tuple[dict[str, Section], MultiViewDataset]:
    bundle = read_bundle(path)
    return bundle_sections(bundle), bundle.source.load()


def device(sections: dict[str, Section], name: str) -> Section:
    devices = [each for each, section in sections.items() if section.tier == "device"]
    if name not in devices:
        raise SystemExit(f"Expected --section out of {', '.join(devices)}, but got {name!r}.")
    return sections[name]


if __name__ == "__main__":
    main()
