"""Training processes that are killed, stopped and started again. Real processes, real signals."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.terminal import in_a_terminal
from tfsnap.weights.store import load_tensors

ROOT = Path(__file__).parents[2]
PROGRAM = "tests/training/train_tiny.py"
KILLS = 20

# Importing TensorFlow takes longer than training here, so one process imports it and forks a child
# for each line that it reads: the arguments of train_tiny.py.
NURSERY = """
import os, shlex, sys
from tests.training import train_tiny
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            train_tiny.run(shlex.split(line))
        finally:
            sys.stdout.flush()
            os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
"""


@pytest.fixture(scope="module")
def nursery():
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=in_a_terminal,
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait()


def read_until(process, start):
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the process ended without a line that starts with {start!r}")


class Run:
    """A run in a child of the nursery."""

    def __init__(self, nursery, workdir, *options):
        self._nursery = nursery
        self._losses = workdir / "losses.txt"
        self._size = self._losses.stat().st_size if self._losses.exists() else 0
        nursery.stdin.write(" ".join([str(workdir), *options]) + "\n")
        nursery.stdin.flush()
        self.pid = None
        while self.pid is None:
            line = nursery.stdout.readline().strip()
            self.pid = int(line) if line.isdigit() else None

    def wait_for_a_step(self):
        """Returns when the child has done a step, or has ended."""
        while self.alive() and not (
            self._losses.exists() and self._losses.stat().st_size > self._size
        ):
            time.sleep(0.002)

    def alive(self):
        state = Path(f"/proc/{self.pid}/stat")
        try:
            return state.read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def exit_code(self):
        return int(read_until(self._nursery, "ended").split()[1])


def final_weights(workdir):
    return load_tensors(workdir / "weights.safetensors")[0]


def assert_equal_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


LONG = ("--steps=300", "--checkpoint_every=5", "--asynchronous")


@pytest.fixture(scope="module")
def undisturbed(nursery, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert Run(nursery, workdir, *LONG).exit_code() == 0
    return workdir


def test_a_run_killed_at_twenty_moments_ends_with_the_same_weights(nursery, undisturbed, tmp_path):
    moments = random.Random(0)
    killed = 0
    for kill in range(KILLS):
        # At most 0.25 s / 0.02 s = 13 steps a run, so that 20 runs are over on no machine.
        run = Run(nursery, tmp_path, *LONG, "--slow=0.02")
        if kill % 5:  # Else while it starts.
            run.wait_for_a_step()
        time.sleep(moments.uniform(0.0, 0.25))
        run.signal(signal.SIGKILL)
        killed += run.exit_code() == -signal.SIGKILL
    assert killed >= KILLS * 3 // 4  # The run was not over long before.
    assert Run(nursery, tmp_path, *LONG).exit_code() == 0
    assert_equal_weights(final_weights(tmp_path), final_weights(undisturbed))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_after_a_checkpoint(nursery, tmp_path, number):
    options = ("--steps=6", "--checkpoint_every=6", "--slow=0.3")
    run = Run(nursery, tmp_path, *options)
    run.wait_for_a_step()
    run.signal(number)
    if number == signal.SIGHUP:
        time.sleep(0.05)
        run.signal(number)  # As a shell and the kernel do for one closed terminal.
    assert run.exit_code() == 0
    (saved,) = (tmp_path / "checkpoints").glob("step-*.safetensors")
    assert 0 < int(saved.stem.removeprefix("step-")) < 6
    assert not (tmp_path / "weights.safetensors").exists()
    assert Run(nursery, tmp_path, *options).exit_code() == 0
    straight = tmp_path / "straight"
    assert Run(nursery, straight, "--steps=6", "--checkpoint_every=6").exit_code() == 0
    assert_equal_weights(final_weights(tmp_path), final_weights(straight))


def launch(workdir, *options, workers=2, restarts=2):
    """Two worker processes under the launcher; its exit status and what it printed."""
    done = subprocess.run(
        [
            *(sys.executable, "tools/launch_local.py", f"--workers={workers}"),
            *(f"--restarts={restarts}", "--", PROGRAM, str(workdir), "--strategy=multi_worker"),
            *options,
        ],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def losses(workdir):
    """The last loss that was seen of each step."""
    lines = (workdir / "losses.txt").read_text().split("\n")[:-1]
    return {int(line.split()[0]): float(line.split()[1]) for line in lines}


def test_two_workers_of_which_one_is_killed_train_as_one_device(nursery, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert Run(nursery, one).exit_code() == 0
    step = random.SystemRandom().randint(1, 5)
    status, output = launch(two, f"--kill_after={step}")
    assert status == 0, f"killed after step {step}: {output}"
    assert "was killed by SIGKILL" in output
    assert "restart 1 of 2" in output
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    found, expected = final_weights(two), final_weights(one)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


def test_a_signal_ends_all_workers_after_a_checkpoint(tmp_path):
    """TensorFlow takes SIGTERM for itself where several workers meet."""
    options = ("--steps=2000", "--checkpoint_every=2000", "--slow=0.1")
    launcher = subprocess.Popen(
        [
            *(sys.executable, "tools/launch_local.py", "--workers=2", "--"),
            *(PROGRAM, str(tmp_path), "--strategy=multi_worker", *options),
        ],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    limit = time.monotonic() + 120.0
    while not (tmp_path / "losses.txt").exists() and time.monotonic() < limit:
        time.sleep(0.1)
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate()
    assert launcher.returncode == 0 and "killed" not in output, output
    assert output.count("stopped by SIGTERM after step") == 2
    (saved,) = (tmp_path / "checkpoints").glob("step-*.safetensors")
    assert 0 < int(saved.stem.removeprefix("step-")) < 2000


FAILING = """
import json, os, pathlib, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
stopped = []
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: stopped.append(True))
pathlib.Path(sys.argv[1], str(index)).touch()
while not stopped:
    time.sleep(0.05)
time.sleep(1.0)  # As it writes.
sys.exit("no space left" if index == 0 else 0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_worker_that_fails_after_a_signal_is_not_passed_over(tmp_path, number):
    (tmp_path / "failing.py").write_text(FAILING)
    command = [sys.executable, "tools/launch_local.py", "--", str(tmp_path / "failing.py")]
    launcher = subprocess.Popen(
        [*command, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=in_a_terminal,
    )
    while not all((tmp_path / worker).exists() for worker in "01"):
        time.sleep(0.05)
    launcher.send_signal(number)
    assert launcher.wait() == 1


def test_a_worker_that_hangs_is_reported_and_replaced(tmp_path):
    status, output = launch(tmp_path, "--hang_after=4", "--hang_timeout=15")
    assert status == 0, output
    assert "worker 0 of 2: step 5 has not finished in" in output
    assert "restart 1 of 2" in output
    assert sorted(losses(tmp_path)) == list(range(6))


def test_workers_without_a_cluster_are_one_clear_line(tmp_path):
    done = subprocess.run(
        [sys.executable, PROGRAM, str(tmp_path), "--strategy=multi_worker"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "TF_CONFIG" in line]
    assert "tools/launch_local.py sets it for workers on this machine" in line
    assert "Traceback" not in done.stderr
