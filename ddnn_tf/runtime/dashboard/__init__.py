"""The live page of the aggregator: the hierarchy, its exits and its bytes, and what can be changed.

The page asks once for nodes and links (`/api/hierarchy`) and then twice a second for what changes
(`/api/state`). It is served on loopback only: from elsewhere, go through a tunnel. Whoever has the page's URL
may look and change thresholds; its token stands behind the `#`, which browsers do not send, so no log has it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from ddnn_tf.communication import raw_bytes
from ddnn_tf.hierarchy import Hierarchy, Node, Role
from ddnn_tf.runtime.aggregator import Aggregator, DeviceState
from ddnn_tf.runtime.security import host_and_port, is_loopback, joined
from ddnn_tf.runtime.sensors import is_image

__all__ = ["Dashboard"]

_HERE = Path(__file__).parent
_FILES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
_PREVIEW_PAUSE = 0.4
_LARGEST = 1024
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


class Dashboard:
    """Serves the page; used with `async with`.

    Args:
        aggregator: What it shows.
        supervisor: Is told `fail` or `revive` and the name of a device; None: the page has no such buttons.
    """

    def __init__(self, aggregator: Aggregator, supervisor: Callable[[str, str], None] | None = None) -> None:
        self._aggregator, self._supervisor = aggregator, supervisor
        self._token = secrets.token_urlsafe(24)
        self._previewed = 0.0
        application = web.Application(client_max_size=_LARGEST)
        for path in _FILES:
            application.router.add_get(path, self._file)
        application.router.add_get("/api/hierarchy", self._hierarchy)
        application.router.add_get("/api/state", self._state)
        application.router.add_post("/api/threshold", self._threshold)
        application.router.add_post("/api/device", self._device)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> Dashboard:
        await self._runner.setup()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def start(self, address: str) -> str:
        """Listens, and gives the URL of the page.

        Args:
            address: `host:port` on loopback; port 0 takes a free one.

        Raises:
            OSError: The port is in use.
            ValueError: An address that others can reach.
        """
        host, port = host_and_port(address)
        if not is_loopback(address):
            raise ValueError(
                f"Expected --dashboard HOST:PORT on loopback, but got {address!r}: reach it from elsewhere "
                "through a tunnel, e.g. ssh -L."
            )
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise OSError(f"Cannot serve the dashboard at {address}: {error.strerror}.") from None
        return f"http://{joined(host, self._runner.addresses[0][1])}/#{self._token}"

    async def _file(self, request: web.Request) -> web.Response:
        name, kind = _FILES[request.path]
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return web.Response(text=(_HERE / name).read_text("utf-8"), content_type=kind, headers=headers)

    async def _hierarchy(self, request: web.Request) -> web.Response:
        self._check(request)
        fixed = hierarchy_as_json(self._aggregator.network.hierarchy)
        fixed["supervised"] = self._supervisor is not None
        return web.json_response(fixed, headers={"Cache-Control": "no-store"})

    async def _state(self, request: web.Request) -> web.Response:
        self._check(request)
        now = time.monotonic()
        if now - self._previewed > _PREVIEW_PAUSE:
            self._previewed = now
            self._aggregator.ask_for_images()
        return web.json_response(self.state(), headers={"Cache-Control": "no-store"})

    async def _threshold(self, request: web.Request) -> web.Response:
        given = await self._given(request)
        try:
            self._aggregator.set_threshold(str(given.get("tier")), float(given.get("value", "nan")))
        except (ValueError, TypeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response(self._aggregator.thresholds)

    async def _device(self, request: web.Request) -> web.Response:
        given = await self._given(request)
        name, verb = str(given.get("name")), given.get("verb")
        if self._supervisor is None:
            raise web.HTTPConflict(text="Devices can be failed and revived in a local cluster only.")
        if (
            not isinstance(name, str)
            or name not in self._aggregator.devices
            or verb not in ("fail", "revive")
        ):
            raise web.HTTPBadRequest(text="Expected the name of a device, and fail or revive.")
        self._supervisor(verb, name)
        await asyncio.sleep(0)
        return web.json_response({"name": name, "verb": verb})

    def state(self) -> dict[str, Any]:
        """What changes on the page, as JSON has it."""
        aggregator = self._aggregator
        topology, answers = aggregator.network.topology, aggregator.answers
        hierarchy = topology.hierarchy
        tiers = hierarchy.exit_tier_names
        answered = sum(aggregator.exits[tier] for tier in tiers)
        return {
            "nodes": {
                **{
                    name: {
                        "on": device.stream is not None,
                        "state": _state_of(device),
                        "pixels": base64.b64encode(device.preview).decode(),
                    }
                    for name, device in aggregator.devices.items()
                },
                hierarchy.coordinator: {"on": True, "state": "answers"},
                **{
                    name: {"on": answering, "state": "answers" if answering else "does not answer"}
                    for name, answering in aggregator.is_answering.items()
                },
            },
            "thresholds": aggregator.thresholds,
            "samples": answers["samples"],
            "answered": answered,
            "errors": answers["errors"],
            "degraded": answers["degraded"],
            "exits": {tier: aggregator.exits[tier] for tier in tiers},
            "accuracy": answers["right"] / answers["labelled"] if answers["labelled"] else None,
            "links": dict(aggregator.bytes),
            "payload_bytes": sum(aggregator.bytes.values()),
            "raw_bytes": raw_bytes(topology) * len(hierarchy.devices) * answered,
        }

    def _check(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {self._token}".encode()):
            raise web.HTTPUnauthorized(text="Open the page by the URL that the command prints.")

    async def _given(self, request: web.Request) -> dict[str, Any]:
        self._check(request)
        try:
            given = json.loads(await request.text())
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise web.HTTPBadRequest(text="Expected a JSON object.")
        return given


def hierarchy_as_json(hierarchy: Hierarchy) -> dict[str, Any]:
    """The nodes in rows from the cloud down to the devices, the links, and the drawing."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for node in hierarchy.nodes:
        rows.setdefault(node.level, []).append(_described(node))
    if hierarchy.coordinator not in hierarchy:
        rows.setdefault(1, []).append({"name": hierarchy.coordinator, "role": "coordinator", "image": None})
    return {
        "rows": [rows[level] for level in sorted(rows, reverse=True)],
        "links": [
            {"from": link.sender, "to": link.receiver, "carries": link.carries.value, "bytes": link.spec.size}
            for link in hierarchy.links
        ],
        "svg": hierarchy.to_svg(),
    }


def _state_of(device: DeviceState) -> str:
    if device.stream is None:
        return "failed"
    return "late" if device.missed else "present"


def _described(node: Node) -> dict[str, Any]:
    image = None
    if node.role is Role.DEVICE and is_image(node):
        height, width, channels = node.sensor.shape
        image = {"height": height, "width": width, "channels": channels}
    return {"name": node.name, "role": node.role.value, "image": image}
