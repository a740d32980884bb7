from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from unlike import UNLIKE

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.network import PRESENCE, build, build_individual, without_presence
from ddnn_tf.recipes import Recipe
from ddnn_tf.topology import Cloud, Topology
from ddnn_tf.training import TrainingOptions, TrainingResult, train

ALIKE = {"input": (8, 8, 1), "filters": (2,)}
OPTIONS = TrainingOptions(epochs=4, batch_size=8, learning_rate=0.01, seed=5)


def fresh(topology: Topology, individual: bool = False) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(1)
    return (build_individual if individual else build)(topology)


def same(first: tf.keras.Model, second: tf.keras.Model) -> bool:
    return all(map(np.array_equal, first.get_weights(), second.get_weights()))


class Kill(tf.keras.callbacks.Callback):
    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_learns_at_every_exit(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    model = fresh(tiny_topology)
    result = train(model, tiny_data, options=replace(OPTIONS, epochs=15))
    assert len(result.history["loss"]) == 15
    assert result.history["loss"][-1] < 0.6 * result.history["loss"][0]
    for probabilities in model.predict(tiny_data.inputs("test"), verbose=0):
        assert (probabilities.argmax(1) == tiny_data.targets("test")).mean() > 0.8


def test_compiled_pools_train_like_the_plain_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six devices as in the paper: at each of 8 steps the loss and the gradients of TensorFlow's pools.

    Both are taken at the same weights: left alone, two binary networks part ways at the first weight
    whose sign hangs on the last bit of a sum.
    """
    topology = Topology.devices_cloud()
    random = np.random.default_rng(7)
    images = random.integers(0, 256, (64, 6, 32, 32, 3)).astype(np.float32)
    labels = tf.constant(random.integers(0, 3, 64))
    inputs = {name: tf.constant(images[:, at]) for at, name in enumerate(topology.hierarchy.device_names)}
    model = fresh(topology)
    optimizer = tf.keras.optimizers.Adam(0.01)
    losses = []

    def step_of(model: tf.keras.Model) -> Callable[[], tuple[tf.Tensor, list[tf.Tensor]]]:
        @tf.function
        def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                exits = model(inputs, training=True)
                loss = tf.add_n(
                    [
                        tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, exit_))
                        for exit_ in exits
                    ]
                )
            return loss, tape.gradient(loss, model.trainable_variables)

        return step

    compiled, plain = step_of(model), step_of(model)
    with monkeypatch.context() as patch:
        patch.setattr(tf.test, "is_built_with_xla", lambda: False)
        plain()  # traces it
    for _ in range(8):
        (loss, gradients), (expected_loss, expected) = compiled(), plain()
        assert np.isclose(loss, expected_loss, rtol=1e-6)
        for gradient, other in zip(gradients, expected, strict=True):
            assert np.abs(gradient - other).max() <= 1e-4 * np.abs(other).max() + 1e-7
        optimizer.apply_gradients(zip(expected, model.trainable_variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]


def test_same_seed_same_weights(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    first, second, other = (fresh(tiny_topology) for _ in range(3))
    train(first, tiny_data, options=OPTIONS)
    train(second, tiny_data, options=OPTIONS)
    train(other, tiny_data, options=replace(OPTIONS, seed=6))
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize("killed_at", [1, 3])
def test_killed_training_ends_as_if_it_had_not_been(
    tiny_topology: Topology, tiny_data: MultiViewDataset, tmp_path: Path, killed_at: int
) -> None:
    expected = fresh(tiny_topology)
    whole = train(expected, tiny_data, options=OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        train(
            fresh(tiny_topology),
            tiny_data,
            options=OPTIONS,
            directory=tmp_path,
            callbacks=[Kill(killed_at)],
        )
    tf.keras.utils.set_random_seed(99)
    resumed = build(tiny_topology)
    result = train(resumed, tiny_data, options=OPTIONS, directory=tmp_path)
    assert same(resumed, expected)
    assert result == TrainingResult(whole.history, whole.best_epoch)
    with open(tmp_path / "ddnn.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert float(rows[2]["val_loss"]) == pytest.approx(whole.history["val_loss"][2])


def test_checkpoint_of_another_training_is_refused(
    tiny_topology: Topology, tiny_data: MultiViewDataset, tmp_path: Path
) -> None:
    train(fresh(tiny_topology), tiny_data, options=replace(OPTIONS, epochs=1), directory=tmp_path)
    for other in (
        {"options": replace(OPTIONS, epochs=1, learning_rate=0.1)},
        {"options": replace(OPTIONS, epochs=1), "loss_weights": {"local": 2, "cloud": 1}},
    ):
        with pytest.raises(ValueError, match="checkpoint of another training"):
            train(fresh(tiny_topology), tiny_data, directory=tmp_path, **other)  # type: ignore[arg-type]


def test_checkpoint_of_another_wiring_is_refused(tiny_data: MultiViewDataset, tmp_path: Path) -> None:
    views = {f"device_{number}": tiny_data.views[f"device_{number % 2}"] for number in range(4)}
    data = replace(tiny_data, views=views, presence=tiny_data.presence[:, [0, 1, 0, 1]])
    devices = {"count": 4, "input": (8, 8, 1), "filters": (4,)}

    def wired(*groups: tuple[int, int]) -> tf.keras.Model:
        edges = [
            {"name": f"edge_{number}", "senders": [f"device_{at}" for at in group], "filters": [4]}
            for number, group in enumerate(groups)
        ]
        return build(Topology(devices=devices, classes=2, edges=edges))

    one, other = wired((0, 1), (2, 3)), wired((0, 2), (1, 3))
    train(one, data, options=replace(OPTIONS, epochs=1), directory=tmp_path)
    with pytest.raises(ValueError, match="checkpoint of another training"):
        train(other, data, options=replace(OPTIONS, epochs=1), directory=tmp_path)


def test_keeps_the_weights_of_the_best_epoch(
    tiny_topology: Topology, tiny_data: MultiViewDataset, tmp_path: Path
) -> None:
    model = fresh(tiny_topology)
    result = train(model, tiny_data, options=replace(OPTIONS, epochs=8, learning_rate=0.2))
    assert result.best_epoch == int(np.argmin(result.history["val_loss"]))
    labels = tiny_data.targets("validation")
    loss = model.evaluate(
        tiny_data.inputs("validation"), dict.fromkeys(model.output_names, labels), verbose=0
    )[0]
    assert loss == pytest.approx(min(result.history["val_loss"]), rel=1e-4)


def test_absent_views_never_reach_a_devices_loss(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    """Wrong labels on exactly the samples that device 1 does not see change nothing for it."""
    absent = ~tiny_data.presence[:, 1]
    lied = replace(tiny_data, labels=np.where(absent, 1 - tiny_data.labels, tiny_data.labels))
    honest, fooled = fresh(tiny_topology, True), fresh(tiny_topology, True)
    train(honest, tiny_data, options=replace(OPTIONS, epochs=1), individual=True)
    train(fooled, lied, options=replace(OPTIONS, epochs=1), individual=True)
    for layer in honest.layers:
        if layer.name.startswith("device_1"):
            other = fooled.get_layer(layer.name)
            assert all(map(np.array_equal, layer.get_weights(), other.get_weights()))
    seen = honest.get_layer("device_0_exit_dense").get_weights()[0]
    assert not np.array_equal(seen, fooled.get_layer("device_0_exit_dense").get_weights()[0])


def test_an_exit_of_weight_zero_is_not_trained(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    topology = tiny_topology.replace(cloud=Cloud(filters=(8,), loss_weight=0))
    model = fresh(topology)
    before = model.get_layer("cloud_convp_0_conv").get_weights()[0]
    train(model, tiny_data, options=OPTIONS, loss_weights=topology.loss_weights)
    assert np.array_equal(before, model.get_layer("cloud_convp_0_conv").get_weights()[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "`epochs` to be positive, but got 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"beta_1": 1.0}, "beta_1"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_are_checked(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": {"count": 3, **ALIKE}}, "input 'device_2' is .* has views of device_0, device_1"),
        ({"devices": {"count": 2, **ALIKE, "input": (8, 4, 1)}}, r"'device_0' is \(8, 4, 1\)"),
        ({"devices": {"count": 2, **ALIKE}, "classes": 5}, "'classes' is 5"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(
    tiny_data: MultiViewDataset, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(build(Topology(**{"classes": 2, **change})), tiny_data, options=OPTIONS)


def test_a_recipe_that_lets_devices_fail_needs_a_model_that_can_be_told(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    dropping = replace(OPTIONS, recipe=Recipe(drop=0.5))
    with pytest.raises(ValueError, match="no input 'present': train `build\\(topology, presence=True\\)`"):
        train(build(tiny_topology), tiny_data, options=dropping)


def test_the_names_of_all_nodes_that_may_fail_are_asked_for(tiny_data: MultiViewDataset) -> None:
    topology = Topology(
        devices=[{"count": 2, **ALIKE}],
        edges=[{"name": "edge", "senders": ["device"], "filters": [4]}],
        cloud={"filters": [4]},
        classes=2,
    )
    options = replace(OPTIONS, recipe=Recipe(drop=0.5))
    with pytest.raises(ValueError, match=r"the 3 nodes of the input 'present', but got 2: give `topology"):
        train(build(topology, presence=True), tiny_data, options=options)


def test_options_with_another_recipe_take_its_learning_rate() -> None:
    options = replace(TrainingOptions(), recipe=Recipe(learning_rate=0.003))
    assert options.rate == options.to_dict()["learning_rate"] == 0.003
    assert replace(options, learning_rate=0.01).rate == 0.01
    assert hash(options) == hash(replace(options))


def test_devices_that_fail_in_training_change_the_weights_reproducibly(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    trained = []
    for drop in (0.0, 1.0, 1.0):
        tf.keras.utils.set_random_seed(1)
        model = build(tiny_topology, presence=True)
        train(model, tiny_data, options=replace(OPTIONS, recipe=Recipe(drop=drop)))
        trained.append(without_presence(model, tiny_topology))
    plain = fresh(tiny_topology)
    train(plain, tiny_data, options=OPTIONS)
    assert same(trained[0], plain)
    assert not same(trained[0], trained[1])
    assert same(trained[1], trained[2])


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(schedule="cosine", warm_up=0.2, label_smoothing=0.1),
        Recipe(averaging=0.9, drop=0.5),
        Recipe(real_epochs=0.5, activation_gradient="approx_sign", kernel_gradient="magnitude_aware_sign"),
        Recipe(distillation=1.0, weight_shift=0.5, branch_gradient=0.5, activation_gradient="swish_sign"),
        Recipe(optimizer="bop"),
    ],
    ids=["schedule", "average", "real first", "exits", "bop"],
)
def test_every_recipe_trains_and_resumes_to_the_same_weights(
    recipe: Recipe, tiny_topology: Topology, tiny_data: MultiViewDataset, tmp_path: Path
) -> None:
    def network() -> tf.keras.Model:
        tf.keras.utils.set_random_seed(1)
        return build(tiny_topology, presence=recipe.fails_nodes)

    options = replace(OPTIONS, recipe=recipe)
    whole, resumed = network(), network()
    result = train(whole, tiny_data, options=options)
    with pytest.raises(KeyboardInterrupt):
        train(network(), tiny_data, options=options, directory=tmp_path, callbacks=[Kill(3)])
    train(resumed, tiny_data, options=options, directory=tmp_path)
    assert same(whole, resumed)
    assert result.best_epoch >= recipe.real_epochs * options.epochs
    assert np.isfinite(result.history["val_loss"]).all()
    outputs = whole.predict(
        tiny_data.inputs("test") | {PRESENCE: np.ones((len(tiny_data.targets("test")), 2), bool)}, verbose=0
    )
    assert all(np.isfinite(output).all() for output in outputs)


def test_an_average_is_validated_and_kept_while_training_goes_on_from_the_weights(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    averaged, plain = fresh(tiny_topology), fresh(tiny_topology)
    result = train(averaged, tiny_data, options=replace(OPTIONS, recipe=Recipe(averaging=0.9)))
    expected = train(plain, tiny_data, options=OPTIONS)
    assert result.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-5)
    assert result.history["val_loss"] != pytest.approx(expected.history["val_loss"], rel=1e-3)
    assert not same(averaged, plain)


def test_rare_classes_weigh_more_where_data_are_balanced(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    rows = np.flatnonzero((tiny_data.labels == 0) | (np.arange(60) % 10 == 1))
    train_rows = rows[rows < 36]
    rare = replace(tiny_data, split={**tiny_data.split, "train": train_rows}, balance=True)
    weights = rare.class_weights()
    counts = np.bincount(rare.targets("train"))
    assert weights == pytest.approx(counts.sum() / (2 * counts))
    assert weights[rare.targets("train")].mean() == pytest.approx(1)
    plain, balanced = fresh(tiny_topology), fresh(tiny_topology)
    train(plain, replace(rare, balance=False), options=OPTIONS)
    train(balanced, rare, options=OPTIONS)
    assert not same(plain, balanced)


def test_unlike_devices_learn_together() -> None:
    topology = Topology.from_yaml(UNLIKE)
    random = np.random.default_rng(0)
    labels = np.arange(80) % 4
    views = {}
    for node in topology.hierarchy.devices:
        noise = random.integers(0, 60, (80, *node.sensor.shape))
        views[node.name] = (noise + 60 * labels.reshape(-1, *[1] * len(node.sensor.shape))).astype(np.uint8)
    data = MultiViewDataset(
        name="unlike",
        views=views,
        labels=labels,
        presence=np.ones((80, 4), bool),
        class_names=("a", "b", "c", "d"),
        split={"train": np.arange(48), "validation": np.arange(48, 64), "test": np.arange(64, 80)},
        split_rule="in order",
    )
    model = fresh(topology)
    result = train(model, data, options=replace(OPTIONS, epochs=12))
    assert result.history["loss"][-1] < 0.7 * result.history["loss"][0]
    cloud = model.predict(data.inputs("test"), verbose=0)[-1]
    assert (cloud.argmax(1) == data.targets("test")).mean() > 0.7


def test_a_callback_of_keras_3_is_refused_before_training(
    tiny_topology: Topology, tiny_data: MultiViewDataset
) -> None:
    import keras  # here, because it takes its time and no other test needs it

    with pytest.raises(TypeError, match=r"of Keras 2, but got keras\..*\.EarlyStopping: make them with `tf"):
        train(fresh(tiny_topology), tiny_data, callbacks=[keras.callbacks.EarlyStopping()])
