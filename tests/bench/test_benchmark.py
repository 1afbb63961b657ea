"""A benchmark keeps load, first and warm runs apart and says what they were measured on."""

import json

import pytest

from tests.runtime.processes import INTERPRETERS, ROOT, complaint, run, run_code
from tfsnap.bench import device
from tfsnap.bench.report import LatencyReport, Timing
from tfsnap.bench.timing import benchmark
from tfsnap.runtime import RequestError

TOOL = ROOT / "tools/benchmark.py"


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_reports_every_part(tiny_bundle, tmp_path, interpreter):
    path = tmp_path / "r.json"
    flags = ["--runs=4", "--warmup=2", "--pictures=3", "--picture_warmup=0", "--threads=1"]
    done = run([TOOL, f"--bundle={tiny_bundle}", *flags, f"--json={path}"], interpreter=interpreter)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    picture = report.pop("picture")
    components = report.pop("components")
    assert list(components) == ["text_encoder", "unet", "decoder"]
    for timing, counts in [*((c, (2, 4)) for c in components.values()), (picture, (0, 3))]:
        assert (timing["warmup"], timing["runs"]) == counts
        assert 0 < timing["warm_p50_ms"] <= timing["warm_p90_ms"]
        assert timing["load_ms"] > 0
        assert timing["first_run_ms"] > 0
    assert sum(c["load_ms"] for c in components.values()) <= picture["load_ms"]
    assert components["text_encoder"]["first_run_ms"] <= picture["first_run_ms"]
    assert 10 < report.pop("peak_memory_mb") < 2000
    assert report.pop("device").startswith("desktop: ")
    assert report.pop("interpreter_version")[0].isdigit()
    assert report == {
        "bundle": "tiny",
        "precision": "fp16",
        "delegate": "XNNPACK",
        "delegated_share": None,
        "threads": 1,
        "interpreter": interpreter,
        "size": [16, 16],
        "low_memory": False,
        "weight_cache": False,
        "sampler": "ddim",
        "steps": 4,
        "guidance": 3.0,
        "evaluations": 8,
    }
    for word in ("desktop: ", "XNNPACK", interpreter, "threads       1", "unet", "warm-up", "runs"):
        assert word in done.stdout


def test_guidance_and_steps_are_those_asked_for(tiny_bundle, tmp_path):
    path = tmp_path / "r.json"
    flags = ["--steps=3", "--guidance=1", "--runs=1", "--pictures=1", f"--json={path}"]
    assert run([TOOL, f"--bundle={tiny_bundle}", *flags]).returncode == 0
    report = json.loads(path.read_text())
    assert (report["steps"], report["guidance"], report["evaluations"]) == (3, 1.0, 3)


def test_what_saves_memory_is_measured_as_it_will_run(tiny_bundle, tmp_path):
    cache = tmp_path / "cache"
    path = tmp_path / "r.json"
    flags = ["--runs=1", "--pictures=1", "--low_memory", f"--weight_cache={cache}"]
    command = [TOOL, f"--bundle={tiny_bundle}", *flags, f"--json={path}"]
    done = run(command, interpreter="ai_edge_litert")
    assert done.returncode == 0, done.stderr
    assert len(list(cache.iterdir())) == 3
    report = json.loads(path.read_text())
    assert (report["low_memory"], report["weight_cache"]) == (True, True)


def test_a_warm_run_does_not_load_its_network(tiny_bundle):
    """Where networks take turns in memory, and there is no other run before."""
    code = """
    import json, sys
    from tfsnap.bench import timing

    measure, load, during = timing._measure, timing.load_component, []
    def load_and_tell(*args, **options):
        network = load(*args, **options)
        again = network._load
        network._load = lambda: during.append("load") or again()
        return network
    def measure_and_tell(run, **counts):
        during.append("measure")
        times = measure(run, **counts)
        during.append("end")
        return times
    timing.load_component, timing._measure = load_and_tell, measure_and_tell
    counts = {"warmup": 0, "runs": 1, "picture_warmup": 0, "pictures": 1}
    timing.benchmark(sys.argv[1], low_memory=True, steps=1, **counts)
    print(json.dumps(during))
    """
    told = run_code(code, tiny_bundle)
    loads, ends = ["load"] * 3, ["measure", "end"]
    assert told == [*loads, "measure", *loads, "end", *(["load", *ends] * 3)]


def test_the_table_has_a_line_for_every_timing():
    timing = Timing(1.0, 2.0, 3.0, 4.5, warmup=6, runs=7)
    report = LatencyReport(
        bundle="tiny",
        precision="int8",
        device="desktop: abacus, 1 cores, Linux x86_64",
        delegate="none",
        delegated_share=0.5,
        threads=8,
        interpreter="ai_edge_litert",
        interpreter_version="2.3.0",
        size=(16, 24),
        low_memory=True,
        weight_cache=False,
        sampler="ddim",
        steps=9,
        guidance=4.0,
        evaluations=18,
        components={"unet": timing},
        picture=timing,
        peak_memory_mb=None,
    )
    table = report.table()
    assert "desktop: abacus" in table
    assert "none, share of nodes 50%" in table
    assert "threads       8" in table
    assert "memory        one network at a time, without a weight cache" in table
    assert "16x24 pixels, ddim, 9 steps, guidance 4, 18 UNet evaluations" in table
    assert "peak memory   unknown" in table
    for name in ("unet", "picture"):
        (line,) = [line for line in table.splitlines() if line.startswith(f"{name}  ")][-1:]
        assert line.split()[-6:] == ["1.000", "2.000", "3.000", "4.500", "6", "7"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"runs": 0}, "runs is 0; it must be an integer of at least 1"),
        ({"pictures": 0}, "pictures is 0"),
        ({"warmup": -1}, "warmup is -1; it must be an integer of at least 0"),
        ({"picture_warmup": 0.5}, "picture_warmup is 0.5"),
    ],
)
def test_refuses_counts_out_of_range(counts, message):
    with pytest.raises(RequestError, match=message):
        benchmark("unused", **counts)


def test_faults_are_one_line(tiny_bundle, tmp_path):
    assert "No bundle at" in complaint_of("--bundle=none")
    assert "there is no folder" in complaint_of(f"--bundle={tiny_bundle}", "--json=none/r.json")
    assert "steps is 0" in complaint_of(f"--bundle={tiny_bundle}", "--steps=0")


def complaint_of(*flags):
    done = run([TOOL, *flags])
    done.stderr = "".join(
        line for line in done.stderr.splitlines(True) if not line.startswith("measuring: ")
    )
    return complaint(done)


def test_peak_memory_grows_with_what_is_touched():
    code = """
        from tfsnap.bench.device import peak_memory_mb
        before = peak_memory_mb()
        block = bytearray(100_000_000)
        block[::4096] = b"\\1" * len(block[::4096])
        print(peak_memory_mb() - before)
    """
    assert 95 < run_code(code) < 115  # In a process that had no such block before.


def test_elsewhere_the_device_is_told_as_far_as_known(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(device, "_STATUS", tmp_path / "none")
    assert device.peak_memory_mb() is None
    assert device.describe_device().startswith("desktop: ")
