"""The `ddnn` command."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from typer.exceptions import Abort, TyperException

from ddnn_tf.console import new_table, show
from ddnn_tf.datasets import DATASETS, PARTS, DataSource, MultiViewDataset
from ddnn_tf.placement.commands import add_to as add_placement
from ddnn_tf.runtime.commands import add_to as add_runtime
from ddnn_tf.topology import ONE_DEVICE, Topology

app = typer.Typer(
    name="ddnn",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Distributed deep neural networks over the cloud, the edge and end devices.\n\n"
        "Start with:  ddnn train --data scenes --out runs/first  and then  "
        "ddnn evaluate runs/first"
    ),
)

_DataName = Annotated[str, typer.Option("--data", help=f"Data set: {', '.join(DATASETS)}.", metavar="NAME")]
_Path = Annotated[
    Path | None, typer.Option("--path", help="Where the data set's files are, if it is read from files.")
]
_Devices = Annotated[
    int | None, typer.Option("--devices", help="Number of end devices. [default: 6; to train b, d 1]", min=1)
]
_INTERRUPTED = 130
_PRINTED_ROWS = 20
_Split = Annotated[
    str | None,
    typer.Option("--split", help="For scenes: random, or track (test objects never seen in training)."),
]
_SplitFile = Annotated[
    Path | None, typer.Option("--split-file", help="For mvmc: JSON with the authors' order of samples.")
]
_Seed = Annotated[int, typer.Option("--seed", help="Seed of split and training.", min=0)]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def data(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.", metavar="NAME")] = "scenes",
    path: _Path = None,
    devices: _Devices = None,
    split: _Split = None,
    split_file: _SplitFile = None,
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """Load a data set, check it, and show what is in it.

    Examples:

        ddnn data scenes --split track

        ddnn data mvmc --path MVMC.npz --split-file mvmc_author_split.json
    """
    loaded = _source(name, path, devices, split, split_file, seed).load()
    summary = _data_summary(loaded)
    if as_json:
        _print_json(summary)
        return
    table = new_table(
        f"{name}: {len(loaded.labels)} samples, {loaded.devices} devices, images "
        f"{'x'.join(map(str, loaded.image_shape))}",
        "samples",
        *loaded.class_names,
    )
    for part in PARTS:
        counts = np.bincount(loaded.targets(part), minlength=len(loaded.class_names))
        table.add_row(part, *map(str, counts))
    show(table, f"Split {loaded.split_rule}.")
    table = new_table("Views of each device", "device", *loaded.class_names, "absent")
    for number, counts in enumerate(summary["views"]):
        table.add_row(f"device_{number}", *(str(count) for count in counts.values()))
    show(table)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="The run directory to make.", metavar="DIR")],
    data: _DataName = "scenes",
    path: _Path = None,
    devices: _Devices = None,
    split: _Split = None,
    split_file: _SplitFile = None,
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", help="a to f: the letter in the paper's Figure 2. [default: c]"),
    ] = None,
    filters: Annotated[
        int | None, typer.Option("--filters", help="Filters of a device's ConvP block. [default: 4]", min=1)
    ] = None,
    local: Annotated[
        str | None, typer.Option("--local", help="Aggregation at the local exit: MP, AP or CC. [default: MP]")
    ] = None,
    upper: Annotated[
        str | None,
        typer.Option("--upper", help="Aggregation at edges and cloud: MP, AP or CC. [default: CC]"),
    ] = None,
    cloud_precision: Annotated[
        str | None,
        typer.Option(
            "--cloud-precision", help="Blocks of edges and cloud: binary or float. [default: binary]"
        ),
    ] = None,
    topology: Annotated[
        Path | None,
        typer.Option("--topology", help="YAML file with the whole hierarchy, in place of the five above."),
    ] = None,
    quantization_aware: Annotated[
        bool, typer.Option("--quantization-aware", help="Train float blocks for 8-bit integers.")
    ] = False,
    sparsity: Annotated[
        float, typer.Option("--sparsity", help="Share of float blocks' weights to prune, e.g. 0.5.", min=0)
    ] = 0.0,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training data.", min=1)] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per step.", min=1)] = 64,
    seed: _Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that stands in the directory.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard logs into the run directory.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Train a DDNN, all exits jointly, and each device's individual model.

    A training that was killed goes on where it stopped when the same command is given again.

    Examples:

        ddnn train --data scenes --out runs/scenes

        ddnn train --data eth80 --devices 6 --out runs/eth80

        ddnn train --data scenes --configuration f --local AP --out runs/two-edges

        ddnn train --data scenes --cloud-precision float --quantization-aware --out runs/mixed
    """
    if devices is None and configuration in ONE_DEVICE:
        devices = 1
    source = _source(data, path, devices, split, split_file, seed)
    loaded = source.load()
    chosen = {
        "configuration": configuration,
        "filters": filters,
        "local": local,
        "upper": upper,
        "cloud_precision": cloud_precision,
    }
    hierarchy = _hierarchy(topology, {k: v for k, v in chosen.items() if v is not None}, loaded)
    from ddnn_tf.runs import train_run
    from ddnn_tf.training import TrainingOptions

    options = TrainingOptions(epochs=epochs, batch_size=batch_size, seed=seed)
    found = train_run(
        out,
        hierarchy,
        source,
        loaded,
        options,
        overwrite=overwrite,
        tensorboard=tensorboard,
        quantization_aware=quantization_aware,
        sparsity=sparsity,
    )
    _report(found, loaded, seed, as_json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A directory made by `ddnn train`.", metavar="RUN")],
    as_json: _Json = False,
) -> None:
    """Measure a trained DDNN on its test data: accuracies, exits and bytes.

    Example:

        ddnn evaluate runs/scenes --json
    """
    from ddnn_tf.runs import load_run

    trained = load_run(run)
    loaded = trained.source.load()
    _report(trained.evaluate(loaded), loaded, trained.source.seed, as_json)


@app.command()
def reproduce(
    out: Annotated[Path, typer.Option("--out", help="The directory for networks and report.", metavar="DIR")],
    data: _DataName = "scenes",
    path: _Path = None,
    devices: _Devices = None,
    split: _Split = None,
    split_file: _SplitFile = None,
    only: Annotated[
        str | None,
        typer.Option("--only", help="Tables and figures, by commas: table-1,figure-8. [default: all]"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Trainings of each network. [default: 3; quick: 1]", min=1)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the training data. [default: 100; quick: 10]", min=1),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, 10 epochs: a look at the report, not at the numbers.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Reproduce every table and figure of the paper on a data set, beside the paper's numbers.

    Networks are trained several at a time and kept, so a killed run goes on where it stopped, and more
    seeds or tables train only what is new. Read report.html in the directory.

    Examples:

        ddnn reproduce --data scenes --out runs/paper

        ddnn reproduce --data scenes --out runs/paper --only table-1,figure-8

        ddnn reproduce --data mvmc --path MVMC.npz --split-file mvmc_author_split.json --out runs/mvmc
    """
    from ddnn_tf.evaluation import missing_devices
    from ddnn_tf.evaluation.experiment import Experiment
    from ddnn_tf.evaluation.report import write_report
    from ddnn_tf.evaluation.reproduce import choose
    from ddnn_tf.evaluation.reproduce import reproduce as run

    names = _names(only)
    choose(names)
    experiment = Experiment(
        _source(data, path, devices, split, split_file, 0),
        out,
        seeds=seeds or (1 if quick else 3),
        epochs=epochs or (10 if quick else 100),
    )
    results = run(experiment, names)
    page = write_report(results, out)
    if as_json:
        _print_json(results.to_dict())
        return
    tables = [table for section in results.sections for table in section.tables]
    for table in tables:
        if len(table.rows) <= _PRINTED_ROWS:
            print(table.to_markdown())
        if table.name == "missing_devices":
            print(*missing_devices.lines(table), "", sep="\n")
    for name, reason in results.left_out.items():
        print(f"Left out: {name}. {reason}")
    print(f"The report is in {page}.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A directory made by `ddnn train`.", metavar="RUN")],
    out: Annotated[
        Path, typer.Option("--out", help="The bundle to make: a directory, or a file .zip.", metavar="PATH")
    ],
    target: Annotated[
        str | None, typer.Option("--target", help="Targets, by commas: tflite,micro-int8. [default: all]")
    ] = None,
    section: Annotated[
        str | None, typer.Option("--section", help="Sections, by commas: device_0,cloud. [default: all]")
    ] = None,
    fixed_point: Annotated[
        bool, typer.Option("--fixed-point", help="c-fixed in place of c: class vectors without floats.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Cut a trained DDNN at its tiers, convert the sections, and verify each artefact against Keras.

    Targets: tflite, tflite-int8, micro, micro-int8, micro-int16 (TensorFlow Lite Micro, devices only),
    lce (Larq Compute Engine), savedmodel (the cloud, for TF Serving), c, c-fixed (bit-exact C99 for
    microcontrollers, devices only). An artefact that misses its bar fails the command, and nothing is
    written. With the Arm toolchain and QEMU installed, C also says what it takes on three boards.

    Examples:

        ddnn export runs/scenes --out runs/scenes.zip

        ddnn export runs/scenes --out bundle --target micro-int8 --section device_0,device_1

        ddnn export runs/scenes --out firmware --target c --fixed-point
    """
    from ddnn_tf.export.pipeline import export_run

    targets = _names(target)
    if fixed_point:
        if targets is None or not {"c", "c-fixed"} & set(targets):
            raise ValueError("--fixed-point is for C: add --target c.")
        targets = ["c-fixed" if name == "c" else name for name in targets]
    with _working() as report:
        bundle = export_run(run, out, targets=targets, sections=_names(section), report=report)
    on_boards = {
        (artefact.section, artefact.target): artefact.details
        for artefact in bundle.artefacts
        if "boards" in artefact.details
    }
    records = [
        {**record, **on_boards.get((record["section"], record["target"]), {})}
        for record in bundle.verification
    ]
    _verification(records, as_json)
    if as_json:
        return
    if on_boards:
        _boards(on_boards)
    for artefact in bundle.artefacts:
        if artefact.target == "lce":
            real = [f"{name} ({why})" for name, why in artefact.details["real_valued_layers"].items()]
            binary = ", ".join(artefact.details["binary_layers"]) or "none"
            print(f"{artefact.section} in lce: binary {binary}; real-valued {', '.join(real) or 'none'}.")
    print(f"The bundle is {out}; its manifest lists the operators of every artefact.")


@app.command(name="export-c")
def export_c(
    model: Annotated[
        Path, typer.Argument(help="A Keras or Larq model: a .keras or .h5 file.", metavar="MODEL")
    ],
    out: Annotated[Path, typer.Option("--out", help="The directory to write the C into.", metavar="DIR")],
    name: Annotated[
        str | None, typer.Option("--name", help="Prefix of everything in the C. [default: the model's name]")
    ] = None,
    fixed_point: Annotated[
        bool, typer.Option("--fixed-point", help="Numbers as int32, for processors without floats.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Export any binary Keras or Larq model as bit-exact C99 for microcontrollers.

    Its layers: QuantConv2D, QuantDense, MaxPooling2D, BatchNormalization, signs, Flatten, in a chain.
    With the Arm toolchain and QEMU installed, it says what the C takes on three boards.

    Example:

        ddnn export-c model.keras --out firmware --name keyword
    """
    from ddnn_tf.export.c import convert, load_model
    from ddnn_tf.export.c.boards import measure_all

    if out.exists() and not out.is_dir():
        raise FileExistsError(f"'{out}' is a file: name a directory.")
    exported = convert(load_model(model), name=name, fixed_point=fixed_point)
    source = exported.source
    exported.predict(np.zeros((1, *source.input_shape), np.uint8))
    boards = measure_all(source, np.zeros((1, *source.input_shape), bool if source.is_binary else np.uint8))
    exported.save(out)
    summary = {
        "name": source.name,
        "files": [str(out / f"{source.name}{suffix}") for suffix in (".h", ".c", ".json")],
        "input_shape": list(source.input_shape),
        "binary_input": source.is_binary,
        "outputs": [asdict(member) for member in source.outputs],
        "fraction_bits": source.fraction_bits,
        "boards": boards,
    }
    if as_json:
        _print_json(summary)
        return
    print(f"{source.name}.h and {source.name}.c are in {out}.")
    _boards({("", source.name): {"boards": boards}})


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by `ddnn export`.", metavar="BUNDLE")],
    as_json: _Json = False,
) -> None:
    """Run every artefact of a bundle again, against the trained network; exit code 1 if one misses its bar.

    Example:

        ddnn verify runs/scenes.zip
    """
    from ddnn_tf.export.pipeline import verify_bundle

    with _working() as report:
        found = verify_bundle(bundle, report)
    _verification([asdict(one) for one in found], as_json)
    if not all(one.passed for one in found):
        raise typer.Exit(1)


@app.command()
def benchmark(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by `ddnn export`.", metavar="BUNDLE")],
    as_json: _Json = False,
) -> None:
    """Time the sections of a bundle on every engine in it and on Keras: one thread, batch 1 and 256.

    Example:

        ddnn benchmark runs/scenes.zip
    """
    from ddnn_tf.export.benchmark import COLUMNS, NOTE, benchmark_bundle, use_one_thread

    use_one_thread()
    with _working() as report:
        timings = benchmark_bundle(bundle, report)
    if as_json:
        print(json.dumps([asdict(one) for one in timings], indent=2))
        return
    table = new_table("Time per sample, one thread", *COLUMNS)
    for one in timings:
        table.add_row(*one.cells())
    show(table, NOTE)


add_runtime(app)
add_placement(app)


def main() -> None:
    """Runs the command; an error is one line on stderr and exit code 2."""
    warnings.showwarning = _warn
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("larq").setLevel(logging.ERROR)
    try:
        # Out of its standalone mode, typer returns the exit code: 130 after Ctrl-C.
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == _INTERRUPTED:
            _fail("interrupted", code)
        if code:
            sys.exit(code)
    except TyperException as error:
        _fail(f"{error.format_message()} (see --help)")
    except (ValueError, TypeError, OSError, ImportError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, Abort):
        _fail("interrupted", _INTERRUPTED)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__module__.startswith("tensorflow."):
            _fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}")
        raise


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"ddnn: warning: {message}", file=sys.stderr)


def _fail(message: str, code: int = 2) -> None:
    print("ddnn: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _source(
    name: str,
    path: Path | None,
    devices: int | None,
    split: str | None,
    split_file: Path | None,
    seed: int,
) -> DataSource:
    return DataSource(
        name=name,
        path=None if path is None else str(path.resolve()),
        devices=6 if devices is None else devices,
        split=split,
        split_file=None if split_file is None else str(split_file.resolve()),
        seed=seed,
    )


def _hierarchy(file: Path | None, chosen: dict[str, Any], data: MultiViewDataset) -> Topology:
    """The topology out of its file, or out of the options."""
    if file is not None:
        if chosen:
            option = next(iter(chosen)).replace("_", "-")
            raise ValueError(f"--{option} and --topology contradict each other: set it in '{file}'.")
        return Topology.load(file)
    shape = {"image_shape": data.image_shape, "classes": len(data.class_names)}
    return Topology.figure_2(chosen.pop("configuration", "c"), data.devices, **shape, **chosen)


def _data_summary(data: MultiViewDataset) -> dict[str, Any]:
    views = []
    for number in range(data.devices):
        present = data.presence[:, number]
        counts = np.bincount(data.labels[present], minlength=len(data.class_names)).tolist()
        views.append(dict(zip((*data.class_names, "absent"), (*counts, int((~present).sum())), strict=True)))
    return {
        "data": data.name,
        "samples": len(data.labels),
        "devices": data.devices,
        "image_shape": list(data.image_shape),
        "classes": list(data.class_names),
        "parts": {part: len(data.split[part]) for part in PARTS},
        "split": data.split_rule,
        "views": views,
    }


def _report(found: Any, data: MultiViewDataset, seed: int, as_json: bool) -> None:
    if as_json:
        _print_json(
            {
                **asdict(found),
                "data": data.name,
                "split": data.split_rule,
                "seed": seed,
            }
        )
        return
    table = new_table(
        f"Accuracy on {found.test_samples} test samples", "where", "accuracy", "T", "leave here"
    )
    for number, value in enumerate(found.individual_accuracy):
        table.add_row(f"device_{number} alone", f"{value:.1%}", "", "")
    for tier, share in found.exit_shares.items():
        threshold = found.thresholds.get(tier)
        table.add_row(
            f"{tier} exit",
            f"{getattr(found, f'{tier}_accuracy'):.1%}",
            "" if threshold is None else f"{threshold:.2f}",
            f"{share:.1%}",
        )
    table.add_section()
    table.add_row("overall", f"{found.overall_accuracy:.1%}", "", "")
    show(table)
    links = new_table("Communication", "link", "bytes per sample")
    for link, cost in found.bytes_per_link.items():
        links.add_row(link, f"{cost:.1f}")
    links.add_section()
    links.add_row("per sample and device, Eq. (1)", f"{found.bytes_per_sample:.1f}")
    links.add_row("raw image", f"{found.bytes_per_sample * found.reduction:.0f}")
    links.add_row("reduction", f"{found.reduction:.1f}x")
    show(links, f"Data: {data.name}, split {data.split_rule}. T was chosen on validation data.")


def _names(listed: str | None) -> list[str] | None:
    return None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]


@contextlib.contextmanager
def _working() -> Iterator[Callable[[str], None]]:
    """What is being worked on, on stderr, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading ...") as status:
        yield status.update


def _verification(records: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(records, indent=2))
        return
    columns = ("target", "bytes", "equal bits", "equal decisions", "max logit error", "accuracy", "passed")
    table = new_table(f"Verification on {records[0]['samples']} samples", "section", *columns)
    for one in records:
        table.add_row(
            one["section"],
            one["target"],
            str(one["bytes"]),
            "" if one["bit_agreement"] is None else f"{one['bit_agreement']:.3%}",
            f"{one['decision_agreement']:.2%}",
            f"{one['max_logit_error']:.2g}",
            f"{one['accuracy']:.1%} ({100 * one['accuracy_change']:+.1f})",
            "yes" if one["passed"] else "NO",
        )
    show(table)


def _boards(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """What exported C takes on the boards; of a target's devices, the largest of each number."""
    from ddnn_tf.export.c.boards import BOARDS, missing_tools

    for target in dict.fromkeys(target for _, target in found):
        several = [details for (_, name), details in found.items() if name == target]
        if missing_tools():
            show(f"{target}: not run on boards, for want of {', '.join(missing_tools())}.")
            continue
        columns = ("build", "flash", "library", "scratch", "stack", "RAM", "instructions")
        table = new_table(f"{target} on emulated boards, bytes; instructions a sample", "board", *columns)
        for board, processor in BOARDS.items():
            rows = [details["boards"][board] for details in several]
            failed = [row["error"] for row in rows if "error" in row]
            if failed:
                table.add_row(f"{board} ({processor})", failed[0])
                continue
            for build, numbers in (("small", rows), ("fast", [row["fast"] for row in rows])):
                largest = [
                    max(row[key] for row in numbers)
                    for key in (
                        "flash_bytes",
                        "library_bytes",
                        "scratch_bytes",
                        "stack_bytes",
                        "ram_bytes",
                        "instructions",
                    )
                ]
                table.add_row(f"{board} ({processor})", build, *map(str, largest))
        show(table)
        sizes = several[0].get("message_bytes")
        if sizes:
            show(
                f"Messages of {target}: class vector {sizes['class_vector']} bytes, features "
                f"{sizes['features']} bytes. RAM is scratch, stack and output; library is what floats in "
                "software take."
            )


def _print_json(content: Mapping[str, Any]) -> None:
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
