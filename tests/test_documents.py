from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from ddnn_tf.documents import (
    Document,
    atomic_write,
    cache_directory,
    check_same,
    check_writable,
    claimed_directory,
    data_directory,
    read_json,
    write_text,
)


class Fleet(Document):
    subject: ClassVar[str] = "fleet"

    size: int
    names: tuple[str, ...] = ()


def test_a_document_survives_yaml(tmp_path: Path) -> None:
    fleet = Fleet(size=2, names=("a", "b"))
    file = tmp_path / "fleet.yaml"
    file.write_text(fleet.to_yaml())
    assert Fleet.load(file) == fleet
    file.write_text('{"size": 2, "names": ["a", "b"]}')
    assert Fleet.load(file) == fleet


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size: many", "The fleet's field 'size' is 'many': input should be a valid integer"),
        ("names: [a]", "The fleet lacks the field 'size'"),
        ("{size: 1, sise: 2}", "The fleet has no field 'sise': remove it or correct its spelling"),
        ("[1, 2]", "Expected the fleet to be a YAML mapping with `size`, `names`, but got list"),
        ("size: [", "The fleet is not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_document_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="fleet") as caught:
        Fleet.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.txt"
    write_text(file, "old")

    def broken() -> None:
        with atomic_write(file) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


def test_a_directory_is_written_whole_or_not_at_all(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    def write(size: int) -> None:
        with atomic_write(tmp_path / "bundle") as aside:
            aside.mkdir()
            (aside / "file").write_bytes(bytes(size))

    with (
        full_disk(),
        pytest.raises(OSError, match=r"bundle' cannot be written \(File too large\): free space"),
    ):
        write(9000)
    assert not list(tmp_path.iterdir())
    write(9000)
    assert (tmp_path / "bundle" / "file").stat().st_size == 9000


def test_where_nothing_can_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "run")
    check_writable(tmp_path / "file")
    for path in (tmp_path / "file" / "run", Path("/proc/ddnn/run")):
        with pytest.raises(OSError, match=rf"^'{path}' cannot be written \(.*\): .*name another place\.$"):
            check_writable(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_in_the_way_is_named_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "deep" / "drawing.svg"
    with pytest.raises(
        NotADirectoryError, match=rf"^'{path}' cannot be written \('{tmp_path}/file' is a file\)"
    ):
        write_text(path, "text")


def test_a_refused_claim_leaves_the_directory_to_the_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "results"
    make = Path.mkdir

    def make_and_lose(path: Path, *args: object, **options: object) -> None:
        """Another process locks the directory between its making and its locking."""
        make(path, parents=True, exist_ok=True)
        monkeypatch.setattr("fcntl.flock", refuse)

    def refuse(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    with pytest.raises(BlockingIOError, match="Another process"), claimed_directory(place, "run.json"):
        pass
    assert place.is_dir()


def test_a_directory_is_claimed_by_one_process_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "results"
    with claimed_directory(place, "run.json") as marker:
        with (
            pytest.raises(BlockingIOError, match=r"Another process is writing into '.*results': wait"),
            claimed_directory(place, "run.json"),
        ):
            pass
        marker.write_text("{}")
    with claimed_directory(place, "run.json"):
        assert [path.name for path in place.iterdir()] == ["run.json"]


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    claim = (
        "import time; from pathlib import Path; from ddnn_tf.documents import claimed_directory\n"
        f"with claimed_directory(Path({str(tmp_path)!r}), 'run.json'):\n"
        "    print('claimed', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", claim], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        with pytest.raises(BlockingIOError), claimed_directory(tmp_path, "run.json"):
            pass
        other.kill()
    with claimed_directory(tmp_path, "run.json"):
        pass


def test_a_claim_that_fails_leaves_no_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claimed_directory(tmp_path / "results", "run.json"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_options_that_differ_are_named_with_both_values(tmp_path: Path) -> None:
    old = {"epochs": 2, "data": {"name": "scenes", "devices": None}, "limit": 0.5}
    check_same(tmp_path, "results", old, old, "stop")
    with pytest.raises(FileExistsError) as caught:
        check_same(tmp_path, "results", old, {"epochs": 3, "data": {"name": "scenes", "devices": 2}}, "stop")
    assert str(caught.value) == (
        f"'{tmp_path}' holds results with epochs 2, not 3; data.devices None, not 2; limit 0.5, not None: "
        "stop."
    )


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds other files"), claimed_directory(tmp_path, "run.json"):
        pass
    file = tmp_path / "thesis.txt"
    with pytest.raises(FileExistsError, match="is a file"), claimed_directory(file, "run.json"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("{")
    with pytest.raises(ValueError, match=r"run\.json' is damaged: not valid JSON"):
        read_json(file)


def test_directories_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DDNN_DATA", raising=False)
    assert cache_directory() == tmp_path / "ddnn_tf"
    assert data_directory() == tmp_path / "ddnn_tf" / "data"
    monkeypatch.setenv("DDNN_DATA", str(tmp_path / "mine"))
    assert data_directory() == tmp_path / "mine"
