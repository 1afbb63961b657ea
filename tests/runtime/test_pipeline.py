"""Sampling, guidance and checks, on networks whose answers are known in closed form."""

import dataclasses
import warnings

import numpy as np
import pytest
from PIL import Image

from tfsnap.config import ScheduleConfig
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.runtime import (
    Bundle,
    NotFiniteError,
    Pipeline,
    PromptTruncatedWarning,
    RequestError,
)
from tfsnap.runtime.guidance_features import guidance_features
from tfsnap.runtime.philox import normal
from tfsnap.runtime.pictures import to_picture
from tfsnap.runtime.settings import Guidance, Latent, Sampler, Settings, TimeFeatures
from tfsnap.runtime.time_features import time_features

SHAPE = (4, 6, 3)
SETTINGS = Settings(
    schedule=ScheduleConfig(),
    prediction="epsilon",
    time_features=TimeFeatures(32),
    latent=Latent(SHAPE, scale=0.25),
    guidance=Guidance(baked_in=False, default=3.0),
    sampler=Sampler(steps=5),
)
GREY = Image.new("RGB", SHAPE[1::-1], "grey")
TARGET = np.linspace(-0.2, 0.2, np.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE)


def factor(tokens):
    return np.float32(1 + tokens.sum() % 97 / 97)


class OneTarget:
    """The exact networks of a data set in which each prompt has a single latent.

    A prompt's latent is TARGET times `factor` of its tokens, so z_t tells the noise:
    eps = (z_t - alpha_t x) / sigma_t. DDIM must arrive at x from any noise in any number of steps.
    """

    image_shape = SHAPE

    def __init__(self, prediction="epsilon"):
        self.prediction = prediction
        self.evaluations = []
        self.schedule = NoiseSchedule(SETTINGS.schedule)
        self.times = {time_features(t, width=32).tobytes(): t for t in range(1000)}

    def encode_text(self, tokens):
        assert tokens.dtype == np.int32
        return np.full([1, 16, 1], factor(tokens), np.float32)

    def predict(self, *, latent, time_features, context):
        assert latent.dtype == time_features.dtype == context.dtype == np.float32
        t = self.times[time_features.tobytes()]
        self.evaluations += [t] * len(context)
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        x = TARGET * context[:, :1, :1, np.newaxis]
        eps = (latent - alpha * x) / sigma
        return eps if self.prediction == "epsilon" else alpha * eps - sigma * x

    def decode(self, latent):
        return latent

    def encode_image(self, image):
        return image


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle):
    return Bundle.open(tiny_bundle).tokenizer()


@pytest.fixture
def make(tokenizer):
    def build(networks=None, **changes):
        settings = dataclasses.replace(SETTINGS, **changes)
        networks = networks or OneTarget(settings.prediction)
        return Pipeline(networks, tokenizer=tokenizer, settings=settings)

    return build


def latent_of(tokenizer, prompt):
    return TARGET * factor(tokenizer(prompt))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_arrives_at_the_data(make, tokenizer, prediction, steps):
    (result,) = make(prediction=prediction).generate(["abc"], steps=steps, guidance=1.0, seed=3)
    np.testing.assert_allclose(result.latent, latent_of(tokenizer, "abc"), atol=2e-5)
    np.testing.assert_array_equal(result.tokens, tokenizer("abc"))
    np.testing.assert_array_equal(result.noise, normal(3, (1, *SHAPE)))
    np.testing.assert_allclose(result.image, result.latent / 0.25)
    assert result.noise.dtype == result.latent.dtype == result.image.dtype == np.float32


@pytest.mark.parametrize("negative", ["", "zz"])
def test_guidance_leads_away_from_the_negative_prompt(make, tokenizer, negative):
    """With one step, x = x_null + w (x_prompt - x_null) as every prediction is affine in x."""
    (result,) = make().generate(["abc"], negative_prompt=negative, steps=1, guidance=4.0)
    told, untold = latent_of(tokenizer, "abc"), latent_of(tokenizer, negative)
    np.testing.assert_allclose(result.latent, untold + 4 * (told - untold), atol=2e-5)


def test_evaluates_twice_a_step_with_guidance_and_once_without(make):
    pipeline = make()
    pipeline("abc")
    assert pipeline.components.evaluations == [999, 999, 799, 799, 599, 599, 399, 399, 199, 199]
    pipeline.components.evaluations.clear()
    pipeline("abc", steps=4, guidance=1.0)
    assert pipeline.components.evaluations == [999, 749, 499, 249]


def test_baked_in_guidance_is_one_evaluation_a_step(make, tokenizer):
    pipeline = make(guidance=Guidance(baked_in=True, default=4.0))
    (result,) = pipeline.generate(["abc"], guidance=4.0)
    assert len(pipeline.components.evaluations) == 5
    np.testing.assert_allclose(result.latent, latent_of(tokenizer, "abc"), atol=2e-5)
    for request in ({"guidance": 2.0}, {"negative_prompt": "zz"}):
        with pytest.raises(RequestError, match="has guidance 4 built into its UNet"):
            pipeline("abc", **request)


class Reading(OneTarget):
    """Networks that are told the scale, of which they make the target's size."""

    def predict(self, *, guidance_features, context, **inputs):
        self.told = guidance_features
        return super().predict(context=context * guidance_features[0, 0, -1], **inputs)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_unet_that_reads_the_scale_is_evaluated_once_a_step(make, tokenizer, scale):
    pipeline = make(Reading(), guidance=Guidance(baked_in=False, default=3.0, width=6))
    (result,) = pipeline.generate(["abc"], guidance=scale)
    assert len(pipeline.components.evaluations) == 5
    np.testing.assert_array_equal(
        pipeline.components.told, guidance_features(scale, width=6), strict=True
    )
    size = np.cos(1000 * (scale - 1) / 10_000)
    np.testing.assert_allclose(result.latent, size * latent_of(tokenizer, "abc"), atol=2e-5)
    with pytest.raises(RequestError, match="reads the guidance scale .* leave out the negative"):
        pipeline("abc", negative_prompt="zz")


def test_a_prompt_gives_the_same_picture_alone_and_among_others(make):
    pipeline = make()
    alone = pipeline("abc", seed=1)
    among = pipeline(["x", "abc"], seed=1)
    assert isinstance(among, list)
    assert alone.size == (SHAPE[1], SHAPE[0])
    assert alone.mode == "RGB"
    assert alone.tobytes() == among[1].tobytes() != among[0].tobytes()


def test_seeds_differ(make):
    """They do where the networks leave something of the noise: here, in the noise itself."""
    pipeline = make()
    noises = [pipeline.generate(["a"], seed=seed, steps=1)[0].noise for seed in (0, 1, 2**64 - 1)]
    assert len({noise.tobytes() for noise in noises}) == 3


def test_the_callback_sees_every_step(make):
    seen = []
    make()(["a", "b"], steps=3, callback=lambda *told: seen.append(told))
    assert [(step, steps) for step, steps, _ in seen] == [(1, 3), (2, 3), (3, 3)] * 2
    assert all(latent.shape == (1, *SHAPE) for _, _, latent in seen)


class OneStyle(OneTarget):
    """As `OneTarget`, with some of the noise left in its estimate, so that paths differ."""

    def predict(self, **inputs):
        return 0.9 * super().predict(**inputs)


def test_samplers_differ_and_all_arrive(make, tokenizer):
    latents = {}
    for name in SAMPLERS:
        (exact,) = make().generate(["abc"], sampler=name, steps=12, guidance=1.0, seed=3)
        np.testing.assert_allclose(exact.latent, latent_of(tokenizer, "abc"), atol=1e-4)
        (result,) = make(OneStyle()).generate(["abc"], sampler=name, steps=12, seed=3)
        latents[name] = result.latent.tobytes()
    assert len(set(latents.values())) == len(SAMPLERS)


def test_the_settings_choose_the_sampler(make):
    settings = Sampler(default="dpmpp_2m", steps=7, spacing="leading", steps_offset=1)
    pipeline = make(OneStyle(), sampler=settings)
    (result,) = pipeline.generate(["abc"], guidance=1.0)
    assert pipeline.components.evaluations == [k * (1000 // 8) + 1 for k in range(7, 0, -1)]
    named = make(OneStyle(), sampler=dataclasses.replace(settings, default="ddim"))
    (again,) = named.generate(["abc"], guidance=1.0, sampler="dpmpp_2m")
    np.testing.assert_array_equal(again.latent, result.latent)


def test_several_pictures_of_a_prompt_have_the_seeds_that_follow(make):
    pipeline = make(OneStyle())
    both = pipeline(["a", "b"], images_per_prompt=2, seed=5)
    alone = [pipeline(prompt, seed=seed) for prompt in "ab" for seed in (5, 6)]
    assert [picture.tobytes() for picture in both] == [picture.tobytes() for picture in alone]
    assert len(pipeline("a", images_per_prompt=3)) == 3


def test_a_stochastic_sampler_repeats_with_its_seed(make):
    pipeline = make(OneStyle())
    pictures = [pipeline("a", sampler="euler_ancestral", seed=seed) for seed in (1, 1, 2)]
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()


def test_the_noise_of_a_step_is_the_stream_that_the_contract_names(make, tokenizer):
    """docs/bundle.md: what a sampler adds in its step k = 0, 1, ... is stream k + 1."""
    pipeline, seen = make(), []
    predict = pipeline.components.predict

    def spy(**inputs):
        seen.append(inputs["latent"])
        return predict(**inputs)

    pipeline.components.predict = spy
    pipeline.generate(["abc"], sampler="lcm", steps=3, guidance=1.0, seed=9)
    x = latent_of(tokenizer, "abc")
    for k, (z, t) in enumerate(zip(seen[1:], (679, 339), strict=True)):
        start = NoiseSchedule().point((999, 679)[k])
        point, scaled = NoiseSchedule().point(t), 10 * start.t
        f = 0.25 * seen[k] / (scaled**2 + 0.25) + scaled * x / (scaled**2 + 0.25) ** 0.5
        noise = normal(9, (1, *SHAPE), stream=k + 1)
        np.testing.assert_allclose(z, point.alpha * f + point.sigma * noise, atol=2e-5)


def picture_of(values):
    """A picture whose pixels are `values`, as far as 8 bits can tell."""
    return to_picture(np.asarray(values, np.float32))


def test_a_picture_is_started_from_where_its_noise_is(make):
    """With strength s the last s of the steps are taken, from the picture with noise."""
    source = np.random.default_rng(0).uniform(-1, 1, SHAPE)
    pipeline = make(OneStyle())
    (result,) = pipeline.generate(
        ["a"], image=picture_of(source), strength=0.5, steps=10, guidance=1.0, seed=4
    )
    assert pipeline.components.evaluations == [499, 399, 299, 199, 99]
    seen = []
    monitored = make(OneStyle())
    monitored.components.predict = lambda **inputs: (
        seen.append(inputs["latent"]) or np.zeros([1, *SHAPE], np.float32)
    )
    monitored.generate(
        ["a"], image=picture_of(source), strength=0.5, steps=10, guidance=1.0, seed=4
    )
    point = NoiseSchedule().point(499)
    x = 0.25 * (np.asarray(picture_of(source), np.float32) / 127.5 - 1.0)
    expected = point.alpha * x + point.sigma * normal(4, (1, *SHAPE))
    np.testing.assert_allclose(seen[0], expected, atol=1e-6)
    np.testing.assert_array_equal(result.noise, normal(4, (1, *SHAPE)))


def test_a_mask_keeps_the_rest_of_the_picture(make, tokenizer):
    source = np.random.default_rng(0).uniform(-1, 1, SHAPE)
    mask = np.zeros(SHAPE[:2], np.uint8)
    mask[1:3, 2:5] = 255
    white = mask > 0
    for strength in (None, 0.6):
        (result,) = make().generate(
            ["abc"],
            image=picture_of(source),
            mask=Image.fromarray(mask),
            strength=strength,
            guidance=1.0,
        )
        kept = np.asarray(picture_of(source), np.float32) / 127.5 - 1.0
        np.testing.assert_allclose(result.image[0][~white], kept[~white], atol=1e-6)
        repainted = latent_of(tokenizer, "abc") / 0.25
        np.testing.assert_allclose(result.image[0][white], repainted[0][white], atol=2e-4)


def test_what_is_kept_has_no_noise_where_sampling_ends_at_time_0(make):
    source = picture_of(np.random.default_rng(0).uniform(-1, 1, SHAPE))
    pipeline = make(sampler=Sampler(steps=5, set_alpha_to_one=False))
    mask = Image.new("L", source.size)
    mask.putpixel((0, 0), 255)
    (result,) = pipeline.generate(["a"], image=source, mask=mask)
    kept = np.asarray(source, np.float32) / 127.5 - 1.0
    np.testing.assert_allclose(result.image[0, 1:], kept[1:], atol=1e-6)


def test_a_mask_lies_over_the_picture_as_it_is_seen(make):
    upright = picture_of(np.random.default_rng(0).uniform(-1, 1, SHAPE))
    lying = upright.transpose(Image.Transpose.ROTATE_90)  # As a phone stores it.
    lying.getexif()[0x0112] = 6
    mask = Image.new("L", upright.size, 0)
    mask.paste(255, (0, 0, 2, 2))
    pictures = [make()("a", image=image, mask=mask, seed=1) for image in (upright, lying)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    with pytest.raises(RequestError, match="mask is 4 x 6 pixels and the image 6 x 4"):
        make()("a", image=lying, mask=mask.transpose(Image.Transpose.ROTATE_90))


def test_outside_of_the_mask_the_network_sees_the_picture_with_noise(make):
    source = np.random.default_rng(0).uniform(-1, 1, SHAPE)
    pipeline, seen = make(OneStyle()), []
    predict = pipeline.components.predict

    def spy(**inputs):
        seen.append(inputs["latent"])
        return predict(**inputs)

    pipeline.components.predict = spy
    mask = Image.new("L", SHAPE[1::-1], 0)
    mask.putpixel((0, 0), 255)
    pipeline.generate(["a"], image=picture_of(source), mask=mask, steps=4, guidance=1.0, seed=2)
    x = 0.25 * (np.asarray(picture_of(source), np.float32) / 127.5 - 1.0)
    noise = normal(2, (1, *SHAPE))
    np.testing.assert_array_equal(seen[0], noise)  # From noise alone at full strength.
    for z, t in zip(seen[1:], (749, 499, 249), strict=True):
        point = NoiseSchedule().point(t)
        expected = point.alpha * x + point.sigma * noise
        np.testing.assert_allclose(z[:, 1:], expected[:, 1:], atol=1e-6)


def test_numpys_integers_are_integers(make):
    picture = make()("a", steps=np.int32(3), seed=np.uint64(2**64 - 1), guidance=np.float32(2))
    assert picture.tobytes() == make()("a", steps=3, seed=2**64 - 1, guidance=2).tobytes()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompt": ""}, "The prompt '' is empty"),
        ({"prompt": " \n\t"}, "is empty: say what the picture should show"),
        ({"prompt": []}, "no prompt"),
        ({"prompt": ["a", ""]}, "The prompt '' is empty"),
        ({"prompt": None}, "The prompt is None; it must be a string, or a list of them"),
        ({"prompt": ["a", 5]}, "The prompt is 5; it must be a string"),
        ({"prompt": np.zeros(99)}, "The prompt is .*0.0.*; it must be a string"),
        ({"negative_prompt": ["a"]}, "negative_prompt is ..a..; it must be one string, for all"),
        ({"steps": 0}, "steps is 0; it must be an integer between 1 and 1000"),
        ({"steps": 1001}, "steps is 1001"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"guidance": -0.1}, "guidance is -0.1; it must be a number between 0 and 50"),
        ({"guidance": 51}, "guidance is 51"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": "2"}, "guidance is '2'; it must be a number between 0 and 50"),
        ({"seed": -1}, "seed is -1; it must be an integer between 0 and 2"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": 2**64 - 1, "images_per_prompt": 2}, "with 2 pictures a prompt it would pass"),
        ({"images_per_prompt": 0}, "images_per_prompt is 0; it must be a positive integer"),
        ({"sampler": ["ddim"]}, "sampler is ..ddim..; it must be one of ddim, dpmpp_2m"),
        ({"sampler": "heun"}, "sampler is 'heun'; it must be one of ddim, dpmpp_2m"),
        ({"sampler": "lcm", "steps": 51}, "steps is 51; it must be between 1 and 50 .*lcm"),
        ({"strength": 0.5}, "strength is given without an image"),
        ({"mask": GREY}, "mask is given without an image"),
        (
            {"image": GREY, "strength": 0.0},
            "strength is 0.0; it must be a number above 0 and at most 1",
        ),
        ({"image": GREY, "strength": 1.1}, "strength is 1.1"),
        ({"image": GREY, "strength": "0.5"}, "strength is '0.5'; it must be a number above 0"),
        ({"image": "a.png"}, "image is 'a.png'; it must be a picture of PIL: Image.open.path."),
        ({"image": np.zeros([9, 9, 3])}, "image is a ndarray; it must be a picture of PIL"),
        ({"image": GREY, "mask": "a.png"}, "mask is 'a.png'; it must be a picture of PIL"),
        ({"image": GREY, "strength": 0.1}, "strength is 0.1; of 5 steps that leaves none"),
        ({"image": GREY, "mask": GREY.resize((4, 4))}, "mask is 4 x 4 pixels and the image 6 x 4"),
    ],
)
def test_refuses_before_the_first_evaluation(make, request_, message):
    pipeline = make()
    with pytest.raises(RequestError, match=message):
        pipeline(**{"prompt": "a", **request_})
    assert not pipeline.components.evaluations


def test_a_string_is_one_prompt(make):
    pipeline = make()
    (alone,) = pipeline.generate("abc", seed=1)
    (among,) = pipeline.each(["abc"], seed=1)
    np.testing.assert_array_equal(alone.image, among.image)


def test_no_negative_prompt_is_the_empty_one(make):
    pictures = [make()("a", negative_prompt=negative).tobytes() for negative in ("", None)]
    assert pictures[0] == pictures[1]
    make(guidance=Guidance(baked_in=True, default=4.0))("a", negative_prompt=None)


def test_a_picture_that_is_cut_short_is_told(make, tmp_path):
    """Which Pillow finds when it loads the picture, not when it opens it."""
    path = tmp_path / "x.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    pipeline = make()
    for name in ("image", "mask"):
        whole = {"image": GREY.resize((64, 64)), "mask": GREY.resize((64, 64))}
        with (
            Image.open(path) as cut,
            pytest.raises(RequestError, match=f"The {name} cannot be read: image file is trunc"),
        ):
            pipeline("a", **{**whole, name: cut})
    assert not pipeline.components.evaluations


def test_a_long_prompt_is_cut_with_a_warning(make, tokenizer):
    words = " ".join("abcdefghijklmnop")
    with pytest.warns(PromptTruncatedWarning, match="longer than 14 tokens.* cut off: 'o p'"):
        cut = make()(words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cut.tobytes() == make()(words[: -len(" o p")]).tobytes()


def test_a_long_negative_prompt_is_cut_with_a_warning(make):
    with pytest.warns(PromptTruncatedWarning, match="cut off: 'o p'"):
        make()("a", negative_prompt=" ".join("abcdefghijklmnop"))


def test_of_a_very_long_prompt_the_message_repeats_the_beginning_of_what_was_cut(make):
    with pytest.warns(PromptTruncatedWarning) as caught:
        make()("a " * 14 + "b " * 1000)
    assert "cut off: 'b b " in str(caught[0].message) and len(str(caught[0].message)) < 200


@pytest.mark.parametrize(
    ("method", "source"),
    [
        ("encode_text", "text encoder"),
        ("predict", "UNet at t = 999"),
        ("decode", "decoder"),
        ("encode_image", "encoder"),
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_not_shown(make, monkeypatch, method, source, bad):
    pipeline = make()
    original = getattr(pipeline.components, method)

    def broken(*args, **kwargs):
        result = original(*args, **kwargs).copy()
        result.flat[5] = bad
        return result

    monkeypatch.setattr(pipeline.components, method, broken)
    with pytest.raises(NotFiniteError, match=f"The {source} returned 1 of .* NaN or infinite"):
        pipeline("a", image=GREY, strength=1.0)
