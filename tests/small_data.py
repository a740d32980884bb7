"""Small files in the format of data sets that users download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["write_epfl", "write_mfeat", "write_occupancy", "write_pictures"]

_DAYS, _MINUTES = 3, 600


def write_occupancy(file: Path) -> None:
    """Three days of readings; the light at the first node tells how many persons are in the room."""
    names = [f"S{node}_{kind}" for kind in ("Temp", "Light", "Sound") for node in range(1, 5)]
    names += ["S5_CO2", "S5_CO2_Slope", "S6_PIR", "S7_PIR"]
    random = np.random.default_rng(0)
    rows = [",".join(["Date", "Time", *names, "Room_Occupancy_Count"])]
    for day in range(_DAYS):
        for minute in range(_MINUTES):
            # The last day is that of an empty room.
            count = 0 if day == _DAYS - 1 else minute // 30 % 4
            readings = random.normal(20, 1, len(names))
            readings[names.index("S1_Light")] += 50 * count
            values = [f"{reading:.3f}" for reading in readings]
            time_of_day = f"{minute // 60:02}:{minute % 60:02}:00"
            rows.append(",".join([f"2020-01-0{day + 1}", time_of_day, *values, str(count)]))
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_mfeat(file: Path) -> None:
    """Six vectors of 300 digits, each number near that of its class."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 10
    sizes = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}
    views = {
        name: (random.normal(size=(10, size))[labels] + random.normal(0, 0.3, (300, size))).astype(np.float32)
        for name, size in sizes.items()
    }
    np.savez_compressed(file, **views, y=labels)


def write_epfl(file: Path) -> None:
    """242 frames of bright cars, middling buses and dark persons; each camera sees every other one."""
    random = np.random.default_rng(0)
    frames = np.arange(1, 243)
    labels = np.where(frames % 10 == 0, 1, np.where(frames % 3 == 0, 2, 0))
    images = (
        random.integers(0, 60, (242, 6, 32, 32, 3))
        + np.array([180, 90, 0])[labels][:, None, None, None, None]
    )
    present = (frames[:, None] + np.arange(6)) % 2 == 0
    np.savez_compressed(
        file,
        X=np.where(present[..., None, None, None], images, 7).astype(np.uint8),
        y=labels,
        classes=np.array(["car", "bus", "person"]),
        present=present,
        frame=frames,
        part=np.array(["train", "train", "train", "holdout", "test"])[frames % 5],
    )


def write_pictures(
    folder: Path, *, samples: int = 60, devices: tuple[str, ...] = ("door", "gate", "roof")
) -> list[Path]:
    """Pictures of three classes, a bright stripe in another place for each; some lack the first device.

    Returns:
        The files, in the order of samples and devices.
    """
    from PIL import Image

    random = np.random.default_rng(0)
    files = []
    for sample in range(samples):
        label = sample % 3
        for device in devices:
            if device == devices[0] and sample % 5 == 0:
                continue
            pixels = random.integers(0, 100, (24, 30, 3))
            pixels[:, 10 * label : 10 * label + 10] += 150
            file = folder / device / ("bus", "car", "person")[label] / f"{sample:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
            files.append(file)
    return files
