"""The cloud section as a TensorFlow SavedModel, for TF Serving and others: signature `serving_default`.

Inputs are what the cloud joins, by sender: `(batch, height, width, channels)`, `(batch, steps, channels)` or
`(batch, features)` float32; the output is `logits`, `(batch, classes)`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddnn_tf.bundle import Artefact
from ddnn_tf.export.litert import quiet, saved
from ddnn_tf.export.targets import EXACT, register_target
from ddnn_tf.hierarchy import Role

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner, Section

__all__ = ["SavedModel"]

_ROOT = "savedmodel"


class SavedModel:
    """A SavedModel of the cloud section."""

    name = "savedmodel"
    extra = "tflite"
    sections = "the cloud"
    tolerance = EXACT

    def takes(self, section: Section) -> bool:
        """The cloud."""
        return section.role is Role.CLOUD

    def convert(self, section: Section, samples: Arrays) -> Artefact:
        """As `Target.convert`; `samples` are not needed."""
        with tempfile.TemporaryDirectory() as directory:
            with quiet():
                saved(section, lambda inputs: section.model(inputs, training=False), directory, batch=None)
            place = Path(directory)
            paths = sorted(path for path in place.rglob("*") if path.is_file())
            # The graph first: it is what a reader of the artefact's size means.
            paths.sort(key=lambda path: path.name != "saved_model.pb")
            files = {f"{_ROOT}/{path.relative_to(place).as_posix()}": path.read_bytes() for path in paths}
        return Artefact(section.name, self.name, files, {"has_bits": section.has_bits})

    def runner(self, artefact: Artefact) -> Runner:
        """As `Target.runner`."""
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as directory:
            for name, content in artefact.files.items():
                file = Path(directory) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            with quiet():
                loaded = tf.saved_model.load(str(Path(directory) / _ROOT))
        serve = loaded.signatures["serving_default"]

        def run(inputs: Arrays) -> Arrays:
            given = {name: tf.constant(np.asarray(array, np.float32)) for name, array in inputs.items()}
            answer = {name: values.numpy() for name, values in serve(**given).items()}
            # The function lives as long as what it was loaded from.
            _ = loaded
            return answer

        return run


register_target(SavedModel())
