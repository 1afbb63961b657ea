"""Bundles with integer activations: calibrated, as near to Keras as asked for, and run."""

import csv
import dataclasses
import math

import pytest

from tests.export.conftest import randomise
from tfsnap.export.bundle_writer import write_bundle
from tfsnap.export.quantisation.calibration import load_calibration
from tfsnap.export.quantisation.quantiser import QuantisationSpec, Quantiser
from tfsnap.export.quantisation.recipe import GoalError
from tfsnap.models.unet import build_unet
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import load_component

GOAL_DB = 43.0
SIZES = ((16, 24), (16, 16))


@pytest.fixture(scope="module")
def made(little, bundle_spec, session_dir):
    """A bundle of two sizes that meets a goal, its calibration and its table."""
    folder = session_dir / "quantised"
    spec = QuantisationSpec(
        prompts=("green pear, noto style",),
        steps=2,
        calibration=folder / "calibration.safetensors",
        psnr_db=GOAL_DB,
        sensitivity=folder / "table.tsv",
    )
    write_bundle(
        little,
        folder / "bundle",
        bundle_spec("int8_full", quantisation=spec, shapes=SIZES),
    )
    return folder, spec


def test_every_network_meets_the_goal_with_some_layers_quantised(made):
    folder, _ = made
    manifest = Bundle.open(folder / "bundle").manifest
    assert manifest.precision == "int8_full"
    kept = manifest.provenance["kept_in_float16"]
    with (folder / "table.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["network"] for row in rows} == {name for name, layers in kept.items() if layers}
    for name, component in manifest.components.items():
        assert component.parity.psnr_db >= component.parity.threshold_db == GOAL_DB
        measured = {row["layer"]: float(row["psnr_db"]) for row in rows if row["network"] == name}
        assert set(kept[name]) <= set(measured)
        if measured:
            assert 0 < len(kept[name]) < len(measured)
            others = set(measured) - set(kept[name])
            assert max(measured[k] for k in kept[name]) <= min(measured[k] for k in others)


def test_inputs_and_outputs_stay_floats(made):
    bundle = Bundle.open(made[0] / "bundle")
    for name in ("unet", "decoder"):
        network = load_component(bundle, name)
        assert {tensor.dtype for tensor in (*network.inputs, *network.outputs)} == {"float32"}


def test_the_calibration_is_of_each_size_along_trajectories(made):
    calibration = load_calibration(made[0] / "calibration.safetensors")
    assert set(calibration) == {"text_encoder", "unet", "decoder", "unet@16x16", "decoder@16x16"}
    times = {inputs["time_features"].tobytes() for inputs, _ in calibration["unet"].calls}
    latents = {inputs["latent"].tobytes() for inputs, _ in calibration["unet"].calls}
    assert len(times) == len(latents) == 2  # Of two steps, with and without the prompt.
    assert len(calibration["unet"].calls) == 4


def test_a_calibration_is_reused(made, little, bundle_spec, tmp_path):
    folder, spec = made
    before = (folder / "calibration.safetensors").read_bytes()
    # Without prompts there would be nothing to record.
    again = dataclasses.replace(spec, prompts=(), psnr_db=None)
    write_bundle(little, tmp_path / "b", bundle_spec("int16", quantisation=again))
    assert (folder / "calibration.safetensors").read_bytes() == before
    manifest = Bundle.open(tmp_path / "b").manifest
    assert manifest.provenance["kept_in_float16"] == {}
    assert all(c.parity.psnr_db > 40.0 for c in manifest.components.values())


def test_a_goal_out_of_reach(made, little, bundle_spec, tmp_path):
    spec = dataclasses.replace(made[1], psnr_db=150.0, sensitivity=tmp_path / "table.tsv")
    with pytest.raises(GoalError, match=r"--psnr=150 is out of reach for the text_encoder: it is"):
        write_bundle(little, tmp_path / "bundle", bundle_spec("int8_full", quantisation=spec))
    assert not (tmp_path / "bundle").exists()


def test_a_calibration_of_another_network(made, little, bundle_spec, tmp_path):
    other = build_unet(little.unet.config)
    randomise(other, 9)
    model = dataclasses.replace(little, unet=other)
    with pytest.raises(ValueError, match=r"was recorded with other weights of unet: give another"):
        write_bundle(model, tmp_path / "bundle", bundle_spec("int8_full", quantisation=made[1]))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"shapes": SIZES[1:]},
            r"unet took latent \[1, 8, 12, 4\] and takes latent \[1, 8, 8, 4\]",
        ),
        ({"guidance_batch": True}, r"unet took context \[1, 12, 32\] and takes context \[2, 12,"),
    ],
)
def test_a_calibration_of_another_size(made, little, bundle_spec, tmp_path, changes, told):
    spec = bundle_spec("int8_full", quantisation=made[1], **changes)
    with pytest.raises(ValueError, match=told):
        write_bundle(little, tmp_path / "bundle", spec)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("field", ["calibration", "sensitivity"])
def test_files_are_looked_at_before_anything_is_drawn(
    little, bundle_spec, tmp_path, monkeypatch, field
):
    (tmp_path / "file").write_text("")
    files = {"calibration": tmp_path / "c", "sensitivity": tmp_path / "t"}
    files[field] = tmp_path / "file" / "below"
    spec = QuantisationSpec(prompts=("pear",), steps=1, psnr_db=30.0, **files)
    monkeypatch.setattr(Quantiser, "calibrate", lambda *arguments: pytest.fail("it is drawn"))
    with pytest.raises(ValueError, match=rf"--{field} is .*file/below, which cannot be used"):
        write_bundle(little, tmp_path / "bundle", bundle_spec("int8_full", quantisation=spec))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("goal", "told"),
    [(math.nan, "psnr is nan; it must be a finite"), (30.0, "psnr is 30 without a file for")],
)
def test_goals_that_cannot_be(goal, told):
    with pytest.raises(ValueError, match=told):
        QuantisationSpec(psnr_db=goal)


@pytest.mark.parametrize(("precision", "spec"), [("int8", QuantisationSpec()), ("int16", None)])
def test_a_precision_and_how_to_quantise_go_together(bundle_spec, precision, spec):
    with pytest.raises(ValueError, match=r"int8_full and int16 need a QuantisationSpec"):
        bundle_spec(precision, quantisation=spec)
