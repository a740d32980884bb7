"""Export targets: engines that run a section, each a small class with three verbs.

    takes(section)              whether the engine can run it at all
    convert(section, samples)   a section to an artefact
    runner(artefact)            an artefact to a function that runs it

Every module of this package defines a target and registers it. A target of a user's own, in one file, is
known to `ddnn export`, `verify` and `benchmark` by its name:

    >>> class Onnx:  # doctest: +SKIP
    ...     name, extra, sections, tolerance = "onnx", "onnx", "any section", EXACT
    ...     ...
    >>> ddnn_tf.register_target(Onnx())  # doctest: +SKIP

Two verbs are optional: `check` (`Checked`) and `clock` (`Timed`). A target's module imports neither
TensorFlow nor a converter before it converts: artefacts run on machines that have neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ddnn_tf.bundle import Artefact
from ddnn_tf.registry import Registry

if TYPE_CHECKING:
    # Artefacts are run on machines without TensorFlow.
    from ddnn_tf.export.timing import Clock
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["EXACT", "TARGETS", "Checked", "Target", "Timed", "Tolerance", "register_target"]


@dataclass(frozen=True)
class Tolerance:
    """How far an artefact may be from the trained network; fractions.

    Attributes:
        bits: Least share of equal feature bits.
        decisions: Least share of equal decisions of the whole DDNN; None: not asked.
        accuracy: How much the accuracy of the whole DDNN on test samples may change.
    """

    bits: float
    decisions: float | None
    accuracy: float

    def accuracy_on(self, samples: int) -> float:
        """How much the accuracy on so many samples may change: unless it may not at all, by one sample."""
        return max(self.accuracy, 1 / samples) if self.accuracy else 0.0


EXACT = Tolerance(bits=1.0, decisions=1.0, accuracy=0.0)
"""Every bit and every decision is the trained network's."""


class Target(Protocol):
    """An engine and a precision.

    Attributes:
        name: Its name on the command line.
        extra: The extra of the package that installs it.
        sections: What it takes, in words.
        tolerance: How far its artefacts may be from the trained network.
    """

    name: str
    extra: str
    sections: str
    tolerance: Tolerance

    def takes(self, section: Section) -> bool:
        """Whether the engine can run sections of this kind at all."""

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """Converts a section.

        Args:
            section: What to convert.
            samples: Inputs of training samples by sender, `(samples, ...)` float32, to calibrate integers
                with.

        Raises:
            ImportError: The engine is not installed.
            ValueError: The section cannot be converted.
        """

    def runner(self, artefact: Artefact) -> Runner:
        """A function that runs the artefact on its engine: inputs by sender to outputs by name.

        Raises:
            ImportError: The engine is not installed.
        """


@runtime_checkable
class Checked(Protocol):
    """A target whose artefacts are code: they are checked before they are run."""

    def check(self, artefact: Artefact, section: Section | None = None) -> None:
        """Refuses code that this version of the package does not write.

        Args:
            artefact: The artefact.
            section: Its section in Keras, which must be what the code computes; None: it is not at hand, as
                on a device without TensorFlow.

        Raises:
            ValueError: It is other code, or that of another section.
        """


@runtime_checkable
class Timed(Protocol):
    """A target that can be timed more closely than by calling its runner."""

    def clock(self, artefact: Artefact) -> Clock:
        """A function that measures the time of calls: `timing.Clock`."""


TARGETS: Registry[Target] = Registry("export target", package=__name__)
"""Every target by its name."""


def register_target(target: Target) -> None:
    """Makes a target known by its name, to `ddnn export`, `verify` and `benchmark`.

    Raises:
        ValueError: Another target has that name.
    """
    TARGETS.register(target.name, target, type(target).__module__)
