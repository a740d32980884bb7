"""What large data cost: a folder of generated JPEG pictures, 64x64, of six devices.

    python benchmarks/data.py check [--samples 50000] [--pictures DIR] [--json]
    python benchmarks/data.py train [--samples 50000] [--pictures DIR] [--json]

`train` compares data in files with data in memory: the training of a small network for 2 epochs, with the
most memory that was resident and the seconds of the second epoch. `check` is `ddnn data check`, in a process
of its own: seconds, seconds of the processor, and the most memory that was resident. A twentieth of the
scenes are taken twice, so that there are leaks to find. The pictures are made first; `--pictures` keeps them
for another run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

DEVICES, CLASSES, SIDE = 6, 5, 64
REPEATED = 20


def make_pictures(folder: Path, samples: int) -> None:
    """Writes `folder/<device>/<class>/<sample>.jpg`; every `REPEATED`-th scene is the one before, with noise.

    Args:
        folder: Where to write; a folder that is there is taken as it is.
        samples: Number of samples.
    """
    if folder.is_dir():
        return
    for device in range(DEVICES):
        for label in range(CLASSES):
            (folder / f"camera_{device}" / f"class_{label}").mkdir(parents=True)

    def write(sample: int) -> None:
        is_repeated = sample % REPEATED == REPEATED - 1
        scene = sample - is_repeated
        random = np.random.default_rng(scene)
        coarse = random.integers(0, 256, (DEVICES, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
        noise = np.random.default_rng([sample]).normal(0, 8, coarse.shape)
        pixels = np.clip(coarse + noise, 0, 255).astype(np.uint8)
        for device in range(DEVICES):
            file = folder / f"camera_{device}" / f"class_{scene % CLASSES}" / f"{sample:06}.jpg"
            Image.fromarray(pixels[device]).save(file, quality=85)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in track(pool.map(write, range(samples)), "writing pictures", samples):
            pass


def check(folder: Path) -> dict[str, Any]:
    """Seconds, memory and findings of `ddnn data check`."""
    command = [sys.executable, "-m", "ddnn_tf.cli", "data", "check", "folder", "--path", str(folder)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--size", f"{SIDE}x{SIDE}", "--json"], check=True, stdout=subprocess.PIPE
    )
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    return {
        "samples": found["contents"]["samples"],
        "views": found["contents"]["samples"] * DEVICES,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        # Linux counts in kilobytes.
        "resident_megabytes": used.ru_maxrss // 1024,
        "leak_share": found["leak_share"],
        "warnings": [problem["kind"] for problem in found["problems"]],
    }


def train(folder: Path) -> dict[str, Any]:
    """Memory and time of a training with the views in files, beside one with the views in memory."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        for where, megabytes in (("files", 0), ("memory", 1_000_000)):
            environment = {**os.environ, "DDNN_MEMORY_MB": str(megabytes), "XDG_CACHE_HOME": cache}
            child = [sys.executable, __file__, "child", "--pictures", str(folder)]
            done = subprocess.run(child, check=True, stdout=subprocess.PIPE, env=environment)
            results |= {f"{name}_{where}": value for name, value in json.loads(done.stdout).items()}
    ratio = results["epoch_seconds_files"] / results["epoch_seconds_memory"]
    return {**results, "epoch_ratio": round(ratio, 2)}


def train_here(folder: Path) -> dict[str, Any]:
    """What `ddnn train` does, in this process, with a clock."""
    import tensorflow as tf

    from ddnn_tf.datasets import DataSource, PictureSize, fitting_topology
    from ddnn_tf.runs import train_run
    from ddnn_tf.training import TrainingOptions

    ends: list[float] = []
    on_epoch_end = tf.keras.callbacks.CallbackList.on_epoch_end

    def timed(self: Any, epoch: int, logs: Any = None) -> None:
        on_epoch_end(self, epoch, logs)
        ends.append(time.perf_counter())

    tf.keras.callbacks.CallbackList.on_epoch_end = timed
    source = DataSource(name="folder", path=str(folder), sizes=(PictureSize(width=SIDE, height=SIDE),))
    start = time.perf_counter()
    data = source.load()
    loaded = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        train_run(
            directory,
            fitting_topology(data, filters=2),
            source,
            data,
            TrainingOptions(epochs=2),
            overwrite=True,
        )
    return {
        "load_seconds": round(loaded - start, 1),
        # The whole network is trained last.
        "epoch_seconds": round(ends[-1] - ends[-2], 1),
        "resident_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("check", "train", "child"))
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--pictures", type=Path, help="where the pictures are kept; default: they are not")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.part == "child":
        print(json.dumps(train_here(arguments.pictures)))
        return
    with tempfile.TemporaryDirectory() as directory:
        folder = arguments.pictures or Path(directory) / "pictures"
        make_pictures(folder, arguments.samples)
        results = check(folder) if arguments.part == "check" else train(folder)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name.replace('_', ' '):20s} {value}")


if __name__ == "__main__":
    main()
