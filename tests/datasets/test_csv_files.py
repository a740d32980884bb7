from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddnn_tf.datasets.csv_files import numbers, read_csv, times


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_columns_by_name(tmp_path: Path, comma: str) -> None:
    file = tmp_path / "t.csv"
    # A spreadsheet's mark, spaces and empty lines.
    file.write_bytes("\ufefftime, air\n1, 2.5\n\n2,\n".replace(",", comma).encode())
    table = read_csv(file)
    assert table.columns == {"time": ["1", "2"], "air": ["2.5", ""]}
    assert table.lines == [2, 4]
    with pytest.raises(ValueError, match=r"t\.csv' has no column 'sound': it has time, air"):
        table.check_columns(["air", "sound"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1\n", "line 2: it has 1 cells, but there are 2 columns"),
        (b"a,a\n1,2\n", "more than one column 'a'"),
        (b"a,b\n\xff\xfe,2\n", "no CSV file in UTF-8"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "t.csv")


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    assert read_csv(tmp_path / "t.csv").columns == {}
    with pytest.raises(FileNotFoundError, match=r"no file '.*u\.csv'"):
        read_csv(tmp_path / "u.csv")


def test_times() -> None:
    cells = [
        "2026-03-01 9:05:07",
        "2026/3/1T09:05:08.250000",
        "2026-03-01 10:05:09+01:00",
        "2026-03-01T09:05:10Z",
    ]
    steps = np.diff(times(cells, "t", [1, 2, 3, 4])) / np.timedelta64(1, "ms")
    assert steps.tolist() == [1250, 750, 1000]
    assert times(["2026-03-01", "2026-03-02"], "t", [1, 2]).dtype.kind == "M"
    assert times(["1e3", "2"], "t", [1, 2]).tolist() == [1000, 2]
    with pytest.raises(ValueError, match="'t', line 8: the time 'noon' is neither"):
        times(["2026-03-01", "noon"], "t", [7, 8])
    with pytest.raises(
        ValueError, match="'t', line 8: the column 'time' holds '2026-03-01', which is no number"
    ):
        times(["5", "2026-03-01"], "t", [7, 8])


def test_numbers() -> None:
    assert numbers(["1", "", "-2.5e1"], "t", [2, 3, 4]).tolist() == [1, 1, -25]
    for cell, message in (
        ("x", "no number"),
        ("inf", "finite"),
        ("nan", "finite"),
        ("", "no number stands above"),
    ):
        with pytest.raises(ValueError, match=f"'t', line 2: the column 'air' .*{message}"):
            numbers([cell], "t", [2], column="air")
