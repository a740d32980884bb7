"""Small files in the format of data sets that users download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["write_mfeat", "write_occupancy"]

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
