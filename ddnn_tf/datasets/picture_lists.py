"""Which pictures a user has: from the folders that they stand in, or from a CSV file that lists them."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddnn_tf.datasets import csv_files
from ddnn_tf.datasets.pictures import SUFFIXES
from ddnn_tf.datasets.recording import Problem

__all__ = ["LAYOUT", "UNREADABLE", "Picture", "in_order", "read_manifest", "scan_folder"]

LAYOUT = "FOLDER/<device>/<class>/<sample>.png (or .jpg, .bmp, .tif)"
UNREADABLE = "unreadable"
"""The kind of the problem of a file that is no picture, or a damaged one."""

_COLUMNS = ("sample", "device", "path", "label")
# Files that systems leave in folders of pictures.
_LITTER = ("thumbs.db", "desktop.ini")
# Names of two class folders this alike, on devices that lack the other's, are one class misspelled.
_ALIKE = 0.8


@dataclass(frozen=True)
class Picture:
    """A picture of one device, by the names that the user gave."""

    sample: str
    device: str
    label: str
    file: str
    group: str = ""
    time: str = ""
    part: str = ""
    line: int = 0


def scan_folder(root: Path, problems: list[Problem]) -> list[Picture]:
    """The pictures of a folder, and what does not belong there."""
    pictures: list[Picture] = []
    inside = root.resolve()
    for device in _entries(root):
        if not device.is_dir():
            continue
        before = len(pictures)
        for label in _entries(device):
            if not label.is_dir():
                if Path(label.name).suffix.lower() in SUFFIXES:
                    raise ValueError(
                        f"'{label.path}' is a picture that stands in no class folder: expected {LAYOUT}."
                    )
                continue
            for entry in _entries(label):
                file = Path(entry.path).relative_to(root).as_posix()
                wrong = _out_of_place(entry, device, label, inside)
                if wrong is not None:
                    problems.append(Problem(*wrong, (file,)))
                    continue
                pictures.append(Picture(Path(entry.name).stem, device.name, label.name, file))
        if len(pictures) == before:
            message = f"The device folder '{device.path}' holds no pictures: fill or remove it."
            problems.append(Problem("empty", message, (device.name,)))
    problems += _misspelled(pictures)
    return _with_samples(pictures)


def _out_of_place(
    entry: os.DirEntry[str], device: os.DirEntry[str], label: os.DirEntry[str], inside: Path
) -> tuple[str, str] | None:
    """What is wrong with an entry of a class folder: a kind and a sentence."""
    if entry.is_dir():
        return "folder", f"'{entry.path}' is a folder inside a class folder: expected {LAYOUT}."
    if Path(entry.name).suffix.lower() not in SUFFIXES:
        message = (
            f"'{entry.path}' is no picture ({', '.join(SUFFIXES)}): remove or convert it, or go on without "
            "such files with --skip-unreadable."
        )
        return UNREADABLE, message
    is_link = any(part.is_symlink() for part in (entry, label, device))
    if is_link and inside not in Path(entry.path).resolve().parents:
        return "outside", f"'{entry.path}' is a link that leaves the folder: copy the file into it."
    return None


def _entries(folder: os.DirEntry[str] | Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in order, but for hidden files and what systems leave."""
    with os.scandir(folder) as found:
        entries = [entry for entry in found if entry.name[0] != "." and entry.name.lower() not in _LITTER]
    return sorted(entries, key=lambda entry: _natural(entry.name))


def _with_samples(pictures: list[Picture]) -> list[Picture]:
    """Names the samples by class, too, if every class counts by itself."""
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for picture in pictures:
        named[picture.device, picture.label].add(picture.sample)
    for (device, names), (other, others) in itertools.combinations(named.items(), 2):
        # A few common names are misplaced files, half of them are a way to count.
        if device[0] == other[0] and 2 * len(names & others) >= min(len(names), len(others)):
            return [
                Picture(f"{picture.label}/{picture.sample}", picture.device, picture.label, picture.file)
                for picture in pictures
            ]
    return pictures


def _misspelled(pictures: Sequence[Picture]) -> list[Problem]:
    """Class folders that look like one class spelled in two ways."""
    devices_of: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.device not in devices_of[picture.label]:
            devices_of[picture.label].append(picture.device)
    return [
        Problem(
            "class_folder",
            f"The class folders '{first}' ({', '.join(devices)}) and '{second}' ({', '.join(others)}) look "
            "like one class spelled in two ways: rename one.",
            (f"{devices[0]}/{first}", f"{others[0]}/{second}"),
        )
        for (first, devices), (second, others) in itertools.combinations(devices_of.items(), 2)
        if not set(devices) & set(others) and _looks_like(first, second)
    ]


def _looks_like(first: str, second: str) -> bool:
    """Whether two names differ in case, punctuation or a few letters: `car` and `Car`, `bus` and `buses`."""
    plain = [re.sub(r"[\W_]", "", name).casefold() for name in (first, second)]
    if plain[0] == plain[1]:
        return True
    if re.findall(r"\d+", first) != re.findall(r"\d+", second):
        return False
    # A letter in place of another is a name of its own: `type_a` and `type_b`.
    is_substitution = len(plain[0]) == len(plain[1]) and sorted(plain[0]) != sorted(plain[1])
    starts_alike = plain[0].startswith(plain[1]) or plain[1].startswith(plain[0])
    is_near = difflib.SequenceMatcher(None, plain[0], plain[1]).ratio() >= _ALIKE
    is_plural = starts_alike and abs(len(plain[0]) - len(plain[1])) <= 2
    return not is_substitution and (is_near or is_plural)


def read_manifest(file: Path, problems: list[Problem]) -> list[Picture]:
    """The pictures that a CSV file lists, and what is wrong with its lines."""
    table = csv_files.read_csv(file)
    table.check_columns(_COLUMNS)
    inside = file.parent.resolve()
    pictures = []
    keys = [key for key in (*_COLUMNS, "group", "time", "part") if key in table.columns]
    for line, *cells in zip(table.lines, *(table.columns[key] for key in keys), strict=True):
        row = dict(zip(keys, cells, strict=True))
        listed = row.pop("path")
        if not listed:
            continue  # the device does not see the sample
        empty = next((key for key in ("sample", "device", "label") if not row[key]), None)
        place = (inside / listed).resolve()
        if empty is not None:
            wrong = f"the column '{empty}' is empty"
        elif inside not in place.parents:
            wrong = f"the path '{listed}' leads out of the folder '{file.parent}': give one inside it"
        elif not place.is_file():
            wrong = f"there is no file '{listed}' in '{file.parent}'"
        else:
            pictures.append(Picture(**row, file=listed, line=line))
            continue
        problems.append(Problem("manifest", f"'{file}', line {line}: {wrong}.", (listed,)))
    return pictures


def in_order(names: Iterable[str]) -> list[str]:
    """Different names in the order of their numbers and letters: `camera_2` before `camera_10`."""
    return sorted(set(names), key=_natural)


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]
