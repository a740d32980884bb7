"""What an export target makes of a section, and what a target is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    # An artefact is read and run on machines without TensorFlow.
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["Artefact", "Target"]


@dataclass(frozen=True)
class Artefact:
    """One section, converted.

    Attributes:
        section: Name of the section.
        target: Name of the target.
        files: Content by file name; the first is the one that the engine loads.
        details: What there is to know: operators, arena size, binary layers.
    """

    section: str
    target: str
    files: Mapping[str, bytes]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The file that the engine loads."""
        return next(iter(self.files.values()))

    @property
    def size(self) -> int:
        """Bytes of the file that the engine loads."""
        return len(self.content)


class Target(Protocol):
    """An engine and a precision: three verbs.

    Attributes:
        name: Its name on the command line.
        extra: The extra of the package that installs it.
        sections: What it takes, in words.
    """

    name: str
    extra: str
    sections: str

    def takes(self, section: Section) -> bool:
        """Whether the engine can run sections of this kind at all."""

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """Converts a section.

        Args:
            section: What to convert.
            samples: Inputs of training samples by sender, `(samples, ...)`, to calibrate integers with.

        Raises:
            ImportError: The engine is not installed.
            ValueError: The section cannot be converted.
        """

    def runner(self, artefact: Artefact) -> Runner:
        """A function that runs the artefact on its engine: inputs by sender to outputs by name."""
