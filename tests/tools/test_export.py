"""tools/export.py on a folder of weights, and everything that it refuses."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.small_unet import CONFIG, randomised_unet
from tests.tools.programs import ROOT
from tests.tools.refusals import ending, refusal
from tfsnap.config import AutoencoderConfig, ClipTextConfig
from tfsnap.export import bundle_writer
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.folding import UnsupportedGraphError
from tfsnap.export.parity import psnr_db
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_text_encoder
from tfsnap.models.latent_diffusion import Distilled
from tfsnap.pretrained import load_pipeline, open_pretrained
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import WeightsError
from tfsnap.runtime.settings import Guidance, Sampler
from tfsnap.runtime.text_to_image import TextToImage
from tfsnap.weights import convert
from tfsnap.weights.archive import describe
from tfsnap.weights.store import load_tensors, save_tensors, save_weights

SIZE = {"height": 16, "width": 24}
PROMPT = "red apple, noto style"


def save(model, folder, **about):
    path = folder / f"{model.name}.safetensors"
    save_weights(path, model.variables, metadata=describe(model, **about))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """What tools/convert_weights.py writes, of a small model."""
    folder = tmp_path_factory.mktemp("weights")
    save(randomised_unet(CONFIG), folder, prediction="v")
    save(build_autoencoder(AutoencoderConfig(channels=(8, 16), groups=4, resnets=1)), folder)
    save(build_text_encoder(ClipTextConfig(width=6, heads=2, layers=1)), folder)
    return folder


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """A bundle, by the second of two runs of one command: the first was killed on its way."""
    folder = tmp_path_factory.mktemp("exported")
    command = [
        sys.executable,
        str(ROOT / "tools/export.py"),
        f"--weights={weights}",
        f"--output={folder}/bundle",
        "--shape=16x24",
        "--encoder",
    ]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and not list(folder.glob(".bundle.*/*.tflite")):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    left = [path.name for path in folder.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "bundle", left, done.stdout


def test_a_killed_export_leaves_nothing_behind_once_it_is_run_again(exported):
    bundle, left, _ = exported
    assert len(left) == 1 and left[0].startswith(".bundle.")
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_folder_of_weights_becomes_a_bundle_that_draws_the_same(exported, weights):
    bundle, _, told = exported
    assert told.count("dB against Keras") == 4
    manifest = Bundle.open(bundle).manifest
    assert manifest.sampler.steps == 50
    assert manifest.guidance.default == 7.5
    assert manifest.latent.shape == (8, 12, 4)
    ours, keras = (
        pipeline.generate([PROMPT], seed=5, steps=3)[0].image
        for pipeline in (TextToImage(bundle), load_pipeline(weights, **SIZE))
    )
    assert psnr_db(keras, ours) > 50.0


@pytest.fixture(scope="module")
def of_pndm(weights, tmp_path_factory):
    """The same weights with Stable Diffusion's own scheduler, which no reader of bundles has."""
    folder = tmp_path_factory.mktemp("pndm") / "weights"
    link(weights, folder, "autoencoder", "text_encoder")
    scheduler = {"_class_name": "PNDMScheduler", "steps_offset": 1, "set_alpha_to_one": False}
    about = {"prediction": "v", "diffusers_scheduler": scheduler}
    save(randomised_unet(CONFIG), folder, **about)
    return folder


@pytest.mark.parametrize(
    ("flags", "sampler"),
    [
        ([], Sampler("ddim", 50, "leading", 1, False)),
        (["--sampler=dpmpp_2m"], Sampler("dpmpp_2m", 50, "linspace", 1, False)),
    ],
)
def test_a_scheduler_that_bundles_have_not(of_pndm, tmp_path, flags, sampler):
    output = f"--output={tmp_path}/bundle", "--shape=16"
    assert ending("export", f"--weights={of_pndm}", *output, *flags) is None
    assert Bundle.open(tmp_path / "bundle").manifest.sampler == sampler


def distilled(weights, folder, made_for):
    """The same weights as a student's, whose teacher came with a scheduler."""
    link(weights, folder, "autoencoder", "text_encoder")
    scheduler = {"_class_name": "PNDMScheduler", "steps_offset": 1, "set_alpha_to_one": False}
    about = {"prediction": "v", "diffusers_scheduler": scheduler, "distilled": made_for}
    save(randomised_unet(CONFIG), folder, **about)
    return folder


def test_what_a_unet_was_distilled_for_goes_into_its_bundle(weights, tmp_path):
    folder = distilled(weights, tmp_path / "source", Distilled(8, 3.0)._asdict())
    convert.write(convert.read(folder, convert.TFSNAP), tmp_path / "weights", convert.TFSNAP)
    flags = f"--weights={tmp_path}/weights", f"--output={tmp_path}/bundle", "--shape=16"
    assert ending("export", *flags) is None
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.sampler == Sampler("ddim", 8, "trailing")
    assert manifest.guidance == Guidance(baked_in=True, default=3.0)
    assert load_pipeline(tmp_path / "weights", height=16, width=16).settings == manifest.settings
    guided = distilled(weights, tmp_path / "guided", Distilled(4, None, "lcm")._asdict())
    settings = load_pipeline(guided, height=16, width=16).settings
    assert (settings.sampler, settings.guidance) == (Sampler("lcm", 4), Guidance(False, 7.5))


DAMAGE = [
    ("unet", "distilled", [8, 3.0], "distilled is "),
    ("unet", "distilled", {"steps": 8, "sampler": "none"}, "distilled is "),
    ("unet", "distilled", {"steps": "8"}, "distilled is "),
    ("unet", "distilled", {"steps": 8.5}, "distilled is "),
    ("unet", "distilled", {"steps": 8, "guidance": "7"}, "distilled is "),
    ("unet", "distilled", {"steps": 8, "guidance": 700}, "Guidance.default is 700"),
    ("unet", "distilled", {"steps": 8000}, "it must be of at most 1000 steps"),
    ("unet", "resolution", 64, "resolution is 64; it must be height and width"),
    ("unet", "resolution", ["16", "16"], "resolution is "),
    ("unet", "resolution", [16, 16, 3], "resolution is "),
    ("unet", "prediction", "sample", "prediction is 'sample'; it must be epsilon or v"),
    ("unet", "schedule", {"steps": "9"}, "ScheduleConfig.steps is '9'"),
    ("unet", "diffusers_scheduler", [1], "diffusers_scheduler is .* must be an object"),
    ("unet", "diffusers_scheduler", {"timestep_spacing": "bogus"}, "spacing is 'bogus'"),
    ("unet", "diffusers_scheduler", {"steps_offset": 5}, "steps_offset is 5"),
    ("unet", "diffusers_scheduler", {"_class_name": ["DDIMScheduler"]}, "unhashable"),
    ("autoencoder", "resolution", "64", "resolution is '64'; it must be a whole number"),
    ("text_encoder", "pad_token", "x", "pad_token is 'x'; it must be from 0 to 49407"),
    ("text_encoder", "pad_token", 49408, "pad_token is 49408"),
]


@pytest.mark.parametrize("reader", [open_pretrained, load_pipeline])
@pytest.mark.parametrize(("network", "field", "value", "message"), DAMAGE)
def test_a_damaged_description_is_told_with_its_file(
    weights, tmp_path, reader, network, field, value, message
):
    names = ("unet", "autoencoder", "text_encoder")
    folder = link(weights, tmp_path / "weights", *(name for name in names if name != network))
    file = f"{network}.safetensors"
    tensors, about = load_tensors(weights / file)
    save_tensors(folder / file, tensors, {**about, field: value})
    with pytest.raises(WeightsError, match=f"{file}: its description is .*: .*{message}"):
        reader(folder)


def test_defaults_that_cannot_be(weights, tmp_path):
    told = refused(weights, tmp_path, "--sampler=lcm", "--steps=60")
    assert told == "export: steps is 60; it must be between 1 and 50 (sampler lcm)"
    assert "min_psnr is nan; it must be a finite number" in refused(
        weights, tmp_path, "--min_psnr=nan"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_output_without_a_name(weights):
    told = refusal("export", f"--weights={weights}", "--output=")
    assert told.startswith("export: --output is empty or names no bundle ('.'): give a name such")


def link(weights, folder, *names):
    """A folder with some of the weight files."""
    folder.mkdir()
    for name in names:
        os.symlink(weights / f"{name}.safetensors", folder / f"{name}.safetensors")
    return folder


def refused(weights, tmp_path, *more):
    told = refusal("export", f"--weights={weights}", f"--output={tmp_path}/bundle", *more)
    assert told.startswith("export: ") and "\n" not in told
    return told


def test_weights_of_another_config(weights, tmp_path):
    folder = link(weights, tmp_path / "mixed", "unet", "autoencoder")
    save(build_text_encoder(ClipTextConfig(width=8, heads=2, layers=1)), folder)
    told = refused(folder, tmp_path)
    assert "do not belong together: the UNet takes 6 and the others give 8 (width of the" in told
    assert not (tmp_path / "bundle").exists()


def test_tensors_that_do_not_fit_the_description(weights, tmp_path):
    folder = link(weights, tmp_path / "changed", "autoencoder", "text_encoder")
    unet = randomised_unet(CONFIG)
    about = json.loads(json.dumps(describe(unet)))
    about["config"]["context_width"] = 8
    save_weights(folder / "unet.safetensors", unet.variables, metadata=about)
    told = refused(folder, tmp_path)
    assert "unet.safetensors does not fit the model: 4 mis-shaped: " in told


def test_a_missing_network(weights, tmp_path):
    folder = link(weights, tmp_path / "part", "unet", "autoencoder")
    assert "text_encoder.safetensors: no such weight file" in refused(folder, tmp_path)


def test_a_size_that_the_networks_do_not_have(weights, tmp_path):
    told = refused(weights, tmp_path, "--shape=15")
    assert "--shape is 15x15; both sides must be positive multiples of 2 pixels" in told
    assert "The size is 'wide'; it must be HEIGHT" in refused(weights, tmp_path, "--shape=wide")


def test_an_output_below_a_file(weights, tmp_path):
    (tmp_path / "bundle").write_text("")
    assert "exists and is not a bundle" in refused(weights, tmp_path)
    told = refusal("export", f"--weights={weights}", f"--output={tmp_path}/bundle/b")
    assert told.startswith(f"export: {tmp_path}/bundle/b cannot be written (")


@pytest.mark.parametrize("flag", ["weights", "workdir", "autoencoder"])
def test_what_is_exported_is_not_in_the_bundle_that_it_replaces(weights, tmp_path, flag):
    output, source = tmp_path / "bundle", tmp_path / "bundle" / "weights"
    output.mkdir()
    (output / "manifest.json").write_text('{"format": "tfsnap-bundle"}')
    shutil.copytree(weights, source)
    if flag == "autoencoder":
        source /= "autoencoder.safetensors"
    more = [] if flag != "autoencoder" else [f"--weights={weights}"]
    told = refusal("export", f"--{flag}={source}", f"--output={output}", "--shape=16", *more)
    assert told == (
        f"export: --{flag}={source} is in {output}, which --output={output} replaces as a whole: "
        "choose another --output"
    )
    assert source.exists()


def test_a_disk_that_becomes_full(weights, tmp_path, monkeypatch):
    def write(self, file):
        file.write(b"TFL3")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ConvertedModel, "write", write)
    told = refused(weights, tmp_path, "--shape=16")
    assert told == (
        f"export: no space is left for {tmp_path}/bundle: free some, or choose an --output on "
        "another disk"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_tflite_lacks(weights, tmp_path, monkeypatch):
    def convert(graph, precision):
        raise UnsupportedGraphError(f"{graph.name} cannot be exported: TFLite lacks Erf")

    monkeypatch.setattr(bundle_writer, "convert", convert)
    told = refused(weights, tmp_path, "--shape=16")
    assert told == "export: text_encoder cannot be exported: TFLite lacks Erf"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--recipe=auto"], "--recipe is for --precision=int8_full and int16, and this is fp16"),
        (["--calibration=c", "--precision=int8"], "--calibration is for --precision=int8_full"),
        (["--precision=int16", "--psnr=35"], "--recipe=auto needs --psnr, and --psnr and"),
        (["--precision=int8_full", "--recipe=auto"], "--recipe=auto needs --psnr, and --psnr"),
        (["--precision=int16", "--sensitivity=t.tsv"], "--recipe=auto needs --psnr"),
    ],
)
def test_flags_of_quantisation_that_do_not_go_together(weights, tmp_path, flags, told):
    assert told in refused(weights, tmp_path, *flags)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["bundle", "bundle/"])
def test_files_in_a_bundle_would_be_lost_with_it(weights, tmp_path, output):
    goal = "--precision=int16", "--recipe=auto", "--psnr=20"
    place = f"--output={tmp_path}/{output}"
    for flag in ("calibration", "sensitivity"):
        inside = f"--{flag}={tmp_path}/bundle/x"
        told = refusal("export", f"--weights={weights}", place, *goal, inside)
        assert told.startswith(f"export: --{flag} is {tmp_path}/bundle/x, and --output=")
        assert told.endswith("is replaced as a whole: give a file beside it")
    assert list(tmp_path.iterdir()) == []


def test_a_goal_that_is_met_and_one_out_of_reach(weights, tmp_path):
    calibration = f"--calibration={tmp_path}/calibration.safetensors"
    first = "--shape=16", "--precision=int8_full", calibration, "--recipe=auto"
    one = "--calibration_prompt=pear", "--calibration_steps=2"
    output = f"--weights={weights}", f"--output={tmp_path}/bundle"
    assert ending("export", *output, *first, *one, "--psnr=15") is None
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert min(c.parity.psnr_db for c in manifest.components.values()) >= 15.0
    told = refused(weights, tmp_path, *first, "--psnr=15", "--calibration_prompt=plum")
    assert "--calibration_prompt is ['plum'], but " in told
    assert "was recorded with ['pear']: leave the flag out, or give another --calibra" in told
    told = refused(weights, tmp_path, *first, "--psnr=15", "--calibration_steps=3")
    assert "--calibration_steps is 3, but " in told and "was recorded with 2: leave" in told
    told = refused(weights, tmp_path, *first, "--psnr=15", "--min_psnr=16")
    assert "min_psnr is 16, above psnr=15, with which layers are chosen: raise psnr" in told
    told = refused(weights, tmp_path, *first, *one, "--psnr=150")
    assert "--psnr=150 is out of reach for the text_encoder: it is" in told
    assert Bundle.open(tmp_path / "bundle").manifest == manifest
    names = {"bundle", "calibration.safetensors", "bundle.sensitivity.tsv"}
    assert {path.name for path in tmp_path.iterdir()} == names
