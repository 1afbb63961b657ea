"""A sweep of a network that paints what it is told, judged by a tiny CLIP."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.metrics.tiny_clip import make_clip, pictures, tokenize
from tfsnap.metrics.curves import curves, write_results
from tfsnap.metrics.features import FeatureSpace, clip_space
from tfsnap.metrics.framing import squares
from tfsnap.metrics.judge import Captions, Floor, Judge
from tfsnap.metrics.prompts import Prompt
from tfsnap.metrics.quality import floor
from tfsnap.metrics.reference import Reference
from tfsnap.metrics.sweep import Point, Sweep

PROMPTS = [Prompt(str(i % 8), i) for i in range(70)]  # Three chunks.
POINTS = [Point(name, 8, w) for name in ("a", "b") for w in (2.0, 1.0)]


@pytest.fixture(scope="module")
def clip():
    return make_clip()


def make_judge(clip, **changes):
    space = clip_space(clip)
    captions = Captions.of(clip, tokenize, captions=[p.caption for p in PROMPTS], others=["9", "1"])
    real = Reference.of(space.embed(pictures(40, seed=9)), space=space, side=8)
    references = changes.pop("references", {"real": real})
    return Judge(captions, references, **{"side": 8, "resamples": 5, **changes})


@pytest.fixture(scope="module")
def judge(clip):
    return make_judge(clip)


class Painter:
    """Notes what it was asked for."""

    def __init__(self, fail_at=None):
        self.seeds = []
        self.fail_at = fail_at

    def __call__(self, prompts):
        self.seeds += [prompt.seed for prompt in prompts]
        if self.fail_at in self.seeds:
            raise KeyboardInterrupt
        return np.concatenate([pictures(1, side=16, seed=prompt.seed) for prompt in prompts])


def test_a_point_is_measured_by_all_of_its_pictures(judge, tmp_path):
    paint = Painter()
    result = Sweep(tmp_path, PROMPTS, judge).measure(POINTS[0], paint)
    assert paint.seeds == list(range(70)) and result.count == 70
    agreement, distances = judge(judge.features(Painter()(PROMPTS)))
    assert result.agreement.clip_score.value == pytest.approx(agreement.clip_score.value, rel=1e-5)
    assert result.agreement.chance == 1 / 9  # Repetitions count once.
    found, expected = result.distances["real"], distances["real"]
    for kind in ("frechet", "kernel", "clip"):
        pair = [getattr(d, kind).value for d in (found, expected)]
        assert pair[0] == pytest.approx(pair[1], rel=1e-3, abs=1e-6)


def test_pictures_are_framed_before_any_network_sees_them(clip):
    images, space = pictures(3, side=16), clip_space(clip)
    found = make_judge(clip, side=4, references={}).features(images)[space.name]
    np.testing.assert_allclose(found, space.embed(squares(images, 4)), atol=1e-6)
    assert np.abs(found - space.embed(images)).max() > 1e-3


def test_a_sweep_that_was_stopped_goes_on(judge, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Sweep(tmp_path, PROMPTS, judge).measure(POINTS[0], Painter(fail_at=40))
    rest = Painter()
    again = Sweep(tmp_path, PROMPTS, judge).measure(POINTS[0], rest)
    assert rest.seeds == list(range(32, 70))
    assert again == Sweep(tmp_path / "other", PROMPTS, judge).measure(POINTS[0], Painter())
    assert Sweep(tmp_path, PROMPTS, judge).measure(POINTS[0], Painter(fail_at=0)) == again


def test_changed_settings_are_refused_and_leave_what_was_measured(clip, judge, tmp_path):
    sweep = Sweep(tmp_path, PROMPTS, judge)
    sweep.claim("a", "a slip")
    sweep.claim("a", "123")  # Nothing was measured of it.
    sweep.measure(POINTS[0], Painter())
    kept = (tmp_path / "sweep.json").read_text()
    for prompts, other, message in (
        (PROMPTS[:-1], judge, "count was 70, is 69"),
        ([Prompt("1", 5), *PROMPTS[1:]], judge, "prompts was"),
        (PROMPTS, make_judge(clip, side=4, references={}), "side was 8, is 4"),
        (PROMPTS, make_judge(make_clip(seed=1)), "spaces was"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            Sweep(tmp_path, prompts, other)
        assert "another --output" in str(error.value) and "\n" not in str(error.value)
    again = Sweep(tmp_path, PROMPTS, judge)
    with pytest.raises(ValueError, match='a was "123", is "456"'):
        again.claim("a", "456")
    assert (tmp_path / "sweep.json").read_text() == kept
    again.claim("b", "456")
    assert json.loads((tmp_path / "sweep.json").read_text())["networks"] == {"a": "123", "b": "456"}


def test_sweeps_of_one_folder_keep_each_others_names(judge, tmp_path):
    one, other = (Sweep(tmp_path, PROMPTS, judge) for _ in range(2))
    one.claim("a", "123")
    other.claim("b", "456")
    known = json.loads((tmp_path / "sweep.json").read_text())["networks"]
    assert known == {"a": "123", "b": "456"}
    one.measure(POINTS[0], Painter())
    with pytest.raises(ValueError, match='a was "123", is "789"'):
        other.claim("a", "789")


def test_points_of_an_unknown_network_are_refused(judge, tmp_path):
    sweep = Sweep(tmp_path, PROMPTS, judge)
    sweep.measure(POINTS[0], Painter())
    with pytest.raises(ValueError, match=r"which network the points of a are of: .*/a-steps"):
        sweep.claim("a", "123")


def test_damage_is_told(judge, tmp_path):
    sweep = Sweep(tmp_path, PROMPTS, judge)
    sweep.measure(POINTS[0], Painter())
    chunk = tmp_path / "points" / POINTS[0].slug / "000032.npz"
    np.savez(chunk, other=np.zeros(3))
    with pytest.raises(ValueError, match="000032.npz holds other features .* delete it"):
        sweep.measure(POINTS[0], Painter())
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match="sweep.json is damaged"):
        Sweep(tmp_path, PROMPTS, judge)


def test_references_must_fit_the_judge(clip, judge):
    inception = FeatureSpace("inception:x", 4, lambda images: images[:, 0, 0, :].repeat(2, 1))
    real = Reference.of(np.eye(4), space=inception._replace(width=4), side=8)
    with pytest.raises(ValueError, match="fid is of Inception's features: give its weights"):
        make_judge(clip, references={"fid": real})
    with pytest.raises(ValueError, match="fid is of pictures of 8 x 8 pixels, not 4 x 4"):
        make_judge(clip, references={"fid": real}, inception=inception, side=4)
    assert len(make_judge(clip, references={"fid": real}, inception=inception).names) == 2
    with pytest.raises(ValueError, match="the floor 'rael' belongs to no reference"):
        judge.floors({"rael": real}, count=5)
    with pytest.raises(ValueError, match="the floor of real was made with|features 4 wide"):
        judge.floors({"real": real}, count=5)


def test_points_are_compared_picture_by_picture(judge, tmp_path):
    sweep = Sweep(tmp_path, PROMPTS, judge)
    first = sweep.measure(POINTS[0], Painter())
    second = sweep.measure(POINTS[2], lambda prompts: 255 - Painter()(prompts))
    found = sweep.difference(POINTS[2], POINTS[0])
    a, b = second.agreement, first.agreement
    apart = a.clip_score.value - b.clip_score.value
    assert found.baseline == "a, 8 steps" and found.clip_score.value == pytest.approx(
        apart, abs=1e-6
    )
    assert found.top1.value == pytest.approx(a.top1.value - b.top1.value)
    same = sweep.difference(POINTS[0], POINTS[0])
    assert (same.clip_score.value, same.clip_score.error) == (0.0, 0.0)
    write_results([first, dataclasses.replace(second, difference=found)], {}, tmp_path)
    table = (tmp_path / "results.md").read_text()
    assert f"| b | 8 | 2 | a, 8 steps | {found.clip_score} | {found.top1} |" in table
    values = json.loads((tmp_path / "results.json").read_text())["points"]
    assert values[0]["difference"] is None and values[1]["difference"]["baseline"] == "a, 8 steps"


def test_tables_and_plots(judge, tmp_path):
    sweep = Sweep(tmp_path, PROMPTS, judge)
    results = [sweep.measure(point, Painter()) for point in POINTS]
    floors = judge.floors({}, count=70)
    real = judge._references["real"]
    assert floors["real"] == Floor(*floor(real, count=70, resamples=5))
    write_results(results, floors, tmp_path)
    lines = [(label, [r.point.guidance for r in line]) for label, line in curves(results)]
    assert lines == [("a, 8 steps", [1.0, 2.0]), ("b, 8 steps", [1.0, 2.0])]
    table = (tmp_path / "results.md").read_text()
    assert "baseline" not in table  # Nothing was compared.
    assert table.count("| a | 8 |") == 2 and "| real pictures (20) |" in table
    values = json.loads((tmp_path / "results.json").read_text())
    assert values["points"][0]["point"] == {"network": "a", "steps": 8, "guidance": 2.0}
    found = values["points"][0]["distances"]["real"]["frechet"]
    assert found == {
        "value": results[0].distances["real"].frechet.value,
        "error": results[0].distances["real"].frechet.error,
    }
    picture = Image.open(tmp_path / "real.png")
    assert (
        picture.width > 3 * 500 and len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 50
    )
