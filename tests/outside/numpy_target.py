"""An export target of a user's own, in one file: binary devices as integers that NumPy runs."""

from __future__ import annotations

import numpy as np

import ddnn_tf
from ddnn_tf.bundle import Artefact
from ddnn_tf.export.targets import EXACT
from ddnn_tf.hierarchy import Role
from ddnn_tf.integers import IntegerNetwork
from ddnn_tf.sections import Arrays, Runner, Section


class NumpyTarget:
    """The integer network of a device."""

    name, extra, sections, tolerance = "numpy", "dev", "binary devices", EXACT

    def takes(self, section: Section) -> bool:
        return section.role is Role.DEVICE and section.has_bits

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        from ddnn_tf.folding import fold

        return Artefact(section.name, self.name, {"integers.npz": fold(section.model).to_bytes()}, {})

    def runner(self, artefact: Artefact) -> Runner:
        network = IntegerNetwork.from_bytes(artefact.content)

        def run(inputs: Arrays) -> Arrays:
            (codes,) = inputs.values()
            outputs = network.run(codes.astype(np.uint8))
            return {
                name: np.where(values, 1, -1).astype(np.float32) if values.dtype == np.bool_ else values
                for name, values in outputs.items()
            }

        return run


ddnn_tf.register_target(NumpyTarget())
