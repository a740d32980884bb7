"""Sections of a trained network as artefacts that other engines run, each checked against Keras.

    >>> TARGETS["tflite-int8"].sections
    'any section'

Neither TensorFlow nor a converter is imported here: a device that runs an artefact needs neither.
"""

from ddnn_tf.export.targets import TARGETS, register_target

__all__ = ["TARGETS", "register_target"]
