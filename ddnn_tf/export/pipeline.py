"""From a run directory to a verified bundle, and a bundle verified again.

>>> bundle = export_run("runs/x", "runs/x.zip", targets=["tflite", "micro-int8"])  # doctest: +SKIP
>>> verify_bundle("runs/x.zip")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ddnn_tf.bundle import Bundle, read_bundle, write_bundle
from ddnn_tf.documents import check_writable, read_json
from ddnn_tf.export.targets import TARGETS, Checked, Tolerance
from ddnn_tf.export.verify import Verification, Verifier, verification_samples
from ddnn_tf.network import build
from ddnn_tf.registry import choose
from ddnn_tf.risk import samples_needed
from ddnn_tf.runs import load_run
from ddnn_tf.sections import Section, check_codes, cut, received

__all__ = ["bundle_sections", "check_artefacts", "export_run", "verify_bundle"]

_CALIBRATION_SAMPLES = 200


def export_run(
    run: str | Path,
    path: str | Path,
    *,
    targets: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    risk: float | None = None,
    delta: float = 0.1,
    report: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Cuts a trained network, converts its sections, verifies each artefact, and writes the bundle.

    Args:
        run: The run directory.
        path: Where the bundle goes: a directory, or a file that ends in `.zip`.
        targets: Names out of `TARGETS`; None: all.
        sections: Names of sections; None: all.
        risk: Largest share of wrong answers among the samples that leave early (`risk.risk_thresholds`), for
            every set of present devices; the bundle then scales probabilities, too. None: the run's
            thresholds, and probabilities as they are.
        delta: Largest probability of more.
        report: Is told what is being worked on.

    Raises:
        FileNotFoundError: No run, or a run without a model.
        FileExistsError: Something stands where the bundle should go.
        OSError: The bundle cannot be written there.
        ImportError: An engine is not installed.
        ValueError: An unknown section or target, other data than those of the training, a network that was
            trained on something else than their codes, a section that cannot be converted, or an artefact
            beyond its tolerance. Nothing is written then.
    """
    if Path(path).exists():
        raise FileExistsError(f"'{path}' exists: name a new place for the bundle.")
    check_writable(Path(path))
    if risk is not None:
        samples_needed(risk, delta)  # refuses what is out of range
    wanted = [TARGETS[name] for name in choose("target", targets, TARGETS)]
    trained = load_run(run)
    data = trained.source.load()
    data.check_digest(trained.data_sha256)
    cuts = cut(trained.model, trained.topology, check_inputs=False)
    chosen = [cuts[name] for name in choose("section", sections, cuts)]
    for target in wanted if targets is not None else []:
        if not any(target.takes(section) for section in chosen):
            raise ValueError(
                f"Expected sections that '{target.name}' can run, but got "
                f"{', '.join(section.name for section in chosen)}: it takes {target.sections}."
            )
    training_views = data.rows(data.split["train"][:_CALIBRATION_SAMPLES])
    calibration = received(trained.topology, cuts, training_views)
    check_codes(cuts, calibration)
    calibration_of_sets, thresholds = None, trained.thresholds
    if risk is not None:
        report("calibration for every set of devices")
        calibration_of_sets = trained.examine(data).calibrate(risk, delta)
        thresholds = calibration_of_sets.sets[0].thresholds
    verifier = Verifier(trained.topology, thresholds, cuts, *verification_samples(data))
    artefacts, verifications = [], []
    for section in chosen:
        for target in wanted:
            if not target.takes(section):
                continue
            report(f"{section.name}: {target.name}")
            artefact = target.convert(section, calibration[section.name])
            verification = verifier.verify(artefact, target)
            if not verification.passed:
                raise ValueError(_refusal(verification, target.tolerance))
            artefacts.append(artefact)
            verifications.append(verification)
    bundle = Bundle(
        source=trained.source,
        data_sha256=trained.data_sha256,
        topology=trained.topology,
        thresholds=thresholds,
        metrics=read_json(Path(run) / "metrics.json"),
        weights=trained.model.get_weights(),
        artefacts=artefacts,
        verification=[asdict(verification) for verification in verifications],
        class_names=data.class_names,
        calibration=calibration_of_sets,
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
    check_artefacts(bundle, sections)
    verifier = Verifier(bundle.topology, bundle.thresholds, sections, *verification_samples(data))
    verifications = []
    for artefact in bundle.artefacts:
        report(f"{artefact.section}: {artefact.target}")
        verifications.append(verifier.verify(artefact, TARGETS[artefact.target]))
    return verifications


def check_artefacts(bundle: Bundle, sections: Mapping[str, Section]) -> None:
    """Refuses artefacts of unknown sections and targets, and code that this version does not write.

    Raises:
        ValueError: There is one. Nothing has run then.
    """
    for artefact in bundle.artefacts:
        if artefact.target not in TARGETS or artefact.section not in sections:
            raise ValueError(
                f"The bundle holds '{artefact.section}' for '{artefact.target}', which is unknown: export it "
                "anew with this version of ddnn_tf, or install the package that registers the target."
            )
        target = TARGETS[artefact.target]
        if isinstance(target, Checked):
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
    return cut(model, bundle.topology, check_inputs=False)  # checked when it was exported


def _refusal(verification: Verification, tolerance: Tolerance) -> str:
    measured = []
    if verification.bit_agreement is not None:
        measured.append(f"{verification.bit_agreement:.4%} equal bits (at least {tolerance.bits:.4%})")
    least = "" if tolerance.decisions is None else f" (at least {tolerance.decisions:.2%})"
    measured.append(f"{verification.decision_agreement:.2%} equal decisions{least}")
    measured.append(
        f"accuracy changes by {100 * verification.accuracy_change:+.2f} points (at most "
        f"{100 * tolerance.accuracy_on(verification.accuracy_samples):.2f})"
    )
    return (
        f"'{verification.section}' for '{verification.target}' is beyond its tolerance: "
        f"{', '.join(measured)}. Nothing was written; leave the target out with --target."
    )
