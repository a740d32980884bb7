"""Integer networks of random weights and thresholds, made in no time, without TensorFlow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddnn_tf.integers import IntegerLayer, IntegerNetwork, Output, Pool, Sign, SlidingWindow


def random_device(
    shape: tuple[int, int, int], filters: int, blocks: int, classes: int = 3, seed: int = 0
) -> IntegerNetwork:
    """A device of random integers, as `fold` makes them of a trained one; in no time."""
    random = np.random.default_rng(seed)
    layers = []
    height, width, channels = shape
    for block in range(blocks):
        taps = 9 * channels
        weights = random.choice(np.int8([-1, 1]), (3, 3, channels, filters))
        spread = 120 * taps**0.5 if block == 0 else taps**0.5
        rising = random.random(filters) < 0.5
        sign = Sign((random.normal(size=filters) * spread).astype(np.int32), rising)
        window = SlidingWindow((3, 3), margins=((1, 1), (1, 1)))
        pool = Pool(SlidingWindow((3, 3), (2, 2), ((1, height % 2), (1, width % 2))), rising)
        padding = min(block, 1)
        image = (height, width, channels)
        layers.append(IntegerLayer(weights, image, window, padding, sign=sign, pools=(pool,)))
        height, width, channels = layers[-1].output_shape
    count = height * width * channels
    dense = random.choice(np.int8([-1, 1]), (1, 1, count, classes))
    scale, offset = random.normal(size=(2, classes)).astype(np.float32)
    layers.append(IntegerLayer(dense, (1, 1, count), steps=((scale, offset),)))
    outputs = {
        "features": Output(blocks - 1, (height, width, channels)),
        "class_vector": Output(blocks, (classes,)),
    }
    return IntegerNetwork(shape, False, tuple(layers), outputs)


def random_network(seed: int) -> tuple[IntegerNetwork, np.ndarray]:
    """Any chain of layers: kernels, strides, paddings and pools at random, and inputs for it."""
    random = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(random.choice(values))

    def margins(size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        top, bottom, left, right = (int(random.integers(0, max(1, edge))) for edge in np.repeat(size, 2))
        return ((top, bottom), (left, right)) if random.random() < 0.6 else ((0, 0), (0, 0))

    is_binary = random.random() < 0.3
    shape = (pick(3, 7, 12), pick(4, 9, 34), pick(1, 2, 3, 4, 33))
    inputs = np.random.default_rng(seed).integers(0, 256, (24, *shape), dtype=np.uint8)
    inputs[:2], inputs[2:4] = 0, 255
    given, layers = shape, []
    for number in range(pick(1, 2, 3)):
        on_pixels = number == 0 and not is_binary
        filters = pick(1, 5, 16, 35)
        is_dense = random.random() < 0.2
        taken = (1, 1, int(np.prod(given))) if is_dense else given
        size = (1, 1) if is_dense else (min(pick(1, 2, 3, 5), given[0]), min(pick(1, 2, 3, 5), given[1]))
        stride = (1, 1) if is_dense else (pick(1, 1, 2), pick(1, 1, 2, 3))
        window = SlidingWindow() if is_dense else SlidingWindow(size, stride, margins(size))
        weights = random.choice(np.int8([-1, 1]), (*size, taken[2], filters))
        padding = pick(0, 9, -40) if on_pixels else pick(-1, 0, 1)
        layer = IntegerLayer(weights, taken, window, padding)
        rows, columns, _ = layer.sums_shape
        pools: list[Pool] = []
        for _ in range(0 if is_dense else pick(0, 1, 1, 2)):
            area = (min(pick(1, 2, 3, 6), rows), min(pick(1, 2, 3, 6), columns))
            moved = SlidingWindow(area, (pick(1, 2, 3), pick(1, 2, 3)), margins(area))
            pools.append(Pool(moved, random.random(filters) < 0.5))
            rows, columns = pools[-1].window.positions(rows, columns)
        spread = layer.taps**0.5 * (100 if on_pixels else 1)
        sign = Sign((random.normal(size=filters) * spread).astype(np.int32), random.random(filters) < 0.5)
        border = None
        if on_pixels and not is_dense and random.random() < 0.5:
            shifts = random.normal(size=(*layer.places_shape, filters)) * spread
            border = shifts.astype(np.int32)
        layers.append(replace(layer, border=border, sign=sign, pools=tuple(pools)))
        given = layers[-1].output_shape
    if random.random() < 0.5:
        layers[-1] = replace(layers[-1], border=None, sign=None, pools=())
        given = layers[-1].sums_shape
    network = IntegerNetwork(shape, is_binary, tuple(layers), {"output": Output(len(layers) - 1, given)})
    return network, inputs > 127 if is_binary else inputs
