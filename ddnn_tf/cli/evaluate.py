"""`ddnn evaluate`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, show
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.drift import LEAST_P_VALUE
from ddnn_tf.hierarchy import Hierarchy
from ddnn_tf.offload import check_asked, ranked_devices

if TYPE_CHECKING:
    from ddnn_tf.evaluation import Evaluation
    from ddnn_tf.evaluation.doubt import (
        CalibrationErrors,
        Choice,
        EarlyAnswers,
        Examination,
        MeanOfFailures,
    )
    from ddnn_tf.risk import RiskSimulation, RiskThreshold
    from ddnn_tf.runs import Run

_WEIGHTS = ("error", "bytes", "seconds")


def evaluate(
    run: options.RunPath,
    missing: Annotated[
        str | None,
        typer.Option(
            "--missing",
            help="What is down, by commas: devices or edges by name, or devices by number from 0: 3,4,5.",
            metavar="NAMES",
        ),
    ] = None,
    failures: Annotated[
        bool,
        typer.Option("--failures", help="Also without each device, and the mean by number of failed ones."),
    ] = False,
    risk: options.Risk = None,
    delta: options.Delta = None,
    cost: Annotated[
        str | None,
        typer.Option(
            "--cost", help="Thresholds of least cost: error=1,bytes=0.001,seconds=2.", metavar="WEIGHTS"
        ),
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option(
            "--seconds",
            help="For the seconds of --cost: how long a sample takes, by tier: local=0.01,cloud=0.05.",
            metavar="TIMES",
        ),
    ] = None,
    ask: options.Ask = None,
    as_json: options.Json = False,
) -> None:
    """Measure a trained DDNN on its test data: accuracies, exits and bytes.

    T is what training chose for best accuracy; --risk or --cost chooses it anew, on validation data. The
    expected calibration error (ECE) says how far an exit's probabilities are from how often it is right, by
    themselves and divided by a temperature found on validation data.

    Examples:

        ddnn evaluate runs/scenes --json

        ddnn evaluate runs/scenes --missing 3,4,5

        ddnn evaluate runs/scenes --failures

        ddnn evaluate runs/scenes --risk 0.02 --delta 0.1

        ddnn evaluate runs/scenes --cost error=1,bytes=0.001

        ddnn evaluate runs/scenes --ask 2
    """
    if missing is not None and failures:
        raise ValueError("--missing and --failures contradict each other: leave one out.")
    if ask is not None and failures:
        raise ValueError("--ask and --failures contradict each other: leave one out.")
    if ask is not None and cost is not None:
        raise ValueError("--ask and --cost contradict each other: costs count the bytes of all devices.")
    if risk is not None and cost is not None:
        raise ValueError("--risk and --cost contradict each other: leave one out.")
    if seconds is not None and cost is None:
        raise ValueError("--seconds is for the seconds of --cost: add --cost error=1,seconds=1.")
    largest = options.checked_delta(risk, delta)
    from ddnn_tf.runs import load_run

    trained = load_run(run)
    hierarchy = trained.topology.hierarchy
    if failures and len(hierarchy.devices) < 2:
        raise ValueError("--failures is for networks of two devices or more, but this one has one.")
    if ask is not None and risk is not None and len(hierarchy.early_tier_names) > 1:
        raise ValueError("--ask and --risk go together with a single early exit only: leave one out.")
    down = _down(missing, hierarchy)
    if ask is not None:
        check_asked(ask, hierarchy)
    costs = None if cost is None else _costs(cost, seconds, hierarchy.exit_tier_names)
    data, seed = trained.source.load(), trained.source.seed
    examined = trained.examine(data)
    choose = _choice(examined, trained.thresholds, risk, largest, costs)
    if ask is not None:
        evaluation = _with_asked(trained, data, choose(down), ask, down)
    elif down:
        evaluation = examined.measure(choose(down), down)
    else:
        evaluation = trained.evaluate(data, choose(down))
    errors = examined.calibration_errors(down)
    promises: dict[str, RiskThreshold] = {}
    simulation: RiskSimulation | None = None
    early: EarlyAnswers | None = None
    if risk is not None:
        early = examined.early_answers(choose(down), down)
        promises = examined.thresholds_by_risk(risk, largest, down)
        simulation = examined.simulate_risk(risk, largest, down)
    failed = examined.failures(choose) if failures else {}
    means = examined.means(failed)
    if as_json:
        content = {**_described(evaluation, data, seed), "missing": list(down), "asked": ask}
        content["calibration"] = {tier: asdict(error) for tier, error in errors.items()}
        if early is not None and simulation is not None:
            test = {**asdict(early), "drift": early.drift._asdict()}
            tiers = {tier: asdict(promise) for tier, promise in promises.items()}
            content["risk"] = {
                "risk": risk, "delta": largest, "tiers": tiers, "simulation": asdict(simulation), "test": test
            }  # fmt: skip
        if failures:
            content["failures"] = [
                {"missing": list(names), **each.to_dict()} for names, each in failed.items()
            ]
            content["by_number_of_failures"] = [asdict(mean) for mean in means]
        print_json(content)
        return
    if down:
        show(f"Without {', '.join(down)}.")
    if ask is not None:
        show(f"Of an unsure sample, the {ask} surest of {len(ranked_devices(hierarchy))} devices are asked.")
    how = "by risk " if risk is not None else "by cost " if costs is not None else ""
    print_evaluation(evaluation, data, seed, as_json, how)
    _print_errors(errors)
    if risk is not None and simulation is not None and early is not None:
        _print_promises(promises, simulation, early, risk, largest)
    if failures:
        _print_failures(failed, means)


def print_evaluation(
    evaluation: Evaluation, data: MultiViewDataset, seed: int, as_json: bool, how: str = ""
) -> None:
    """Prints the measures, as tables or as JSON."""
    if as_json:
        print_json(_described(evaluation, data, seed))
        return
    accuracies = new_table(
        f"Accuracy on {evaluation.test_samples} test samples",
        "where",
        "accuracy",
        "balanced accuracy",
        "T",
        "leave here",
    )
    for device, value in evaluation.individual_accuracy.items():
        accuracies.add_row(f"{device} alone", f"{value:.1%}")
    for tier, share in evaluation.exit_shares.items():
        threshold = evaluation.thresholds.get(tier)
        accuracies.add_row(
            f"{tier} exit",
            f"{evaluation.exit_accuracy[tier]:.1%}",
            f"{evaluation.exit_balanced_accuracy[tier]:.1%}",
            "" if threshold is None else _threshold(threshold),
            f"{share:.1%}",
        )
    accuracies.add_section()
    accuracies.add_row(
        "overall",
        f"{evaluation.overall_accuracy:.1%}",
        f"{evaluation.overall_balanced_accuracy:.1%}",
    )
    recalls = new_table("Recall of each class, overall", "class", "test samples", "recall")
    counts = np.bincount(data.targets("test"), minlength=len(data.class_names))
    for name, count, recall in zip(data.class_names, counts, evaluation.class_recall, strict=True):
        recalls.add_row(name, str(count), "" if recall is None else f"{recall:.1%}")
    links = new_table("Communication", "link", "bytes per sample")
    for link, size in evaluation.bytes_per_link.items():
        links.add_row(link, f"{size:.1f}")
    links.add_section()
    links.add_row("per sample and device, Eq. (1)", f"{evaluation.bytes_per_sample:.1f}")
    links.add_row("raw input", f"{evaluation.bytes_per_sample * evaluation.reduction:.0f}")
    links.add_row("reduction", f"{evaluation.reduction:.1f}x")
    show(
        accuracies,
        recalls,
        links,
        f"Data: {data.name}, split {data.split_rule}. T was chosen {how}on validation data.",
    )


def _with_asked(
    run: Run,
    data: MultiViewDataset,
    thresholds: Mapping[str, float],
    number: int,
    missing: Collection[str],
) -> Evaluation:
    """The measures on test data if only the surest devices are asked."""
    from ddnn_tf.evaluation.accuracy import measure
    from ddnn_tf.evaluation.asking import ask_surest

    asking = ask_surest(run.model, run.topology, data.part("test"), number, missing)
    labels = data.targets("test")
    return measure(
        run.topology, asking.probabilities, labels, thresholds, missing=missing, asked=asking.asked
    )


def _down(text: str | None, hierarchy: Hierarchy) -> tuple[str, ...]:
    """The nodes of `--missing`, in the order of the hierarchy."""
    wanted = []
    for name in options.names(text) or ():
        is_number = name not in hierarchy.failable_names and name.isdecimal()
        devices = hierarchy.device_names
        if is_number and int(name) < len(devices):
            wanted.append(devices[int(name)])
        elif name in hierarchy.failable_names:
            wanted.append(name)
        else:
            numbered = ", ".join(f"{number} ({device})" for number, device in enumerate(devices))
            edges = "".join(f", {edge}" for edge in hierarchy.failable_names[len(devices) :])
            raise ValueError(f"Expected --missing out of {numbered}{edges}, but got '{name}'.")
    if text is not None and not wanted:
        raise ValueError(f"Expected --missing with a device, but got '{text}': leave it out, or name one.")
    return tuple(name for name in hierarchy.failable_names if name in wanted)


def _costs(text: str, seconds: str | None, tiers: tuple[str, ...]) -> dict[str, Any]:
    """What `Examination.thresholds_by_cost` takes."""
    weights = _numbers(text, "--cost", _WEIGHTS)
    if "error" not in weights:
        raise ValueError(f"Expected --cost with the cost of an error, but got '{text}': add error=1.")
    times = None if seconds is None else _numbers(seconds, "--seconds", tiers)
    if weights.get("seconds") and (times is None or set(times) != set(tiers)):
        raise ValueError(
            f"--cost with seconds needs the time of every tier: give --seconds "
            f"{','.join(f'{tier}=0.01' for tier in tiers)}."
        )
    return {
        "error": weights["error"],
        "byte": weights.get("bytes", 0.0),
        "second": weights.get("seconds", 0.0),
        "seconds": times if weights.get("seconds") else None,
    }


def _numbers(text: str, option: str, known: tuple[str, ...]) -> dict[str, float]:
    """Numbers of at least 0 by name, out of `NAME=NUMBER,NAME=NUMBER`."""
    numbers = {}
    for name, value in options.named_values(options.names(text), option, known).items():
        numbers[name] = options.number(value, f"{option} {name}")
        if not 0 <= numbers[name] < float("inf"):
            raise ValueError(f"Expected {option} {name} of 0 or more, but got '{value}'.")
    return numbers


def _choice(
    examined: Examination,
    thresholds: Mapping[str, float],
    risk: float | None,
    delta: float,
    costs: Mapping[str, Any] | None,
) -> Choice:
    """How thresholds are chosen without some nodes."""

    def by_risk(missing: Collection[str]) -> Mapping[str, float]:
        assert risk is not None
        promises = examined.thresholds_by_risk(risk, delta, missing)
        return {tier: promise.threshold for tier, promise in promises.items()}

    def by_cost(missing: Collection[str]) -> Mapping[str, float]:
        assert costs is not None
        return examined.thresholds_by_cost(**costs, missing=missing)

    if risk is not None:
        return by_risk
    return (lambda _: thresholds) if costs is None else by_cost


def _described(evaluation: Evaluation, data: MultiViewDataset, seed: int) -> dict[str, Any]:
    described = {"data": data.name, "split": data.split_rule, "seed": seed, "classes": data.class_names}
    return {**evaluation.to_dict(), **described}


def _threshold(value: float) -> str:
    """T in hundredths, or two digits of one that is finer."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.2g}"


def _print_errors(errors: Mapping[str, CalibrationErrors]) -> None:
    columns = ("ECE", "temperature", "ECE after scaling", "of that by chance")
    table = new_table("Expected calibration error, 10 bins of equally many samples", "exit", *columns)
    for tier, error in errors.items():
        cells = (f"{error.before:.1%}", f"{error.temperature:.2f}", f"{error.after:.1%}")
        table.add_row(tier, *cells, f"{error.by_chance:.1%}")
    show(table)


def _print_promises(
    promises: Mapping[str, RiskThreshold],
    simulation: RiskSimulation,
    early: EarlyAnswers,
    risk: float,
    delta: float,
) -> None:
    title = (
        f"Of those that leave early, at most {100 * risk:.3g} % are wrong, with probability {1 - delta:.3g}"
    )
    table = new_table(title, "exit", "T", "leave here", "validation samples", "needed")
    for tier, promise in promises.items():
        table.add_row(
            tier,
            _threshold(promise.threshold) if promise.threshold else "never",
            f"{promise.share:.1%}",
            str(promise.samples),
            str(promise.needed),
        )
    show(
        table,
        "Needed is how many samples must leave, all answered right, before anything can be promised.",
        f"Simulation: of {simulation.draws} draws of validation samples, {simulation.exceeded:.1%} broke the "
        f"promise (at most {delta:.1%} may); {simulation.share:.1%} of all samples left early, of which "
        f"{simulation.error:.2%} were wrong.",
        f"Test: {early.share:.1%} left early, of which {early.error:.2%} were wrong.",
    )
    if early.drift.p_value < LEAST_P_VALUE:
        show(
            f"Entropies of test samples differ from validation (p = {early.drift.p_value:.1g}): the "
            "promise is for samples like those of validation."
        )


def _print_failures(failed: Mapping[tuple[str, ...], Evaluation], means: Sequence[MeanOfFailures]) -> None:
    tiers = list(means[0].exit_accuracy)
    single = new_table("One device failed", "without", *(f"{tier} exit" for tier in tiers), "overall")
    for names, evaluation in failed.items():
        if len(names) == 1:
            exits = (f"{evaluation.exit_accuracy[tier]:.1%}" for tier in tiers)
            single.add_row(names[0], *exits, f"{evaluation.overall_accuracy:.1%}")
    several = new_table(
        "Mean by number of failed devices",
        "failed",
        "sets",
        *(f"{tier} exit" for tier in tiers),
        "overall",
        "worst overall",
    )
    for mean in means:
        exits = (f"{mean.exit_accuracy[tier]:.1%}" for tier in tiers)
        several.add_row(
            str(mean.failed), str(mean.sets), *exits, f"{mean.overall_accuracy:.1%}", f"{mean.worst:.1%}"
        )
    show(single, several)
