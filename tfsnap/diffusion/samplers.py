"""The samplers by name: a method, its path, and what it starts from."""

import dataclasses
from collections.abc import Callable

from tfsnap.diffusion.paths import (
    Path,
    Spacing,
    dpm_path,
    euler_path,
    karras_path,
    lcm_path,
    spaced_path,
)
from tfsnap.diffusion.sampling import Method, ddim, dpmpp_2m, euler_ancestral, lcm, pndm


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A way from noise to a latent.

    Attributes:
      method: one step, see `tfsnap.diffusion.sampling`.
      path: `(schedule, steps, spacing) -> Path`, see `tfsnap.diffusion.paths`.
      spacing: the kind that diffusers has as the default.
      unit_start: it starts from noise of variance 1. Euler's methods start from sigma_T times the
        noise, as z_T without any signal, unless the spacing is "leading"; so does diffusers.
      more: evaluations of the network beyond one a step.
    """

    method: Method
    path: Callable[..., Path]
    spacing: str = "leading"
    unit_start: bool = True
    more: int = 0

    def start_scale(self, path: Path, spacing: Spacing) -> float:
        """What standard normal noise is multiplied with to start at the noisy end of `path`."""
        return 1.0 if self.unit_start or spacing.kind == "leading" else path[0].start.sigma


SAMPLERS = {
    "ddim": Sampler(ddim, spaced_path),
    "dpmpp_2m": Sampler(dpmpp_2m, dpm_path, "linspace"),
    "dpmpp_2m_karras": Sampler(dpmpp_2m, karras_path, "linspace"),
    "euler": Sampler(ddim, euler_path, "linspace", unit_start=False),
    "euler_ancestral": Sampler(euler_ancestral, euler_path, "linspace", unit_start=False),
    "lcm": Sampler(lcm, lcm_path),
    "pndm": Sampler(pndm, spaced_path, more=1),
}
