"""`ddnn place`: layers of CNNs, or sections of a DDNN, on units."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, show
from ddnn_tf.documents import check_writable, write_text
from ddnn_tf.placement.cnn_catalogue import CNNS, DATA_RATE_KB_S, INPUT_KB, UNIT_TYPES
from ddnn_tf.placement.random_instances import SCENARIOS, Scenario

if TYPE_CHECKING:
    from ddnn_tf.placement.instance import Instance
    from ddnn_tf.placement.solution import Solution

_RUN = " run"  # no directory has this name

_Seed = Annotated[int, typer.Option("--seed", help="Seed of the instance.", min=0)]
_TimeLimit = Annotated[
    float, typer.Option("--time-limit", help="Seconds; then the best placement so far, with its gap.")
]
_Gap = Annotated[float, typer.Option("--relative-gap", help="Stop at a placement this close to the bound.")]
_Out = Annotated[Path | None, typer.Option("--out", help="Write CSV files and figures there.", metavar="DIR")]
_Units = Annotated[
    int | None, typer.Option("--units", help="Number of units.", min=1, show_default="the scenario's")
]
_Half = Annotated[
    float | None,
    typer.Option(
        "--half-width",
        help="Half the side of the square in which units lie, metres.",
        show_default="the scenario's",
    ),
]
_Range = Annotated[
    float | None, typer.Option("--range", help="Radio range, metres.", show_default="the scenario's")
]
_Rate = Annotated[
    float | None, typer.Option("--data-rate", help="KB per second and hop.", show_default=str(DATA_RATE_KB_S))
]
_Input = Annotated[
    float | None, typer.Option("--input-kb", help="KB of an image.", show_default=f"{INPUT_KB:.2f}")
]
_Mix = Annotated[
    list[str] | None,
    typer.Option(
        "--mix", help=f"Probability of a unit type, once for each: {', '.join(UNIT_TYPES)}.", metavar="TYPE=P"
    ),
]
_Cnn = Annotated[
    list[str] | None,
    typer.Option("--cnn", help=f"A CNN, once for each: {', '.join(CNNS)}.", metavar="NAME"),
]
_Exclusive = Annotated[bool, typer.Option("--exclusive", help="A unit holds layers of one CNN only.")]
_Objective = Annotated[
    str, typer.Option("--objective", help="sum of the CNNs' latencies, or max: that of the slowest.")
]
_Reference = Annotated[
    bool,
    typer.Option("--reference-compatible", help="The image goes to the second layer, as in the reference."),
]


class _Group(TyperGroup):
    """`ddnn place RUN ...` is `ddnn place run RUN ...`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            args = [_RUN, *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    help=(
        "Place layers of CNNs, or sections of a DDNN, on the units of a network; least latency, proven.\n\n"
        "`ddnn place RUN --network FILE` places a trained DDNN; the commands below place CNNs."
    ),
    no_args_is_help=True,
)


@app.callback()
def _check_installed() -> None:
    options.check_installed("placement", "scipy", "highspy")


def _scenario_command(name: str, about: str) -> Callable[..., None]:
    """The command that solves one of the reference's notebooks."""

    def command(
        seed: _Seed = 0,
        time_limit: _TimeLimit = 60.0,
        relative_gap: _Gap = 1e-6,
        cnn: _Cnn = None,
        units: _Units = None,
        half_width: _Half = None,
        range_m: _Range = None,
        data_rate: _Rate = None,
        input_kb: _Input = None,
        mix: _Mix = None,
        layers_per_unit: Annotated[
            int, typer.Option("--layers-per-unit", help="L, the most layers on a unit.", min=1)
        ] = 1,
        exclusive: _Exclusive = False,
        objective: _Objective = "sum",
        reference_compatible: _Reference = False,
        out: _Out = None,
        as_json: options.Json = False,
    ) -> None:
        from ddnn_tf.placement.random_instances import random_instance

        scenario = _scenario(
            SCENARIOS[name], cnn, units, half_width, range_m, data_rate, input_kb, mix,
            layers_per_unit=layers_per_unit, shared=not exclusive, objective=_objective(objective),
            reference_compatible=reference_compatible,
        )  # fmt: skip
        _solve(random_instance(scenario, seed), time_limit, relative_gap, None, out, as_json)

    command.__doc__ = f"""{about}

    Example:

        ddnn place {name} --seed 1 --time-limit 30 --json
    """
    return command


for _name, _about in {
    "single": "AlexNet on 50 units: the reference's first notebook.",
    "early-exit": "AlexNet with an early exit on 50 units, half of them STM32H7.",
    "multi": "Three AlexNets, each with a source of its own, on 50 units.",
    "mixed": "An early-exit AlexNet and two ResNet-101 on 50 units.",
}.items():
    app.command(name=_name)(_scenario_command(_name, _about))


@app.command()
def solve(
    file: Annotated[Path, typer.Argument(help="An instance in YAML or JSON.", metavar="FILE")],
    time_limit: _TimeLimit = 60.0,
    relative_gap: _Gap = 1e-6,
    energy_limit: Annotated[
        float | None, typer.Option("--energy-limit", help="Most joules for an image of each CNN.")
    ] = None,
    pareto: Annotated[
        int | None, typer.Option("--pareto", help="So many placements from fastest to most frugal.", min=2)
    ] = None,
    out: _Out = None,
    as_json: options.Json = False,
) -> None:
    """Solve an instance of your own: units, CNNs (built in or by their layers), sources and limits.

    Examples:

        ddnn place solve factory.yaml --out placed

        ddnn place solve factory.yaml --pareto 10 --json
    """
    from ddnn_tf.placement.frontier import latency_energy_front
    from ddnn_tf.placement.instance import Instance

    instance = Instance.load(file)
    if pareto is None:
        _solve(instance, time_limit, relative_gap, energy_limit, out, as_json)
        return
    if energy_limit is not None or out is not None:
        raise ValueError("--pareto goes without --energy-limit and --out: solve a point of it on its own.")
    front = latency_energy_front(instance, pareto, time_limit=time_limit, relative_gap=relative_gap)
    if as_json:
        print_json([each.summary() for each in front])
        return
    table = new_table("Latency and energy", "latency, s", "energy, J", "gap", "status")
    for each in front:
        table.add_row(f"{each.latency_s:.6g}", f"{each.energy_j:.6g}", f"{each.gap:.2g}", each.status)
    show(table)


@app.command(name=_RUN, hidden=True)
def place_run(
    run: options.RunPath,
    network: Annotated[
        Path | None, typer.Option("--network", help="Units, hosts and sensors, in YAML.", metavar="FILE")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The plan to write.", metavar="FILE", show_default="plan.yaml"),
    ] = None,
    time_limit: _TimeLimit = 60.0,
    relative_gap: _Gap = 1e-6,
    as_json: options.Json = False,
) -> None:
    """Place the sections of a trained DDNN, and write a plan for `ddnn serve plan`.

    Example:

        ddnn place runs/scenes --network net.yaml --out plan.yaml
    """
    from ddnn_tf.placement.deployment import Deployment

    file = Path("plan.yaml") if out is None else out
    if not run.exists():
        known = ", ".join((*SCENARIOS, "solve", "sweep"))
        raise FileNotFoundError(
            f"There is no run '{run}', and no command of that name: commands are {known}."
        )
    if file.is_dir():
        raise IsADirectoryError(f"'{file}' is a directory: name a file for the plan.")
    check_writable(file)
    if network is None:
        raise ValueError("Expected --network FILE with units and sensors, but got none.")
    deployment = Deployment.load(network)
    # Only now, since TensorFlow takes its time.
    from ddnn_tf.placement.ddnn import place_hierarchy, section_profile
    from ddnn_tf.runs import load_run

    trained = load_run(run)
    data = trained.source.load()
    data.check_digest(trained.data_sha256)
    placed = place_hierarchy(
        section_profile(trained.model, trained.topology, trained.thresholds, data),
        deployment,
        time_limit=time_limit,
        relative_gap=relative_gap,
    )
    write_text(file, placed.plan.to_yaml())
    if as_json:
        print_json({**placed.summary(), "plan": str(file)})
        return
    table = new_table("Where the processes run", "process", "unit", "address")
    for process in placed.plan.processes:
        table.add_row(process.name, process.unit, process.address)
    shares = ", ".join(f"{tier} {share:.1%}" for tier, share in placed.profile.exit_shares.items())
    show(
        table,
        f"{_verdict(placed.latency_s, placed.bound_s, placed.gap, placed.status, placed.seconds)} Exits on "
        f"validation data: {shares}.",
        f"The plan is {file}; on each unit: ddnn serve plan BUNDLE {file} --unit NAME --certs DIR",
    )


@app.command()
def sweep(
    out: Annotated[Path, typer.Option("--out", help="The directory to make, or to continue.", metavar="DIR")],
    experiments: Annotated[int, typer.Option("--experiments", help="How many instances.", min=1)] = 500,
    cnn: _Cnn = None,
    units: _Units = None,
    half_width: _Half = None,
    range_m: _Range = None,
    data_rate: _Rate = None,
    input_kb: _Input = None,
    mix: _Mix = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Layers per unit, by commas.", show_default="1 to all")
    ] = None,
    exclusive: _Exclusive = False,
    objective: _Objective = "sum",
    reference_compatible: _Reference = False,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds for each problem.")] = 300.0,
    jobs: Annotated[int, typer.Option("--jobs", help="Problems at a time.", min=1)] = 2,
    plots: Annotated[bool, typer.Option("--plots", help="Figures for each problem.")] = False,
    seed: _Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Solve many random instances, each for every number of layers per unit.

    Rerun the command to resume an interrupted sweep.

    Example:

        ddnn place sweep --experiments 50 --cnn alexnet --cnn alexnet --out sweeps/two
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from ddnn_tf.placement.sweep import Sweep, run_sweep

    scenario = _scenario(
        Scenario(), cnn, units, half_width, range_m, data_rate, input_kb, mix,
        shared=not exclusive, objective=_objective(objective), reference_compatible=reference_compatible,
    )  # fmt: skip
    # Like Ctrl-C, so that the processes at work end, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    counts = () if layers is None else tuple(_whole(part, "--layers") for part in layers.split(","))
    problems = Sweep(scenario, experiments, counts, seed, time_limit, plots)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("problems", total=None)
        records = run_sweep(
            problems,
            out,
            jobs=jobs,
            report=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if as_json:
        print_json(records)
        return
    table = new_table(
        "Mean over the experiments", "layers per unit", "optimal", "latency, s", "largest gap", "seconds"
    )
    for count in problems.layer_counts():
        own = [record for record in records if record["layers_per_unit"] == count]
        placed = [record for record in own if record.get("latency_s") is not None]
        proven = sum(record["status"] == "optimal" for record in own)
        table.add_row(str(count), f"{proven} of {len(own)}", *_means(placed))
    show(table, f"All results are in {out / 'sweep.csv'}.")


def _means(placed: list[dict[str, Any]]) -> tuple[str, str, str]:
    if not placed:
        return "", "", ""
    latency = sum(record["latency_s"] for record in placed) / len(placed)
    seconds = sum(record["seconds"] for record in placed) / len(placed)
    return f"{latency:.5g}", f"{max(record['gap'] for record in placed):.2g}", f"{seconds:.2f}"


def _scenario(
    base: Scenario,
    cnn: list[str] | None,
    units: int | None,
    half_width: float | None,
    range_m: float | None,
    data_rate: float | None,
    input_kb: float | None,
    mix: list[str] | None,
    **more: Any,
) -> Scenario:
    fields: dict[str, Any] = {
        "cnns": tuple(cnn) if cnn else None,
        "units": units,
        "half_width_m": half_width,
        "range_m": range_m,
        "data_rate_kb_s": data_rate,
        "input_kb": input_kb,
        "mix": _mix(mix) if mix else None,
    }
    return replace(base, **{name: value for name, value in fields.items() if value is not None}, **more)


def _mix(pairs: list[str]) -> dict[str, float]:
    probabilities = {}
    for pair in pairs:
        name, _, share = pair.partition("=")
        try:
            probabilities[name] = float(share)
        except ValueError:
            raise ValueError(f"Expected --mix TYPE=P with a number P, but got {pair!r}.") from None
    return probabilities


def _objective(name: str) -> str:
    if name not in ("sum", "max"):
        raise ValueError(f"Expected --objective to be sum or max, but got {name!r}.")
    return name


def _whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"Expected {option} with whole numbers, but got {text!r}.") from None


def _solve(
    instance: Instance,
    time_limit: float,
    relative_gap: float,
    energy_limit: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    from ddnn_tf.placement.solution import solve as solve_instance
    from ddnn_tf.placement.solution_files import write_solution

    if out is not None and out.exists() and not out.is_dir():
        raise FileExistsError(f"'{out}' is a file: name a directory.")
    if out is not None:
        check_writable(out)
        options.check_installed("placement", "matplotlib")
    solution = solve_instance(
        instance, time_limit=time_limit, relative_gap=relative_gap, energy_limit_j=energy_limit
    )
    files = [] if out is None else write_solution(solution, out)
    if as_json:
        print_json({**solution.summary(), "files": [str(file) for file in files]})
        return
    _show(solution)
    if files:
        print(f"{len(files)} files are in {out}.")


def _show(solution: Solution) -> None:
    if solution.latency_s is None or solution.gap is None:
        print(
            f"No placement was found in {solution.seconds:.3g} s; none takes less than "
            f"{solution.bound_s:.6g} s."
        )
        return
    table = new_table("Placement", "CNN", "layer", "unit", "type")
    kinds = {unit.name: unit.type for unit in solution.instance.units}
    for load, units in zip(solution.instance.cnns, solution.assignment, strict=True):
        for layer, unit in zip(load.cnn.layers, units, strict=True):
            table.add_row(load.cnn.name, layer, unit, kinds[unit])
        table.add_section()
    costs = new_table("Latency, seconds", "CNN", "processing", "transmission", "sum")
    for load, cost in zip(solution.instance.cnns, solution.cnns, strict=True):
        costs.add_row(
            load.cnn.name, f"{cost.processing_s:.6g}", f"{cost.transmission_s:.6g}", f"{cost.latency_s:.6g}"
        )
    verdict = _verdict(solution.latency_s, solution.bound_s, solution.gap, solution.status, solution.seconds)
    energy = f" Energy {solution.energy_j:.6g} J." if solution.energy_j else ""
    show(table, costs, verdict + energy)


def _verdict(latency: float, bound: float, gap: float, status: str, seconds: float) -> str:
    proof = "proven optimal" if status == "optimal" else "not proven optimal"
    return (
        f"Latency {latency:.8g} s, bound {bound:.8g} s, gap {gap:.2g}: {proof}, {seconds:.3g} s of solving."
    )
