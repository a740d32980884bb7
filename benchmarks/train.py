"""Seconds per epoch of training the paper's network, beside the same network in eager PyTorch.

    python benchmarks/train.py [--epochs 10] [--json]

Six devices, 4 filters, MP-CC, 680 samples, batches of 64, on random images. Both train on the same
cores in the same run, in turns; the numbers are medians over the epochs, the first two of which warm
up and do not count. PyTorch (`pip install torch`, the CPU build) is a dependency of this benchmark
only; without it the first column stands alone. `train` also validates and recounts the batch
statistics after each epoch (see `ddnn_tf.callbacks.BatchStatistics`): that column shows what a user
of `ddnn train` waits for.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import ddnn_tf
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.datasets.multiview import camera_views

SAMPLES, DEVICES, SIDE, CLASSES, BATCH = 680, 6, 32, 3, 64
WARM_UP = 2


def dataset() -> MultiViewDataset:
    random = np.random.default_rng(0)
    validation = SAMPLES // 10
    rows = np.arange(SAMPLES + 2 * validation)
    images = random.integers(0, 256, (len(rows), DEVICES, SIDE, SIDE, 3), dtype=np.uint8)
    return MultiViewDataset(
        name="random",
        views=camera_views(images),
        labels=random.integers(0, CLASSES, len(rows)),
        presence=np.ones((len(rows), DEVICES), dtype=bool),
        class_names=("car", "bus", "person"),
        split={
            "train": rows[:SAMPLES],
            "validation": rows[SAMPLES : SAMPLES + validation],
            "test": rows[SAMPLES + validation :],
        },
        split_rule="in order",
    )


def keras_epochs(epochs: int) -> tuple[list[float], list[float]]:
    """Seconds of the training steps of each epoch, and of the whole epoch with all that `train` adds."""
    import tensorflow as tf

    class Clock(tf.keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.steps: list[float] = []
            self.starts: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.starts.append(time.perf_counter())

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.last = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            self.steps.append(self.last - self.starts[-1])

    clock = Clock()
    model = ddnn_tf.build(ddnn_tf.Topology.devices_cloud())
    options = ddnn_tf.TrainingOptions(epochs=epochs + 1, batch_size=BATCH)
    ddnn_tf.train(model, dataset(), options=options, callbacks=[clock])
    return clock.steps[WARM_UP:-1], np.diff(clock.starts)[WARM_UP:].tolist()


def torch_epochs(epochs: int) -> list[float]:
    """Seconds per epoch of the same network, written as one writes it in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, values: Any) -> Any:
            context.save_for_backward(values)
            return torch.where(values >= 0, 1.0, -1.0)

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            (values,) = context.saved_tensors
            return gradient * (values.abs() <= 1)

    sign = Sign.apply

    class ConvP(nn.Module):
        def __init__(self, channels: int, filters: int, binary_input: bool = False) -> None:
            super().__init__()
            self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(filters, channels, 3, 3)))
            self.norm = nn.BatchNorm2d(filters, eps=1e-3)
            self.binary_input = binary_input

        def forward(self, x: Any) -> Any:
            weight = sign(self.weight)
            if self.binary_input:
                x = functional.conv2d(functional.pad(sign(x), (1, 1, 1, 1), value=1.0), weight)
            else:
                x = functional.conv2d(x, weight, padding=1)
            return sign(self.norm(functional.max_pool2d(x, 3, 2, 1)))

    class Logits(nn.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(CLASSES, inputs)))
            self.norm = nn.BatchNorm1d(CLASSES, eps=1e-3)

        def forward(self, x: Any) -> Any:
            return self.norm(functional.linear(sign(x.flatten(1)), sign(self.weight)))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.devices = nn.ModuleList(ConvP(3, 4) for _ in range(DEVICES))
            self.vectors = nn.ModuleList(Logits(1024) for _ in range(DEVICES))
            self.linear = nn.Conv2d(4 * DEVICES, 4, 1)
            self.cloud = nn.Sequential(ConvP(4, 64), ConvP(64, 128, binary_input=True), Logits(2048))

        def forward(self, images: Any) -> tuple[Any, Any]:
            maps = [device(images[:, number]) for number, device in enumerate(self.devices)]
            vectors = [exit_(feature) for exit_, feature in zip(self.vectors, maps, strict=True)]
            return torch.stack(vectors).amax(0), self.cloud(self.linear(torch.cat(maps, 1)))

    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, eps=1e-8)
    data = dataset()
    stacked = np.stack(list(data.part("train").values()), axis=1)
    images = torch.from_numpy(stacked.transpose(0, 1, 4, 2, 3).astype(np.float32))
    labels = torch.from_numpy(data.targets("train"))
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(SAMPLES).split(BATCH):
            local, cloud = network(images[rows])
            loss = functional.cross_entropy(local, labels[rows]) + functional.cross_entropy(
                cloud, labels[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for name, weight in network.named_parameters():
                    if name.endswith("weight") and "norm" not in name and "linear" not in name:
                        weight.clamp_(-1, 1)
        seconds.append(time.perf_counter() - start)
    return seconds[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="epochs to time, at least 3")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    if options.epochs <= WARM_UP:
        parser.error(f"argument --epochs: expected at least {WARM_UP + 1}, got {options.epochs}")

    # In turns, so that a slow spell of the machine falls on both.
    has_torch = importlib.util.find_spec("torch") is not None
    steps: list[float] = []
    whole: list[float] = []
    torch_seconds: list[float] = []
    for _ in range(2):
        timed = keras_epochs(options.epochs)
        steps += timed[0]
        whole += timed[1]
        if has_torch:
            torch_seconds += torch_epochs(options.epochs)

    ours = statistics.median(steps)
    theirs = statistics.median(torch_seconds) if has_torch else None
    result = {
        "seconds_per_epoch": ours,
        "seconds_per_epoch_with_validation": statistics.median(whole),
        "torch_seconds_per_epoch": theirs,
        "ratio": None if theirs is None else ours / theirs,
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=f"Training, {SAMPLES} samples, {DEVICES} devices, 4 filters, batch {BATCH}")
    table.add_column("what")
    table.add_column("s per epoch", justify="right")
    table.add_column("ratio to PyTorch", justify="right")
    for name, key in (
        ("ddnn_tf, training steps", "seconds_per_epoch"),
        ("ddnn_tf, with statistics and validation", "seconds_per_epoch_with_validation"),
        ("PyTorch eager, training steps", "torch_seconds_per_epoch"),
    ):
        value = result[key]
        if value is not None:
            table.add_row(name, f"{value:.3f}", "" if theirs is None else f"{value / theirs:.2f}")
    Console().print(table)
    if not has_torch:
        print("PyTorch is not installed: no ratio. `pip install torch` (the CPU build) adds it.")


if __name__ == "__main__":
    main()
