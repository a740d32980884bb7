"""How fast each section runs on each engine, measured side by side in one run, on one thread.

Ratios are to the float TFLite file on LiteRT with XNNPACK, of the same section and batch; where the
bundle has none, there is no ratio. A batch of 256 is one call where the engine can take one (Keras,
TFLite), else 256 calls; the time is per sample.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddnn_tf.bundle import Artefact, read_bundle
from ddnn_tf.export.pipeline import bundle_sections, check_artefacts
from ddnn_tf.export.targets import TARGETS, Timed
from ddnn_tf.export.timing import SAMPLES, Clock, runner_clock, timed
from ddnn_tf.sections import Arrays, Section, received

__all__ = ["COLUMNS", "NOTE", "Timing", "benchmark", "benchmark_bundle", "macs", "use_one_thread"]

NOTE = (
    "MACs: multiply-accumulates of a sample, of which binary ones have weights and inputs of one bit. lce is "
    "the interpreter of LCE's Python wheel, its reference for x86-64, called through Python; LCE's fast "
    "kernels are for 64-bit ARM: time the lce.tflite of a bundle there with LCE's own "
    "`lce_benchmark_model --graph=lce.tflite`. micro is TFLM's reference kernels on this host. c is the fast "
    "build for this processor, called through Python; its bytes are those of the source text."
)
COLUMNS = (
    "section",
    "engine",
    "batch",
    "median us",
    "95 % us",
    "to tflite",
    "bytes",
    "arena",
    "binary MACs",
    "MACs",
    "MMACs/s",
)
"""The columns of `Timing.cells`."""

_BASE = "tflite"
"""The engine that the others are compared with."""


@dataclass(frozen=True)
class Timing:
    """Time of one section on one engine.

    Attributes:
        section: Its name.
        engine: `keras`, or the target.
        batch: Samples of a call, 1 or 256.
        median_us: Median microseconds per sample.
        p95_us: 95th percentile of them.
        ratio: Median to that of `tflite`; above 1 it is slower.
        bytes: Size of the file, None for Keras.
        arena_bytes: Memory for activations that TFLM measured, None elsewhere.
        binary_macs: Multiply-accumulates of one bit by one bit, per sample.
        macs: All others, per sample.
        macs_per_second: Both together, by the median.
    """

    section: str
    engine: str
    batch: int
    median_us: float
    p95_us: float
    ratio: float | None
    bytes: int | None
    arena_bytes: int | None
    binary_macs: int
    macs: int
    macs_per_second: float

    def cells(self) -> tuple[str, ...]:
        """What stands in the `COLUMNS` of a table."""
        return (
            self.section,
            self.engine,
            str(self.batch),
            f"{self.median_us:.1f}",
            f"{self.p95_us:.1f}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.bytes is None else str(self.bytes),
            "" if self.arena_bytes is None else str(self.arena_bytes),
            str(self.binary_macs),
            str(self.macs),
            f"{self.macs_per_second / 1e6:.0f}",
        )


def benchmark_bundle(path: str | Path, report: Callable[[str], None] = lambda _: None) -> list[Timing]:
    """Times every section of a bundle that has an artefact, on Keras and on its engines.

    Raises:
        FileNotFoundError: No bundle, or its data are not there.
        ImportError: An engine is not installed.
        ValueError: A damaged bundle.
    """
    bundle = read_bundle(path)
    data = bundle.source.load()
    sections = bundle_sections(bundle)
    check_artefacts(bundle, sections)
    views = data.rows(np.resize(data.split["test"], SAMPLES))
    return benchmark(sections, bundle.artefacts, received(bundle.topology, sections, views), report)


def benchmark(
    sections: Mapping[str, Section],
    artefacts: Sequence[Artefact],
    inputs: Mapping[str, Arrays],
    report: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Times the sections that have an artefact, on Keras and on the engines of their artefacts.

    Args:
        sections: The sections in Keras, by name.
        artefacts: What to time.
        inputs: What each section receives, 256 samples.
        report: Is told what is being worked on.

    Raises:
        ImportError: An engine is not installed.
    """
    timings: list[Timing] = []
    for name in dict.fromkeys(artefact.section for artefact in artefacts):
        report(f"{name}: keras")
        rows = _timings(sections[name], None, inputs[name], _keras_clock(sections[name]))
        for artefact in artefacts:
            if artefact.section != name:
                continue
            report(f"{name}: {artefact.target}")
            rows += _timings(sections[name], artefact, inputs[name], _engine_clock(artefact))
        base = {row.batch: row.median_us for row in rows if row.engine == _BASE}
        timings += [
            replace(row, ratio=row.median_us / base[row.batch] if row.batch in base else None) for row in rows
        ]
    return timings


def use_one_thread() -> None:
    """Lets TensorFlow use one thread; to be called before it computes anything.

    Raises:
        RuntimeError: It has computed already, with more.
    """
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def macs(section: Section) -> tuple[int, int]:
    """Multiply-accumulates of a section per sample: those of one bit by one bit, and all others."""
    binary = other = 0
    for layer in section.model.layers:
        if not hasattr(layer, "kernel"):
            continue
        positions = int(np.prod(layer.output.shape[1:-1]))
        count = int(np.prod(layer.kernel.shape)) * positions
        if getattr(layer, "input_quantizer", None) is not None and layer.kernel_quantizer is not None:
            binary += count
        else:
            other += count
    return binary, other


def _timings(section: Section, artefact: Artefact | None, inputs: Arrays, clock: Clock) -> list[Timing]:
    binary, other = macs(section)
    rows = []
    for batch in (1, SAMPLES):
        times = [1e6 * seconds / batch for seconds in clock(inputs, batch)]
        median = statistics.median(times)
        rows.append(
            Timing(
                section=section.name,
                engine="keras" if artefact is None else artefact.target,
                batch=batch,
                median_us=median,
                p95_us=float(np.percentile(times, 95)),
                ratio=None,
                bytes=None if artefact is None else artefact.size,
                arena_bytes=None if artefact is None else artefact.details.get("arena_bytes"),
                binary_macs=binary,
                macs=other,
                macs_per_second=1e6 * (binary + other) / median,
            )
        )
    return rows


def _engine_clock(artefact: Artefact) -> Clock:
    target = TARGETS[artefact.target]
    if isinstance(target, Timed):
        return target.clock(artefact)
    return runner_clock(target.runner(artefact))


def _keras_clock(section: Section) -> Clock:
    import tensorflow as tf

    call = tf.function(lambda inputs: section.model(inputs, training=False))

    def clock(inputs: Arrays, batch: int) -> list[float]:
        calls = [
            {sender: tf.constant(array[start : start + batch]) for sender, array in inputs.items()}
            for start in range(0, SAMPLES, batch)
        ]
        return timed(lambda number: call(calls[number % len(calls)]), batch)

    return clock
