from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Estimate, Table, estimate, mean, percent


def test_interval_is_students_t() -> None:
    found = estimate([1.0, 2.0, 3.0])
    # 4.3027 is t(0.975, 2 degrees of freedom) in any table.
    assert found.mean == 2
    assert found.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert estimate([0.5]) == Estimate(0.5, None)
    assert str(percent([0.943, 0.943])) == "94.3 ± 0"
    assert str(Estimate(-3.7e-15, 1.45)) == "0 ± 1.45"
    with pytest.raises(ValueError, match="at least one number"):
        estimate([])
    with pytest.raises(ValueError, match="no such exit"):
        percent([0.5, None])


def test_a_table_says_the_same_in_every_form() -> None:
    rows = [
        {"scheme": "MP-CC", "cloud %": Estimate(96.25, 1.5), "paper": 98},
        {"scheme": "AP-AP", "cloud %": None, "paper": None},
    ]
    table = Table("t", "A title", rows, ("A note.",), frozenset({0}))
    assert table.columns == ["scheme", "cloud %", "paper"]
    records = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert records[0] == {"scheme": "MP-CC", "cloud %": "96.25", "cloud % ±95%": "1.5", "paper": "98"}
    assert records[1]["cloud %"] == ""
    markdown = table.to_markdown()
    assert "### A title" in markdown
    assert "| **MP-CC** | **96.2 ± 1.50** | **98** |" in markdown
    assert "A note." in markdown
    assert "<td>96.2 ± 1.50</td>" in table._repr_html_()
    assert json.loads(json.dumps(table.records()))[0]["cloud %"] == 96.25


def test_mean_of_a_cell() -> None:
    assert mean(Estimate(3.0, 1.0)) == 3.0
    assert mean(4) == 4.0
    with pytest.raises(TypeError, match="with a number"):
        mean("4")


def test_the_papers_numbers_are_those_of_the_reference(shared: Path) -> None:
    reference = json.loads((shared / "reference" / "ddnn_paper.json").read_text())
    for item in (
        "table_1_aggregation",
        "table_2_threshold",
        "figure_8_scaling",
        "figure_9_offloading",
        "figure_10_fault",
    ):
        assert paper(item) == reference[item]
    assert paper("missing_devices") == reference["pytorch_branch_readme_mnist"]["rows"]
