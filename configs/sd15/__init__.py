"""Stable Diffusion v1.5 at full size."""
