"""`ddnn data check` on pictures of a user's own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_data import write_pictures

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pictures", samples=120, devices=("door", "gate"))
    return tmp_path / "pictures"


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command, and prints on stderr which large packages it imported."""
    code = (
        "import sys\nfrom ddnn_tf.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(*{'tensorflow', 'tf_keras', 'larq', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "data", "check", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_json_and_a_page_that_needs_no_other_file(pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "check.html"
    result = check("folder", "--path", pictures, "--json", "--html", page)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "\n"
    found = json.loads(result.stdout)
    assert {problem["severity"] for problem in found["problems"]} <= {"warning"}
    assert 0 <= found["leak_share"] <= 1
    assert found["contents"]["views"]["door"]["absent"] == 24
    assert found["contents"]["views"]["gate"]["original_sizes"] == "30x24"
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", text)
    assert {"bus", "car", "person"} == set(re.findall(r"<caption>(bus|car|person)</caption>", text))
    assert text.count("<img") > 20
    assert "absent" in text
    assert "gate/bus/000.png" in text


def test_every_problem_is_listed_with_its_files(pictures: Path) -> None:
    shutil.copy(pictures / "gate" / "bus" / "000.png", pictures / "gate" / "car" / "999.png")
    (pictures / "gate" / "bus" / "003.png").write_bytes(b"")
    (pictures / "gate" / "car" / "004.png").write_bytes(b"no picture")
    (pictures / "door" / "person" / "001.png").write_bytes(
        (pictures / "door" / "car" / "001.png").read_bytes()
    )
    (pictures / "door" / "car" / "001.png").unlink()
    result = check("folder", "--path", pictures)
    assert result.returncode == 1, result.stderr
    assert result.stderr == "\n"
    words = " ".join(result.stdout.split())
    for problem in (
        "003.png' cannot be read (the file is empty)",
        "004.png' cannot be read (it is no picture",
        "The devices disagree on the label of sample '001'",
        "warning (duplicate): 2 pictures of 'gate' are copies of each other",
        "warning (labels): 2 pictures of 'gate' are copies with different labels",
        "gate/bus/000.png, gate/car/999.png",
        "3 errors,",
    ):
        assert problem in words


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = check("folder", "--path", tmp_path / "nowhere", "--html", tmp_path / "check.html")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("ddnn: There is no folder")
    assert not (tmp_path / "check.html").exists()


def test_a_page_that_cannot_be_written_is_told_before_the_work(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = check("folder", "--path", pictures, "--html", tmp_path / "file" / "check.html")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "file" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
