"""`ddnn export`, `export-c`, `verify` and `benchmark`: sections for devices, edges and the cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import new_table, print_json, show, working
from ddnn_tf.documents import check_writable

if TYPE_CHECKING:
    from ddnn_tf.calibration import Calibration

# Columns of the table of boards, out of a build's measures.
_MEASURES = {
    "flash": "flash_bytes",
    "library": "library_bytes",
    "scratch": "scratch_bytes",
    "stack": "stack_bytes",
    "RAM": "ram_bytes",
    "instructions": "instructions",
}


def export(
    run: options.RunPath,
    out: Annotated[
        Path, typer.Option("--out", help="The bundle to make: a directory, or a file .zip.", metavar="PATH")
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", help="Targets, by commas: tflite,micro-int8.", show_default="all"),
    ] = None,
    section: Annotated[
        str | None,
        typer.Option("--section", help="Sections, by commas: device_0,cloud.", show_default="all"),
    ] = None,
    fixed_point: Annotated[
        bool, typer.Option("--fixed-point", help="c-fixed in place of c: class vectors without floats.")
    ] = False,
    risk: options.Risk = None,
    delta: options.Delta = None,
    as_json: options.Json = False,
) -> None:
    """Cut a trained DDNN at its tiers, convert the sections, and verify each artefact against Keras.

    Targets: tflite, tflite-int8, micro, micro-int8, micro-int16 (TensorFlow Lite Micro, devices only),
    lce (Larq Compute Engine), savedmodel (the cloud, for TF Serving), c, c-fixed (bit-exact C99 for
    microcontrollers, devices only), and those of plug-ins. If an artefact misses its tolerance, the command
    fails and writes nothing. With the Arm toolchain and QEMU installed, it measures C on three boards.
    With --risk, the bundle has thresholds by risk and temperatures for every set of present devices, as `ddnn
    evaluate --risk` shows them; the processes follow them, and tell when entropies drift from validation.
    --json prints a list: the verification of each artefact, and its details (operators, sizes, boards).

    Examples:

        ddnn export runs/scenes --out runs/scenes.zip

        ddnn export runs/scenes --out bundle --target micro-int8 --section device_0,device_1

        ddnn export runs/scenes --out firmware --target c --fixed-point

        ddnn export runs/scenes --out safe.zip --risk 0.02 --delta 0.1
    """
    largest = options.checked_delta(risk, delta)
    from ddnn_tf.export.pipeline import export_run

    targets = options.names(target)
    if fixed_point:
        if targets is None or not {"c", "c-fixed"} & set(targets):
            raise ValueError("--fixed-point is for C: add --target c.")
        targets = ["c-fixed" if name == "c" else name for name in targets]
    with working() as report:
        bundle = export_run(
            run,
            out,
            targets=targets,
            sections=options.names(section),
            risk=risk,
            delta=largest,
            report=report,
        )
    on_boards = {
        (artefact.section, artefact.target): artefact.details
        for artefact in bundle.artefacts
        if "boards" in artefact.details
    }
    if as_json:
        details = {(artefact.section, artefact.target): artefact.details for artefact in bundle.artefacts}
        print_json([{**details[each["section"], each["target"]], **each} for each in bundle.verification])
        return
    _print_verification(bundle.verification)
    if on_boards:
        _print_boards(on_boards)
    for artefact in bundle.artefacts:
        if "real_valued_layers" in artefact.details:
            real = [f"{name} ({why})" for name, why in artefact.details["real_valued_layers"].items()]
            binary = ", ".join(artefact.details["binary_layers"]) or "none"
            print(
                f"{artefact.section} in {artefact.target}: binary {binary}; real-valued "
                f"{', '.join(real) or 'none'}."
            )
    if bundle.calibration is not None:
        _print_promised(bundle.calibration)
    print(f"The bundle is {out}; its manifest lists the operators of every artefact.")


def export_c(
    model: Annotated[
        Path, typer.Argument(help="A Keras or Larq model: a .keras or .h5 file.", metavar="MODEL")
    ],
    out: Annotated[Path, typer.Option("--out", help="The directory to write the C into.", metavar="DIR")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Prefix of everything in the C.", show_default="the model's name"),
    ] = None,
    fixed_point: Annotated[
        bool, typer.Option("--fixed-point", help="Numbers as int32, for processors without floats.")
    ] = False,
    input_scale: Annotated[
        str | None,
        typer.Option(
            "--input-scale",
            help="What pixels 0..255 were multiplied by in training, as a number or a fraction: 1/127.5.",
            show_default="1",
        ),
    ] = None,
    input_offset: Annotated[
        str, typer.Option("--input-offset", help="What was added then: -1 for pixel/127.5-1.")
    ] = "0",
    as_json: options.Json = False,
) -> None:
    """Export any binary Keras or Larq model as bit-exact C99 for microcontrollers.

    Its layers form a chain of QuantConv2D, QuantDense, MaxPooling2D, BatchNormalization, signs and Flatten.
    The C takes pixels (or other codes) 0..255. If the model was trained on scaled ones, say how: the C then
    contains the scaling, and gives what Keras gives but for Keras's rounding of the scaled pixels.
    With the Arm toolchain and QEMU installed, the command measures the C on three boards.

    Examples:

        ddnn export-c model.keras --out firmware --name keyword

        ddnn export-c model.keras --out firmware --input-scale 1/127.5 --input-offset -1
    """
    import numpy as np

    from ddnn_tf.export import c
    from ddnn_tf.export.c.boards import emulate_all
    from ddnn_tf.input_range import InputRange, keras_rounding
    from ddnn_tf.saving import load_model

    if out.exists() and not out.is_dir():
        raise FileExistsError(f"'{out}' is a file: name a directory.")
    check_writable(out)
    scale = None if input_scale is None else _fraction(input_scale, "--input-scale")
    offset = _fraction(input_offset, "--input-offset")
    network = load_model(model, compile=False)
    exported = c.export_c(network, name=name, fixed_point=fixed_point, input_scale=scale, input_offset=offset)
    inputs = InputRange(1.0 if scale is None else scale, offset)
    rounding = keras_rounding(network, inputs)
    source = exported.source
    exported.predict(np.zeros((1, *source.input_shape), np.uint8))
    boards = emulate_all(source, np.zeros((1, *source.input_shape), bool if source.is_binary else np.uint8))
    exported.save(out)
    if as_json:
        print_json(
            {
                "name": source.name,
                "files": [str(out / f"{source.name}{suffix}") for suffix in (".h", ".c", ".json")],
                "input_shape": list(source.input_shape),
                "binary_input": source.is_binary,
                "input_scale": inputs.scale,
                "input_offset": inputs.offset,
                "equality": _equality(rounding, source.fraction_bits),
                "keras_rounding": rounding,
                "outputs": [asdict(member) for member in source.outputs],
                "fraction_bits": source.fraction_bits,
                "boards": boards,
            }
        )
        return
    print(f"{source.name}.h and {source.name}.c are in {out}.")
    print(f"Equality with Keras: {_equality(rounding, source.fraction_bits)}.")
    _print_boards({("", source.name): {"boards": boards}})


def verify(bundle: options.BundlePath, as_json: options.Json = False) -> None:
    """Run every artefact of a bundle again, against the trained network.

    The exit code is 1 if an artefact misses its tolerance.

    Example:

        ddnn verify runs/scenes.zip
    """
    from ddnn_tf.export.pipeline import verify_bundle

    with working() as report:
        checks = verify_bundle(bundle, report)
    records = [asdict(check) for check in checks]
    if as_json:
        print_json(records)
    else:
        _print_verification(records)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def benchmark(bundle: options.BundlePath, as_json: options.Json = False) -> None:
    """Time the sections of a bundle on every engine in it and on Keras: one thread, batch 1 and 256.

    Example:

        ddnn benchmark runs/scenes.zip
    """
    from ddnn_tf.export.benchmark import COLUMNS, NOTE, benchmark_bundle, use_one_thread

    use_one_thread()
    with working() as report:
        timings = benchmark_bundle(bundle, report)
    if as_json:
        print_json([asdict(timing) for timing in timings])
        return
    table = new_table("Time per sample, one thread", *COLUMNS)
    for timing in timings:
        table.add_row(*timing.cells())
    show(table, NOTE)


def _print_promised(calibration: Calibration) -> None:
    """In how many sets of devices samples may leave early."""
    early = list(calibration.sets[0].thresholds)
    for tier in early:
        able = sum(entry.thresholds[tier] > 0 for entry in calibration.sets)
        show(
            f"At the {tier} exit, samples leave early with {able} of {len(calibration.sets)} sets of present "
            f"devices; with the others, nothing can be promised on {calibration.samples} validation samples."
        )


def _fraction(text: str, option: str) -> float:
    """A number, or the quotient of two: 1/127.5.

    Raises:
        ValueError: It is neither.
    """
    numerator, _, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"Expected {option} with a number or a fraction, but got {text!r}.") from None


def _equality(rounding: float, fraction_bits: int | None) -> str:
    """How the C compares with Keras layer by layer.

    Args:
        rounding: Of `keras_rounding`.
        fraction_bits: Of numbers in fixed point.
    """
    numbers = "" if fraction_bits is None else f"; numbers are rounded to multiples of 2^-{fraction_bits}"
    if rounding == 0:
        return f"every bit {'and number ' if fraction_bits is None else ''}is equal{numbers}"
    return (
        "the C sums codes exactly and compares with the batch norm in float32, while Keras rounds scaled "
        f"inputs and sums, by at most {rounding:.2g} for a sum of the first layer: a bit can differ where "
        f"batch norm maps a sum to within that of zero{numbers}"
    )


def _print_verification(records: Sequence[Mapping[str, Any]]) -> None:
    columns = ("target", "bytes", "equal bits", "equal decisions", "max logit error", "accuracy", "passed")
    first = records[0]
    title = (
        f"Verification on {first['samples']} samples, accuracy on {first['accuracy_samples']} test samples"
    )
    table = new_table(title, "section", *columns)
    for record in records:
        bits, error = record["bit_agreement"], record["max_logit_error"]
        table.add_row(
            record["section"],
            record["target"],
            str(record["bytes"]),
            "" if bits is None else f"{bits:.3%}",
            f"{record['decision_agreement']:.2%}",
            "" if error is None else f"{error:.2g}",
            f"{record['accuracy']:.1%} ({100 * record['accuracy_change']:+.1f})",
            "yes" if record["passed"] else "NO",
        )
    show(table)


def _print_boards(measured: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """What exported C takes on the boards; of a target's devices, the largest of each number."""
    from ddnn_tf.export.c.boards import BOARDS, missing_tools

    if missing_tools():
        show(f"C was not measured on boards: install {', '.join(missing_tools())}.")
        return
    for target in dict.fromkeys(target for _, target in measured):
        details = [each for (_, name), each in measured.items() if name == target]
        title = f"{target} on emulated boards, bytes; instructions a sample"
        table = new_table(title, "board", "build", *_MEASURES)
        for board, processor in BOARDS.items():
            small = [each["boards"][board] for each in details]
            failures = [row["error"] for row in small if "error" in row]
            if failures:
                table.add_row(f"{board} ({processor})", failures[0])
                continue
            for build, rows in (("small", small), ("fast", [row["fast"] for row in small])):
                largest = (max(row[key] for row in rows) for key in _MEASURES.values())
                table.add_row(f"{board} ({processor})", build, *map(str, largest))
        show(table)
        sizes = details[0].get("message_bytes")
        if sizes:
            show(
                f"Messages of {target}: class vector {sizes['class_vector']} bytes, features "
                f"{sizes['features']} bytes. RAM is scratch, stack and output; library is what floats in "
                "software take."
            )
