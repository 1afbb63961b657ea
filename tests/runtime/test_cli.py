"""`tfsnap generate`: pictures on disk, and one line for whatever a user can do wrong."""

import os
import pathlib
import pty
import re

import numpy as np
import pytest
from PIL import Image

from tests.runtime.processes import ROOT, complaint, notes, run
from tfsnap.cli import main
from tfsnap.runtime import RequestError

TOOL = ROOT / "tools/generate.py"


def generate(bundle, *flags, **options):
    return run([TOOL, f"--bundle={bundle}", "--steps=2", *flags], **options)


def test_writes_a_picture_and_tells_where(tiny_bundle, tmp_path, interpreter):
    flags = ["--prompt=ab", "--guidance=4", "--seed=3", "--threads=1", "--negative_prompt=cd"]
    done = generate(tiny_bundle, *flags, f"--output={tmp_path / 'x.png'}", interpreter=interpreter)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'x.png'}\n"
    assert Image.open(tmp_path / "x.png").size == (16, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_every_flag_matters(tiny_bundle, tmp_path):
    pictures = set()
    for i, flag in enumerate(["--seed=0", "--seed=1", "--guidance=1", "--negative_prompt=zzz"]):
        path = tmp_path / f"{i}.png"
        assert generate(tiny_bundle, "--prompt=ab", flag, f"--output={path}").returncode == 0
        pictures.add(np.array(Image.open(path)).tobytes())
    assert len(pictures) == 4


def test_several_prompts_give_a_labelled_grid(tiny_bundle, tmp_path):
    path = tmp_path / "grid.png"
    prompts = ["--prompt=ab", "--prompt=cd", "--prompt=ef"]
    assert generate(tiny_bundle, *prompts, f"--output={path}").returncode == 0
    width, height = Image.open(path).size
    assert width > 2 * 128
    assert height > 2 * (128 + 12)  # Two rows of pictures with a line of text under each.


def test_every_cell_of_a_grid_has_its_own_prompt(tiny_bundle, tmp_path):
    code = """
import sys
from tfsnap.cli import main
from tfsnap.runtime import grid

draw = grid.grid
grid.grid = lambda pictures, captions, **options: print(captions) or draw(pictures, captions)
sys.exit(main(sys.argv[1:]))
"""
    flags = ["--prompt=ab", "--prompt=cd", "--images_per_prompt=2", f"--output={tmp_path}/x.png"]
    done = run(["-c", code, "generate", f"--bundle={tiny_bundle}", "--steps=1", *flags])
    assert done.stdout.splitlines()[0] == "['ab', 'ab', 'cd', 'cd']", done.stderr


def test_several_prompts_give_a_file_each(tiny_bundle, tmp_path):
    done = generate(
        tiny_bundle, "--prompt=ab", "--prompt=cd", f"--output={tmp_path}/p{{index}}.webp"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p0.webp", "p1.webp"]


def test_several_pictures_of_a_prompt(tiny_bundle, tmp_path):
    flags = ["--prompt=ab", "--images_per_prompt=2", "--seed=4", "--sampler=dpmpp_2m"]
    done = generate(tiny_bundle, *flags, f"--output={tmp_path}/{{index}}.png")
    assert done.returncode == 0, done.stderr
    second = ["--prompt=ab", "--seed=5", "--sampler=dpmpp_2m", f"--output={tmp_path}/alone.png"]
    assert generate(tiny_bundle, *second).returncode == 0
    pictures = [(tmp_path / name).read_bytes() for name in ("0.png", "1.png", "alone.png")]
    assert pictures[1] == pictures[2] != pictures[0]


@pytest.mark.parametrize("error", ["NotFiniteError('The UNet returned NaN')", "KeyboardInterrupt"])
def test_what_was_drawn_is_kept_when_a_later_picture_fails(tiny_bundle, tmp_path, error):
    code = f"""
import sys
from tfsnap.cli import main
from tfsnap.runtime import NotFiniteError, Pipeline

draw, drawn = Pipeline._generate, []

def once(self, *arguments):
    if drawn:
        raise {error}
    drawn.append(draw(self, *arguments))
    return drawn[0]

Pipeline._generate = once
sys.exit(main(sys.argv[1:]))
"""
    flags = [f"--bundle={tiny_bundle}", "--prompt=ab", "--images_per_prompt=3"]
    done = run(["-c", code, "generate", *flags, f"--output={tmp_path}/{{index}}.png"])
    assert done.stdout == f"{tmp_path}/0.png\n"
    assert complaint(done) in (
        "tfsnap generate: The UNet returned NaN",
        "tfsnap generate: interrupted",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]
    assert Image.open(tmp_path / "0.png").size == (16, 16)


def test_nobody_reads_the_names_of_pictures(tiny_bundle, tmp_path):
    """As with `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    flags = ["--prompt=ab", "--images_per_prompt=3", f"--output={tmp_path}/{{index}}.png"]
    done = generate(tiny_bundle, *flags, stdout=writer)
    os.close(writer)
    assert (done.returncode, notes(done)) == (0, [])
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
def test_the_names_of_pictures_cannot_be_printed(tiny_bundle, tmp_path):
    flags = ["--prompt=ab", "--images_per_prompt=3", f"--output={tmp_path}/{{index}}.png"]
    with open("/dev/full", "w") as full:
        done = generate(tiny_bundle, *flags, stdout=full)
    told = "tfsnap generate: warning: stdout takes no more text: No space left on device"
    assert (done.returncode, notes(done)) == (0, [told])
    assert len(list(tmp_path.iterdir())) == 3


def test_names_of_pictures_that_the_terminal_cannot_show(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    flags = ["--prompt=ab", "--images_per_prompt=2", f"--output={tmp_path}/❤{{index}}.png"]
    done = generate(tiny_bundle, *flags)
    assert (done.returncode, notes(done)) == (0, [])
    assert done.stdout == "".join(f"{tmp_path}/\\u2764{i}.png\n" for i in range(2))
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_without_tensorflow_are_one_line(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None;"
        "from tfsnap.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    flags = [f"--weights={tmp_path}", "--prompt=a", f"--output={tmp_path / 'x.png'}"]
    line = complaint(run(["-c", code, "generate", *flags]))
    assert "tensorflow is not installed, which --weights needs: pip install '.[train]'" in line


def test_a_long_prompt_is_a_warning(tiny_bundle, tmp_path):
    path = tmp_path / "x.png"
    done = generate(tiny_bundle, f"--prompt={' '.join('abcdefghijklmnop')}", f"--output={path}")
    assert done.returncode == 0
    (line,) = notes(done)
    assert line.startswith("tfsnap generate: warning: The prompt is longer than 14 tokens")
    assert line.endswith("cut off: 'o p'")
    assert path.exists()


def test_progress_is_shown_on_a_terminal(tiny_bundle, tmp_path):
    """What a terminal gets; that nothing comes without one, the tests of warnings show."""
    leader, follower = pty.openpty()
    flags = ["--prompt=ab", "--prompt=cd", f"--output={tmp_path / 'x.png'}"]
    done = generate(tiny_bundle, *flags, stderr=follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    os.close(follower)
    assert done.returncode == 0
    told = re.findall(r"picture (\d+) of 2: step (\d+) of 2, \d+ s left", shown)
    assert told == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompt="], "The prompt '' is empty"),
        (["--prompt=a", "--steps=0"], "steps is 0; it must be an integer between 1 and 1000"),
        (["--prompt=a", "--guidance=99"], "guidance is 99.0; it must be a number between 0 and 50"),
        (["--prompt=a", "--seed=-1"], "seed is -1"),
        (["--prompt=a", "--threads=0"], "threads is 0"),
        (["--prompt=a", f"--threads={2**32}"], "threads is 4294967296; it must be at most 1024"),
        (
            ["--prompt=a", f"--weight_cache={ROOT}/README.md"],
            f"The weight cache {ROOT}/README.md cannot be made: File exists: name a folder",
        ),
        (["--prompt=a", "--interpreter=x"], "The interpreter is 'x'"),
        (["--prompt=a", "--sampler=x"], "sampler is 'x'; it must be one of ddim, dpmpp_2m"),
        (
            ["--prompt=a", "--size=8x16"],
            "draws pictures of 16x16 pixels (height x width), not 8x16",
        ),
        (["--prompt=a", "--size=8x"], "The size is '8x'; it must be HEIGHTxWIDTH, as 512x768"),
        (["--prompt=a", "--strength=0.5"], "strength is given without an image"),
        (["--prompt=a", f"--image={ROOT}/README.md"], "Cannot read the picture"),
        (["--prompt=a", f"--image={ROOT}/docs/images/demo.png"], "This bundle has no encoder"),
    ],
)
def test_bad_requests(tiny_bundle, tmp_path, flags, message):
    done = generate(tiny_bundle, *flags, f"--output={tmp_path / 'x.png'}")
    assert message in complaint(done)
    assert not list(tmp_path.iterdir())


def test_a_network_that_returns_nan(with_unet, tmp_path):
    folder = with_unet("unet_of_nan.tflite")
    line = complaint(generate(folder, "--prompt=a", f"--output={tmp_path / 'x.png'}"))
    assert "The UNet at t = 999 returned 512 of 512 values that are NaN" in line
    assert not (tmp_path / "x.png").exists()


def test_a_network_that_is_not_as_the_manifest_says(with_unet, tmp_path, interpreter):
    folder = with_unet("unet_of_wider_context.tflite")
    flags = ["--prompt=a", f"--output={tmp_path / 'x.png'}"]
    line = complaint(generate(folder, *flags, interpreter=interpreter))
    assert "unet (" in line
    assert "inputs context float32 [1, 16, 12]" in line
    assert "manifest.json says context float32 [1, 16, 8]" in line


def test_a_missing_interpreter(tiny_bundle, tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['ai_edge_litert', 'tflite_runtime']));"
        "from tfsnap.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    flags = [f"--bundle={tiny_bundle}", "--prompt=a", f"--output={tmp_path / 'x.png'}"]
    line = complaint(run(["-c", code, "generate", *flags]))
    assert "No TFLite interpreter is installed: pip install ai-edge-litert" in line


@pytest.mark.parametrize("package", ["numpy", "PIL"])
def test_an_installation_without_the_extra(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None;"
        "from tfsnap.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    line = complaint(run(["-c", code, "generate", "--bundle=b", "--prompt=a", "--output=x.png"]))
    assert "is not installed: pip install '.[runtime]' in a clone" in line


def fails(capsys, *flags):
    """The line that the command says; for faults found before an interpreter is loaded."""
    assert main(["generate", "--prompt=a", *map(str, flags)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tfsnap generate: ")
    return line


def test_a_text_that_is_no_number(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--images_per_prompt=x"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert "argument --images_per_prompt: invalid int value: 'x'" in told


def test_how_a_bundle_is_loaded(capsys, monkeypatch, tmp_path):
    def load(bundle, **options):
        raise RequestError(f"{bundle} {options}")

    monkeypatch.setattr("tfsnap.runtime.TextToImage", load)
    flags = ["--size=8x16", "--threads=3", "--interpreter=i", "--low_memory", "--weight_cache=c"]
    options = {
        "size": (8, 16),
        "threads": 3,
        "interpreter": "i",
        "low_memory": True,
        "weight_cache": pathlib.Path("c"),
    }
    line = fails(capsys, "--bundle=b", f"--output={tmp_path / 'x.png'}", *flags)
    assert line.endswith(f"b {options}")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--low_memory"], "--low_memory"),
        (["--threads=2", "--weight_cache=c"], "--threads and --weight_cache"),
        (["--interpreter=ai_edge_litert"], "--interpreter"),
    ],
)
def test_flags_that_weights_do_not_take(capsys, tmp_path, flags, told):
    line = fails(capsys, f"--weights={tmp_path}", f"--output={tmp_path / 'x.png'}", *flags)
    assert line.endswith(f"the Keras model, without an interpreter: leave out {told}")


def test_what_is_not_given_is_left_to_the_runtime(capsys, monkeypatch, tmp_path):
    def load(bundle, **options):
        raise RequestError(f"{bundle} {options}")

    monkeypatch.setattr("tfsnap.runtime.TextToImage", load)
    line = fails(capsys, "--bundle=b", f"--output={tmp_path / 'x.png'}")
    assert line.endswith("b {'size': None}")


def test_bad_bundles(capsys, tmp_path, edit):
    output = f"--output={tmp_path / 'x.png'}"
    assert "No bundle at" in fails(capsys, f"--bundle={tmp_path / 'none'}", output)
    assert "no manifest.json" in fails(capsys, f"--bundle={tmp_path}", output)
    folder = edit(lambda manifest: manifest.update(format_version=4))
    assert "upgrade tfsnap" in fails(capsys, f"--bundle={folder}", output)


def test_a_changed_component(capsys, tmp_path, copied):
    (copied / "unet.tflite").write_bytes(b"")
    line = fails(capsys, f"--bundle={copied}", f"--output={tmp_path / 'x.png'}")
    assert "unet is damaged or was changed" in line
    assert "e3b0c44298fc... and manifest.json says" in line  # SHA-256 of nothing.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/x.png", "there is no folder"),
        ("folder.png", "it is a folder"),
        ("x.xbm", "its name must end in .png, .jpg or .webp"),
        ("x.h5", "its name must end in .png, .jpg or .webp"),
        ("x.tiger", "its name must end in .png, .jpg or .webp"),
        ("x", "its name must end in .png, .jpg or .webp"),
    ],
)
def test_unwritable_output_is_told_before_the_work(capsys, tiny_bundle, tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    line = fails(capsys, f"--bundle={tiny_bundle}", f"--output={tmp_path / name}")
    assert f"Cannot write {tmp_path / name}" in line
    assert message in line


@pytest.mark.parametrize(
    "flags",
    [
        ["generate", "--bundle=b", "--output=x.png"],
        ["generate", "--bundle=b", "--output=x.png", "--prompt=a", "--steps=few"],
        ["generate", "--bundle=b", "--output=x.png", "--prompt=a", "--step=1"],
        ["paint"],
        [],
    ],
)
def test_bad_flags_are_one_line(capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--help lists the flags" in line


def test_an_interruption_is_one_line(capsys, monkeypatch, tiny_bundle, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfsnap.runtime.TextToImage.__init__", interrupt)
    assert "interrupted" in fails(
        capsys, f"--bundle={tiny_bundle}", f"--output={tmp_path / 'x.png'}"
    )


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["generate", "--bundel=b"], "there is no flag --bundel; did you mean --bundle?"),
        (["generate", "--bundle=b", "--ouput", "x.png"], "there is no flag --ouput; did you mean"),
        (["generate", "--bundle=b", "--prompt=a", "--output=x.png", "--step=8"], "mean --steps?"),
        (["benchmark", "--bundle=b", "--xyzzy"], "there is no flag --xyzzy (tfsnap benchmark --h"),
        (["benchmark", "--bundle=b", "more"], "unrecognized arguments: more (tfsnap benchmark"),
    ],
)
def test_a_mistyped_flag_is_named(capsys, flags, told):
    with pytest.raises(SystemExit, match="2"):
        main(flags)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "/manifest.json"])
def test_a_report_replaces_no_bundle(capsys, copied, name):
    before = (copied / "manifest.json").read_bytes()
    assert main(["benchmark", f"--bundle={copied}", f"--json={copied}{name}"]) == 1
    assert "is the model, or in it: give another file" in capsys.readouterr().err
    assert (copied / "manifest.json").read_bytes() == before


def test_a_report_replaces_nothing_but_a_report(capsys, tiny_bundle, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    flags = [f"--bundle={tiny_bundle}", f"--json={tmp_path}/thesis.txt"]
    assert main(["benchmark", *flags]) == 1
    assert "exists and is no JSON: give another file" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("flag", ["image", "mask"])
def test_a_picture_does_not_replace_its_source(capsys, tiny_bundle, tmp_path, flag):
    path = tmp_path / "x.png"
    Image.new("RGB", (16, 16)).save(path)
    before = path.read_bytes()
    flags = ["--prompt=ab", f"--{flag}={path}", f"--output={tmp_path}/./x.png"]
    assert main(["generate", f"--bundle={tiny_bundle}", *flags]) == 1
    assert f"is the --{flag}, which it would replace" in capsys.readouterr().err
    assert path.read_bytes() == before
