"""Keras layers: delegate-safe (rank <= 4, no BROADCAST_TO) and XLA-safe by construction.

A layer's name is its address in the network (`down.0.resnets.1.conv1`); sublayers extend their
parent's. The weight store is keyed by these names, so renaming a layer is a format change.
"""
