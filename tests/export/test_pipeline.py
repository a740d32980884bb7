"""From a trained run of unlike devices to a verified bundle, and targets of a user's own on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ddnn_tf
from ddnn_tf.bundle import Artefact, open_bundle, read_bundle
from ddnn_tf.datasets import DATASETS, DataSource, MultiViewDataset, register_dataset
from ddnn_tf.datasets.multiview import coded_views
from ddnn_tf.datasets.splits import split_at_random
from ddnn_tf.export import pipeline
from ddnn_tf.export.benchmark import benchmark_bundle
from ddnn_tf.export.pipeline import export_run, verify_bundle
from ddnn_tf.export.targets import EXACT, TARGETS
from ddnn_tf.export.timing import SAMPLES, Clock
from ddnn_tf.hierarchy import Role
from ddnn_tf.runs import load_run, train_run
from ddnn_tf.sections import Arrays, Runner, Section
from ddnn_tf.topology import Topology
from ddnn_tf.training import TrainingOptions

pytestmark = pytest.mark.slow

ROOM = Topology.from_yaml("""
devices:
- {name: camera, input: [10, 8, 3], filters: [4]}
- {name: microphone, input: [12, 2], filters: [3]}
- {name: co2, input: [5], units: [6]}
edges:
- {name: desk, senders: [camera, co2], adapter: [4, 3], filters: [6], exit: false}
cloud: {adapter: [16], units: [24]}
classes: 3
""")
TEST_SAMPLES = 90


def load_room(source: DataSource) -> MultiViewDataset:
    """More persons: brighter pictures, louder sound, and more of what five sensors measure."""
    random = np.random.default_rng(0)
    samples = 600
    labels = np.arange(samples) % 3
    split = split_at_random(samples, test=TEST_SAMPLES, validation_share=0.2, seed=source.seed)
    level = labels[:, None].astype(float)
    pictures = random.integers(0, 90, (samples, 10, 8, 3)) + 60 * labels[:, None, None, None]
    physical = {
        "microphone": random.normal(size=(samples, 12, 2)) * (0.3 + level[:, :, None]),
        "co2": 400 + 150 * level + random.normal(0, 80, (samples, 5)),
    }
    views, codings = coded_views(physical, split["train"])
    return MultiViewDataset(
        name="room",
        views={"camera": pictures.astype(np.uint8), **views},
        labels=labels,
        presence=np.ones((samples, 3), bool),
        class_names=("nobody", "one", "many"),
        split=split,
        split_rule="at random",
        codings=codings,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("pipeline") / "run"
    register_dataset("room", load_room, about="a room", options=())
    source = DataSource(name="room")
    train_run(directory, ROOM, source, source.load(), TrainingOptions(epochs=8, seed=1))
    yield directory
    del DATASETS._parts["room"]


@pytest.fixture
def _registered() -> Iterator[None]:
    """Targets that a test registers are forgotten after it."""
    before = set(TARGETS)
    yield
    for name in set(TARGETS) - before:
        del TARGETS._parts[name]


class Vote:
    """A target of a user's own: the maximum of class vectors, in NumPy."""

    name, extra, sections, tolerance = "vote", "dev", "local aggregators that take the maximum", EXACT

    def takes(self, section: Section) -> bool:
        scheme = section.node.scheme
        return section.role is Role.LOCAL and scheme is not None and scheme.name == "MP"

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        return Artefact(section.name, self.name, {"senders.json": json.dumps(section.inputs).encode()})

    def runner(self, artefact: Artefact) -> Runner:
        senders = json.loads(artefact.content)

        def vote(inputs: Arrays) -> Arrays:
            return {"logits": np.max([inputs[sender] for sender in senders], axis=0)}

        return vote


class Lowest(Vote):
    """The same, wrong."""

    name = "lowest"

    def runner(self, artefact: Artefact) -> Runner:
        senders = json.loads(artefact.content)

        def lowest(inputs: Arrays) -> Arrays:
            return {"logits": np.min([inputs[sender] for sender in senders], axis=0)}

        return lowest


class Metered(Vote):
    """With a clock of its own."""

    name = "metered"

    def clock(self, artefact: Artefact) -> Clock:
        return lambda inputs, batch: [1e-3 * batch] * 3


def test_a_network_trained_on_scaled_codes_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statistics of a `fit` on x / 255; the data's own codes tell."""
    trained = load_run(run)
    norm = trained.model.get_layer("microphone_convp_0_norm")
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma, beta, mean / 255, variance / 255**2])
    monkeypatch.setattr(pipeline, "load_run", lambda _: trained)
    with pytest.raises(ValueError, match=r"'microphone_convp_0_norm' the sums of .*without a scaling"):
        export_run(run, tmp_path / "bundle.zip", targets=["c"])
    assert not (tmp_path / "bundle.zip").exists()


@pytest.mark.usefixtures("_registered")
def test_a_target_of_ones_own_is_exported_verified_and_timed(run: Path, tmp_path: Path) -> None:
    ddnn_tf.register_target(Vote())
    ddnn_tf.register_target(Metered())
    place = tmp_path / "bundle.zip"
    names = ["vote", "metered"]
    bundle = export_run(run, place, targets=names)
    assert [(each.section, each.target) for each in bundle.artefacts] == [("local", name) for name in names]
    assert read_bundle(place).artefacts == bundle.artefacts
    for check in verify_bundle(place):
        assert check.passed
        assert (check.bit_agreement, check.max_logit_error, check.decision_agreement) == (None, 0.0, 1.0)
        assert (check.samples, check.accuracy_samples) == (500, TEST_SAMPLES)
    timings = {(timing.engine, timing.batch): timing for timing in benchmark_bundle(place)}
    assert set(timings) == {(engine, batch) for engine in ("keras", *names) for batch in (1, SAMPLES)}
    assert timings["metered", SAMPLES].median_us == pytest.approx(1000)
    assert all(timing.median_us > 0 and timing.ratio is None for timing in timings.values())
    vote = TARGETS["vote"].runner(open_bundle(place).artefact("local", "vote"))
    votes = {"camera": np.array([[0.0, 2.0, 1.0]]), "microphone": np.zeros((1, 3)), "co2": np.ones((1, 3))}
    assert vote(votes)["logits"].tolist() == [[1.0, 2.0, 1.0]]


@pytest.mark.usefixtures("_registered")
def test_a_wrong_target_is_refused_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    ddnn_tf.register_target(Lowest())
    with pytest.raises(ValueError, match=r"'local' for 'lowest' is beyond its tolerance: .* equal decisions"):
        export_run(run, tmp_path / "bundle", targets=["lowest"])
    with pytest.raises(ValueError, match=r"sections that 'lowest' can run, but got cloud: it takes local"):
        export_run(run, tmp_path / "bundle", targets=["lowest"], sections=["cloud"])
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_registered")
def test_a_bundle_with_a_target_that_is_not_installed_is_refused(run: Path, tmp_path: Path) -> None:
    ddnn_tf.register_target(Vote())
    export_run(run, tmp_path / "bundle", targets=["vote"])
    del TARGETS._parts["vote"]
    for command in (verify_bundle, benchmark_bundle):
        with pytest.raises(ValueError, match=r"'local' for 'vote', which is unknown.*registers the target"):
            command(tmp_path / "bundle")


def test_a_network_of_unlike_devices_passes_on_exact_targets(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    targets = ["lce", "savedmodel", "tflite"]
    bundle = export_run(run, place, targets=targets)
    names = [node.name for node in ROOM.hierarchy.sections]
    assert names == [
        "camera", "microphone", "co2", "local", "desk_from_camera", "desk_from_co2", "desk",
        "cloud_from_microphone", "cloud_from_desk", "cloud",
    ]  # fmt: skip
    pairs = {(each.section, each.target) for each in bundle.artefacts}
    everywhere = {(name, target) for name in names for target in ("lce", "tflite")}
    assert pairs == everywhere | {("cloud", "savedmodel")}
    assert all(record["passed"] for record in bundle.verification)
    assert {record["accuracy_samples"] for record in bundle.verification} == {TEST_SAMPLES}
    expected = json.loads((run / "metrics.json").read_text())["overall_accuracy"]
    exact = [record for record in bundle.verification if record["target"] == "tflite"]
    assert [record["accuracy"] for record in exact] == pytest.approx([expected] * len(names))
    assert all(record["max_logit_error"] is None for record in exact if "desk" in record["section"])
    assert bundle.topology.codings.keys() == {"microphone", "co2"}
    assert [check.passed for check in verify_bundle(place)] == [True] * len(pairs)


def test_a_device_runs_its_artefact_without_tensorflow(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "bundle", targets=["tflite", "c"], sections=["co2"])
    program = f"""
import sys
import numpy as np
from ddnn_tf.bundle import open_bundle
from ddnn_tf.export import TARGETS
reader = open_bundle({str(tmp_path / "bundle")!r})
answers = [
    TARGETS[name].runner(reader.artefact("co2", name))({{"co2": np.full((1, 5), 7, np.float32)}})
    for name in ("tflite", "c")
]
print(all(np.array_equal(answers[0]["features"], answer["features"]) for answer in answers))
print([name for name in ("tensorflow", "tf_keras", "larq") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n[]\n", done.stderr


def test_an_export_by_risk_has_thresholds_for_every_set_of_devices(run: Path, tmp_path: Path) -> None:
    exported = export_run(run, tmp_path / "bundle", targets=["savedmodel"], risk=0.4, delta=0.2)
    trained = load_run(run)
    calibration = read_bundle(tmp_path / "bundle").calibration
    assert calibration is not None
    assert calibration == trained.examine(trained.source.load()).calibrate(0.4, 0.2)
    assert len(calibration.sets) == 7
    assert exported.thresholds == calibration.sets[0].thresholds
    assert export_run(run, tmp_path / "plain", targets=["savedmodel"]).calibration is None


def test_an_export_by_a_risk_out_of_range_writes_nothing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`risk` between 0 and 1, but got 2"):
        export_run(run, tmp_path / "bundle", targets=["savedmodel"], risk=2)
    assert not list(tmp_path.iterdir())
