"""A UNet that learns the steps of another, from the config to what is known of the result."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.training.latent_job import LENGTH, job_of, losses
from tests.training.tiny_job import TRAINING, UNET, shared_strategy
from tfsnap.config import ScheduleConfig
from tfsnap.export.keras_components import settings_of
from tfsnap.models.latent_diffusion import STEPS, Distilled
from tfsnap.models.unet import build_unet
from tfsnap.objectives.base import Draws
from tfsnap.objectives.guidance import told
from tfsnap.runtime.settings import Guidance, Sampler
from tfsnap.training.jobs import unet as unet_job
from tfsnap.training.jobs.distill import DistillConfig
from tfsnap.training.sampling import guided, sample_pictures
from tfsnap.training.trainer import WEIGHTS, Trainer
from tfsnap.weights.archive import describe, load_trained
from tfsnap.weights.store import load_tensors, save_weights

pytestmark = pytest.mark.usefixtures("small_data")

WIDTH = 6
READING = UNET.replace(guidance_width=WIDTH)
BAKED = {"cfg_probability": 1.0, "guidance": (3.0, 3.0), "baked": True, "gamma": 0.0}
LCM = {**BAKED, "consistency": True, "teacher_steps": 50}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Weight files of a UNet that takes guidance and of one that has it."""
    folder = tmp_path_factory.mktemp("teachers")
    keras.utils.set_random_seed(2)
    network, rng = build_unet(UNET), np.random.default_rng(3)
    for variable in network.variables:
        variable.assign_add(0.1 * rng.standard_normal(variable.shape))
    for name, distilled in (("plain", None), ("baked", {"steps": 4, "guidance": 3.0})):
        about = describe(network, prediction="v", distilled=distilled)
        save_weights(folder / name, network.variables, metadata=about)
    network = build_unet(READING)
    network.time_guidance.kernel.assign(rng.standard_normal([WIDTH, UNET.time_width]))
    save_weights(folder / "told", network.variables, metadata=describe(network, prediction="v"))
    return folder


def distilling(networks, cache, teacher, *, training=TRAINING, model=UNET, **fields):
    return job_of(
        networks,
        latents=str(cache),
        training=training,
        model=model,
        distill=DistillConfig(teacher=str(teacher), **fields),
    )


@pytest.mark.parametrize("fields", [{}, {"cfg_probability": 0.5}, BAKED, LCM], ids=str)
def test_a_student_is_trained_and_says_what_it_is(
    networks,
    cache,
    teachers,
    tmp_path,
    fields,
):
    before = load_tensors(teachers / "plain")[0]
    path = {"steps": 2, "teacher_steps": 4}
    job = distilling(networks, cache, teachers / "plain", **{**path, **fields})
    Trainer(job, workdir=tmp_path, strategy=shared_strategy("one")).fit()
    tensors, about = load_tensors(tmp_path / WEIGHTS)
    guidance = 3.0 if "baked" in fields else None
    sampler = "lcm" if "consistency" in fields else "ddim"
    assert about["distilled"] == {"steps": 2, "guidance": guidance, "sampler": sampler}
    assert tensors.keys() == before.keys()  # The student's alone.
    for name, value in load_tensors(teachers / "plain")[0].items():
        np.testing.assert_array_equal(value, before[name])
    found = load_trained(tmp_path / WEIGHTS, "unet")
    model = job.assemble(found.model, Distilled.of(found.about))
    assert (model.steps, model.sampler, model.baked_guidance) == (2, sampler, guidance)
    assert model.scale_of(7.5) == (1.0 if guidance else 7.5)
    assert model.evaluations(7.5) == (1 if guidance else 2) and model.evaluations(1.0) == 1
    settings = settings_of(model, guidance=4.0, sampler=Sampler(default="ddim", steps=2))
    assert settings.guidance == Guidance(baked_in=bool(guidance), default=guidance or 4.0)


@pytest.mark.parametrize("teacher", ["plain", "told"])
def test_a_student_reads_the_scale(networks, cache, teachers, tmp_path, teacher):
    """Stage one begins with weights that know no scale; stage two has them learnt."""
    fields = {"steps": 2, "teacher_steps": 4, "cfg_probability": 1.0, "guidance": (2.0, 5.0)}
    training = TRAINING.replace(init=str(teachers / teacher))
    job = distilling(
        networks, cache, teachers / teacher, training=training, model=READING, **fields
    )
    trainer = Trainer(job, workdir=tmp_path, strategy=shared_strategy("one"))
    trainer.restore()
    kernel = trainer.model.time_guidance.kernel
    assert np.any(kernel.numpy()) == (teacher == "told")
    before = kernel.numpy()
    trainer.fit()
    assert np.abs(kernel.numpy() - before).max() > 0
    found = load_trained(tmp_path / WEIGHTS, "unet")
    assert found.model.config == READING
    model = job.assemble(found.model, Distilled.of(found.about))
    assert model.steps == 2 and model.baked_guidance is None and model.scale_of(7.5) == 7.5
    assert model.evaluations(7.5) == 1
    settings = settings_of(model, guidance=4.0, sampler=Sampler(steps=2))
    assert settings.guidance == Guidance(baked_in=False, default=4.0, width=WIDTH)
    z, t = tf.ones([2, 4, 4, 4]), tf.constant(500.0)
    context = tf.random.stateless_normal([4, LENGTH, 8], [1, 2])
    alone = found.model(
        z, timesteps=tf.fill([2], 500), context=context[:2], guidance=tf.constant([3.0, 3.0])
    )
    np.testing.assert_allclose(guided(found.model, 3.0)(z, t, context), alone, atol=1e-6)
    assert np.abs(guided(found.model, 4.0)(z, t, context) - alone).max() > 1e-5


@pytest.mark.parametrize(
    ("teacher", "model", "fields", "message"),
    [
        ("plain", READING, BAKED, "distill.baked must be False"),
        ("plain", READING, {"cfg_probability": 0.0}, "distill.cfg_probability above 0"),
        ("told", UNET, {}, "told reads the guidance scale: so must its student"),
    ],
)
def test_a_scale_that_cannot_be_read_is_refused(
    networks, cache, teachers, teacher, model, fields, message
):
    with pytest.raises(ValueError, match=message):
        distilling(networks, cache, teachers / teacher, model=model, **fields).build()


def test_the_teacher_itself_has_nothing_to_learn(networks, cache, teachers, tmp_path):
    fields = {"steps": 4, "teacher_steps": 4, "cfg_probability": 0.5, "gamma": 0.0}

    def first_loss(init):
        training = TRAINING.replace(init=init)
        job = distilling(networks, cache, teachers / "plain", training=training, **fields)
        trainer = Trainer(job, workdir=tmp_path / f"{init != ''}", strategy=shared_strategy("one"))
        trainer.restore()
        return float(next(trainer.calls())["loss"])

    assert first_loss(str(teachers / "plain")) < 1e-9 < 1e-3 < first_loss("")


def test_the_empty_prompt_is_read_by_the_text_encoder(
    networks,
    cache,
    teachers,
    tmp_path,
    monkeypatch,
):
    """Without a cache, as with one."""
    empty = np.array([30, 31, 0, 0], np.int32)
    monkeypatch.setattr(unet_job, "empty_prompt", lambda *arguments: empty[:LENGTH])
    fields = {"cfg_probability": 1.0, "gamma": 0.0}
    cached = distilling(networks, cache, teachers / "plain", **fields)
    plain = cached.replace(latents="")
    found = losses(plain, tmp_path / "a", steps=2)
    np.testing.assert_allclose(found, losses(cached, tmp_path / "b", steps=2), rtol=2e-3)


def test_baked_guidance_costs_one_evaluation_and_is_passed_on(
    networks,
    cache,
    teachers,
):
    job = distilling(networks, cache, teachers / "baked", cfg_probability=0.0, gamma=0.0)
    model = job.build()[0]
    about = job.describe(model)["distilled"]
    assert about == {"steps": 8, "guidance": 3.0, "sampler": "ddim"}
    whole = job.assemble(model, Distilled(2, 3.0))
    rng = np.random.default_rng(0)
    how = {
        "tokens": rng.integers(0, 32, [2, LENGTH]).astype(np.int32),
        "null_tokens": np.array([30, 31, 0, 0], np.int32),
        "noise": rng.standard_normal([2, *whole.latent_shape]).astype(np.float32),
        "steps": 2,
    }
    drawn = [sample_pictures(whole, guidance=w, **how) for w in (1.0, 9.0)]
    np.testing.assert_array_equal(*drawn)
    z, t = tf.constant(how["noise"]), tf.constant(500.0)
    context = tf.random.stateless_normal([4, LENGTH, 8], [1, 2])
    alone = model(z, timesteps=tf.fill([2], 500), context=context[:2])
    np.testing.assert_allclose(guided(model, 1.0)(z, t, context), alone, atol=1e-6)


def test_all_times_of_the_schedule_are_no_path(networks, cache, teachers):
    fields = {"steps": 1000, "teacher_steps": 1000, "cfg_probability": 1.0}
    job = distilling(networks, cache, teachers / "plain", model=READING, **fields)
    assert job.describe(build_unet(READING))["distilled"]["steps"] == STEPS


def test_a_model_from_data_alone_takes_its_usual_steps(networks):
    model = job_of(networks).assemble(build_unet(UNET))
    assert model.steps == STEPS and model.baked_guidance is None


def test_the_teacher_may_compute_in_half_precision(networks, cache, teachers):
    found = {}
    for precision in ("float32", "bfloat16"):
        fields = {"precision": precision, "cfg_probability": 1.0, "gamma": 0.0}
        job = distilling(networks, cache, teachers / "plain", **fields)
        keras.utils.set_random_seed(0)
        model, objective = job.build()
        frozen = objective.teacher.network
        assert {layer.compute_dtype for layer in (frozen.conv_in, frozen.time_in)} == {precision}
        assert model.conv_in.compute_dtype == "float32"
        assert {v.dtype for v in frozen.variables} == {tf.float32} and not frozen.trainable
        draws = Draws(seed=tf.constant([1, 2]), rows=TRAINING.batch_size)
        loss, _ = objective(model, next(iter(job.batches(0))), draws)
        assert loss.dtype == tf.float32
        found[precision] = loss.numpy()
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.1)
    assert np.abs(found["bfloat16"] / found["float32"] - 1).max() > 1e-5  # It was used.


def test_a_consistency_model_is_evaluated_once(networks, cache, teachers):
    fields = {**LCM, "guidance": (2.0, 5.0), "baked": False}
    with pytest.raises(ValueError, match="baked in .*reads the scale .*is without it"):
        distilling(networks, cache, teachers / "plain", **fields).build()
    _, objective = distilling(networks, cache, teachers / "plain", model=READING, **fields).build()
    assert objective.cfg.student is told and (objective.cfg.low, objective.cfg.high) == (2.0, 5.0)


def test_what_has_guidance_in_it_cannot_teach_guidance(networks, cache, teachers):
    with pytest.raises(ValueError, match="guidance is baked into .*baked: .* 0.1 and 0.2"):
        distilling(networks, cache, teachers / "baked").build()
    nothing = {"cfg_probability": 0.0, "gamma": 0.0}
    with pytest.raises(ValueError, match="baked, which has one scale to teach: the student must"):
        distilling(networks, cache, teachers / "baked", model=READING, **nothing).build()


@pytest.mark.parametrize(
    ("config", "schedule", "message"),
    [
        (UNET, {"beta_end": 0.02}, "schedule.beta_end was 0.02, is 0.012"),
        (UNET.replace(context_width=16), {}, "model.context_width was 16, is 8"),
        (UNET.replace(in_channels=8), {}, "model.in_channels was 8, is 4"),
    ],
)
def test_a_teacher_of_other_latents_captions_or_times_is_refused(
    networks, cache, tmp_path, config, schedule, message
):
    network = build_unet(config)
    trained_with = ScheduleConfig(**schedule).to_dict()
    about = describe(network, prediction="v", schedule=trained_with)
    save_weights(tmp_path / "other", network.variables, metadata=about)
    with pytest.raises(ValueError, match=f"other was trained for something else .*: {message}"):
        distilling(networks, cache, tmp_path / "other").build()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 8, "teacher_steps": 12}, "a multiple of steps=8"),
        ({"teacher_steps": 4}, "a multiple of steps=8"),
        ({"cfg_probability": 1.5}, "between 0 and 1"),
        ({"guidance": (3.0, 2.0)}, "two scales, the least first"),
        ({"gamma": -1.0}, "at least 0"),
        ({"precision": "int8"}, "one of float32"),
        ({**BAKED, "guidance": (2.0, 3.0)}, "one scale, given twice"),
        ({**BAKED, "cfg_probability": 0.5}, "1 where it is baked in"),
        ({**BAKED, "gamma": 0.2}, "0 where guidance is baked in"),
        ({**LCM, "teacher_steps": 100}, "50, the solver's"),
        ({**LCM, "steps": 51}, "at most 50"),
        ({**LCM, "huber": 0.0}, "positive"),
        ({"consistency": True, "teacher_steps": 50}, "gamma is 0.2; it must be 0"),
        ({"consistency": True, "teacher_steps": 50, "gamma": 0.0}, "0 or 1 for a consistency"),
    ],
)
def test_what_cannot_be_distilled_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DistillConfig(**fields)
