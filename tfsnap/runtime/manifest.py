"""The manifest of a bundle: what its files are, and how they are used together."""

import dataclasses
import pathlib
from typing import Any

from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.paths import SPACINGS
from tfsnap.runtime.format_version import check_version
from tfsnap.runtime.json_fields import read_fields
from tfsnap.runtime.settings import Guidance, Latent, Sampler, Settings, TimeFeatures
from tfsnap.runtime.sizes import Size, check_sizes

MANIFEST = "manifest.json"
FORMAT = "tfsnap-bundle"
COMPONENTS = ("text_encoder", "unet", "decoder")
ENCODER = "encoder"  # Of pictures: a component that a bundle may have.
SAMPLERS = ("ddim", "dpmpp_2m", "euler", "lcm")  # Those that every reader has.


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a network.

    Attributes:
      name: its name in the network's signature.
      dtype: "float32" or "int32".
      shape: its static shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Parity:
    """How close a component came to the network it was exported from.

    Attributes:
      psnr_db: peak signal-to-noise ratio, in decibel.
      threshold_db: what the export asked for.
    """

    psnr_db: float
    threshold_db: float


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One of the files of a network that is stored in several.

    Attributes:
      file: a TFLite file.
      sha256: of the file, 64 hexadecimal digits.
      bytes: size of the file.
    """

    file: str
    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """One network of a bundle, in one file or in chunks.

    Attributes:
      file: its TFLite file; None, as the next two, where there are chunks.
      sha256: of the file, 64 hexadecimal digits.
      bytes: size of the file.
      inputs: all inputs of the signature "serving_default".
      outputs: all its outputs.
      parity: measured when the bundle was exported.
      chunks: files that run one after another and pass tensors on by name; see
        `tfsnap.runtime.chunked.ChunkedNetwork`.
    """

    file: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity | None = None
    chunks: tuple[Chunk, ...] | None = None

    def __post_init__(self) -> None:
        alone = (self.file, self.sha256, self.bytes)
        if None in alone if self.chunks is None else alone != (None, None, None):
            raise ValueError("a component has file, sha256 and bytes, or else chunks")
        if self.chunks == ():
            raise ValueError("chunks is empty; it must list at least one file")

    @property
    def files(self) -> tuple[Chunk, ...]:
        """Its files, in the order in which they run."""
        return self.chunks or (Chunk(self.file, self.sha256, self.bytes),)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(part.bytes for part in self.files)

    def at(self, size: Size) -> "Component":
        """The same for another size of picture."""
        inputs, outputs = (
            tuple(
                dataclasses.replace(tensor, shape=size.adapt(tensor.name, tensor.shape))
                for tensor in tensors
            )
            for tensors in (self.inputs, self.outputs)
        )
        return dataclasses.replace(self, inputs=inputs, outputs=outputs)


@dataclasses.dataclass(frozen=True)
class TokenizerFile:
    """The tokenizer of the text encoder; see `tfsnap.tokenizer.Tokenizer`.

    Attributes:
      file: CLIP's BPE merges, gzipped.
      sha256: of the file.
      context_length: tokens in a row.
      pad_token: what fills a row behind the end token.
      vocab_size: of the tokenizer; None means CLIP's.
    """

    file: str
    sha256: str
    context_length: int
    pad_token: int
    vocab_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Goldens:
    """One picture with every intermediate tensor, for readers in other languages.

    Attributes:
      file: safetensors with tokens, context, noise, latent and image.
      sha256: of the file.
      prompt: the prompt; the negative prompt is empty.
      seed: the seed of the noise.
      steps: number of steps.
      guidance: the guidance scale.
    """

    file: str
    sha256: str
    prompt: str
    seed: int
    steps: int
    guidance: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything in `manifest.json`; docs/bundle.md describes it field by field.

    Attributes:
      format: always "tfsnap-bundle".
      format_version: raised when older readers would misread a bundle; see `least_version`.
      name: of the model.
      precision: of the weights and activations: "fp32", "fp16", "int8", "int8_weights", "int8_full"
        or "int16".
      components: the networks by name: text_encoder, unet and decoder; encoder may be added.
      schedule: see `Settings`, as for the next five.
      prediction: see `Settings`.
      time_features: see `Settings`.
      latent: see `Settings`.
      guidance: see `Settings`.
      sampler: see `Settings`.
      tokenizer: the tokenizer of the text encoder.
      sizes: of the pictures, the default first; None where there is only that.
      goldens: tensors to compare with.
      provenance: where it all comes from; for people, no reader depends on it.

    Example:
      >>> manifest = Manifest(name="emoji", precision="fp16", components=components,
      ...                     tokenizer=tokenizer_file, **vars(settings))
      >>> json.dump(manifest.to_dict(), file)
    """

    format: str = FORMAT
    format_version: int = 1
    name: str
    precision: str
    components: dict[str, Component]
    schedule: ScheduleConfig
    prediction: str
    time_features: TimeFeatures
    latent: Latent
    guidance: Guidance
    sampler: Sampler
    tokenizer: TokenizerFile
    sizes: tuple[Size, ...] | None = None
    goldens: Goldens | None = None
    provenance: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        missing = [name for name in COMPONENTS if name not in self.components]
        if missing:
            raise ValueError(f"components lack {missing[0]!r}")
        for file in self.checksums():
            require_safe_name(file)
        if self.sampler.default not in SAMPLERS:
            raise ValueError(
                f"sampler.default is {self.sampler.default!r}; it must be one of "
                f"{', '.join(SAMPLERS)}"
            )
        if self.sampler.spacing not in SPACINGS:
            raise ValueError(
                f"sampler.spacing is {self.sampler.spacing!r}; it must be one of "
                f"{', '.join(SPACINGS)}"
            )
        for name, (inputs, outputs) in self._contracts().items():
            component = self.components.get(name)
            if component is None:  # The encoder: what must be there was looked for above.
                continue
            _check_tensors(f"{name} inputs", component.inputs, inputs)
            _check_tensors(f"{name} outputs", component.outputs, outputs)
        if self.sizes is not None:
            check_sizes(self.sizes, latent=self.latent.shape, image=self.image_shape)
        if self.guidance.baked_in and self.contexts > 1:
            raise ValueError("guidance is baked in, and yet the UNet takes two contexts")
        least = least_version(self.components, self.sizes, self.tokenizer)
        if self.format_version < least:
            raise ValueError(f"format_version is {self.format_version}; it must be {least}")

    @classmethod
    def from_json(cls, values: Any) -> "Manifest":
        """Reads and checks what `json.load` returned.

        Raises:
          ValueError: this is no manifest, one of a later format, or it contradicts itself.
        """
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise ValueError(f"this is no tfsnap bundle: its format is {found!r}, not {FORMAT!r}")
        check_version(values.get("format_version"))
        return read_fields(cls, values, where=MANIFEST)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is written to `manifest.json`: fields that are None are left out."""
        return dataclasses.asdict(
            self, dict_factory=lambda items: {key: v for key, v in items if v is not None}
        )

    @property
    def settings(self) -> Settings:
        """What a `Pipeline` needs."""
        return Settings(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Settings)})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the pictures."""
        return self.components["decoder"].outputs[0].shape[1:]

    @property
    def contexts(self) -> int:
        """How many contexts the UNet takes in one call: 2 for guidance, else 1."""
        return _contexts(self.components["unet"])

    def at(self, size: Size) -> "Manifest":
        """The same with one of its sizes in the contracts and in the settings."""
        components = {name: component.at(size) for name, component in self.components.items()}
        latent = dataclasses.replace(self.latent, shape=size.latent)
        return dataclasses.replace(self, components=components, latent=latent, sizes=None)

    def checksums(self) -> dict[str, tuple[str, str]]:
        """Returns, by file, what it holds and its SHA-256."""
        files = {
            part.file: (name, part.sha256)
            for name, component in self.components.items()
            for part in component.files
        }
        named = {"tokenizer": self.tokenizer, "goldens": self.goldens}
        others = {p.file: (name, p.sha256) for name, p in named.items() if p is not None}
        return files | others

    def _contracts(self) -> dict[str, tuple[dict, dict]]:
        """Type and shape of every tensor; None stands for any size."""
        latent = ("float32", (1, *self.settings.latent.shape))
        contexts = self.contexts
        context = ("float32", (1, self.tokenizer.context_length, self._context_width()))
        tokens = ("int32", (1, self.tokenizer.context_length))
        features = ("float32", (1, 1, self.time_features.width))
        each = (context[0], (contexts, *context[1][1:]))
        unet = {"latent": latent, "time_features": features, "context": each}
        if self.guidance.width is not None:
            unet["guidance_features"] = ("float32", (1, 1, self.guidance.width))
        decoded = self.components["decoder"].outputs
        picture = decoded[0].shape if len(decoded) == 1 else (1, None, None, 3)
        return {
            "text_encoder": ({"tokens": tokens}, {"context": context}),
            "unet": (unet, {"prediction": (latent[0], (contexts, *latent[1][1:]))}),
            "decoder": ({"latent": latent}, {"image": ("float32", (1, None, None, 3))}),
            ENCODER: ({"image": ("float32", picture)}, {"latent": latent}),
        }

    def _context_width(self) -> int | None:
        """The width that the text encoder returns; the UNet must read the same."""
        outputs = self.components["text_encoder"].outputs
        return outputs[0].shape[-1] if outputs and outputs[0].shape else None


def least_version(
    components: dict[str, Component], sizes: tuple[Size, ...] | None, tokenizer: TokenizerFile
) -> int:
    """The `format_version` of a bundle: 1 where the first readers can read it."""
    if tokenizer.vocab_size is not None:
        return 3
    chunked = any(component.chunks for component in components.values())
    return 2 if chunked or sizes is not None or _contexts(components["unet"]) > 1 else 1


def _contexts(unet: Component) -> int:
    """Size of the UNet's batch of contexts, if it is one that can be."""
    found = [tensor.shape[0] for tensor in unet.inputs if tensor.name == "context" and tensor.shape]
    return 2 if found == [2] else 1


def require_safe_name(name: str) -> None:
    """Raises ValueError unless `name` is a plain relative path that stays in the bundle."""
    parts = pathlib.PurePosixPath(name).parts
    safe = parts and not name.startswith("/") and ".." not in parts
    if not safe or any(character in name for character in "\\:\0"):
        raise ValueError(f"{name!r} is no file name inside a bundle: it must be a relative path")


def _check_tensors(
    where: str, tensors: tuple[TensorSpec, ...], expected: dict[str, tuple[str, tuple]]
) -> None:
    names = sorted(tensor.name for tensor in tensors)
    if names != sorted(expected):
        raise ValueError(f"{where} are {names}; they must be {sorted(expected)}")
    for tensor in tensors:
        dtype, shape = expected[tensor.name]
        fits = len(tensor.shape) == len(shape) and all(
            size > 0 and wanted in (None, size)
            for size, wanted in zip(tensor.shape, shape, strict=True)
        )
        if tensor.dtype != dtype or not fits:
            shown = [size or "any" for size in shape]
            raise ValueError(
                f"{where}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}; "
                f"it must be {dtype} {shown}"
            )
