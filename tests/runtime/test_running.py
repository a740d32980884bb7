"""The processes together: their answers are those of the evaluation module, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import Message
from prometheus_client import generate_latest
from random_networks import RandomNetwork
from running import Running, refused, sensors_of, served, unlike_network
from test_policy import TOPOLOGIES

from ddnn_tf.calibration import scaled
from ddnn_tf.communication import bytes_per_link
from ddnn_tf.evaluation import tier_probabilities
from ddnn_tf.evaluation.asking import ask_surest
from ddnn_tf.exits import staged_inference
from ddnn_tf.hierarchy import Payload
from ddnn_tf.offload import bytes_of_asked
from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.client import Answer, ClassificationError, Client
from ddnn_tf.runtime.security import CLIENT
from ddnn_tf.runtime.sensors import PushedSensor
from ddnn_tf.runtime.telemetry import Metrics

pytestmark = pytest.mark.slow
Networks = Callable[..., RandomNetwork]


@pytest.mark.parametrize(
    ("letter", "local", "upper"),
    [
        ("a", "MP", "CC"),
        ("b", "MP", "CC"),
        ("c", "MP", "CC"),
        ("c", "CC", "MP"),
        ("d", "MP", "CC"),
        ("e", "AP", "AP"),
        ("f", "MP", "CC"),
    ],
)
def test_answers_are_those_of_the_evaluation_with_the_same_devices_failed(
    network_of: Networks, tmp_path: Path, letter: str, local: str, upper: str
) -> None:
    _check_answers(network_of(letter, local, upper), tmp_path, 500)


@pytest.mark.parametrize("name", ["unlike", "chain", "silent", "sites", "unbalanced"])
def test_so_they_are_in_any_tree_of_unlike_devices(name: str, tmp_path: Path) -> None:
    # Adapters and all on Keras, which needs no conversion; a cluster of unlike devices runs on TFLite.
    _check_answers(unlike_network(TOPOLOGIES[name]), tmp_path, 150, engine="keras")


@pytest.mark.parametrize("letter", ["c", "e", "f"])
def test_a_calibrated_network_follows_the_thresholds_of_the_devices_present(
    network_of: Networks, letter: str
) -> None:
    made = network_of(letter)
    hierarchy, bundle = made.topology.hierarchy, made.calibrated()
    assert bundle.calibration is not None
    random = np.random.default_rng(5)
    rows = random.integers(0, made.samples, 150)
    present = random.random((150, len(hierarchy.devices))) < 0.7
    present[~present.any(axis=1), 0] = True
    tiers = tier_probabilities(
        made.masked, made.topology, {name: view[rows] for name, view in made.views.items()}, present
    )

    async def run() -> tuple[list[Answer], str]:
        sensors = sensors_of(made.views, rows, present)
        async with Running(served(bundle), sensors, wait=30) as processes, processes.client() as client:
            answers = [await client.classify(sample, timeout=60) for sample in range(150)]
            return answers, generate_latest(processes.metrics["aggregator"].registry).decode()

    answers, metrics = asyncio.run(run())
    for sample, answer in enumerate(answers):
        entry = bundle.calibration.of(np.array(hierarchy.device_names)[present[sample]])
        of_sample = [probabilities[sample : sample + 1] for probabilities in tiers.values()]
        limits = [entry.thresholds[tier] for tier in hierarchy.early_tier_names]
        expected = staged_inference(of_sample, limits)
        assert answer.exit == list(tiers)[expected.exits[0]]
        probabilities = scaled(tiers[answer.exit][sample], entry.temperatures[answer.exit])
        assert answer.probabilities == pytest.approx(probabilities, abs=1e-3)
        assert not answer.degraded
    assert len({answer.exit for answer in answers}) == len(tiers)
    assert "ddnn_entropy_drift_warning 0.0" in metrics
    assert "ddnn_entropy_drift_p_value" in metrics


def _check_answers(made: RandomNetwork, place: Path, count: int, engine: str = "tflite") -> None:
    """Classifies samples with devices that fail at random; all is as in the evaluation, bytes included."""
    random = np.random.default_rng(7)
    hierarchy = made.topology.hierarchy
    rows = random.integers(0, made.samples, count)
    present = random.random((count, len(hierarchy.devices))) < 0.7
    present[~present.any(axis=1), 0] = True
    expected = made.staged(rows, present)

    async def run() -> list[Answer]:
        sensors = sensors_of(made.views, rows, present)
        async with (
            Running(served(made.bundle), sensors, place / "certs", wait=30, engine=engine) as processes,
            processes.client() as client,
        ):
            limit = asyncio.Semaphore(16)

            async def one(sample: int) -> Answer:
                async with limit:
                    return await client.classify(sample, timeout=60)

            return await asyncio.gather(*map(one, range(count)))

    answers = asyncio.run(run())
    tiers = hierarchy.exit_tier_names
    assert [tiers.index(answer.exit) for answer in answers] == expected.exits.tolist()
    assert [answer.label for answer in answers] == expected.labels.tolist()
    assert len(set(expected.exits.tolist())) == len(tiers)
    assert not any(answer.degraded for answer in answers)
    assert len({answer.ticket for answer in answers}) == count
    able = {name for tier in hierarchy.tiers[:1] for node in tier.nodes for name in node.senders}
    names = np.array(hierarchy.device_names)
    for sample, answer in enumerate(answers):
        for tier, entropy in answer.entropies.items():
            number = tiers.index(tier)
            assert entropy == pytest.approx(float(expected.entropies[number, sample]), abs=2e-4)
        there = tuple(name for name in names[present[sample]] if name in able)
        assert answer.devices.get(tiers[0], ()) == there
        shares = [float(tier == answer.exit) for tier in tiers]
        sizes = {link: size for link, size in bytes_per_link(made.topology, shares).items() if size}
        if all(present[sample]):
            assert answer.payload_bytes == sizes
        else:
            assert answer.payload_bytes.items() <= sizes.items()


def _everyone(made: RandomNetwork, certs: Path, **options: float) -> Running:
    return Running(served(made.bundle), sensors_of(made.views), certs, **options)


def test_without_the_cloud_unsure_samples_are_answered_locally_and_degraded(
    network_of: Networks, tmp_path: Path
) -> None:
    made = network_of("c")
    rows = np.arange(60)
    expected = made.staged(rows, np.ones((60, 3), bool))

    async def run() -> tuple[list[Answer], list[Answer]]:
        async with _everyone(made, tmp_path / "certs") as tiers, tiers.client() as client:
            await tiers.end("cloud")
            without = [await client.classify(sample) for sample in rows]
            await tiers.start("cloud")
            await asyncio.sleep(0.5)
            while (await client.classify(int(np.flatnonzero(expected.exits)[0]))).degraded:
                await asyncio.sleep(0.1)
            return without, [await client.classify(sample) for sample in rows]

    without, again = asyncio.run(run())
    assert [answer.exit for answer in without] == ["local"] * 60
    assert [answer.degraded for answer in without] == (expected.exits > 0).tolist()
    assert all("cloud" in answer.reason for answer in without if answer.degraded)
    assert [answer.label for answer in again] == expected.labels.tolist()
    assert not any(answer.degraded for answer in again)


def test_an_edge_speaks_where_the_cloud_does_not(network_of: Networks, tmp_path: Path) -> None:
    for letter in ("e", "f"):
        made = network_of(letter)
        expected = made.staged(np.arange(60), np.ones((60, 3), bool))

        async def run(made: RandomNetwork = made, letter: str = letter) -> list[Answer]:
            async with _everyone(made, tmp_path / letter) as tiers, tiers.client() as client:
                await tiers.end("cloud")
                return [await client.classify(sample) for sample in range(60)]

        answers = asyncio.run(run())
        exits = np.minimum(expected.exits, 1)
        tier_names = made.topology.hierarchy.exit_tier_names
        assert [tier_names.index(answer.exit) for answer in answers] == exits.tolist()
        assert [answer.degraded for answer in answers] == (expected.exits == 2).tolist()


def test_a_dead_edge_takes_its_devices_out_above_the_local_exit(network_of: Networks, tmp_path: Path) -> None:
    made = network_of("f")
    group = made.topology.hierarchy["edge_0"].senders

    async def run() -> list[Answer]:
        async with _everyone(made, tmp_path / "certs") as tiers, tiers.client() as client:
            await tiers.end("edge_0")
            return [await client.classify(sample) for sample in range(40)]

    for answer in asyncio.run(run()):
        assert not answer.degraded
        assert len(answer.devices["local"]) == 3
        if "edge" in answer.devices:
            assert not set(answer.devices["edge"]) & set(group)
        if answer.exit == "cloud":
            assert answer.devices["cloud"] == ("edge_1",)


def test_a_dead_site_takes_its_vote_out_and_not_its_devices(tmp_path: Path) -> None:
    made = unlike_network(TOPOLOGIES["sites"])
    names = made.topology.hierarchy.device_names

    async def run() -> None:
        processes = Running(
            served(made.bundle), sensors_of(made.views), tmp_path / "certs", wait=30, engine="keras"
        )
        async with processes, processes.client() as client:
            processes.aggregator.set_threshold("local", 0)
            assert (await client.classify(0, timeout=60)).devices == {"local": names, "cloud": names}
            await processes.end("site_a")
            answer = await client.classify(0, timeout=60)
            assert answer.devices == {"local": names[2:], "cloud": names}
            assert not answer.degraded
            assert "device_0 -> site_a" not in answer.payload_bytes
            await processes.end("site_b")
            answer = await client.classify(0, timeout=60)
            assert answer.devices == {"cloud": names}
            await processes.end(names[3])
            answer = await client.classify(0, timeout=60)
            assert answer.devices == {"cloud": names[:3]}
            await processes.end("cloud")
            with pytest.raises(ClassificationError, match="No exit could answer: site_a: unavailable"):
                await client.classify(0, timeout=60)

    asyncio.run(run())


def test_a_chain_of_edges_answers_as_far_as_it_reaches(tmp_path: Path) -> None:
    made = unlike_network(TOPOLOGIES["chain"])

    async def run() -> None:
        processes = Running(
            served(made.bundle), sensors_of(made.views), tmp_path / "certs", wait=30, engine="keras"
        )
        async with processes, processes.client() as client:
            for tier in made.topology.hierarchy.early_tier_names:
                processes.aggregator.set_threshold(tier, 0)
            for ended, exit_ in (("cloud", "edge_level_3"), ("high", "edge_level_2"), ("middle", "edge")):
                await processes.end(ended)
                answer = await client.classify(0, timeout=60)
                assert (answer.exit, answer.degraded) == (exit_, True)
                assert answer.reason.startswith(f"{ended}: un")
            assert processes.aggregator.is_answering["low"]
            assert not processes.aggregator.is_answering["middle"]

    asyncio.run(run())


def test_past_dead_edges_samples_are_answered_over_skip_links(tmp_path: Path) -> None:
    """Answers and bytes are those of the evaluation with the same nodes masked."""
    made = unlike_network(TOPOLOGIES["skipping"])
    hierarchy = made.topology.hierarchy
    rows = np.arange(25)
    everyone = hierarchy.device_names
    skipped: set[str] = set()

    async def run() -> None:
        processes = Running(
            served(made.bundle), sensors_of(made.views), tmp_path / "certs", wait=30, engine="keras"
        )
        async with processes, processes.client() as client:
            missing: list[str] = []
            for ended in ("", "side", "low", "high"):
                if ended:
                    await processes.end(ended)
                    missing.append(ended)
                present = hierarchy.presence(missing, len(rows))
                expected = made.staged(rows, present)
                for row in rows:
                    answer = await client.classify(int(row), timeout=60)
                    assert not answer.degraded
                    assert answer.devices["local"] == everyone
                    assert answer.label == expected.labels[row]
                    assert hierarchy.exit_tier_names.index(answer.exit) == expected.exits[row]
                    shares = [float(tier == answer.exit) for tier in hierarchy.exit_tier_names]
                    sizes = bytes_per_link(made.topology, shares, present)
                    assert answer.payload_bytes == {link: size for link, size in sizes.items() if size}
                    skipped.update(set(answer.payload_bytes) & set(skips))

    skips = {link.name for link in hierarchy.links if link.carries is Payload.SKIP}
    asyncio.run(run())
    assert skipped == {"far_0 -> cloud", "near_1 -> high"}


def test_what_an_edge_has_sent_in_vain_goes_past_its_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its feature map, and who hangs leaves the half of the time for those above."""
    made = unlike_network(TOPOLOGIES["skipping"])
    limits: dict[str, float] = {}
    call = Caller.call

    async def noting(
        self: Caller, path: str, message: Message, kind: type[Message], timeout: float
    ) -> Message:
        if path == "Upper/Decide":
            limits[self.peer] = timeout
        return await call(self, path, message, kind, timeout)

    monkeypatch.setattr(Caller, "call", noting)

    async def run() -> None:
        processes = Running(
            served(made.bundle), sensors_of(made.views), tmp_path / "certs", wait=30, engine="keras"
        )
        async with processes, processes.client() as client:
            for tier in made.topology.hierarchy.early_tier_names:
                processes.aggregator.set_threshold(tier, 0)
            await processes.end("high")
            answer = await client.classify(0, timeout=60)
            assert answer.devices["cloud"] == ("direct", "side", "low")
            assert answer.payload_bytes["low -> cloud"] == made.topology.hierarchy["low"].output.size
            assert "low -> high" not in answer.payload_bytes

    asyncio.run(run())
    assert limits["low"] <= 30
    assert limits["high"] <= 30
    assert limits["cloud"] > 30


def test_a_dead_device_is_not_waited_for_and_comes_back(network_of: Networks, tmp_path: Path) -> None:
    made = network_of("c")

    async def run() -> None:
        async with _everyone(made, tmp_path / "certs", wait=30) as tiers, tiers.client() as client:
            await tiers.end("device_1")
            answer = await client.classify(0, timeout=20)
            assert answer.devices["local"] == ("device_0", "device_2")
            await tiers.start("device_1")
            assert (await client.classify(0)).devices["local"] == made.topology.hierarchy.device_names

    asyncio.run(run())


def test_without_devices_there_is_a_clear_error_and_not_a_guess(network_of: Networks, tmp_path: Path) -> None:
    made = network_of("c")

    async def run() -> None:
        everybody = made.topology.hierarchy.device_names
        sensors = sensors_of(made.views)
        tiers = Running(served(made.bundle), sensors, tmp_path / "certs", left_out=everybody)
        async with tiers, tiers.client() as client:
            with pytest.raises(ClassificationError, match="No device took part") as caught:
                await client.classify(0)
            assert caught.value.code == "unavailable"

    asyncio.run(run())


def test_images_that_a_client_pushes(network_of: Networks, tmp_path: Path) -> None:
    made = network_of("c")
    expected = made.staged(np.arange(20), np.ones((20, 3), bool))

    async def run() -> list[Answer]:
        sensors = {name: PushedSensor() for name in made.topology.hierarchy.device_names}
        processes = Running(served(made.bundle), sensors, tmp_path / "certs", wait=5)
        async with processes as tiers, tiers.client() as client:
            # A question that comes before its readings waits for them.
            early = asyncio.ensure_future(client.classify(0, timeout=20))
            await asyncio.sleep(0.1)
            for sample in range(20):
                for name, view in made.views.items():
                    await client.push(name, sample, view[sample])
            with pytest.raises(ClassificationError, match="Expected a reading of 3072 bytes"):
                await client.push("device_0", 0, made.views["device_0"][0, :8])
            assert refused(tiers.metrics["device_0"]) == {"shape": 1}
            return [await early, *[await client.classify(sample) for sample in range(1, 20)]]

    answers = asyncio.run(run())
    assert [answer.label for answer in answers] == expected.labels.tolist()


@pytest.mark.parametrize("letter", ["c", "f"])
def test_only_the_surest_devices_are_asked_as_in_the_evaluation(network_of: Networks, letter: str) -> None:
    made = network_of(letter)
    views = {name: view[:60] for name, view in made.views.items()}
    asking = ask_surest(made.model, made.topology, views, 1)
    tiers = made.topology.hierarchy.exit_tier_names
    limits = [made.thresholds[tier] for tier in tiers[:-1]]
    expected = staged_inference(list(asking.probabilities.values()), limits)

    async def run() -> list[Answer]:
        async with (
            Running(served(made.bundle), sensors_of(made.views), wait=30, ask=1) as processes,
            processes.client() as client,
        ):
            return [await client.classify(sample, timeout=60) for sample in range(60)]

    answers = asyncio.run(run())
    assert [tiers.index(answer.exit) for answer in answers] == expected.exits.tolist()
    assert [answer.label for answer in answers] == expected.labels.tolist()
    assert expected.exits.max() == len(tiers) - 1
    assert not any(answer.degraded for answer in answers)
    sizes = bytes_of_asked(made.topology, expected.exits, asking.asked)
    for link, size in sizes.items():
        assert sum(answer.payload_bytes.get(link, 0) for answer in answers) / 60 == pytest.approx(size)


def test_more_devices_than_there_are_cannot_be_asked(network_of: Networks) -> None:
    with pytest.raises(ValueError, match="to ask between 1 and 3 devices, but got 4"):
        Aggregator(served(network_of("c").bundle), {}, Metrics(), ask=4)


def test_thresholds_take_effect_on_the_samples_to_come(network_of: Networks, tmp_path: Path) -> None:
    made = network_of("c")

    async def run() -> None:
        async with _everyone(made, tmp_path / "certs") as tiers, tiers.client() as client:
            for threshold, exit_name in ((1.0, "local"), (0.0, "cloud")):
                tiers.aggregator.set_threshold("local", threshold)
                answers = [await client.classify(sample) for sample in range(20)]
                assert {answer.exit for answer in answers} == {exit_name}
            with pytest.raises(ValueError, match="between 0 and 1"):
                tiers.aggregator.set_threshold("local", 1.5)

    asyncio.run(run())


def test_clients_of_several_threads_get_the_answers_of_the_evaluation(
    network_of: Networks, tmp_path: Path
) -> None:
    made = network_of("c")
    expected = made.staged(np.arange(60), np.ones((60, 3), bool))

    async def run() -> list[int]:
        async with _everyone(made, tmp_path / "certs", wait=5) as processes:
            options = {"certificates": processes.certificates(CLIENT)}
            address = processes.addresses["aggregator"]

            def ask(samples: range) -> list[int]:
                with Client(address, **options) as client:
                    return [client.classify(sample, timeout=30).label for sample in samples]

            parts = [range(first, first + 20) for first in (0, 20, 40)]
            labels = await asyncio.gather(*(asyncio.to_thread(ask, part) for part in parts))
            with (
                Client(address, **options) as client,
                pytest.raises(ValueError, match="a device out of none"),
            ):
                await asyncio.to_thread(client.push, "device_0", 0, made.views["device_0"][0])
            return [label for part in labels for label in part]

    assert asyncio.run(run()) == expected.labels.tolist()
