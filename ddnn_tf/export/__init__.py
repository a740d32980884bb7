"""Sections of a trained network as artefacts that other engines run, each checked against Keras.

Nothing is imported here: a device that runs an artefact needs neither TensorFlow nor a converter.
"""
