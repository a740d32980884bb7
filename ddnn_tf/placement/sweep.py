"""Many random experiments, each for every number of layers a unit: the reference's batch script.

    DIR/sweep.json                 the parameters; a sweep with others does not continue in the same place
    DIR/exp_0/L1/...               the files of a solution (`tables`)
    DIR/sweep.csv                  a row for each: latency, bound, gap, status, seconds, and by CNN
                                   processing, transmission and units used by type

A killed sweep continues where it was. Unlike in the reference, each problem is solved on its own, without the
constraints of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ddnn_tf.documents import atomic_write
from ddnn_tf.placement.feasibility import InfeasibleError
from ddnn_tf.placement.instance import Cnn
from ddnn_tf.placement.random_instances import Experiment, check_experiment, random_instance
from ddnn_tf.placement.solution import solve
from ddnn_tf.placement.tables import units_by_type, write_csv, write_solution

__all__ = ["Sweep", "run_sweep"]

_RESULT = "result.json"


@dataclass(frozen=True)
class Sweep:
    """What a sweep solves.

    Attributes:
        experiment: The parameters of its instances.
        experiments: How many; number k is drawn with seed `seed + k`.
        layers: The numbers of layers a unit; empty: from 1 to that of the longest CNN.
        seed: Of the first experiment.
        time_limit: Seconds for each problem.
        plots: Figures for each problem, too.
    """

    experiment: Experiment
    experiments: int = 500
    layers: tuple[int, ...] = ()
    seed: int = 0
    time_limit: float = 300.0
    plots: bool = False

    def layer_counts(self) -> tuple[int, ...]:
        """The numbers of layers a unit."""
        longest = max(len(Cnn.builtin(name).layers) for name in self.experiment.cnns)
        return self.layers or tuple(range(1, longest + 1))


def run_sweep(
    sweep: Sweep,
    directory: str | Path,
    *,
    jobs: int = 1,
    report: Callable[[int, int], None] = lambda *_: None,
) -> list[dict[str, Any]]:
    """Runs a sweep, or what is left of it.

    Args:
        sweep: What to solve.
        directory: Where to.
        jobs: How many problems at a time, each in a process of its own.
        report: Is told how many are done, and of how many.

    Returns:
        A record for each problem, by experiment and layers a unit.

    Raises:
        ValueError: Parameters out of range.
        FileExistsError: The directory holds something else, or a sweep with other parameters.
    """
    if sweep.experiments < 1:
        raise ValueError(f"Expected at least one experiment, but got {sweep.experiments}.")
    if any(count < 1 for count in sweep.layers):
        raise ValueError(f"Expected at least one layer a unit, but got {min(sweep.layers)}.")
    if jobs < 1:
        raise ValueError(f"Expected at least one job, but got {jobs}.")
    if not sweep.time_limit > 0:
        raise ValueError(f"Expected `time_limit` to be positive, but got {sweep.time_limit}.")
    check_experiment(sweep.experiment)
    place = Path(directory)
    _claim(place, sweep)
    tasks = [(number, layers) for number in range(sweep.experiments) for layers in sweep.layer_counts()]
    todo = [task for task in tasks if not (_folder(place, *task) / _RESULT).is_file()]
    done = len(tasks) - len(todo)
    report(done, len(tasks))
    for _ in _in_parallel(sweep, place, todo, jobs):
        done += 1
        report(done, len(tasks))
    records = [json.loads((_folder(place, *task) / _RESULT).read_text(encoding="utf-8")) for task in tasks]
    columns = list(dict.fromkeys(key for record in records for key in record))
    write_csv(place / "sweep.csv", columns, ([record.get(key, "") for key in columns] for record in records))
    return records


def _in_parallel(sweep: Sweep, place: Path, todo: Sequence[tuple[int, int]], jobs: int) -> Any:
    from joblib import Parallel, delayed

    run = Parallel(n_jobs=jobs, return_as="generator_unordered")
    return run(delayed(_solve_one)(sweep, place, number, layers) for number, layers in todo)


def _solve_one(sweep: Sweep, place: Path, number: int, layers: int) -> None:
    experiment = replace(sweep.experiment, layers_per_unit=layers)
    instance = random_instance(experiment, sweep.seed + number)
    folder = _folder(place, number, layers)
    record: dict[str, Any] = {"experiment": number, "seed": sweep.seed + number, "layers_per_unit": layers}
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
            for at, (one, kinds) in enumerate(zip(solution.cnns, units_by_type(solution), strict=True)):
                record |= {f"processing_{at}_s": one.processing_s, f"transmission_{at}_s": one.transmission_s}
                record |= {
                    f"{kind}_{at}": kinds[kind] for kind in sorted({unit.type for unit in instance.units})
                }
    # Written last: a problem counts as solved when its record is there.
    with atomic_write(folder / _RESULT) as aside:
        aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _folder(place: Path, number: int, layers: int) -> Path:
    return place / f"exp_{number}" / f"L{layers}"


def _claim(place: Path, sweep: Sweep) -> None:
    """Makes the directory ready for a sweep, or refuses to touch what stands there."""
    if place.exists() and not place.is_dir():
        raise FileExistsError(f"'{place}' is a file: name a directory for the sweep.")
    place.mkdir(parents=True, exist_ok=True)
    # More experiments, other limits of time and jobs continue a sweep; another problem does not.
    kept = asdict(sweep)
    for name in ("experiments", "layers", "time_limit", "plots"):
        del kept[name]
    text = json.dumps(kept, indent=2) + "\n"
    file = place / "sweep.json"
    if file.is_file():
        if file.read_text(encoding="utf-8") != text:
            raise FileExistsError(f"'{place}' holds a sweep with other parameters: name another directory.")
    elif any(place.iterdir()):
        raise FileExistsError(f"'{place}' holds other files than a sweep's: name a new directory.")
    with atomic_write(file) as aside:
        aside.write_text(text, encoding="utf-8")
