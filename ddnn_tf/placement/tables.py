"""A solution as CSV files, with the content of the reference's batch script, and as figures.

instance.yaml         the problem, to solve it again
solution.json         latency, bound, gap, status, and units layer by layer
assignment_U.csv      of CNN number U: a row for each unit, a column for each layer, 1 where it runs
cnns.csv              processing, transmission, latency and energy of each CNN
units_by_type.csv     how many units of each type each CNN uses
network.png           units by type, links, sources (`--plots`)
paths.png             the way of each CNN through the units
exits.png             where decisions leave
"""

from __future__ import annotations

import collections
import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ddnn_tf.documents import atomic_write
from ddnn_tf.placement.solution import Solution

__all__ = ["write_csv", "write_solution"]


def write_solution(solution: Solution, directory: str | Path, *, plots: bool = True) -> list[Path]:
    """Writes a solution's files.

    Args:
        solution: A solution with a placement.
        directory: Where to; made if need be.
        plots: Figures, too.

    Returns:
        The files.

    Raises:
        ValueError: The solution has no placement.
        FileExistsError: The directory is a file.
    """
    place = Path(directory)
    if place.exists() and not place.is_dir():
        raise FileExistsError(f"'{place}' is a file: name a directory.")
    if not solution.assignment:
        raise ValueError(
            "Expected a solution with a placement, but none was found in time: raise the time limit."
        )
    place.mkdir(parents=True, exist_ok=True)
    instance = solution.instance
    files = [place / "instance.yaml", place / "solution.json"]
    for file, text in zip(
        files, (instance.to_yaml(), json.dumps(solution.summary(), indent=2) + "\n"), strict=True
    ):
        with atomic_write(file) as aside:
            aside.write_text(text, encoding="utf-8")
    for number, (load, units) in enumerate(zip(instance.cnns, solution.assignment, strict=True)):
        rows = [[name, *(int(unit == name) for unit in units)] for name in instance.unit_names]
        files.append(write_csv(place / f"assignment_{number}.csv", ["unit", *load.cnn.layers], rows))
    files.append(
        write_csv(
            place / "cnns.csv",
            ["cnn", "processing_s", "transmission_s", "latency_s", "energy_j"],
            [
                [load.cnn.name, one.processing_s, one.transmission_s, one.latency_s, one.energy_j]
                for load, one in zip(instance.cnns, solution.cnns, strict=True)
            ],
        )
    )
    kinds = sorted({unit.type for unit in instance.units})
    used = units_by_type(solution)
    files.append(
        write_csv(
            place / "units_by_type.csv",
            ["cnn", *kinds],
            [
                [load.cnn.name, *(one[kind] for kind in kinds)]
                for load, one in zip(instance.cnns, used, strict=True)
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
            files.append(place / f"{name}.png")
            with atomic_write(files[-1]) as aside:
                figure.savefig(aside, dpi=150)
    return files


def units_by_type(solution: Solution) -> list[dict[str, int]]:
    """For each CNN, how many units of each type it uses."""
    kinds = {unit.name: unit.type for unit in solution.instance.units}
    return [collections.Counter(kinds[name] for name in set(units)) for units in solution.assignment]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a CSV file aside, then in place; returns its path."""
    with atomic_write(path) as aside, open(aside, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path
