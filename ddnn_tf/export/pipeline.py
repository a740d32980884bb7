"""From a run directory to a verified bundle, and a bundle verified again.

>>> bundle = export_run("runs/x", "runs/x.zip", targets=["tflite", "micro-int8"])
>>> verify_bundle("runs/x.zip")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.bundle import Bundle, read_bundle, write_bundle
from ddnn_tf.export.artefact import Target
from ddnn_tf.export.c.target import C
from ddnn_tf.export.lce import Lce
from ddnn_tf.export.litert import Tflite
from ddnn_tf.export.micro import Micro
from ddnn_tf.export.saved_model import SavedModel
from ddnn_tf.export.verify import BARS, Verification, Verifier, verification_samples
from ddnn_tf.network import build
from ddnn_tf.runs import load_run
from ddnn_tf.sections import Arrays, Section, compose, cut
from ddnn_tf.topology import Topology

__all__ = [
    "TARGETS",
    "bundle_sections",
    "check_artefacts",
    "choose",
    "export_run",
    "received",
    "verify_bundle",
]

_CALIBRATION = 200

_ALL: tuple[Target, ...] = (
    Tflite(),
    Tflite("int8"),
    Micro(),
    Micro("int8"),
    Micro("int16"),
    Lce(),
    SavedModel(),
    C(),
    C(fixed_point=True),
)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
"""Every target by its name."""


def choose(kind: str, asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The names asked for, in the order of those known; None: all.

    Raises:
        ValueError: An unknown name, or none.
    """
    if asked is None:
        return list(known)
    for name in asked:
        if name not in known:
            raise ValueError(f"Expected a {kind} out of {', '.join(known)}, but got {name!r}.")
    if not asked:
        raise ValueError(f"Expected at least one {kind} out of {', '.join(known)}, but got none.")
    return [name for name in known if name in asked]


def export_run(
    run: str | Path,
    path: str | Path,
    *,
    targets: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Cuts a trained network, converts its sections, verifies each artefact, and writes the bundle.

    Args:
        run: The run directory.
        path: Where the bundle goes: a directory, or a file that ends in `.zip`.
        targets: Names out of `TARGETS`; None: all.
        sections: Names of sections; None: all.
        report: Is told what is being worked on.

    Raises:
        FileNotFoundError: No run, or a run without a model.
        FileExistsError: Something stands where the bundle should go.
        ImportError: An engine is not installed.
        ValueError: An unknown section or target, other data than those of the training, a section that
            cannot be converted, or an artefact that misses its bar. Nothing is written then.
    """
    if Path(path).exists():
        raise FileExistsError(f"'{path}' exists: name a new place for the bundle.")
    wanted = choose("target", targets, list(TARGETS))
    trained = load_run(run)
    data = trained.source.load()
    data.check_digest(trained.data_sha256)
    cuts = cut(trained.model, trained.topology)
    chosen = choose("section", sections, list(cuts))
    calibration = received(trained.topology, cuts, data.images[data.split["train"][:_CALIBRATION]])
    verifier = Verifier(trained.topology, trained.thresholds, cuts, *verification_samples(data))
    for target in (TARGETS[each] for each in wanted if targets is not None):
        if not any(target.takes(cuts[name]) for name in chosen):
            raise ValueError(
                f"Expected sections that '{target.name}' can run, but got {', '.join(chosen)}: it takes "
                f"{target.sections}."
            )
    artefacts, found = [], []
    for name in chosen:
        for target in (TARGETS[each] for each in wanted if TARGETS[each].takes(cuts[name])):
            report(f"{name}: {target.name}")
            artefact = target.convert(cuts[name], calibration[name])
            result = verifier.verify(artefact, target)
            if not result.passed:
                raise ValueError(_missed(result))
            artefacts.append(artefact)
            found.append(result)
    bundle = Bundle(
        source=trained.source,
        data_sha256=trained.data_sha256,
        topology=trained.topology,
        thresholds=trained.thresholds,
        metrics=json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8")),
        weights=trained.model.get_weights(),
        artefacts=artefacts,
        verification=[asdict(one) for one in found],
    )
    write_bundle(bundle, path)
    return bundle


def verify_bundle(path: str | Path, report: Callable[[str], None] = lambda _: None) -> list[Verification]:
    """Runs every artefact of a bundle again, against the network in the bundle.

    Raises:
        FileNotFoundError: No bundle, or its data are not there.
        ImportError: An engine is not installed.
        ValueError: A damaged bundle, or other data.
    """
    bundle = read_bundle(path)
    data = bundle.load_data()
    sections = bundle_sections(bundle)
    verifier = Verifier(bundle.topology, bundle.thresholds, sections, *verification_samples(data))
    found = []
    check_artefacts(bundle, sections)
    for artefact in bundle.artefacts:
        report(f"{artefact.section}: {artefact.target}")
        found.append(verifier.verify(artefact, TARGETS[artefact.target]))
    return found


def check_artefacts(bundle: Bundle, sections: Mapping[str, Section]) -> None:
    """That every artefact is of a known section and target, and that C is what its network gives.

    Raises:
        ValueError: One is not. Nothing has run then.
    """
    for artefact in bundle.artefacts:
        if artefact.target not in TARGETS or artefact.section not in sections:
            raise ValueError(
                f"The bundle holds '{artefact.section}' for '{artefact.target}', which is unknown: export it "
                "anew with this version of ddnn_tf."
            )
        target = TARGETS[artefact.target]
        if isinstance(target, C):
            target.check(artefact, sections[artefact.section])


def bundle_sections(bundle: Bundle) -> dict[str, Section]:
    """The sections of the network in a bundle, in Keras.

    Raises:
        ValueError: Weights that do not fit the topology.
    """
    model = build(bundle.topology)
    shapes = [tuple(weight.shape) for weight in model.weights]
    if [array.shape for array in bundle.weights] != shapes:
        raise ValueError("The bundle's weights do not fit its topology: it is damaged, export it anew.")
    model.set_weights(list(bundle.weights))
    return cut(model, bundle.topology)


def received(
    topology: Topology, sections: Mapping[str, Section], images: NDArray[np.uint8]
) -> dict[str, Arrays]:
    """What each section receives when all of them run in Keras.

    Args:
        topology: The hierarchy.
        sections: Its sections.
        images: `(samples, devices, height, width, channels)` uint8.
    """
    found: dict[str, Arrays] = {}

    def listening(section: Section) -> Callable[[Arrays], Arrays]:
        def run(inputs: Arrays) -> Arrays:
            found[section.name] = inputs
            return section.run(inputs)

        return run

    compose(topology, {name: listening(section) for name, section in sections.items()}, images)
    return found


def _missed(found: Verification) -> str:
    bar = BARS[found.target]
    bits = (
        "" if found.bit_agreement is None else f"{found.bit_agreement:.4%} equal bits (bar {bar.bits:.4%}), "
    )
    asked = "" if bar.decisions is None else f" (bar {bar.decisions:.2%})"
    return (
        f"'{found.section}' for '{found.target}' misses its bar: {bits}{found.decision_agreement:.2%} equal "
        f"decisions{asked}, accuracy changes by {100 * found.accuracy_change:+.2f} points (at most "
        f"{100 * bar.accuracy:.2f}). Nothing was written; leave it out with --target."
    )
