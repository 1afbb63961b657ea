"""A manifest survives JSON, and one that is wrong is refused with the field and the value."""

import json

import pytest

from tfsnap.runtime.manifest import Manifest, require_safe_name
from tfsnap.runtime.settings import Guidance, Latent, Sampler, Settings, TimeFeatures


@pytest.fixture
def values(tiny_bundle):
    return json.loads((tiny_bundle / "manifest.json").read_text())


def test_round_trip(values):
    manifest = Manifest.from_json(values)
    assert json.loads(json.dumps(manifest.to_dict())) == values
    assert next(iter(manifest.to_dict())) == "format"
    assert manifest.image_shape == (16, 16, 3)


def test_is_built_from_settings(values):
    manifest = Manifest.from_json(values)
    settings = Settings(
        schedule=manifest.schedule,
        prediction="epsilon",
        time_features=TimeFeatures(32),
        latent=Latent((8, 8, 4), 0.5),
        guidance=Guidance(baked_in=False, default=3.0),
        sampler=Sampler(steps=4),
    )
    assert manifest.settings == settings
    rebuilt = Manifest(
        name="tiny",
        precision="fp16",
        components=manifest.components,
        tokenizer=manifest.tokenizer,
        goldens=manifest.goldens,
        provenance=manifest.provenance,
        **vars(settings),
    )
    assert rebuilt == manifest


def test_unknown_fields_are_left_to_later_versions(values):
    expected = Manifest.from_json(values)
    values["licence"] = "CC0"
    values["components"]["unet"]["colour"] = "blue"
    assert Manifest.from_json(values) == expected


def test_goldens_parity_and_provenance_may_be_missing(values):
    del values["goldens"], values["provenance"], values["components"]["unet"]["parity"]
    assert Manifest.from_json(values).goldens is None


def replaced(path, value):
    """A change that puts `value` at a dotted path; None removes what is there."""
    *parents, last = path.split(".")

    def change(values):
        for name in parents:
            values = values[int(name) if name.isdigit() else name]
        if value is None:
            del values[last]
        else:
            values[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "keras", "no tfsnap bundle: its format is 'keras'"),
        ("format", None, "no tfsnap bundle"),
        ("format_version", 4, "format_version 4 and this tfsnap reads up to 3: upgrade tfsnap"),
        ("format_version", 0, "format_version is 0; it must be a positive integer"),
        ("format_version", "1", "format_version is '1'"),
        ("format_version", True, "format_version is True"),
        ("name", None, "lacks 'name'"),
        ("schedule.steps", None, "schedule lacks 'steps'"),
        ("schedule.kind", "cosine", "kind is 'cosine'"),
        ("schedule", [1], r"schedule is \[1\]; it must be an object"),
        ("prediction", "x", "prediction is 'x'; it must be epsilon or v"),
        ("time_features.width", 31, "width is 31; it must be positive and even"),
        ("time_features.width", 32.5, "width is 32.5; it must be an integer"),
        ("schedule.steps", 10**10, "steps is 10000000000; it must be at most 1000000"),
        ("latent.scale", 0, "scale is 0.0; it must be positive"),
        ("latent.scale", float("inf"), "scale is inf; it must be positive and finite"),
        ("time_features.max_period", float("inf"), "max_period is inf; it must be positive and"),
        ("latent.shape", "8x8", "shape is '8x8'; it must be a list"),
        ("latent.shape", [8, 8], "height, width and channels"),
        ("latent.shape", [16, 8, 4], r"latent is float32 \[1, 8, 8, 4\]; .* \[1, 16, 8, 4\]"),
        pytest.param(
            "latent.scale",
            10**399,
            "latent: scale has 400 digits; it must be a number up to 1e308",
            id="latent.scale of 400 digits",
        ),
        ("guidance.baked_in", 1, "baked_in is 1; it must be true or false"),
        ("guidance.width", 5, "width is 5; it must be even and at least 4"),
        (
            "guidance.width",
            6,
            r"unet inputs are \['context', 'latent', 'time_features'\]; .*guidance_",
        ),
        (
            "guidance",
            {"baked_in": True, "default": 3, "width": 6},
            "baked_in is True; it must be f",
        ),
        ("guidance.default", 51, "default is 51.0; it must be between 0 and 50"),
        ("sampler.default", "heun", "default is 'heun'; it must be one of ddim, dpmpp_2m"),
        ("sampler.default", "pndm", "default is 'pndm'; it must be one of ddim, dpmpp_2m, euler,"),
        ("sampler.steps_offset", 2, "steps_offset is 2; it must be 0 or 1"),
        ("sampler.spacing", "odd", "spacing is 'odd'"),
        ("sampler.spacing", "default", "spacing is 'default'; it must be one of trailing"),
        ("sampler.steps", 1001, "at most 1000 steps"),
        ("tokenizer.context_length", 8, r"tokens is int32 \[1, 16\]; it must be int32 \[1, 8\]"),
        ("components.unet", None, "components lack 'unet'"),
        ("components.unet.inputs.0.shape", [1, 8, 8], r"latent is float32 \[1, 8, 8\]"),
        ("components.unet.inputs.0.dtype", "float16", "latent is float16"),
        (
            "components.unet.inputs.2.shape",
            [1, 16, 9],
            r"context is .* must be float32 \[1, 16, 8\]",
        ),
        ("components.unet.inputs.1.name", "t", "unet inputs are .* must be"),
        ("components.decoder.outputs", [], r"decoder outputs are \[\]; they must be \['image'\]"),
        ("components.decoder.file", "../d.tflite", "'../d.tflite' is no file name inside a bundle"),
    ],
)
def test_what_is_wrong_is_told(values, path, value, message):
    replaced(path, value)(values)
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(values)


@pytest.mark.parametrize("values", [[], "x", None, 3])
def test_other_json_is_no_manifest(values):
    with pytest.raises(ValueError, match="no tfsnap bundle"):
        Manifest.from_json(values)


@pytest.mark.parametrize(
    "name", ["", ".", "/etc/passwd", "../x", "a/../../x", "c:x", "a\\b", "a\0"]
)
def test_names_that_leave_the_bundle_are_refused(name):
    with pytest.raises(ValueError, match="no file name inside a bundle"):
        require_safe_name(name)


def test_names_in_subfolders_are_allowed():
    require_safe_name("tokenizer/merges.txt.gz")


def test_a_smaller_vocabulary_raises_the_version(values):
    values["tokenizer"]["vocab_size"] = 2000
    with pytest.raises(ValueError, match="format_version is 1; it must be 3"):
        Manifest.from_json(values)
    values["format_version"] = 3
    assert json.loads(json.dumps(Manifest.from_json(values).to_dict())) == values


def chunked(values):
    unet = values["components"]["unet"]
    unet["chunks"] = [
        {"file": f"unet.{i}.tflite", "sha256": unet["sha256"], "bytes": 10 + i} for i in range(2)
    ]
    for field in ("file", "sha256", "bytes"):
        del unet[field]
    values["format_version"] = 2
    return unet


def test_a_component_in_chunks(values):
    chunked(values)
    manifest = Manifest.from_json(values)
    assert json.loads(json.dumps(manifest.to_dict())) == values
    unet = manifest.components["unet"]
    assert [part.file for part in unet.files] == ["unet.0.tflite", "unet.1.tflite"]
    assert unet.size == 21
    assert manifest.checksums()["unet.1.tflite"][0] == "unet"
    assert manifest.components["decoder"].files[0].file == "decoder.tflite"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, u: u.update(file="unet.tflite"), "has file, sha256 and bytes, or else chunks"),
        (lambda v, u: u.pop("chunks"), "has file, sha256 and bytes, or else chunks"),
        (lambda v, u: u["chunks"].clear(), "chunks is empty"),
        (lambda v, u: u["chunks"][0].pop("bytes"), "lacks 'bytes'"),
        (lambda v, u: u["chunks"][1].update(file="../x"), "'../x' is no file name inside a bundle"),
        (lambda v, u: v.update(format_version=1), "format_version is 1; it must be 2"),
    ],
)
def test_chunks_that_are_wrong(values, change, message):
    change(values, chunked(values))
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(values)


def two_contexts(values):
    unet = values["components"]["unet"]
    for tensor in (*unet["inputs"], *unet["outputs"]):
        if tensor["name"] in ("context", "prediction"):
            tensor["shape"][0] = 2
    values["format_version"] = 2
    return unet


def test_a_unet_of_two_contexts(values):
    assert Manifest.from_json(values).contexts == 1
    two_contexts(values)
    assert Manifest.from_json(values).contexts == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v, u: u["outputs"][0]["shape"].__setitem__(0, 1),
            r"must be float32 \[2, 8, 8, 4\]",
        ),
        (lambda v, u: u["inputs"][2]["shape"].__setitem__(0, 3), r"must be float32 \[1, 16, 8\]"),
        (lambda v, u: v["guidance"].update(baked_in=True), "baked in, and yet the UNet takes two"),
        (lambda v, u: v.update(format_version=1), "format_version is 1; it must be 2"),
    ],
)
def test_contexts_that_are_wrong(values, change, message):
    change(values, two_contexts(values))
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(values)


def test_an_older_format_is_exported_again(values, monkeypatch):
    monkeypatch.setattr("tfsnap.runtime.format_version.OLDEST", 2)
    message = (
        "format_version 1 and this tfsnap reads 2 and later: export it again with tools/export"
    )
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(values)
