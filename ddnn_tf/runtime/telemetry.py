"""What a process tells about itself: Prometheus metrics, and log lines in JSON on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from ddnn_tf.drift import LEAST_P_VALUE, DriftWatch
from ddnn_tf.runtime.security import host_and_port, joined

__all__ = ["Metrics", "log_in_json", "serve_metrics"]

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """The metrics of one process, in a registry of their own; times are seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.samples = Counter("ddnn_samples", "Samples by outcome", ["outcome"], registry=self.registry)
        self.exits = Counter("ddnn_exits", "Samples that left, by tier", ["tier"], registry=self.registry)
        self.payload = Counter(
            "ddnn_payload_bytes", "Payload bytes received, by link", ["link"], registry=self.registry
        )
        self.latency = Histogram(
            "ddnn_latency_seconds", "Time spent, by tier", ["tier"], registry=self.registry, buckets=_BUCKETS
        )
        self.missing = Counter(
            "ddnn_missing", "Samples without this sender", ["sender"], registry=self.registry
        )
        self.refused = Counter(
            "ddnn_refused", "Messages and calls refused, by reason", ["reason"], registry=self.registry
        )
        self.late = Counter("ddnn_late", "Messages that came too late to count", registry=self.registry)
        self.attached = Gauge("ddnn_attached", "Senders with an open stream", registry=self.registry)
        self.in_flight = Gauge("ddnn_in_flight", "Samples being worked on", registry=self.registry)
        self.batch = Histogram(
            "ddnn_batch_samples", "Samples run together", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32)
        )

    def watch_drift(self, watch: DriftWatch) -> None:
        """Adds gauges that say, whenever they are read, whether recent entropies are like validation ones.

        Args:
            watch: What sees the entropies.
        """
        for name, text, measure in (
            ("statistic", "Largest difference of the distributions, 0..1", lambda: watch.drift.statistic),
            ("p_value", "Probability of so large a difference by chance", lambda: watch.drift.p_value),
            ("warning", f"1 if that is below {LEAST_P_VALUE}", lambda: float(watch.has_drifted)),
        ):
            gauge = Gauge(
                f"ddnn_entropy_drift_{name}",
                f"Entropies of recent samples against validation: {text}",
                registry=self.registry,
            )
            gauge.set_function(measure)


def serve_metrics(metrics: Metrics, address: str) -> str:
    """Serves `/metrics` over HTTP from a thread.

    Args:
        metrics: What it serves.
        address: `host:port` to listen at; port 0 takes a free one.

    Returns:
        Its URL.

    Raises:
        OSError: The port is in use.
        ValueError: No address.
    """
    host, port = host_and_port(address)
    try:
        server, _ = start_http_server(port, host, registry=metrics.registry)
    except OSError as error:
        raise OSError(f"Cannot serve metrics at {address}: {error.strerror}.") from None
    return f"http://{joined(host, server.server_port)}/metrics"


def log_in_json(name: str, level: str) -> None:
    """Sends the log of this process to stderr, one JSON object a line.

    Args:
        name: Of the process, as it stands in every line.
        level: `debug`, `info`, `warning` or `error`.

    Raises:
        ValueError: An unknown level.
    """
    known = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    if level not in known:
        raise ValueError(f"Expected the log level to be one of {', '.join(known)}, but got {level!r}.")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(name))
    logger = logging.getLogger("ddnn_tf.runtime")
    logger.handlers[:] = [handler]
    logger.setLevel(known[level])
    logger.propagate = False


class _Lines(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)
