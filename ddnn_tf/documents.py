"""Reading and writing files: YAML documents, one-sentence errors, atomic writes, claimed directories.

>>> class Plan(Document):
...     subject: ClassVar[str] = "plan"
...     hosts: tuple[str, ...]
>>> Plan.from_yaml("hosts: [10.0.0.2]").to_yaml()
'hosts: [10.0.0.2]\\n'
>>> Plan.from_yaml("host: [10.0.0.2]")
Traceback (most recent call last):
...
ValueError: The plan lacks the field 'hosts'.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = [
    "Document",
    "Strict",
    "atomic_write",
    "cache_directory",
    "claim_directory",
    "data_directory",
    "one_sentence",
    "read_json",
    "write_text",
]

_Self = TypeVar("_Self", bound="Document")


class Strict(BaseModel):
    """A part of a document: its fields cannot be set afterwards, and there are no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Strict):
    """What a person writes in YAML or JSON.

    Attributes:
        subject: What it is, for error messages, e.g. `topology`.

    Raises:
        ValueError: A field is out of its range or contradicts another; one sentence names it.
    """

    subject: ClassVar[str] = "document"

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(one_sentence(error, self.subject)) from None

    def to_yaml(self) -> str:
        """YAML text, which `from_yaml` reads back to an equal document."""
        return yaml.safe_dump(
            self.model_dump(mode="json", exclude_none=True),
            sort_keys=False,
            default_flow_style=None,
            width=math.inf,
        )

    @classmethod
    def from_yaml(cls: type[_Self], text: str) -> _Self:
        """Reads a document from YAML text, of which JSON is a part.

        Raises:
            ValueError: Not YAML, not a mapping, or a contradiction; the message names the field.
        """
        try:
            fields = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"The {cls.subject} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(fields, dict):
            known = ", ".join(f"`{name}`" for name in cls.model_fields)
            raise ValueError(
                f"Expected the {cls.subject} to be a YAML mapping with {known}, but got "
                f"{type(fields).__name__}."
            )
        return cls(**{str(key): value for key, value in fields.items()})

    @classmethod
    def load(cls: type[_Self], path: str | Path) -> _Self:
        """Reads a document from a YAML or JSON file.

        Raises:
            FileNotFoundError: No such file.
            ValueError: As `from_yaml`, with the path in front.
        """
        try:
            return cls.from_yaml(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def one_sentence(error: ValidationError, subject: str) -> str:
    """The first finding of pydantic, as a sentence that names the field, the value and the remedy.

    Args:
        error: What pydantic found.
        subject: What it was looking at, e.g. `topology`.
    """
    finding = error.errors()[0]
    field = ".".join(str(part) for part in finding["loc"])
    message = finding["msg"].removeprefix("Value error, ").rstrip(".")
    if not field or (finding["type"] == "value_error" and message.startswith("'")):
        inside = f"{field}: " if field else ""
        return f"The {subject} contradicts itself: {inside}{message}."
    if finding["type"] == "missing":
        return f"The {subject} lacks the field '{field}'."
    if finding["type"] == "extra_forbidden":
        return f"The {subject} has no field '{field}': remove it or correct its spelling."
    return f"The {subject}'s field '{field}' is {finding['input']!r}: {message[0].lower()}{message[1:]}."


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged: not valid JSON ({error}).") from None


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def claim_directory(directory: Path, marker: str, content: str) -> bool:
    """Makes a directory for the results of one command, or checks that it belongs to that command.

    Args:
        directory: The directory; it is made if it does not exist.
        marker: Name of the file in it that says what the directory holds, e.g. `run.json`.
        content: What that file must hold.

    Returns:
        Whether the marker was there already, with the same content.

    Raises:
        FileExistsError: A file stands there, or the directory holds other files, or another marker.
    """
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"'{directory}' is a file: name a directory.")
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / marker
    if file.is_file():
        if file.read_text(encoding="utf-8") != content:
            raise FileExistsError(
                f"'{directory}' holds results with another {marker}: name another directory."
            )
        return True
    if any(directory.iterdir()):
        raise FileExistsError(f"'{directory}' holds other files: name a new directory.")
    write_text(file, content)
    return False


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/ddnn_tf`, by default `~/.cache/ddnn_tf`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ddnn_tf"


def data_directory() -> Path:
    """Where data sets are looked for without `--path`: `$DDNN_DATA`, by default `data` in the cache."""
    named = os.environ.get("DDNN_DATA")
    return Path(named) if named else cache_directory() / "data"
