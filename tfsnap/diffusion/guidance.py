"""Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598)."""

from typing import Any

Array = Any


def guide(*, conditional: Array, unconditional: Array, scale: float | Array) -> Array:
    """w f(c) - (w - 1) f(null), for any prediction f that is affine in eps (SnapFusion eq. 10).

    Args:
      conditional: the network's output for the prompt.
      unconditional: its output for the empty (or negative) prompt, of the same shape.
      scale: the guidance scale w; 1 is no guidance.
    """
    return unconditional + scale * (conditional - unconditional)
