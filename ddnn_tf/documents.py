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
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Document",
    "Strict",
    "atomic_write",
    "cache_directory",
    "check_same",
    "check_writable",
    "claimed_directory",
    "data_directory",
    "one_sentence",
    "read_json",
    "write_text",
]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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
    """A temporary path beside `path`, for a file or a directory, that takes its place when the block ends.

    Raises:
        OSError: It cannot be written, e.g. for lack of space. Then nothing changes.
    """
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    check_writable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        # A full disk names no file, and a file of the package's own making means nothing to a reader.
        if error.filename is None or Path(str(error.filename)).is_relative_to(aside):
            raise _unwritable(path, error) from None
        raise
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; raises as `atomic_write`."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def check_writable(path: Path) -> None:
    """Checks that a file or directory can be made at a path, before the work whose result it is to hold.

    Args:
        path: It need not exist, nor need its parents; nothing is left there.

    Raises:
        OSError: It cannot be made or written.
    """
    try:
        place = next((each for each in (path, *path.parents) if each.exists()), path)
        if place != path and not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"'{place}' is a file")
        with tempfile.TemporaryFile(dir=place if place.is_dir() else place.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> OSError:
    reason = error.strerror or " ".join(str(error).split())
    remedy = "free space there" if error.errno in _FULL else "make that possible"
    return type(error)(f"'{path}' cannot be written ({reason}): {remedy}, or name another place.")


@contextlib.contextmanager
def claimed_directory(directory: Path, marker: str) -> Iterator[Path]:
    """Makes a directory for the results of one command, and keeps other processes from it in the block.

    The lock is the operating system's, on the directory itself: it ends with the process, however that ends.
    Where there is none (Windows, some network file systems), nothing is locked.

    Args:
        directory: The directory; it is made if it does not exist.
        marker: Name of the file in it that says what the directory holds, e.g. `run.json`.

    Returns:
        A context whose value is the path of the marker, which need not exist yet.

    Raises:
        BlockingIOError: Another process writes into the directory.
        FileExistsError: A file stands there, or the directory holds other files and no marker.
        OSError: It cannot be made or written.
    """
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"'{directory}' is a file: name a directory.")
    check_writable(directory)
    file = directory / marker
    with contextlib.ExitStack() as at_end:
        is_new = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        if fcntl is not None:
            descriptor = os.open(directory, os.O_RDONLY)
            at_end.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(
                    f"Another process is writing into '{directory}': wait for its end, or name another "
                    "directory."
                ) from None
            except OSError:
                pass  # a file system without locks
        # Only now: without the lock, the directory may be that of another process.
        if is_new:
            at_end.callback(_remove_if_empty, directory)
        if not file.is_file() and any(directory.iterdir()):
            raise FileExistsError(f"'{directory}' holds other files: name a new directory.")
        yield file


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def check_same(place: Path, holds: str, old: Mapping[str, Any], new: Mapping[str, Any], remedy: str) -> None:
    """Checks that what a directory holds was made with the same options.

    Args:
        place: The directory.
        holds: What it holds, e.g. `results`.
        old: The options that it was made with, by name; options may be mappings themselves.
        new: Those asked for now.
        remedy: What to do if they differ.

    Raises:
        FileExistsError: They differ; the message names each option with both values.
    """
    was, asked = _flat(old), _flat(new)
    changes = [
        f"{name} {was.get(name)}, not {asked.get(name)}"
        for name in dict.fromkeys((*asked, *was))
        if was.get(name) != asked.get(name)
    ]
    if changes:
        raise FileExistsError(f"'{place}' holds {holds} with {'; '.join(changes)}: {remedy}.")


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in options as `outer.inner`."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": each for inner, each in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/ddnn_tf`, by default `~/.cache/ddnn_tf`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ddnn_tf"


def data_directory() -> Path:
    """Where data sets are looked for without `--path`: `$DDNN_DATA`, by default `data` in the cache."""
    named = os.environ.get("DDNN_DATA")
    return Path(named) if named else cache_directory() / "data"
