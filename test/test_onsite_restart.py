"""Jobs whose trainer or worker ends in between: closed, killed at any moment, and started again."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the columns that are installed are made by torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

import onsite_world  # noqa: E402
from onsite_world import TINY_WORKER, collect, finishing  # noqa: E402
from tiny_world import know_tiny  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.bundle.files import BundleError  # noqa: E402
from face_mtl_ros.training.onsite_jobs import JobBook, TrainRequest  # noqa: E402

DEFECT = (sys.executable, "-S", "-c", "raise SystemExit('no such thing as torch')")
store, site, start, grown = onsite_world.store, onsite_world.site, onsite_world.start, onsite_world.grown


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


def test_a_closed_trainers_job_goes_on_with_the_next_one(start, store, site, grown):
    first = start()
    job = first.start(TrainRequest(task="shapes"))
    first.close()
    assert JobBook().load(job.job_id).state == "training"
    second = start(finishing(grown, resumed=True))
    job = second.wait(job.job_id, 30)
    assert job.state == "done", job.message
    assert job.resumed and site.bundle().version == grown.version


def test_a_job_that_was_being_installed_is_installed(start, store, site, grown):
    first = start(finishing(grown))
    book = JobBook()
    job = first.wait(first.start(TrainRequest(task="shapes")).job_id, 30)
    first.close()
    site.rollback()
    record = book.load(job.job_id)  # as it was before the last step
    record.state, record.model_version, record.finished_at = "installing", "", 0.0
    shutil.copytree(grown.root, book.work(job.job_id) / "bundle")
    book.save(record)
    second = start(DEFECT)
    assert second.wait(job.job_id, 30).state == "done" and site.bundle().version == grown.version


def test_a_job_whose_trainer_is_killed_again_and_again_is_given_up_and_orderly_ends_do_not_count(start, store, site):
    collect(store, "shapes")
    trainer = start()
    job_id = trainer.start(TrainRequest(task="shapes")).job_id
    for _ in range(4):
        trainer.close()
        trainer = start()
        assert trainer.status(job_id).state == "training"
    trainer.close()
    book = JobBook()
    record = book.load(job_id)
    assert record.attempts == 0
    record.attempts = 3  # as three kills leave it
    book.save(record)
    (job,) = start().jobs()
    assert job.state == "failed" and "the trainer was killed 3 times during this job" in job.message


TRAINER = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    from tiny_world import TINY
    from face_mtl_ros.networks.presets import PRESETS
    PRESETS["tiny"] = TINY
    from onsite_world import TINY_WORKER
    from face_mtl_ros.samples.store import SampleStore
    from face_mtl_ros.site_model import SiteModel
    from face_mtl_ros.training.onsite import OnsiteTrainer
    from face_mtl_ros.training.onsite_jobs import TrainRequest
    trainer = OnsiteTrainer(SampleStore(), SiteModel("default"), threads=1, nice=0, worker=TINY_WORKER)
    unfinished = [job for job in trainer.jobs() if not job.ended]
    job = unfinished[0] if unfinished else trainer.start(TrainRequest(task="shapes"))
    print(job.job_id, flush=True)
    print(trainer.wait(job.job_id).message, flush=True)
    trainer.close()
""").format(tests=str(Path(__file__).parent))


def start_trainer():
    return subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2.0, 3.5, 5.0, 6.5])
def test_a_killed_trainer_leaves_a_job_that_is_resumed_or_failed_and_a_whole_model(store, site, seconds):
    """kill -9 of the trainer, at moments from its worker's start to the installing."""
    collect(store, "shapes", count=20)
    before = site.bundle().version
    trainer = start_trainer()
    job_id = trainer.stdout.readline().strip()
    time.sleep(seconds)
    trainer.kill()
    trainer.wait()
    assert site.bundle().version  # whole at any time
    again = start_trainer()
    again.communicate(timeout=240)
    (job,) = [JobBook().status(job) for job in JobBook().jobs() if job.job_id == job_id]
    assert job.state in ("done", "failed") and job.message
    assert job.state == "done", job.message
    assert site.bundle().version != before and len(store.find("shapes")) == 40


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 2.0, 4.0])
def test_a_killed_worker_fails_its_job_and_the_next_one_succeeds(start, store, site, seconds):
    collect(store, "shapes")
    trainer = start(TINY_WORKER)
    job = trainer.start(TrainRequest(task="shapes"))
    time.sleep(seconds)
    worker = trainer._running and trainer._running.process
    if worker:
        os.kill(worker.pid, signal.SIGKILL)
    job = trainer.wait(job.job_id, 120)
    assert job.state == "done" or "SIGKILL" in job.message
    job = trainer.wait(trainer.start(TrainRequest(task="shapes")).job_id, 240)
    assert job.state == "done", job.message
    assert site.bundle().manifest.column("shapes").labels == ["disc", "stripes"]


@pytest.mark.slow
def test_a_real_job_keeps_its_budget_and_reports_its_way(start, store, site):
    collect(store, "identity", ("disc", "stripes", "bars"), 8)
    trainer = start(TINY_WORKER)
    job = trainer.start(TrainRequest(task="identity", time_budget_s=5.0))
    states, seen = [], []
    while not job.ended:
        job = trainer.status(job.job_id)
        states.append(job.state)
        seen.append(job)
        time.sleep(0.02)
    assert job.state == "done", job.message
    order = [state for state in dict.fromkeys(states)]
    assert order == [s for s in ("queued", "training", "evaluating", "installing", "done") if s in order]
    assert "training" in order and job.elapsed_s >= 0 and job.known_named <= job.accuracy <= 1
    with pytest.raises(BundleError):
        load_bundle(JobBook().work(job.job_id) / "bundle")


@pytest.mark.slow
def test_a_worker_ends_with_its_trainer(store, site):
    collect(store, "shapes", count=20)
    trainer = start_trainer()
    trainer.stdout.readline()
    time.sleep(3)
    workers = [int(p) for p in Path(f"/proc/{trainer.pid}/task/{trainer.pid}/children").read_text().split()]
    trainer.kill()
    trainer.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/cmdline").exists() and _cmdline(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
