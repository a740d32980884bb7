"""Device sections as C, among the targets of `ddnn export`."""

from __future__ import annotations

import numpy as np

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.c import read_source, source_files
from ddnn_tf.export.c.boards import measure_all
from ddnn_tf.export.c.host import Library
from ddnn_tf.export.c.source import Source, write
from ddnn_tf.export.targets import EXACT, Tolerance
from ddnn_tf.folding import fold
from ddnn_tf.hierarchy import Role
from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["C"]

_MEASURED = 2


class C:
    """C99 for binary device sections.

    Args:
        fixed_point: The class vector as int32 with a power of two as the unit.
    """

    extra = "c"
    sections = "device sections with binary blocks, which fold to integers"

    def __init__(self, *, fixed_point: bool = False) -> None:
        self.fixed_point = fixed_point
        self.name = "c-fixed" if fixed_point else "c"
        self.tolerance = Tolerance(bits=1.0, decisions=0.998, accuracy=0.002) if fixed_point else EXACT

    def takes(self, section: Section) -> bool:
        """Device sections with binary feature maps."""
        return section.role is Role.DEVICE and section.has_bits

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """As `Target.convert`; where the tools are installed, it has run on every board.

        Raises:
            ValueError: A section that does not fold to integers, with the reason.
        """
        source = self._source(section)
        images = samples[section.inputs[0]][:_MEASURED].astype(np.uint8)
        sizes = {member.name: member.size for member in source.outputs}
        details = {
            "message_bytes": {
                "class_vector": 4 * sizes["class_vector"],
                "features": -(-sizes["features"] // 8),
            },
            "fraction_bits": source.fraction_bits,
            "boards": measure_all(source, images),
        }
        return Artefact(section.name, self.name, self._files(source), details)

    def check(self, artefact: Artefact, section: Section) -> None:
        """That an artefact is the C that this version writes for a section, and no other code.

        Raises:
            ValueError: It is not.
        """
        if dict(artefact.files) != self._files(self._source(section)):
            raise ValueError(
                f"'{artefact.section}' for '{artefact.target}' is not the C that this version of ddnn_tf "
                "writes for the network in the bundle, and other code is not run: export the network anew."
            )

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`: the C, compiled for this machine."""
        library = self.library(artefact)
        unit = 2.0 ** (library.source.fraction_bits or 0)

        def run(inputs: Arrays) -> Arrays:
            found = library.run(inputs[artefact.section].astype(np.uint8))
            features = np.where(found["features"], 1, -1).astype(np.float32)
            return {"features": features, "class_vector": (found["class_vector"] / unit).astype(np.float32)}

        return run

    @staticmethod
    def library(artefact: Artefact) -> Library:
        """The C of an artefact, compiled for this machine."""
        files = {name.split("/")[-1]: content for name, content in artefact.files.items()}
        return Library(read_source(files))

    def _source(self, section: Section) -> Source:
        title = f"section '{section.name}' of a DDNN"
        return write(fold(section.model), "ddnn_device", title=title, fixed_point=self.fixed_point)

    def _files(self, source: Source) -> dict[str, bytes]:
        return {f"{self.name}/{name}": content for name, content in source_files(source).items()}
