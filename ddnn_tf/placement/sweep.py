"""Many random instances, each for every number of layers per unit: the reference's batch script.

    DIR/sweep.json                 the parameters; other parameters need another directory
    DIR/exp_0/L1/...               the files of a solution (`solution_files`)
    DIR/sweep.csv                  a row for each problem: latency, bound, gap, status, seconds, and for each
                                   CNN processing, transmission and number of units by type

An interrupted sweep resumes. Unlike in the reference, each problem is solved on its own, without the
constraints of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ddnn_tf.documents import check_same, claimed_directory, read_json, write_text
from ddnn_tf.interrupts import deferred_interrupts
from ddnn_tf.placement.feasibility import InfeasibleError
from ddnn_tf.placement.instance import Cnn
from ddnn_tf.placement.random_instances import Scenario, check_scenario, random_instance
from ddnn_tf.placement.solution import solve
from ddnn_tf.placement.solution_files import units_by_type, write_csv, write_solution

__all__ = ["Sweep", "run_sweep"]

_RESULT = "result.json"

# A sweep resumes with more instances, or other numbers of layers, time limits and figures.
_CHANGEABLE = ("instances", "layers", "time_limit", "plots")


@dataclass(frozen=True)
class Sweep:
    """What a sweep solves.

    Attributes:
        scenario: Parameters of its instances.
        instances: Number of instances; instance k is drawn with seed `seed + k`.
        layers: Numbers of layers per unit; empty: from 1 to the length of the longest CNN.
        seed: Seed of the first instance.
        time_limit: Seconds for each problem.
        plots: Whether to draw the figures of each problem.
    """

    scenario: Scenario
    instances: int = 500
    layers: tuple[int, ...] = ()
    seed: int = 0
    time_limit: float = 300.0
    plots: bool = False

    def layer_counts(self) -> tuple[int, ...]:
        """The numbers of layers per unit, with the default filled in."""
        longest = max(len(Cnn.builtin(name).layers) for name in self.scenario.cnns)
        return self.layers or tuple(range(1, longest + 1))


def run_sweep(
    sweep: Sweep,
    directory: str | Path,
    *,
    jobs: int = 1,
    report: Callable[[int, int], None] = lambda *_: None,
) -> list[dict[str, Any]]:
    """Runs a sweep, or resumes an interrupted one.

    Args:
        sweep: What to solve.
        directory: Directory for the results; made if it does not exist.
        jobs: Number of problems that are solved at the same time, each in its own process.
        report: Called with the number of solved problems and the number of all problems.

    Returns:
        A record for each problem, by instance and layers per unit.

    Raises:
        ValueError: A parameter is out of its range.
        FileExistsError: The directory holds other files, or a sweep with other parameters.
        BlockingIOError: Another process writes into it.
    """
    if sweep.instances < 1:
        raise ValueError(f"Expected at least one instance, but got {sweep.instances}.")
    if any(count < 1 for count in sweep.layers):
        raise ValueError(f"Expected at least one layer per unit, but got {min(sweep.layers)}.")
    if jobs < 1:
        raise ValueError(f"Expected at least one job, but got {jobs}.")
    if not sweep.time_limit > 0:
        raise ValueError(f"Expected `time_limit` to be positive, but got {sweep.time_limit}.")
    check_scenario(sweep.scenario)
    root = Path(directory)
    parameters = {name: value for name, value in asdict(sweep).items() if name not in _CHANGEABLE}
    with claimed_directory(root, "sweep.json") as marker:
        if marker.is_file():
            remedy = "give the same parameters to resume it, or name another directory"
            # As JSON, in which a tuple is a list.
            check_same(root, "a sweep", read_json(marker), json.loads(json.dumps(parameters)), remedy)
        else:
            write_text(marker, json.dumps(parameters, indent=2) + "\n")
        return _solve_all(sweep, root, jobs, report)


def _solve_all(
    sweep: Sweep, root: Path, jobs: int, report: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    problems = [(number, layers) for number in range(sweep.instances) for layers in sweep.layer_counts()]
    unsolved = [problem for problem in problems if not (_folder(root, *problem) / _RESULT).is_file()]
    done = len(problems) - len(unsolved)
    report(done, len(problems))
    for _ in _in_parallel(sweep, root, unsolved, jobs):
        done += 1
        report(done, len(problems))
    records = [read_json(_folder(root, *problem) / _RESULT) for problem in problems]
    columns = list(dict.fromkeys(key for record in records for key in record))
    write_csv(root / "sweep.csv", columns, ([record.get(key, "") for key in columns] for record in records))
    return records


def _in_parallel(sweep: Sweep, root: Path, problems: Sequence[tuple[int, int]], jobs: int) -> Iterable[None]:
    from joblib import Parallel, delayed

    run = Parallel(n_jobs=jobs, return_as="generator_unordered")
    with deferred_interrupts():  # here the workers start
        solved: Iterable[None] = run(delayed(_solve_one)(sweep, root, *problem) for problem in problems)
    return solved


def _solve_one(sweep: Sweep, root: Path, number: int, layers: int) -> None:
    instance = random_instance(replace(sweep.scenario, layers_per_unit=layers), sweep.seed + number)
    folder = _folder(root, number, layers)
    record: dict[str, Any] = {"instance": number, "seed": sweep.seed + number, "layers_per_unit": layers}
    try:
        solution = solve(instance, time_limit=sweep.time_limit)
    except InfeasibleError as error:
        record |= {"status": "infeasible", "reason": str(error)}
    else:
        record |= {
            "status": solution.status,
            "latency_s": solution.latency_s,
            "bound_s": solution.bound_s,
            "gap": solution.gap,
            "seconds": solution.seconds,
        }
        if solution.assignment:
            write_solution(solution, folder, plots=sweep.plots)
            types = sorted({unit.type for unit in instance.units})
            costs_and_counts = zip(solution.cnns, units_by_type(solution), strict=True)
            for index, (cost, counts) in enumerate(costs_and_counts):
                record[f"processing_{index}_s"] = cost.processing_s
                record[f"transmission_{index}_s"] = cost.transmission_s
                record |= {f"{unit_type}_{index}": counts[unit_type] for unit_type in types}
    # Written last: a problem counts as solved once its record exists.
    write_text(folder / _RESULT, json.dumps(record, indent=2) + "\n")


def _folder(root: Path, number: int, layers: int) -> Path:
    return root / f"exp_{number}" / f"L{layers}"
