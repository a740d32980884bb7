"""Measures the time to a proven optimum, and that of HiGHS alone on the whole model.

    python benchmarks/placement.py                # all instances, about five minutes on two cores
    python benchmarks/placement.py --quick        # without HiGHS alone, three seeds in place of ten

Instances are those of the reference's notebooks, drawn with seeds 0, 1, ...; the larger ones keep the density
of units. The checker recomputes every placement. Times include building the model, but not starting Python.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import replace

from rich.progress import track

from ddnn_tf.cli.printing import new_table, show
from ddnn_tf.placement import SCENARIOS, Scenario, check_placement, random_instance, solve
from ddnn_tf.placement.choices import Choices
from ddnn_tf.placement.milp import solve_milp
from ddnn_tf.placement.problem import of_instance

SINGLE, MIXED = SCENARIOS["single"], SCENARIOS["mixed"]


def grown(scenario: Scenario, units: int) -> Scenario:
    """A scenario with more units, in a square that grows with them."""
    return replace(
        scenario, units=units, half_width_m=scenario.half_width_m * math.sqrt(units / scenario.units)
    )


INSTANCES: dict[str, tuple[Scenario, int, bool]] = {
    "AlexNet, 50 units": (SINGLE, 10, True),
    "early-exit AlexNet, 50 units": (SCENARIOS["early-exit"], 10, True),
    "three CNNs (mixed), 50 units": (MIXED, 10, True),
    "three AlexNets (multi), 50 units": (SCENARIOS["multi"], 10, False),
    "mixed, 2 layers per unit": (replace(MIXED, layers_per_unit=2), 10, False),
    "mixed, 4 layers per unit": (replace(MIXED, layers_per_unit=4), 10, False),
    "mixed, slowest CNN counts": (replace(MIXED, objective="max"), 3, False),
    "mixed, 200 units": (grown(MIXED, 200), 3, False),
    "AlexNet, 1,000 units": (grown(SINGLE, 1000), 3, False),
}
"""Scenario, number of seeds, and whether HiGHS alone is timed as well."""

LIMIT = 60.0


def alone(scenario: Scenario, seed: int) -> float:
    """Seconds that HiGHS takes for the whole model, without bounds, search and pruning."""
    begin = time.perf_counter()
    problem = of_instance(random_instance(scenario, seed))
    solve_milp(Choices(problem), start=None, relative_gap=1e-6, deadline=time.monotonic() + LIMIT)
    return time.perf_counter() - begin


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three seeds, without HiGHS alone")
    quick = parser.parse_args().quick
    solve(random_instance("single", 99))  # imports
    table = new_table(
        f"Placement, {LIMIT:g} s at most, relative gap 1e-6", "instance", "proven", "median s", "slowest s",
        "largest gap", "HiGHS alone, median s", "times faster",
    )  # fmt: skip
    for name, (scenario, seeds, is_compared) in INSTANCES.items():
        count = min(3, seeds) if quick else seeds
        seconds, gaps, proven, theirs = [], [], 0, []
        for seed in track(range(count), name, transient=True):
            instance = random_instance(scenario, seed)
            begin = time.perf_counter()
            solution = solve(instance, time_limit=LIMIT)
            seconds.append(time.perf_counter() - begin)
            assert solution.gap is not None
            assert not check_placement(instance, solution.assignment).violations
            gaps.append(solution.gap)
            proven += solution.status == "optimal"
            if is_compared and not quick:
                theirs.append(alone(scenario, seed))
        median = statistics.median(seconds)
        table.add_row(
            name, f"{proven} of {count}", f"{median:.2f}", f"{max(seconds):.2f}", f"{max(gaps):.1g}",
            f"{statistics.median(theirs):.2f}" if theirs else "",
            f"{statistics.median(theirs) / median:.1f}" if theirs else "",
        )  # fmt: skip
    show(table)


if __name__ == "__main__":
    main()
