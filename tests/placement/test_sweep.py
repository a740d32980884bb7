"""Sweeps continue, refuse to mix, and write what the reference's script writes; so do single solutions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ddnn_tf.placement import Instance, Scenario, check_placement, random_instance, solve
from ddnn_tf.placement.solution_files import write_solution
from ddnn_tf.placement.sweep import Sweep, run_sweep

SMALL = Scenario(cnns=("sevenlayer", "sevenlayer_early_exit"), units=12, half_width_m=8.0)


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_files_say_what_the_solution_says(tmp_path: Path) -> None:
    solution = solve(random_instance("mixed", 9))
    files = write_solution(solution, tmp_path / "out")
    assert {file.name for file in files} == {
        "instance.yaml", "solution.json", "assignment_0.csv", "assignment_1.csv", "assignment_2.csv",
        "cnns.csv", "units_by_type.csv", "network.png", "paths.png", "exits.png",
    }  # fmt: skip
    instance = Instance.load(tmp_path / "out" / "instance.yaml")
    assert instance == solution.instance
    assignment = []
    for number, load in enumerate(instance.cnns):
        table = rows(tmp_path / "out" / f"assignment_{number}.csv")
        assert [row["unit"] for row in table] == list(instance.unit_names)
        assignment.append(
            [next(row["unit"] for row in table if row[layer] == "1") for layer in load.cnn.layers]
        )
    assert check_placement(instance, assignment).latency_s == pytest.approx(solution.latency_s)
    costs = rows(tmp_path / "out" / "cnns.csv")
    total = sum(float(row["processing_s"]) + float(row["transmission_s"]) for row in costs)
    assert total == pytest.approx(solution.latency_s)
    used = rows(tmp_path / "out" / "units_by_type.csv")
    assert sum(int(count) for row in used for kind, count in row.items() if kind != "cnn") == 26
    assert json.loads((tmp_path / "out" / "solution.json").read_text()) == solution.summary()
    for name in ("network", "paths", "exits"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_interrupted_sweep_continues(tmp_path: Path) -> None:
    sweep = Sweep(SMALL, instances=2, layers=(1, 2), time_limit=20)
    first = run_sweep(sweep, tmp_path, jobs=2)
    assert [(one["instance"], one["layers_per_unit"]) for one in first] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    kept = tmp_path / "exp_0" / "L1" / "result.json"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "exp_1" / "L2" / "result.json").unlink()
    seen: list[tuple[int, int]] = []
    again = run_sweep(sweep, tmp_path, report=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 4), (4, 4)]
    assert kept.stat().st_mtime_ns == stamp
    assert [one["latency_s"] for one in again] == [one["latency_s"] for one in first]
    more = run_sweep(replace(sweep, instances=3), tmp_path)
    assert more[:4] == again
    assert len(rows(tmp_path / "sweep.csv")) == 6


def test_each_problem_is_solved_on_its_own(tmp_path: Path) -> None:
    """In the reference the limit of one layer a unit stays when two are allowed."""
    for record in run_sweep(Sweep(SMALL, instances=1, layers=(1, 3)), tmp_path):
        instance = random_instance(replace(SMALL, layers_per_unit=record["layers_per_unit"]), 0)
        assert record["latency_s"] == pytest.approx(solve(instance).latency_s)
        assert record["status"] == "optimal"


def test_infeasible_problems_are_recorded(tmp_path: Path) -> None:
    scenario = replace(SMALL, mix={"stm32h7": 1.0})
    (record,) = run_sweep(Sweep(scenario, instances=1, layers=(1,)), tmp_path)
    assert record["status"] == "infeasible"
    assert "needs 4816.9 KB of memory" in record["reason"]


def test_refuses(tmp_path: Path) -> None:
    run_sweep(Sweep(SMALL, instances=1, layers=(2,)), tmp_path / "sweep")
    with pytest.raises(FileExistsError, match=r"holds a sweep with scenario\.units 12, not 13: give"):
        run_sweep(Sweep(replace(SMALL, units=13), instances=1, layers=(2,)), tmp_path / "sweep")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        run_sweep(Sweep(SMALL), tmp_path / "other")
    with pytest.raises(FileExistsError, match="is a file"):
        run_sweep(Sweep(SMALL), tmp_path / "other" / "letter.txt")
    for change, message in (
        ({"instances": 0}, "at least one instance, but got 0"),
        ({"layers": (0,)}, "at least one layer per unit, but got 0"),
        ({"scenario": replace(SMALL, units=0)}, "`units` to be at least 1"),
        ({"scenario": replace(SMALL, cnns=("lenet",))}, "CNN out of"),
        ({"time_limit": 0.0}, "`time_limit` to be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            run_sweep(replace(Sweep(SMALL), **change), tmp_path / "new")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()
