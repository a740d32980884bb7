from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from ddnn_tf.documents import (
    Document,
    atomic_write,
    cache_directory,
    claim_directory,
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


def test_a_directory_is_claimed_once(tmp_path: Path) -> None:
    place = tmp_path / "results"
    assert not claim_directory(place, "run.json", "one")
    assert claim_directory(place, "run.json", "one")
    with pytest.raises(FileExistsError, match=r"another run\.json"):
        claim_directory(place, "run.json", "two")
    assert (place / "run.json").read_text() == "one"


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds other files"):
        claim_directory(tmp_path, "run.json", "one")
    with pytest.raises(FileExistsError, match="is a file"):
        claim_directory(tmp_path / "thesis.txt", "run.json", "one")
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
