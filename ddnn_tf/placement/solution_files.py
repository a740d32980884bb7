"""The files of a solution: CSV tables with the content of the reference's batch script, and figures.

instance.yaml         the problem, to solve it again
solution.json         latency, bound, gap, status, and units layer by layer
assignment_U.csv      CNN number U: a row for each unit, a column for each layer, 1 where the layer runs
cnns.csv              processing, transmission, latency and energy of each CNN
units_by_type.csv     number of units of each type that each CNN uses
network.png           units by type, links, sources (`--plots`)
paths.png             path of each CNN through the units
exits.png             layers after which decisions leave
"""

from __future__ import annotations

import collections
import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ddnn_tf.documents import atomic_write, write_text
from ddnn_tf.placement.solution import Solution

__all__ = ["units_by_type", "write_csv", "write_solution"]


def write_solution(solution: Solution, directory: str | Path, *, plots: bool = True) -> list[Path]:
    """Writes a solution's files.

    Args:
        solution: A solution with a placement.
        directory: Directory for the files; made if it does not exist.
        plots: Whether to draw the figures.

    Returns:
        Paths of the files.

    Raises:
        ValueError: The solution has no placement.
        FileExistsError: `directory` is a file.
    """
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"'{folder}' is a file: name a directory.")
    if not solution.assignment:
        raise ValueError(
            "Expected a solution with a placement, but none was found in time: raise the time limit."
        )
    instance = solution.instance
    files = [folder / "instance.yaml", folder / "solution.json"]
    write_text(files[0], instance.to_yaml())
    write_text(files[1], json.dumps(solution.summary(), indent=2) + "\n")
    for number, (load, units) in enumerate(zip(instance.cnns, solution.assignment, strict=True)):
        rows = [[name, *(int(unit == name) for unit in units)] for name in instance.unit_names]
        files.append(write_csv(folder / f"assignment_{number}.csv", ["unit", *load.cnn.layers], rows))
    files.append(
        write_csv(
            folder / "cnns.csv",
            ["cnn", "processing_s", "transmission_s", "latency_s", "energy_j"],
            [
                [load.cnn.name, cost.processing_s, cost.transmission_s, cost.latency_s, cost.energy_j]
                for load, cost in zip(instance.cnns, solution.cnns, strict=True)
            ],
        )
    )
    types = sorted({unit.type for unit in instance.units})
    counts_by_cnn = units_by_type(solution)
    files.append(
        write_csv(
            folder / "units_by_type.csv",
            ["cnn", *types],
            [
                [load.cnn.name, *(counts[unit_type] for unit_type in types)]
                for load, counts in zip(instance.cnns, counts_by_cnn, strict=True)
            ],
        )
    )
    if plots:
        from ddnn_tf.placement.plots import exits_figure, network_figure, paths_figure

        for name, figure in (
            ("network", network_figure(instance)),
            ("paths", paths_figure(solution)),
            ("exits", exits_figure(solution)),
        ):
            if figure is None:
                continue
            files.append(folder / f"{name}.png")
            with atomic_write(files[-1]) as aside:
                figure.savefig(aside, dpi=150)
    return files


def units_by_type(solution: Solution) -> list[dict[str, int]]:
    """Number of units of each type that each CNN uses; a list by CNN of dictionaries by type."""
    types = {unit.name: unit.type for unit in solution.instance.units}
    return [collections.Counter(types[name] for name in set(units)) for units in solution.assignment]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a CSV file whole or not at all, and returns its path."""
    with atomic_write(path) as aside, open(aside, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path
