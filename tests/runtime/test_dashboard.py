"""The live page, as somebody clicks through it in a browser."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from random_networks import RandomNetwork
from running import served, unlike_network
from unlike import UNLIKE

from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.cluster import Cluster, stream
from ddnn_tf.runtime.dashboard import Dashboard, hierarchy_as_json
from ddnn_tf.runtime.ddnn_v1_pb2 import Reports
from ddnn_tf.runtime.policy import peers_of
from ddnn_tf.runtime.telemetry import Metrics
from ddnn_tf.topology import Topology

pytestmark = pytest.mark.slow
SCREENSHOT = Path(__file__).parents[2] / "build" / "dashboard.png"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1150,1000",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
    """Waits for something that the page should come to show."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (NoSuchElementException, StaleElementReferenceException):
            time.sleep(0)  # the page is being drawn anew
        time.sleep(0.1)
    pytest.fail(f"The page does not show {what} within {seconds} s.")


def click_through(page: Any, url: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def text(selector: str) -> str:
        return str(page.find_element(By.CSS_SELECTOR, selector).text)

    def share(tier: str) -> float:
        return float(text(f"#exit-{tier} span:last-child").split()[0])

    page.get(url)
    until(lambda: text("#note") == "All devices are present.", "that all is well")
    until(lambda: int(text("[data-name=Answered]")) > 50, "that samples are answered")
    assert text("#node-edge_0 .state") == text("#node-cloud .state") == "answers"
    assert page.find_elements(By.CSS_SELECTOR, "#drawing svg rect")
    assert len(page.find_elements(By.CSS_SELECTOR, "#wires line")) == 7
    until(lambda: text("[data-name='device_0 -> local']") == "12.0", "the bytes of a link")
    # The image of device_1 is there: not all of its pixels are alike.
    alike = "const c=document.querySelector('#node-device_1 canvas');return new Set(c.getContext('2d')" \
        ".getImageData(0,0,c.width,c.height).data).size"  # fmt: skip
    until(lambda: page.execute_script(alike) > 5, "the last image")

    page.find_element(By.CSS_SELECTOR, "#node-device_1 button").click()
    until(lambda: text("#node-device_1 .state") == "failed", "the failed device")
    assert text("#note") == "1 of 3 devices failed."
    until(lambda: text("#node-device_1 button") == "Revive", "how to revive it")
    SCREENSHOT.parent.mkdir(exist_ok=True)
    page.save_screenshot(str(SCREENSHOT))
    page.find_element(By.CSS_SELECTOR, "#node-device_1 button").click()
    until(lambda: text("#node-device_1 .state") == "present", "the revived device", 60)

    before = share("local")
    slider = page.find_element(By.ID, "threshold-local")
    slider.send_keys(Keys.END)
    until(lambda: text("#threshold-local + output") == "1.00", "the threshold")
    until(lambda: share("local") > before + 2, "that more samples leave at the local exit")
    slider.send_keys(Keys.HOME)
    until(lambda: text("#threshold-local + output") == "0.00", "the threshold")
    high = share("local")
    until(lambda: share("local") < high - 2, "that fewer samples leave at the local exit")
    assert text("[data-name=Errors]") == "0"
    assert text("[data-name=Accuracy]").endswith("%")
    assert float(text("[data-name=Reduction]").split()[0]) > 5
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def refusals(url: str) -> None:
    """Without the token, or with nonsense, the page's server changes and tells nothing."""
    base, token = url.split("/#")

    def ask(path: str, body: bytes | None = None, key: str = token) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        try:
            request = urllib.request.Request(base + path, body, headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    good = json.dumps({"tier": "local", "value": 0.5}).encode()
    assert ask("/api/state") == 200
    assert ask("/api/state", key="wrong") == 401
    assert ask("/api/hierarchy") == 200
    assert ask("/api/hierarchy", key="wrong") == 401
    assert ask("/api/threshold", good, key="") == 401
    assert ask("/api/threshold", good) == 200
    for body in (b"", b"[]", b"{", b'{"tier": "cloud", "value": 1}', b'{"tier": "local", "value": 7}',
                 b'{"tier": "local", "value": null}', b'{"tier": "local"}'):  # fmt: skip
        assert ask("/api/threshold", body) == 400
    assert ask("/api/device", b'{"name": "aggregator", "verb": "fail"}') == 400
    assert ask("/api/device", b'{"name": "device_0", "verb": "explode"}') == 400
    assert ask("/api/threshold", b"x" * 5000) in (400, 413)
    assert ask("/../aggregator.py") == 404


def test_the_page_is_told_of_any_tree() -> None:
    made = unlike_network(Topology.from_yaml(UNLIKE), samples=4)
    network = served(made.bundle)
    fixed = hierarchy_as_json(network.hierarchy)
    names = [[node["name"] for node in row] for row in fixed["rows"]]
    assert names == [
        ["cloud"], ["hall"], ["edge_a", "edge_b"], ["site_a", "site_b", "aggregator"],
        ["camera_0", "camera_1", "microphone", "co2"],
    ]  # fmt: skip
    image = {"height": 8, "width": 6, "channels": 3}
    assert [node["image"] for node in fixed["rows"][-1]] == [image, image, None, None]
    known = {name for row in names for name in row}
    assert {end for link in fixed["links"] for end in (link["from"], link["to"])} == known
    assert fixed["svg"].startswith("<svg")

    async def run() -> None:
        peers = peers_of(network.hierarchy, "aggregator")
        uppers = {name: Caller("aggregator", name, "127.0.0.1:1", None) for name in peers}
        aggregator = Aggregator(network, uppers, Metrics(), engine="keras")
        state = Dashboard(aggregator).state()
        assert set(state["nodes"]) == known
        assert {name for name, node in state["nodes"].items() if not node["on"]} == set(names[-1])
        assert list(state["exits"]) == ["local", "edge", "cloud"]
        session = aggregator.attach("co2")
        with pytest.raises(RefusalError, match="no image of co2"):
            session.receive(Reports(preview=b"\0\0"))
        aggregator.attach("camera_1").receive(Reports(preview=bytes(144)))
        assert Dashboard(aggregator).state()["nodes"]["camera_1"]["pixels"]

    asyncio.run(run())


def test_clicking_through(network_of: Callable[..., RandomNetwork], browser: Any, tmp_path: Path) -> None:
    made = network_of("e")
    bundle = made.write(tmp_path / "bundle.zip")
    labels = made.data.targets("test").tolist()
    logs = tmp_path / "logs"

    async def run() -> str:
        async with Cluster(bundle, dashboard="127.0.0.1:0", logs=logs) as cluster:
            flow = asyncio.ensure_future(stream(cluster, labels, 100, concurrency=2, forever=True))
            try:
                await asyncio.to_thread(refusals, cluster.page)
                await asyncio.to_thread(click_through, browser, cluster.page)
            finally:
                flow.cancel()
                await asyncio.gather(flow, return_exceptions=True)
            return cluster.page.split("#")[1]

    token = asyncio.run(run())
    assert SCREENSHOT.stat().st_size > 10_000
    for log in logs.iterdir():
        assert token not in log.read_text()
        assert "PRIVATE KEY" not in log.read_text()
