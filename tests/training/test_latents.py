"""A cache of latents against encoding in memory, and what happens when it is cut off or foreign."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest

from tests.training.latent_job import (
    AUGMENT,
    AUTOENCODER,
    LENGTH,
    PICTURES,
    SIDE,
    VARIANTS,
    job_of,
    losses,
)
from tests.training.tiny_job import TRAINING, UNET, shared_strategy
from tfsnap.data.augment import Augmenter
from tfsnap.data.shards import ShardedTables, ShardError, ShardWriter
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_text_encoder
from tfsnap.training.jobs import encoding, unet
from tfsnap.training.jobs.distill import DistillConfig
from tfsnap.training.jobs.encoding import encode_latents
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.lora import LoraConfig
from tfsnap.training.portable import compile_step
from tfsnap.training.portable_format import load_tables
from tfsnap.training.trainer import Trainer
from tfsnap.weights.archive import describe
from tfsnap.weights.store import save_weights

pytestmark = pytest.mark.usefixtures("small_data")


def test_training_from_the_cache_alone_is_training_without_it(
    networks, cache, tmp_path, monkeypatch
):
    plain = losses(job_of(networks), tmp_path / "a")

    def refuse(*arguments):
        raise AssertionError(f"loaded {arguments}")

    monkeypatch.setattr(unet, "captioned_shapes", refuse)
    monkeypatch.setattr(unet, "load_trained", refuse)
    job = job_of(networks, latents=str(cache), autoencoder="nowhere", clip="nowhere")
    cached = losses(job, tmp_path / "b")
    np.testing.assert_allclose(cached, plain, rtol=1e-3)
    assert np.ptp(plain) > 0.01
    batch = next(job.batches(0).as_numpy_iterator())
    assert batch.keys() == {"moments", "context"} and batch["context"].dtype == np.float16
    assert job.previews(None) == {}
    compiled(job, tmp_path)


def compiled(job, folder):
    """The same as a step that has left TensorFlow."""
    manifest = compile_step(job, output=folder / "step", workdir=folder / "none")
    assert not [a.name for a in manifest.arguments if a.name.startswith("frozen/text")]
    tables, _ = load_tables(folder / "step")
    assert {name: table.shape for name, table in tables.items()} == {
        "moments": (PICTURES, 1, 4, 4, 8),
        "context": (PICTURES, VARIANTS, LENGTH, 8),
    }


def test_previews_where_the_networks_are(networks, cache, monkeypatch):
    job = job_of(networks, latents=str(cache))
    cached = job.previews(job.build()[0])["samples"]
    assert cached.shape == (4 * SIDE, 4 * SIDE, 3)
    rows = np.array([0, 5, 20])
    np.testing.assert_array_equal(
        job.encoded[SIDE, SIDE].canonical(rows),
        job_of(networks).encoded[SIDE, SIDE].canonical(rows),
    )


def test_workers_read_their_parts(networks, cache):
    job = job_of(networks, latents=str(cache))
    whole, *parts = (
        next(job.batches(5, part=part).as_numpy_iterator()) for part in ((0, 1), (0, 2), (1, 2))
    )
    for name, rows in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), rows)


def test_without_embeddings_clip_reads_the_captions(networks, tmp_path):
    encode_latents(job_of(networks), tmp_path / "tokens", embeddings=False)
    plain, cached = job_of(networks), job_of(networks, latents=str(tmp_path / "tokens"))
    for one, other in zip(plain.batches(0).take(3), cached.batches(0).take(3), strict=True):
        assert set(other) == {"moments", "tokens"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert cached.build()[1].text_encoder is cached.text_encoder


def test_tokens_depend_on_the_vocabulary_and_not_on_clips_weights(networks, tmp_path):
    encode_latents(job_of(networks), tmp_path / "tokens", embeddings=False)
    text = job_of(networks).text_encoder

    def source(**config):
        other = build_text_encoder(dataclasses.replace(text.config, **config))
        save_weights(tmp_path / "text", other.variables, metadata=describe(other))
        job_of(networks, latents=str(tmp_path / "tokens"), clip=str(tmp_path / "text")).source()

    source()
    with pytest.raises(ShardError, match=r"tokens was \[\d+, 32, 0\], is \[\d+, 48, 0\]"):
        source(vocab_size=48)


def augmented(networks, **changes):
    job = job_of(networks, **changes)
    return job.replace(data=job.data.replace(augment=AUGMENT))


def test_augmentation_without_augmented_latents_is_refused(networks, cache):
    for changes in ({}, {"latents": str(cache)}):
        with pytest.raises(ValueError, match=r"data\.augment changes nothing.*--augmentations"):
            augmented(networks, **changes).source()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"distill": DistillConfig(baked=True, cfg_probability=1, gamma=0, guidance=(2, 2))},
            r"distill\.teacher is '', so nothing is distilled, but .*baked was false, is true",
        ),
        ({"lora": LoraConfig(alpha=4.0)}, r"lora\.rank is 0, so .* lora\.alpha was 1\.0, is 4\.0"),
    ],
)
def test_settings_that_nothing_reads_are_refused(networks, changes, message):
    with pytest.raises(ValueError, match=message):
        job_of(networks, **changes).build()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_augmentations_follow_the_picture_itself(networks, cache, pictures, tmp_path, dtype):
    job = augmented(networks)
    encoded = encode_latents(job, tmp_path / "cache", augmentations=3, dtype=dtype)
    moments = encoded.moments.load()
    assert moments.dtype == dtype and moments.shape == (PICTURES, 3, 4, 4, 8)
    plain = job_of(networks).encoded[SIDE, SIDE].moments
    tolerance = 2e-3 if dtype == "float16" else 2e-2
    np.testing.assert_allclose(
        moments[:, 0].astype(float), plain[:, 0].astype(float), atol=tolerance, rtol=tolerance
    )
    # The second augmentation of the eighth picture, made here by itself.
    amounts = np.random.default_rng(7).uniform(-1, 1, [2, 3])[1:]
    changed = Augmenter(AUGMENT)(images=pictures.examples.images[7:8], amounts=amounts).numpy()
    images = pictures.examples.images.astype(np.float32)
    images[7] = changed[0]
    expected = encoding.moment_encoder(job.trained_autoencoder)(images)[7]
    np.testing.assert_allclose(
        moments[7, 2].astype(float), expected, atol=tolerance, rtol=tolerance
    )
    # Training draws all of them.
    drawn = augmented(networks, latents=str(tmp_path / "cache")).batches(0).take(30)
    found = {m.tobytes() for batch in drawn for m in batch["moments"].numpy()}
    assert len(found) > 2 * PICTURES


@pytest.mark.parametrize("write", [0, 3, 7, 9])
def test_who_is_cut_off_goes_on(networks, cache, tmp_path, monkeypatch, write):
    class Killed(BaseException):
        pass

    whole, count = ShardWriter.write, 0

    def killed(self, shard, tables):
        nonlocal count
        count += 1
        if count == write + 1:
            raise Killed
        whole(self, shard, tables)

    monkeypatch.setattr(ShardWriter, "write", killed)
    with pytest.raises(Killed):
        encode_latents(job_of(networks), tmp_path / "cache")
    with pytest.raises(ShardError, match="not finished|no tables"):  # Nobody trains on a half.
        job_of(networks, latents=str(tmp_path / "cache")).source()
    written, seen = [], []
    monkeypatch.setattr(
        ShardWriter, "write", lambda self, *a: (written.append(a[0]), whole(self, *a))
    )
    encode_latents(
        job_of(networks), tmp_path / "cache", progress=lambda *numbers: seen.append(numbers)
    )
    assert len(written) == 4 * 3 + 1 - write  # Four shards of three parts, and the empty caption.
    assert seen[-1] == (PICTURES, PICTURES)
    for part in ("moments", "captions", "groups", "empty"):
        found, expected = (ShardedTables(folder / part) for folder in (tmp_path / "cache", cache))
        assert found.about == expected.about
        for name in expected.specs:
            np.testing.assert_array_equal(found.table(name), expected.table(name))


def test_a_finished_cache_is_left_alone_and_a_damaged_shard_is_made_again(
    networks, cache, tmp_path
):
    folder = tmp_path / "cache"
    shutil.copytree(cache, folder)
    (shard,) = (folder / "moments").glob("*00001.array_record")
    content = shard.read_bytes()
    shard.write_bytes(content[:-20] + bytes(20))
    untouched = {p: p.stat().st_mtime_ns for p in folder.rglob("*.array_record") if p != shard}
    encode_latents(job_of(networks), folder)
    found = ShardedTables(folder / "moments")
    found.verify()
    np.testing.assert_array_equal(
        found.table("moments"), ShardedTables(cache / "moments").table("moments")
    )
    assert untouched == {p: p.stat().st_mtime_ns for p in untouched}


def test_another_config_or_other_weights_are_named(networks, cache, tmp_path):
    data = job_of(networks).data
    cached = job_of(networks, latents=str(cache))
    with pytest.raises(ShardError, match=r"data\.resolution was 8, is 16; use its config, or ano"):
        cached.replace(data=data.replace(resolution=16)).source()
    with pytest.raises(ShardError, match=r"context was \[4, 8\], is \[4, 16\]"):
        wide = dataclasses.replace(UNET, context_width=16)
        cached.replace(model=wide).source()
    other = build_autoencoder(AUTOENCODER)
    save_weights(tmp_path / "other", other.variables, metadata=describe(other))
    foreign = {"autoencoder": str(tmp_path / "other")}
    with pytest.raises(ShardError, match=r"weights\.autoencoder was \"\w{64}\", is \"\w{64}\""):
        cached.replace(**foreign).source()
    with pytest.raises(ShardError, match="autoencoder"):
        encode_latents(job_of(networks, **foreign), cache)
    with pytest.raises(ShardError, match="nothing: no such cache of latents; make it with"):
        cached.replace(latents=str(tmp_path / "nothing")).source()
    # How often pictures are drawn is not the cache's business.
    cached.replace(data=data.replace(resample=0.0)).source()


def test_a_cache_of_another_version_of_the_data_is_named(networks, cache, monkeypatch):
    monkeypatch.setattr("tfsnap.training.jobs.latents.EMOJI_VERSION", "9.0.0")
    with pytest.raises(ShardError, match=r'data\.version was "\d\.0\.0", is "9\.0\.0"'):
        job_of(networks, latents=str(cache)).source()


def test_parts_of_two_caches_do_not_make_one(networks, cache, tmp_path):
    encode_latents(job_of(networks), tmp_path / "cache", dtype="bfloat16")
    shutil.rmtree(tmp_path / "cache/captions")
    shutil.copytree(cache / "captions", tmp_path / "cache/captions")
    with pytest.raises(ShardError, match="put together from several"):
        job_of(networks, latents=str(tmp_path / "cache")).source()


def test_what_cannot_be_encoded_is_one_line(networks, tmp_path, pictures, monkeypatch):
    plain = DataConfig(resolution=SIDE, caption_variants=VARIANTS)
    with pytest.raises(ValueError, match=r"augmentations is 2, but data\.augment changes nothing"):
        encode_latents(job_of(networks, data=plain), tmp_path, augmentations=2)
    with pytest.raises(ValueError, match="augmentations is 0; it must be at least 1"):
        encode_latents(job_of(networks), tmp_path, augmentations=0)
    monkeypatch.setattr(
        encoding, "moment_encoder", lambda model: lambda x: np.full([len(x), 4, 4, 8], 1e5)
    )
    with pytest.raises(ValueError, match="a value of 100000 does not fit float16: use bfloat16"):
        encode_latents(job_of(networks), tmp_path / "cache")


def test_a_text_encoder_alone_will_do(networks, tmp_path):
    whole = job_of(networks)
    text = whole.text_encoder
    save_weights(tmp_path / "text", text.variables, metadata=describe(text))
    alone = job_of(networks, clip=str(tmp_path / "text"))
    assert whole.trained_clip is not None and alone.trained_clip is None
    np.testing.assert_array_equal(
        losses(alone, tmp_path / "a", steps=2), losses(whole, tmp_path / "b", steps=2)
    )
    assert alone.assemble(alone.build()[0]).clip is None


def test_prompts_are_padded_as_the_text_encoder_was_trained(
    networks, pictures, tmp_path, monkeypatch
):
    text = job_of(networks).text_encoder
    save_weights(tmp_path / "text", text.variables, metadata=describe(text, pad_token=31))
    asked = []
    monkeypatch.setattr(
        unet, "captioned_shapes", lambda *a: asked.append(a) or {(SIDE, SIDE): pictures}
    )
    for clip, pad in ((str(tmp_path / "text"), 31), (job_of(networks).clip, 0)):
        job = job_of(networks, clip=clip)
        job.source()
        assert asked.pop()[2:] == (text.config, pad)
        assert job.assemble(job.build()[0]).pad_token == pad


@pytest.fixture
def shapes(pictures, monkeypatch):
    """The pictures as if they had been prepared in two shapes, a third of them wide."""
    rng = np.random.default_rng(1)
    found = {}
    for shape, rows in {(8, 4): slice(0, 14), (4, 8): slice(14, None)}.items():
        groups = pictures.examples.groups[rows]
        images = rng.integers(0, 256, [len(groups), *shape, 3], dtype=np.uint8)
        examples = dataclasses.replace(pictures.examples, images=images, groups=groups)
        found[shape] = dataclasses.replace(
            pictures, examples=examples, tokens=pictures.tokens[rows]
        )
    monkeypatch.setattr(unet, "captioned_shapes", lambda *arguments: found)
    return found


def test_pictures_of_several_shapes(networks, shapes, tmp_path):
    job = job_of(networks)
    batches = [batch["moments"].shape for batch in job.batches(0).take(40).as_numpy_iterator()]
    assert set(batches) == {(8, 4, 2, 8), (8, 2, 4, 8)}
    assert batches.count((8, 4, 2, 8)) > batches.count((8, 2, 4, 8))
    runs = {
        strategy: Trainer(job, workdir=tmp_path / strategy, strategy=shared_strategy(strategy))
        for strategy in ("one", "mirrored")
    }
    losses = {
        name: [float(figures["loss"]) for figures in itertools.islice(trainer.calls(), 4)]
        for name, trainer in runs.items()
    }
    assert len(set(batches[:4])) == 2
    np.testing.assert_allclose(losses["one"], losses["mirrored"], rtol=1e-4)
    assert job.previews(runs["one"].model)["samples"].shape == (4 * SIDE, 4 * SIDE, 3)


def test_what_several_shapes_do_not_go_with(networks, shapes, tmp_path):
    job = job_of(networks, training=TRAINING.replace(steps_per_call=3, log_every=3, steps=6))
    with pytest.raises(ValueError, match=r"steps_per_call is 3, but .* it must be 1"):
        job.batches(0)
    with pytest.raises(ValueError, match="a cache holds one shape only"):
        encode_latents(job_of(networks), tmp_path / "cache")
    with pytest.raises(ValueError, match="a portable step is compiled for one"):
        compile_step(job_of(networks), output=tmp_path / "step", workdir=tmp_path / "none")
    shapes[(7, 8)] = shapes.pop((8, 4))
    with pytest.raises(ValueError, match=r"7 x 8 pixels .* multiples of 2.*--bucket_step=2"):
        job_of(networks).batches(0)
