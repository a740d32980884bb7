"""Pictures of a user's own: a folder for each device, and in it a folder for each class.

    pictures/front_door/car/0001.jpg
    pictures/front_door/person/0002.jpg
    pictures/gate/car/0001.jpg

Files of one name, without its ending, are one sample, seen by several devices at once; a device without it
does not see the object: that view is black and marked absent. Where the same names stand in several class
folders (each class counts from 1), the class is part of the name. In place of the folders, a CSV file may
list the pictures, with the columns `sample`, `device`, `path` (relative to the file, and inside its folder)
and `label`, and if they are known `group` (what must not stand in two parts), `time` and `part` (`train`,
`validation`, `test`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddnn_tf.datasets import csv_files
from ddnn_tf.datasets.decoding import Decoded, Wanted, decode
from ddnn_tf.datasets.multiview import MultiViewDataset
from ddnn_tf.datasets.picture_lists import LAYOUT, UNREADABLE, Picture, in_order, read_manifest, scan_folder
from ddnn_tf.datasets.pictures import Channels, Fit, Format
from ddnn_tf.datasets.recording import Problem, Recording, device_names
from ddnn_tf.datasets.source import DataSource, register_recording

__all__ = ["load_folder", "read_folder"]

_SIZE = (32, 32)
# What all pictures of a sample have in common.
_OF_A_SAMPLE = ("label", "group", "time", "part")


def load_folder(
    path: str | Path,
    *,
    size: tuple[int, int] = _SIZE,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    fit: Fit = "pad",
    channels: Channels | None = None,
    skip_unreadable: bool = False,
    split: str | None = None,
    test_share: float | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> MultiViewDataset:
    """Loads a folder of pictures as a multi-view data set.

    Args:
        path: The folder, or a CSV file that lists pictures.
        size: Width and height in pixels that pictures are brought to.
        sizes: Another width and height for some devices, by name.
        fit: `pad` keeps the aspect ratio and fills with black, `stretch` does not keep it.
        channels: `grey` or `colour`; None: as the pictures of each device are.
        skip_unreadable: Takes pictures that cannot be read for absent views, with a warning.
        split: `random`, `group`, `time` or `part`; None: the strictest that the data allow.
        test_share: Fraction of the samples for test; None: 0.2.
        validation_share: Fraction of the other samples for validation.
        seed: Seed of the split.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: No pictures, pictures that cannot be read, names or labels that contradict each other, or
            a split that is not possible.
        ImportError: Pillow is not installed.
    """
    recording = read_folder(
        path, size=size, sizes=sizes, fit=fit, channels=channels, skip_unreadable=skip_unreadable
    )
    recording.check()
    return recording.split(split, test_share=test_share, validation_share=validation_share, seed=seed)


def read_folder(
    path: str | Path,
    *,
    size: tuple[int, int] = _SIZE,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    fit: Fit = "pad",
    channels: Channels | None = None,
    skip_unreadable: bool = False,
) -> Recording:
    """Reads a folder of pictures, and all that is wrong with them.

    Args:
        path: As `load_folder`, like the others.
        size: Width and height.
        sizes: Those of some devices.
        fit: How pictures are brought to it.
        channels: `grey` or `colour`.
        skip_unreadable: Takes pictures that cannot be read for absent views.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: There is no picture, a column is missing, or a size is of no device.
        ImportError: Pillow is not installed.
    """
    place = Path(path)
    problems: list[Problem] = []
    if place.is_dir():
        root, pictures = place, scan_folder(place, problems)
    elif place.is_file():
        root, pictures = place.parent, read_manifest(place, problems)
    else:
        raise FileNotFoundError(
            f"There is no folder '{place}': bring it back, or give another place of pictures with --path."
        )
    if not pictures:
        first = f": {problems[0].message}" if problems else f": expected {LAYOUT}, or a CSV file of them."
        raise ValueError(f"'{place}' holds no pictures{first}")
    devices = device_names(in_order(picture.device for picture in pictures))
    for device in sizes or ():
        if device not in devices.values():
            raise ValueError(
                f"Expected a size of {', '.join(devices.values())}, but got '{device}': there is no such "
                "device."
            )
    formats = {
        device: Format(*(sizes or {}).get(name, size), fit=fit, channels=channels)
        for device, name in devices.items()
    }
    pictures = _agreeing(pictures, problems)
    decoded = _decoded(root, pictures, devices, formats)
    for number, reason in decoded.reasons.items():
        file = pictures[number].file
        problems.append(
            Problem(
                UNREADABLE,
                f"'{root / file}' cannot be read ({reason}): repair or remove it, or go on without such "
                "pictures with --skip-unreadable.",
                (file,),
            )
        )
    unreadable = [problem for problem in problems if problem.kind == UNREADABLE]
    if len(decoded.reasons) == len(pictures):
        raise ValueError(f"'{place}' holds no picture that can be read: {unreadable[0].message}")
    if skip_unreadable and unreadable:
        problems = [problem for problem in problems if problem.kind != UNREADABLE]
        warnings.warn(
            f"{len(unreadable)} pictures cannot be read and were skipped, the first is "
            f"'{root / unreadable[0].files[0]}'.",
            stacklevel=2,
        )
    skipped = len(unreadable) if skip_unreadable else 0
    readable = [picture for number, picture in enumerate(pictures) if number not in decoded.reasons]
    if len({picture.sample for picture in readable}) < len({picture.sample for picture in pictures}):
        # Samples of which nothing is left have no row.
        pictures, decoded = readable, _decoded(root, readable, devices, formats)
    return _assembled(place, pictures, decoded, devices, problems, skipped)


def _decoded(
    root: Path, pictures: Sequence[Picture], devices: Mapping[str, str], formats: Mapping[str, Format]
) -> Decoded:
    """The pictures as views, a row for each sample."""
    samples = in_order(picture.sample for picture in pictures)
    row_of = {sample: row for row, sample in enumerate(samples)}
    wanted = [
        Wanted(root / picture.file, devices[picture.device], row_of[picture.sample]) for picture in pictures
    ]
    return decode(wanted, {devices[device]: form for device, form in formats.items()}, len(samples))


def _assembled(
    place: Path,
    pictures: Sequence[Picture],
    decoded: Decoded,
    devices: Mapping[str, str],
    problems: list[Problem],
    skipped: int,
) -> Recording:
    """The recording of decoded pictures; adds what is wrong with their channels."""
    of_sample: dict[str, Picture] = {}
    for picture in pictures:
        of_sample.setdefault(picture.sample, picture)
    samples = in_order(of_sample)
    row_of = {sample: row for row, sample in enumerate(samples)}
    names = in_order(picture.label for picture in of_sample.values())
    number_of = {name: number for number, name in enumerate(names)}
    presence = np.zeros((len(samples), len(devices)), bool)
    column_of = {device: column for column, device in enumerate(devices)}
    listed = {name: [""] * len(samples) for name in devices.values()}
    example: dict[str, dict[int, str]] = {device: {} for device in devices}
    for picture, channels in zip(pictures, decoded.channels, strict=True):
        if channels:
            row = row_of[picture.sample]
            presence[row, column_of[picture.device]] = True
            listed[devices[picture.device]][row] = picture.file
            example[picture.device].setdefault(channels, picture.file)
    problems.extend(_mixed(device, files) for device, files in example.items() if len(files) > 1)
    columns: dict[str, Any] = {}
    for key in ("group", "time", "part"):
        cells = [getattr(of_sample[sample], key) for sample in samples]
        if any(cells):
            if not all(cells):
                sample = samples[cells.index("")]
                raise ValueError(
                    f"'{place}': the sample '{sample}' has no {key}: give all of them one, or none."
                )
            lines = [of_sample[sample].line for sample in samples]
            columns[key] = csv_files.times(cells, place, lines) if key == "time" else np.array(cells)
    return Recording(
        name="folder",
        views=decoded.views,
        labels=np.array([number_of[of_sample[sample].label] for sample in samples], np.int64),
        presence=presence,
        class_names=tuple(names),
        files={device: np.array(files, np.str_) for device, files in listed.items()},
        problems=tuple(problems),
        skipped=skipped,
        **columns,
    )


def _mixed(device: str, example: Mapping[int, str]) -> Problem:
    """The problem of a device of which some pictures are grey (1 channel) and others in colour (3)."""
    return Problem(
        "channels",
        f"The pictures of '{device}' are grey ('{example[1]}') and colour ('{example[3]}'): bring "
        "them to one with --channels grey or --channels colour.",
        (example[1], example[3]),
    )


def _agreeing(pictures: Sequence[Picture], problems: list[Problem]) -> list[Picture]:
    """The pictures of samples whose devices agree, one for each sample and device."""
    by_view: dict[tuple[str, str], Picture] = {}
    by_sample: dict[str, Picture] = {}
    wrong = set()
    for picture in pictures:
        first = by_view.setdefault((picture.sample, picture.device), picture)
        if first is not picture:
            problems.append(
                Problem(
                    "duplicate",
                    f"The device '{picture.device}' has two pictures of sample '{picture.sample}', "
                    f"'{first.file}' and '{picture.file}': remove one.",
                    (first.file, picture.file),
                )
            )
            continue
        leader = by_sample.setdefault(picture.sample, picture)
        for key in _OF_A_SAMPLE:
            if getattr(leader, key) != getattr(picture, key) and picture.sample not in wrong:
                wrong.add(picture.sample)
                problems.append(
                    Problem(
                        "labels" if key == "label" else key,
                        f"The devices disagree on the {key} of sample '{picture.sample}': '{leader.device}' "
                        f"says '{getattr(leader, key)}' ('{leader.file}'), '{picture.device}' "
                        f"'{getattr(picture, key)}' ('{picture.file}'): correct one.",
                        (leader.file, picture.file),
                    )
                )
    return [picture for picture in by_view.values() if picture.sample not in wrong] or list(by_view.values())


def _record(source: DataSource) -> Recording:
    if source.path is None:
        raise ValueError("The data set 'folder' is your own pictures: give their place with --path FOLDER.")
    by_device = {size.device: (size.width, size.height) for size in source.sizes}
    return read_folder(
        source.path,
        size=by_device.pop(None, _SIZE),
        sizes={device: size for device, size in by_device.items() if device is not None},
        fit=source.fit or "pad",
        channels=source.channels,
        skip_unreadable=source.skip_unreadable,
    )


register_recording(
    "folder",
    _record,
    about="your own pictures: FOLDER/<device>/<class>/<sample>, or a CSV file that lists them (--path)",
    options=("sizes", "fit", "channels", "skip_unreadable"),
)
