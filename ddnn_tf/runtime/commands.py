"""The commands of `ddnn` that start, run and ask a hierarchy of processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ddnn_tf.runtime.network import ENGINES, Network

__all__ = ["add_to"]

_Bundle = Annotated[Path, typer.Argument(help="A bundle made by `ddnn export`.", metavar="BUNDLE")]
_Listen = Annotated[
    str, typer.Option("--listen", help="Address to listen at; port 0 takes a free one.", metavar="HOST:PORT")
]
_Certs = Annotated[
    Path | None, typer.Option("--certs", help="Directory of certificates (`ddnn certs`).", metavar="DIR")
]
_Plaintext = Annotated[
    bool, typer.Option("--plaintext", help="No TLS: for experiments, on loopback addresses only.")
]
_Engine = Annotated[str, typer.Option("--engine", help=f"What its section runs on: {', '.join(ENGINES)}.")]
_Wait = Annotated[
    float, typer.Option("--wait", help="Seconds within which its peers must be reached.", min=0)
]
_Metrics = Annotated[
    str | None,
    typer.Option("--metrics", help="Serve Prometheus metrics over HTTP there.", metavar="HOST:PORT"),
]
_Log = Annotated[
    str, typer.Option("--log", help="Least level of the log on stderr: debug, info, warning, error.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
_Aggregator = Annotated[
    str, typer.Option("--aggregator", help="Where the aggregator listens.", metavar="HOST:PORT")
]

_MOST_SAMPLES = 1_000_000

serve = typer.Typer(
    help="Run one process of a deployment until it is told to end (Ctrl-C, SIGTERM).", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `ddnn`."""
    app.add_typer(serve, name="serve")
    for command in (certs, classify, cluster):
        app.command()(command)


def certs(
    bundle: Annotated[
        Path, typer.Argument(help="A run, or a bundle: its tiers get certificates.", metavar="RUN")
    ],
    out: Annotated[Path, typer.Option("--out", help="The directory to make.", metavar="DIR")],
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", help="Devices behind a gateway, by commas: device_3,device_4."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="How long they are valid.", min=1)] = 365,
    as_json: _Json = False,
) -> None:
    """Make a development authority and a certificate for every process of a hierarchy.

    Each certificate carries the name of its process, and servers and clients check it. Give each process
    ca.pem and its own two files; ca.key stays with you. For microcontrollers behind a gateway there are
    keys in gateway.keys.

    Example:

        ddnn certs runs/scenes --out certs
    """
    from ddnn_tf.runtime.security import CLIENT, create_certificates, write_keys

    topology = _topology(bundle)
    names = (*topology.device_names, "aggregator", *topology.edge_names, "cloud", CLIENT)
    acting = {name: [name] for name in names}
    if gateway is not None:
        behind = [name.strip() for name in gateway.split(",") if name.strip()]
        for name in behind:
            if name not in topology.device_names:
                raise ValueError(
                    f"Expected --gateway to name devices out of {', '.join(topology.device_names)}, but got "
                    f"{name!r}."
                )
        acting["gateway"] = behind
    files = create_certificates(out, acting, days=days)
    if gateway is not None:
        files.append(write_keys(out / "gateway.keys", acting["gateway"]))
    if as_json:
        print(json.dumps({"directory": str(out), "files": [str(file) for file in files]}, indent=2))
    else:
        print(f"Certificates of {', '.join(acting)} are in {out}, valid for {days} days.")


@serve.command()
def device(
    bundle: _Bundle,
    name: Annotated[str, typer.Option("--name", help="device_0, device_1, ...")],
    aggregator: _Aggregator,
    upper: Annotated[
        str, typer.Option("--upper", help="Where its edge, or the cloud, listens.", metavar="HOST:PORT")
    ],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="Images: data (its view of the test data), push (a client sends them), or a directory.",
        ),
    ] = "data",
    show: Annotated[
        bool, typer.Option("--show", help="Send the last image to the aggregator's dashboard.")
    ] = False,
    listen: _Listen = "127.0.0.1:0",
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    engine: _Engine = "tflite",
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """An end device: sends its class vector for every sample, and its feature map when asked to.

    Example:

        ddnn serve device bundle.zip --name device_0 --aggregator 10.0.0.2:7000 --upper 10.0.0.3:7001
        --certs certs --source images/
    """
    from ddnn_tf.runtime.process import serve_device
    from ddnn_tf.runtime.sensors import DatasetSensor, DirectorySensor, PushedSensor, Sensor

    place = _place(name, listen, certs, plaintext, wait, log)
    network = Network.read(bundle)
    if name not in network.topology.device_names:
        known = ", ".join(network.topology.device_names)
        raise ValueError(f"Expected --name out of {known}, but got {name!r}.")
    sensor: Sensor
    if source == "data":
        sensor = DatasetSensor(network.bundle.load_data(), network.topology.device_names.index(name))
    elif source == "push":
        sensor = PushedSensor()
    else:
        sensor = DirectorySensor(source, network.topology.devices.image_shape)
    announce = _announcing(name, as_json)
    telemetry = _telemetry(metrics, announce)
    asyncio.run(
        serve_device(
            name, network, sensor, aggregator, upper, place, telemetry, announce,
            engine=engine, shows_images=show,
        )
    )  # fmt: skip


@serve.command()
def aggregator(
    bundle: _Bundle,
    upper: Annotated[
        list[str],
        typer.Option("--upper", help="Where the cloud, and each edge, listens.", metavar="NAME=HOST:PORT"),
    ],
    threshold: Annotated[
        list[str] | None, typer.Option("--threshold", help="T in place of the bundle's.", metavar="TIER=T")
    ] = None,
    device_wait: Annotated[
        float, typer.Option("--device-wait", help="Seconds to wait for class vectors.", min=0.001)
    ] = 0.5,
    upper_wait: Annotated[
        float, typer.Option("--upper-wait", help="Seconds to wait for the tiers above.", min=0.001)
    ] = 2.0,
    dashboard: Annotated[
        str | None, typer.Option("--dashboard", help="Serve the live page there.", metavar="HOST:PORT")
    ] = None,
    listen: _Listen = "127.0.0.1:0",
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    engine: _Engine = "tflite",
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """The local aggregator: asks the devices, decides by entropy, and asks the tiers above if unsure.

    Example:

        ddnn serve aggregator bundle.zip --listen 10.0.0.2:7000 --upper cloud=10.0.0.3:7001 --certs certs
    """
    from ddnn_tf.runtime.aggregator import Aggregator
    from ddnn_tf.runtime.calls import Caller
    from ddnn_tf.runtime.process import SUPERVISED, serve_aggregator

    place = _place("aggregator", listen, certs, plaintext, wait, log)
    network = Network.read(bundle)
    addresses = _pairs(upper, "--upper", (*network.topology.edge_names, "cloud"))
    missing = {*network.topology.edge_names, "cloud"} - set(addresses)
    if missing:
        raise ValueError(f"Expected --upper NAME=HOST:PORT for {sorted(missing)[0]}, but got none.")
    announce = _announcing("aggregator", as_json)
    telemetry = _telemetry(metrics, announce)
    given = _pairs(threshold or [], "--threshold", network.topology.exit_tiers[:-1])
    thresholds = {**network.bundle.thresholds, **{tier: _number(value) for tier, value in given.items()}}

    async def run() -> None:
        uppers = {
            name: Caller("aggregator", name, address, place.certificates, network.fingerprint)
            for name, address in addresses.items()
        }
        tier = Aggregator(
            network, uppers, telemetry, engine=engine, thresholds=thresholds, wait=device_wait,
            upper_wait=upper_wait,
        )  # fmt: skip
        if dashboard is None:
            await serve_aggregator(tier, uppers, place, announce)
            return
        from ddnn_tf.runtime.dashboard import Dashboard

        # In a local cluster the process that started this one fails and revives devices.
        is_supervised = SUPERVISED in os.environ
        supervisor = (lambda verb, name: _say({"event": verb, "device": name})) if is_supervised else None
        async with Dashboard(tier, supervisor) as page:
            announce("dashboard", await page.start(dashboard))
            await serve_aggregator(tier, uppers, place, announce)

    asyncio.run(run())


@serve.command()
def edge(
    bundle: _Bundle,
    cloud: Annotated[str, typer.Option("--cloud", help="Where the cloud listens.", metavar="HOST:PORT")],
    name: Annotated[str, typer.Option("--name", help="edge_0, edge_1, ...")] = "edge_0",
    feature_wait: Annotated[
        float, typer.Option("--feature-wait", help="Seconds to wait for feature maps.", min=0.001)
    ] = 0.5,
    listen: _Listen = "127.0.0.1:0",
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    engine: _Engine = "tflite",
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """An edge: aggregates the feature maps of its devices, and decides or passes on to the cloud.

    Example:

        ddnn serve edge bundle.zip --name edge_1 --cloud 10.0.0.4:7001 --listen 10.0.0.3:7001 --certs certs
    """
    if name == "cloud":
        raise ValueError("Expected --name to be an edge, but got 'cloud': use `ddnn serve cloud`.")
    _upper(bundle, name, cloud, feature_wait, listen, certs, plaintext, engine, wait, metrics, log, as_json)


@serve.command()
def cloud(
    bundle: _Bundle,
    feature_wait: Annotated[
        float, typer.Option("--feature-wait", help="Seconds to wait for feature maps.", min=0.001)
    ] = 0.5,
    listen: _Listen = "127.0.0.1:0",
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    engine: _Engine = "tflite",
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """The cloud: aggregates feature maps and always answers; samples that arrive together run together.

    Example:

        ddnn serve cloud bundle.zip --listen 10.0.0.4:7001 --certs certs
    """
    _upper(bundle, "cloud", None, feature_wait, listen, certs, plaintext, engine, 0, metrics, log, as_json)


@serve.command()
def gateway(
    bundle: _Bundle,
    aggregator: _Aggregator,
    upper: Annotated[
        list[str],
        typer.Option(
            "--upper", help="Where the cloud, or its devices' edges, listen.", metavar="NAME=HOST:PORT"
        ),
    ],
    keys: Annotated[
        Path,
        typer.Option(
            "--keys", help="Keys of the devices behind it (`ddnn certs --gateway`).", metavar="FILE"
        ),
    ],
    listen: _Listen = "127.0.0.1:0",
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    wait: _Wait = 10.0,
    metrics: _Metrics = None,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """A gateway for microcontrollers: their framed messages over UDP or TCP, with a key for each.

    Example:

        ddnn serve gateway bundle.zip --keys certs/gateway.keys --certs certs --listen 10.0.0.5:7002
        --aggregator 10.0.0.2:7000 --upper cloud=10.0.0.3:7001
    """
    from ddnn_tf.runtime.gateway import read_keys
    from ddnn_tf.runtime.process import serve_gateway

    place = _place("gateway", listen, certs, plaintext, wait, log)
    network = Network.read(bundle)
    known = read_keys(keys, network)
    uppers = _pairs(upper, "--upper", (*network.topology.edge_names, "cloud"))
    for name in known:
        if network.upper_of(name) not in uppers:
            raise ValueError(f"Expected --upper {network.upper_of(name)}=HOST:PORT for {name}, but got none.")
    announce = _announcing("gateway", as_json)
    telemetry = _telemetry(metrics, announce)
    asyncio.run(serve_gateway(network, known, aggregator, uppers, place, telemetry, announce))


@serve.command()
def plan(
    bundle: _Bundle,
    file: Annotated[
        Path, typer.Argument(help="A plan made by `ddnn place RUN --network FILE`.", metavar="PLAN")
    ],
    unit: Annotated[str, typer.Option("--unit", help="Run the processes of that unit.", metavar="NAME")],
    source: Annotated[
        str, typer.Option("--source", help="Images of its devices: data, push, or a directory.")
    ] = "data",
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    wait: _Wait = 60.0,
    log: _Log = "warning",
    as_json: _Json = False,
) -> None:
    """The processes that a deployment plan gives a unit, until told to end or one of them ends.

    Example:

        ddnn serve plan bundle.zip plan.yaml --unit hub --certs certs
    """
    from ddnn_tf.runtime.plan import Plan, serve_unit

    if plaintext and certs is not None:
        raise ValueError("--plaintext and --certs contradict each other: leave one out.")
    trust = ["--plaintext"] if plaintext else [] if certs is None else ["--certs", str(certs)]
    common = [*trust, "--log", log, *(["--json"] if as_json else [])]
    options = {
        role: [*common, *(["--wait", str(wait)] if role != "cloud" else [])]
        for role in ("aggregator", "edge", "cloud")
    }
    options["device"] = [*common, "--wait", str(wait), "--source", source]
    code = asyncio.run(serve_unit(bundle, Plan.load(file), unit, options))
    if code:
        raise typer.Exit(code)


def _upper(
    bundle: Path,
    name: str,
    cloud: str | None,
    feature_wait: float,
    listen: str,
    certs: Path | None,
    plaintext: bool,
    engine: str,
    wait: float,
    metrics: str | None,
    log: str,
    as_json: bool,
) -> None:
    from ddnn_tf.runtime.process import serve_upper

    place = _place(name, listen, certs, plaintext, wait, log)
    network = Network.read(bundle)
    announce = _announcing(name, as_json)
    telemetry = _telemetry(metrics, announce)
    asyncio.run(
        serve_upper(
            name, network, cloud, place, telemetry, announce, engine=engine, features_wait=feature_wait
        )
    )


def classify(
    address: Annotated[str, typer.Argument(help="Where the aggregator listens.", metavar="HOST:PORT")],
    samples: Annotated[
        str, typer.Option("--samples", help="Numbers, by commas and dashes: 3 or 0-9 or 1,5,7-9.")
    ] = "0",
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds within which a sample is answered.", min=0.001)
    ] = 10.0,
    certs: _Certs = None,
    plaintext: _Plaintext = False,
    as_json: _Json = False,
) -> None:
    """Classify samples: label, exit, entropy at each exit, devices that took part, bytes and latency.

    Example:

        ddnn classify 10.0.0.2:7000 --samples 0-9 --certs certs
    """
    from ddnn_tf.runtime.client import ClassificationError, Client
    from ddnn_tf.runtime.security import CLIENT

    numbers = _numbers(samples)
    found: list[dict[str, Any]] = []
    failed = ""
    with Client(address, certificates=_certificates(CLIENT, certs, plaintext)) as client:
        for number in numbers:
            try:
                found.append({"sample": number, **asdict(client.classify(number, timeout=timeout))})
            except ClassificationError as error:
                failed = failed or f"sample {number}: {error.code}: {error}"
                found.append({"sample": number, "error": error.code})
    if as_json:
        print(json.dumps(found, indent=2))
    for one in found if not as_json else ():
        if "error" in one:
            continue
        entropies = ", ".join(f"{tier} {value:.3f}" for tier, value in one["entropies"].items())
        last = one["devices"][one["exit"]]
        size = sum(one["payload_bytes"].values())
        print(
            f"sample {one['sample']}: class {one['label']} ({max(one['probabilities']):.1%}) at the "
            f"{one['exit']} exit{' (degraded)' if one['degraded'] else ''}; entropy {entropies}; "
            f"{', '.join(last)}; {size} bytes; {1000 * one['total_seconds']:.1f} ms"
        )
    if failed:
        raise ConnectionError(failed)


def cluster(
    run: Annotated[Path, typer.Argument(help="A run directory, or a bundle.", metavar="RUN")],
    samples: Annotated[
        int | None, typer.Option("--samples", help="How many to classify. [default: all test samples]", min=1)
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
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Keep the processes' logs there.", metavar="DIR")
    ] = None,
    plaintext: _Plaintext = False,
    as_json: _Json = False,
) -> None:
    """Run the whole hierarchy on this machine, a process for each part, and classify the test data.

    NAME is device_0, ..., aggregator, edge_0, ..., or cloud.

    Examples:

        ddnn cluster runs/scenes

        ddnn cluster runs/scenes --kill device_3@200 --revive device_3@400 --delay device_2=80ms

        ddnn cluster runs/scenes --dashboard 127.0.0.1:8000 --keep
    """
    from ddnn_tf.runtime.cluster import ClusterOptions, run_cluster
    from ddnn_tf.runtime.faults import read_faults

    faults = read_faults(kill or (), revive or (), partition or (), delay or ())
    options = ClusterOptions(
        samples=samples, concurrency=concurrency, timeout=timeout, engine=engine, dashboard=dashboard,
        keep=keep, device_wait=device_wait, logs=logs, plaintext=plaintext,
    )  # fmt: skip
    if plaintext:
        _warn_of_plaintext()
    try:
        found = asyncio.run(run_cluster(run, options, faults, _hint(as_json)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        from ddnn_tf.runtime.results import show

        show(found)


def _hint(as_json: bool) -> Any:
    stream = sys.stderr
    is_shown = not as_json or stream.isatty()
    return (lambda text: print(text, file=stream, flush=True)) if is_shown else (lambda _: None)


def _topology(path: Path) -> Any:
    from ddnn_tf.bundle import read_bundle
    from ddnn_tf.topology import Topology

    file = path / "topology.yaml"
    return Topology.load(file) if file.is_file() else read_bundle(path).topology


def _place(name: str, listen: str, certs: Path | None, plaintext: bool, wait: float, log: str) -> Any:
    from ddnn_tf.runtime.process import Place
    from ddnn_tf.runtime.telemetry import log_in_json

    log_in_json(name, log)
    return Place(listen=listen, certificates=_certificates(name, certs, plaintext), wait=wait)


def _certificates(name: str, certs: Path | None, plaintext: bool) -> Any:
    from ddnn_tf.runtime.security import Certificates

    if plaintext:
        if certs is not None:
            raise ValueError("--plaintext and --certs contradict each other: leave one out.")
        _warn_of_plaintext()
        return None
    if certs is None:
        raise ValueError(
            "Expected --certs DIR with this process's certificate: make one with `ddnn certs`, or try "
            "--plaintext on loopback."
        )
    return Certificates.read(certs, name)


def _warn_of_plaintext() -> None:
    print(
        "ddnn: warning: PLAINTEXT: nothing is encrypted and nobody is who they say; loopback only",
        file=sys.stderr,
    )


def _telemetry(address: str | None, announce: Callable[[str, Any], None]) -> Any:
    from ddnn_tf.runtime.telemetry import Metrics, serve_metrics

    metrics = Metrics()
    if address is not None:
        announce("metrics", serve_metrics(metrics, address))
    return metrics


def _announcing(name: str, as_json: bool) -> Any:
    def announce(event: str, what: Any) -> None:
        about = "bytes" if event == "wire" else "address"
        if as_json:
            _say({"event": event, "process": name, about: what, "pid": os.getpid()})
        elif event == "wire":
            print(f"{name}: bytes sent and received by peer: {what}", flush=True)
        elif event == "listening":
            print(f"{name} listens at {what}.", flush=True)
        elif event in ("dashboard", "metrics"):
            print(f"The {event} of {name}: {what}", flush=True)
        else:
            print(f"{name} is ready.", flush=True)

    return announce


def _say(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _pairs(given: list[str], option: str, names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or name not in names:
            known = ", ".join(names) or "none"
            raise ValueError(f"Expected {option} NAME=VALUE with a name out of {known}, but got {pair!r}.")
        found[name] = value
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"Expected a number, but got {text!r}.") from None


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"Expected --samples like 3 or 0-9 or 1,5,7-9, but got {text!r}.")
        numbers = range(int(first), int(last if dash else first) + 1)
        if not numbers or len(found) + len(numbers) > _MOST_SAMPLES:
            known = f"1 to {_MOST_SAMPLES} samples, from low to high"
            raise ValueError(f"Expected --samples to name {known}, but got {text!r}.")
        found += numbers
    return found
