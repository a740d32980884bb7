"""Device sections as C, among the targets of `ddnn export`.

An artefact holds the C and the integer network that it was written from. Before any of it is compiled, the
C is written anew from these integers and compared: so a bundle brings data, and never code of its own. For
that a device needs NumPy, Jinja2 and a C compiler, and no TensorFlow. `check` with the section in Keras also
compares the integers with those of the trained network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.c import read_source, source_files
from ddnn_tf.export.c.boards import emulate_all
from ddnn_tf.export.c.host import Library, as_keras
from ddnn_tf.export.c.source import Source, write
from ddnn_tf.export.targets import EXACT, Tolerance
from ddnn_tf.export.timing import Clock, part, timed
from ddnn_tf.hierarchy import Role
from ddnn_tf.integers import IntegerNetwork
from ddnn_tf.specs import Coding

if TYPE_CHECKING:
    # The C runs on machines without TensorFlow.
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["C"]

_NAME = "ddnn_device"
_NETWORK = "network.npz"
# Samples that run on each emulated board: enough for the messages and the stack, and soon done.
_EMULATED = 2


class C:
    """C99 for binary device sections.

    Args:
        fixed_point: The class vector as int32 with a power of two as the unit.
    """

    extra = "c"

    def __init__(self, *, fixed_point: bool = False) -> None:
        self.fixed_point = fixed_point
        self.name = "c-fixed" if fixed_point else "c"
        self.tolerance = Tolerance(bits=1.0, decisions=0.998, accuracy=0.002) if fixed_point else EXACT
        what = "binary blocks and a class vector" if fixed_point else "binary blocks"
        self.sections = f"device sections with {what}, which fold to integers"

    def takes(self, section: Section) -> bool:
        """Device sections with binary feature maps; in fixed point, with a class vector too."""
        is_binary_device = section.role is Role.DEVICE and section.has_bits
        return is_binary_device and (not self.fixed_point or section.node.class_vector is not None)

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """As `Target.convert`; where the tools are installed, it has run on every board.

        Raises:
            ValueError: A section that does not fold to integers, with the reason.
        """
        from ddnn_tf.folding import fold

        network = fold(section.model)
        coding = section.node.coding
        source = self._write(network, section.name, coding)
        codes = samples[section.inputs[0]][:_EMULATED].astype(np.uint8)
        messages = {
            member.name: -(-member.size // 8) if member.kind == "bits" else 4 * member.size
            for member in source.outputs
        }
        details = {
            "message_bytes": messages,
            "fraction_bits": source.fraction_bits,
            "coding": None if coding is None else coding.model_dump(mode="json"),
            "boards": emulate_all(source, codes),
        }
        contents = {**source_files(source), _NETWORK: network.to_bytes()}
        files = {f"{self.name}/{name}": content for name, content in contents.items()}
        return Artefact(section.name, self.name, files, details)

    def check(self, artefact: Artefact, section: Section | None = None) -> None:
        """Compares the C of an artefact with what this version writes for the integers in it.

        Args:
            artefact: The artefact.
            section: The section in Keras: the integers must be those that it folds to. None: not asked.

        Raises:
            ValueError: It is other code, or other integers.
        """
        network, source = self._read(artefact)
        if section is None:
            return
        from ddnn_tf.folding import fold

        if network.to_bytes() != fold(section.model).to_bytes() or source.coding != section.node.coding:
            raise ValueError(
                f"'{artefact.section}' for '{artefact.target}' holds other integers than the network in the "
                "bundle folds to: export the network anew."
            )

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`: the C, compiled for this machine once it has been checked.

        Raises:
            OSError: No C compiler.
            ValueError: The artefact is other code than this version writes.
        """
        library = self.library(artefact)

        def run(inputs: Arrays) -> Arrays:
            codes = inputs[artefact.section].astype(np.uint8)
            return as_keras(library.run(codes), library.source.fraction_bits)

        return run

    def clock(self, artefact: Artefact) -> Clock:
        """As `Timed.clock`: the library itself, on codes as they come from a sensor; one call for a batch."""
        library = self.library(artefact)

        def clock(inputs: Arrays, batch: int) -> list[float]:
            codes, outputs = inputs[artefact.section].astype(np.uint8), library.empty(batch)
            return timed(lambda number: library.invoke(part(codes, number * batch, batch), outputs), batch)

        return clock

    def library(self, artefact: Artefact) -> Library:
        """The C of an artefact, checked and compiled for this machine.

        Raises:
            OSError: No C compiler.
            ValueError: The artefact is other code than this version writes.
        """
        _, source = self._read(artefact)
        return Library(source)

    def _read(self, artefact: Artefact) -> tuple[IntegerNetwork, Source]:
        """The integers of an artefact and the C that this version writes for them.

        Raises:
            ValueError: The artefact is damaged, or holds other C.
        """
        files = self._own_files(artefact)
        if _NETWORK not in files:
            raise ValueError(
                f"'{artefact.section}' for '{artefact.target}' lacks '{_NETWORK}', the integers that its C "
                "was written from: export the network anew."
            )
        network = IntegerNetwork.from_bytes(files.pop(_NETWORK))
        source = self._write(network, artefact.section, read_source(files).coding)
        if files != source_files(source):
            raise ValueError(
                f"'{artefact.section}' for '{artefact.target}' is not the C that this version of ddnn_tf "
                "writes for its integers, and other code is not run: export the network anew."
            )
        return network, source

    def _own_files(self, artefact: Artefact) -> dict[str, bytes]:
        """The files of an artefact by name, without the target's directory in front."""
        prefix = f"{self.name}/"
        return {name.removeprefix(prefix): content for name, content in artefact.files.items()}

    def _write(self, network: IntegerNetwork, section: str, coding: Coding | None) -> Source:
        title = f"section '{section}' of a DDNN"
        return write(network, _NAME, title=title, fixed_point=self.fixed_point, coding=coding)
