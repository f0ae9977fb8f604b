"""A sweep on a real Slurm, started for the test on this machine alone.

Where Slurm isn't installed or can't be started the tests are skipped, and say why.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.test_sweep import HERE, ROOT, SWEEP, TABLES, TOY, build, finished

SLURM = Path(__file__).with_name("slurm.sh")
# what one machine without accounting needs beside the profile that ships
HERE_TOO = {
    "slurm-no-account": True,
    "slurm-status-command": "squeue",
    "slurm-init-seconds-before-status-checks": 3,
    "latency-wait": 10,
    "seconds-between-status-checks": 3,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Environment in which Slurm's commands reach a Slurm of our own; stopped at the end."""
    folder = tmp_path_factory.mktemp("slurm", numbered=True)
    done = subprocess.run([SLURM, "start", folder], capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    conf, path = re.search(r"SLURM_CONF=(\S+) PATH=(\S+):\$PATH", done.stdout).groups()
    yield HERE | {"SLURM_CONF": conf, "PATH": f"{path}:{HERE['PATH']}"}
    subprocess.run([SLURM, "stop", folder], timeout=120)


@pytest.fixture
def house(tmp_path):
    """A copy of the repository with a quick notebook, its sweep, and a profile for our Slurm."""
    wait = "time.sleep(4 if os.environ.get('SLURM_JOB_ID') else 0)"
    build(tmp_path, TOY.replace("time.sleep(0.3)", wait))
    (tmp_path / "workflow" / "sweeps" / "local.yaml").write_text(SWEEP)
    (tmp_path / "profile").mkdir()
    profile = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    profile["default-resources"]["runtime"] = 10
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(profile | HERE_TOO))
    return tmp_path


def sweep(house, environment, *options):
    return subprocess.run(
        ["./run_all.sh", "sweep", *options],
        cwd=house,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


def same_tables(house):
    """Whether a sweep on Slurm and one on this machine have written the same bytes."""
    return all(
        (house / "build/sweeps/toy" / table).read_bytes()
        == (house / "build/sweeps/local" / table).read_bytes()
        for table in TABLES
    )


def jobs(environment, *options):
    """Ids of Slurm's jobs."""
    return subprocess.run(
        ["squeue", "--noheader", "--format", "%A", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def wait_for_a_job(environment, sweep):
    """Ids of the jobs that are at work, as soon as there is one; none if the sweep ends before."""
    limit = time.monotonic() + 120
    while (
        not (at_work := jobs(environment, "--states=running"))
        and time.monotonic() < limit
        and sweep.poll() is None
    ):
        time.sleep(0.2)
    return at_work


def ended(environment):
    """What Slurm noted of each job that has ended: its id and state."""
    path = Path(environment["SLURM_CONF"]).with_name("jobs.txt")
    return dict(
        re.findall(r"JobId=(\d+) .*?JobState=(\w+)", path.read_text() if path.exists() else "")
    )


def test_a_sweep_with_a_cancelled_job_is_finished_by_the_next(house, cluster):
    with (house / "out.txt").open("w") as said:
        words = ["./run_all.sh", "sweep", "toy", "--profile", "profile"]
        running = subprocess.Popen(words, cwd=house, env=cluster, stdout=said, stderr=said)
        at_work = wait_for_a_job(cluster, running)
        assert at_work, (house / "out.txt").read_text()
        subprocess.run(["scancel", at_work[0]], env=cluster, check=True)
        code = running.wait(400)
    text = (house / "out.txt").read_text()
    assert code == 1 and "3 of 4 runs are done" in text, text
    assert re.search(r"run_all.sh: n_cells~\d+/seed~\d: .* \(messages: ", text), text
    assert ended(cluster)[at_work[0]] == "CANCELLED"
    assert list(ended(cluster).values()).count("COMPLETED") == 3
    before = {path: path.stat().st_mtime_ns for path in finished(house)}
    assert len(before) == 3

    again = sweep(house, cluster, "toy", "--profile", "profile")
    assert again.returncode == 0, again.stderr
    assert len(ended(cluster)) == 5  # the cancelled one alone was submitted again
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(finished(house)) == 4
    local = sweep(house, cluster, "local")
    assert local.returncode == 0, local.stderr
    assert same_tables(house)


def start(house, environment):
    words = ["./run_all.sh", "sweep", "toy", "--profile", "profile"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=house, env=environment, start_new_session=True, **streams)


def test_ctrl_c_takes_the_jobs_out_of_the_queue_and_a_gpu_is_asked_for(house, cluster):
    profile = yaml.safe_load((house / "profile" / "config.yaml").read_text())
    profile["set-resources"] = {"run": {"gpu": 1}}
    (house / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    running = start(house, cluster)
    at_work = wait_for_a_job(cluster, running)
    assert at_work, running.communicate(timeout=10)
    command = ["scontrol", "show", "job", at_work[0]]
    asked = subprocess.run(command, env=cluster, capture_output=True, text=True).stdout
    assert "gpu:1" in asked or "gpu=1" in asked, asked
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=100)
    assert running.returncode == 1 and "the same command goes on" in said, said
    limit = time.monotonic() + 30
    while jobs(cluster) and time.monotonic() < limit:
        time.sleep(0.5)
    assert not jobs(cluster)


def test_jobs_that_outlive_a_killed_sweep_spoil_nothing(house, cluster):
    killed = start(house, cluster)
    assert wait_for_a_job(cluster, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=10)
    assert jobs(cluster)  # Slurm knows nothing of it
    again = sweep(house, cluster, "toy", "--profile", "profile")
    assert again.returncode == 0, again.stderr
    limit = time.monotonic() + 120
    while jobs(cluster) and time.monotonic() < limit:
        time.sleep(0.5)
    assert len(finished(house)) == 4
    local = sweep(house, cluster, "local")
    assert local.returncode == 0 and same_tables(house)
