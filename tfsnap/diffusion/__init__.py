"""The mathematics of diffusion, on anything that has arithmetic operators.

Coefficients are numpy float64 tables; latents may be numpy arrays or TensorFlow tensors. The
training graph, the exporter's goldens and the TensorFlow-free runtime run the very same functions.
"""
