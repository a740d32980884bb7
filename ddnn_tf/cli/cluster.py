"""`ddnn cluster`, `ddnn classify` and `ddnn certs`: around the processes of a deployment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ddnn_tf.cli import options
from ddnn_tf.cli.printing import print_json, warn_of_plaintext
from ddnn_tf.documents import check_writable
from ddnn_tf.runtime.served import ENGINES

_MOST_SAMPLES = 1_000_000


def cluster(
    run: options.RunOrBundlePath,
    samples: Annotated[
        int | None,
        typer.Option("--samples", help="How many to classify.", min=1, show_default="all test samples"),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Samples at a time.", min=1)] = 8,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds within which a sample is answered.", min=0.001)
    ] = 10.0,
    kill: Annotated[
        list[str] | None,
        typer.Option("--kill", help="Kill a process before that sample.", metavar="NAME@SAMPLE"),
    ] = None,
    revive: Annotated[
        list[str] | None,
        typer.Option("--revive", help="Start it again before that sample.", metavar="NAME@SAMPLE"),
    ] = None,
    partition: Annotated[
        list[str] | None,
        typer.Option(
            "--partition",
            help="Cut a process off the network, from sample to sample.",
            metavar="NAME@FROM-TO",
        ),
    ] = None,
    delay: Annotated[
        list[str] | None,
        typer.Option(
            "--delay", help="Delay all that a process sends and receives.", metavar="NAME=80ms[@FROM-TO]"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help=f"What the devices run on: {', '.join(ENGINES)}.")
    ] = "tflite",
    dashboard: Annotated[
        str | None,
        typer.Option(
            "--dashboard", help="Serve the live page there, e.g. 127.0.0.1:8000.", metavar="HOST:PORT"
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on classifying until Ctrl-C, to look at the dashboard.")
    ] = False,
    device_wait: Annotated[
        float, typer.Option("--device-wait", help="Seconds that the aggregator waits for devices.", min=0.001)
    ] = 0.5,
    ask: options.Ask = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Keep the processes' logs there.", metavar="DIR")
    ] = None,
    plaintext: options.Plaintext = False,
    as_json: options.Json = False,
) -> None:
    """Run the whole hierarchy on this machine, a process for each part, and classify the test data.

    NAME is a process: a device, aggregator, an edge, or cloud. `ddnn topology RUN` shows the names.

    Examples:

        ddnn cluster runs/scenes

        ddnn cluster runs/scenes --kill device_3@50 --revive device_3@100 --delay device_2=80ms

        ddnn cluster runs/scenes --dashboard 127.0.0.1:8000 --keep
    """
    options.check_runtime_installed()
    from ddnn_tf.runtime.cluster import ClusterOptions, run_cluster
    from ddnn_tf.runtime.faults import read_faults
    from ddnn_tf.runtime.results import show

    if logs is not None:
        check_writable(logs)
    faults = read_faults(kill or (), revive or (), partition or (), delay or ())
    cluster_options = ClusterOptions(
        samples=samples, concurrency=concurrency, timeout=timeout, engine=engine, dashboard=dashboard,
        keep=keep, device_wait=device_wait, ask=ask, logs=logs, plaintext=plaintext,
    )  # fmt: skip
    if plaintext:
        warn_of_plaintext()
    try:
        result = asyncio.run(run_cluster(run, cluster_options, faults, _hint(as_json)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if as_json:
        print_json(result.to_dict())
    else:
        show(result)


def classify(
    address: Annotated[str, typer.Argument(help="Where the aggregator listens.", metavar="HOST:PORT")],
    samples: Annotated[
        str, typer.Option("--samples", help="Numbers, by commas and dashes: 3 or 0-9 or 1,5,7-9.")
    ] = "0",
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds within which a sample is answered.", min=0.001)
    ] = 10.0,
    certs: options.Certs = None,
    plaintext: options.Plaintext = False,
    as_json: options.Json = False,
) -> None:
    """Classify samples: class, exit, entropy at each exit, devices that took part, bytes and latency.

    Example:

        ddnn classify 10.0.0.2:7000 --samples 0-9 --certs certs
    """
    options.check_runtime_installed()
    from ddnn_tf.runtime.client import ClassificationError, Client
    from ddnn_tf.runtime.security import CLIENT

    numbers = _numbers(samples)
    answers: list[dict[str, Any]] = []
    failure = ""
    with Client(address, certificates=options.certificates(CLIENT, certs, plaintext)) as client:
        for number in numbers:
            try:
                answers.append({"sample": number, **asdict(client.classify(number, timeout=timeout))})
            except ClassificationError as error:
                failure = failure or f"sample {number}: {error.code}: {error}"
                answers.append({"sample": number, "error": error.code})
    if as_json:
        print_json(answers)
    else:
        _print_answers(answers)
    if failure:
        raise ConnectionError(failure)


def certs(
    run: Annotated[
        Path, typer.Argument(help="A run, or a bundle: its processes get certificates.", metavar="RUN")
    ],
    out: Annotated[Path, typer.Option("--out", help="The directory to make.", metavar="DIR")],
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", help="Devices behind a gateway, by commas: device_3,device_4."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="How long they are valid.", min=1)] = 365,
    as_json: options.Json = False,
) -> None:
    """Make a development authority and a certificate for every process of a hierarchy.

    Each certificate carries the name of its process, and servers and clients check it. Give each process
    ca.pem and its own two files; ca.key stays with you. For microcontrollers behind a gateway there are
    keys in gateway.keys.

    Example:

        ddnn certs runs/scenes --out certs
    """
    options.check_runtime_installed()
    from ddnn_tf.runtime.security import CLIENT, GATEWAY, create_certificates, write_keys

    check_writable(out)
    hierarchy = options.read_topology(run).hierarchy
    acting = {name: [name] for name in (*hierarchy.process_names, CLIENT)}
    behind = options.names(gateway)
    if behind is not None:
        for name in behind:
            if name not in hierarchy.device_names:
                raise ValueError(
                    f"Expected --gateway to name devices out of {', '.join(hierarchy.device_names)}, but got "
                    f"{name!r}."
                )
        acting[GATEWAY] = behind
    files = create_certificates(out, acting, days=days)
    if behind is not None:
        files.append(write_keys(out / "gateway.keys", behind))
    if as_json:
        print_json({"directory": str(out), "files": [str(file) for file in files]})
    else:
        print(f"Certificates of {', '.join(acting)} are in {out}, valid for {days} days.")


def _hint(as_json: bool) -> Callable[[str], None]:
    """Says what happens on stderr, unless a program reads."""
    if as_json and not sys.stderr.isatty():
        return lambda _: None
    return lambda text: print(text, file=sys.stderr, flush=True)


def _print_answers(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        if "error" in answer:
            continue
        entropies = ", ".join(f"{tier} {value:.3f}" for tier, value in answer["entropies"].items())
        devices = ", ".join(answer["devices"][answer["exit"]])
        size = sum(answer["payload_bytes"].values())
        name = f" {answer['class_name']}" if answer["class_name"] else ""
        degraded = " (degraded)" if answer["degraded"] else ""
        surest = max(answer["probabilities"])
        print(
            f"sample {answer['sample']}: class {answer['label']}{name} ({surest:.1%}) at the "
            f"{answer['exit']} exit{degraded}; entropy {entropies}; {devices}; {size} bytes; "
            f"{1000 * answer['total_seconds']:.1f} ms"
        )


def _numbers(text: str) -> list[int]:
    """The whole numbers in `1,5,7-9`."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"Expected --samples like 3 or 0-9 or 1,5,7-9, but got {text!r}.")
        named = range(int(first), int(last if dash else first) + 1)
        if not named or len(numbers) + len(named) > _MOST_SAMPLES:
            raise ValueError(
                f"Expected --samples to name 1 to {_MOST_SAMPLES} samples, from low to high, but got "
                f"{text!r}."
            )
        numbers += named
    return numbers
