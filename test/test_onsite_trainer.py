"""Jobs: what is refused, what is decided for the user, and how they end."""

import re
import sys
import time

import pytest

pytest.importorskip("torch", reason="the columns that are installed are made by torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

import onsite_world  # noqa: E402
from onsite_world import COPY, collect, finishing, make, worker_that, write_model  # noqa: E402
from tiny_world import know_tiny  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.samples.errors import SampleStoreError  # noqa: E402
from face_mtl_ros.site_model import SwapError  # noqa: E402
from face_mtl_ros.training.onsite_jobs import JobBook, OnsiteError, TrainRequest  # noqa: E402

KILLED = (sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)")
DEFECT = (sys.executable, "-S", "-c", "raise SystemExit('no such thing as torch')")
store, site, start, grown = onsite_world.store, onsite_world.site, onsite_world.start, onsite_world.grown


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


# What is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "emotion"}, "task 'emotion' is built into the model"),
        ({"task": "Shapes"}, "task 'Shapes': a small letter is expected"),
        ({"task": "other"}, "task 'other' has no samples: collect some of at least two labels"),
        ({"kind": "embedding"}, "kind 'embedding' is unknown: choose classification or identity"),
        ({"recipe": "best of all"}, "recipe 'best of all' is unknown: choose one of fast, paper, best"),
        ({"labels": ["disc"]}, "has samples of 'disc' alone: collect some of a second label"),
        ({"labels": ["disc", "moon"]}, "needs 5 samples of each label: 'moon' has 0; collect more"),
        ({"labels": ["disc", "disc"]}, "'disc' is named twice"),
        ({"min_samples": 7}, "needs 7 samples of each label: 'disc' has 6, 'stripes' has 6; collect more"),
        ({"sources": ["mood"]}, "source 'mood' is no column of the model; it has emotion, gender, embedding"),
        ({"sources": ["emotion", "emotion"]}, "name one twice"),
        ({"values": [1.0]}, "values: 1 are given for 2 labels"),
        ({"time_budget_s": -1.0}, "time_budget_s -1: 0 to"),
        ({"time_budget_s": float("nan")}, "time_budget_s nan: 0 to"),
        ({"requested_by": "x" * 1001}, "requested_by has 1001 characters"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(start, store, site, changes, says):
    collect(store, "shapes")
    trainer = start()
    with pytest.raises((OnsiteError, SampleStoreError), match=says):
        trainer.start(TrainRequest(**{"task": "shapes", **changes}))
    assert not trainer.jobs() and not list(JobBook().root.glob("*/job.json"))


def test_one_job_at_a_time(start, store):
    collect(store, "shapes")
    trainer = start()
    job = trainer.start(TrainRequest(task="shapes"))
    with pytest.raises(OnsiteError, match=f"job '{job.job_id}' is training 'shapes': wait for it, or cancel it"):
        trainer.start(TrainRequest(task="shapes"))


def test_one_trainer_at_a_time(start):
    start()
    with pytest.raises(OnsiteError, match="another trainer is at work in"):
        start()


def test_a_column_that_another_draws_on_is_not_trained_anew(start, store, site, grown, tmp_path):
    collect(store, "stance", ("bars", "noise"), count=5)
    both, _ = make(store, grown.root, tmp_path / "both", task="stance", sources=["shapes", "emotion"])
    site.versions.install(both.root)
    with pytest.raises(OnsiteError, match="column 'shapes' cannot be trained anew: stance draws on it"):
        start().start(TrainRequest(task="shapes"))


def test_a_folder_that_cannot_be_written_is_named(start, home, store):
    collect(store, "shapes")
    home.mkdir(exist_ok=True)
    (home / "jobs").write_text("a file in the way")
    with pytest.raises(OnsiteError, match="jobs cannot be written"):
        start()


# What is decided for the user


def test_what_a_request_leaves_open(start, store, site):
    collect(store, "identity")
    collect(store, "shapes", ("stripes", "disc"))
    trainer = start()
    orders = {}
    for task in ("identity", "shapes"):
        trainer.cancel(trainer.start(TrainRequest(task=task)).job_id)
        orders[task] = JobBook().jobs()[0].order
    assert orders["identity"].kind == "identity" and orders["identity"].sources == ["embedding"]
    assert orders["shapes"].kind == "classification" and orders["shapes"].labels == ["disc", "stripes"]
    assert orders["shapes"].sources == ["emotion", "gender", "embedding"] and len(orders["shapes"].sample_ids) == 12
    assert orders["shapes"].recipe == "fast" and orders["shapes"].time_budget_s > 0


def test_an_identity_column_always_draws_on_the_embedding_unless_none_is_asked_for(start, store):
    collect(store, "identity")
    trainer = start()
    for asked, expected in ((["emotion"], ["embedding", "emotion"]), (["none"], [])):
        trainer.cancel(trainer.start(TrainRequest(task="identity", sources=asked)).job_id)
        assert JobBook().jobs()[0].order.sources == expected


# How a job ends


def test_a_job_becomes_a_version_in_use(start, store, site, grown):
    used = []
    site.swap = lambda folder: used.append(folder) or "perception has it"
    before = site.bundle().version
    trainer = start(finishing(grown, accuracy=0.75, epoch=3, epochs=30, known_named=0.5))
    job = trainer.wait(trainer.start(TrainRequest(task="shapes", requested_by="me")).job_id, 30)
    assert (job.state, job.accuracy, job.epoch, job.known_named) == ("done", 0.75, 3, 0.5), job.message
    assert job.model_version == site.bundle().version == grown.version != before
    assert used == [site.bundle().root] and "75.0% of the held-back samples right" in job.message
    assert "perception has it" in job.message and job.time_left_s == 0 and job.finished_at >= job.created_at > 0
    assert not JobBook().work(job.job_id).exists()  # what faces look like does not stay
    assert trainer.status(job.job_id).model_dump_json() == job.model_dump_json()


def test_a_job_may_be_stored_without_being_used(start, store, site, grown):
    before = site.bundle().version
    site.swap = lambda folder: pytest.fail("perception was told")
    trainer = start(finishing(grown))
    job = trainer.wait(trainer.start(TrainRequest(task="shapes", activate=False)).job_id, 30)
    assert job.state == "done" and job.model_version == grown.version in site.versions.installed()
    assert site.bundle().version == before


def test_where_perception_refuses_the_old_model_stays(start, store, site, grown):
    def refuse(folder):
        raise SwapError("no engine takes it")

    site.swap = refuse
    before = site.bundle().version
    trainer = start(finishing(grown))
    job = trainer.wait(trainer.start(TrainRequest(task="shapes")).job_id, 30)
    assert job.state == "failed" and "trained, but not taken into use: no engine takes it" in job.message
    assert site.bundle().version == before and not job.model_version


def test_another_model_that_came_into_use_meanwhile_is_not_undone(start, store, site, grown, tmp_path):
    other = write_model(tmp_path / "other").root
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text().replace("random weights", "other weights"))
    trainer = start(worker_that("import time; time.sleep(1);", COPY.format(repr(str(grown.root)))))
    job = trainer.start(TrainRequest(task="shapes"))
    site.versions.install(other)
    job = trainer.wait(job.job_id, 30)
    assert job.state == "failed" and "came into use during the training: train again" in job.message
    assert site.bundle().version == load_bundle(other).version


@pytest.mark.parametrize(
    ("worker", "says"),
    [
        (KILLED, r"the worker was killed \(SIGKILL\), as the system does where memory is short"),
        (DEFECT, "the worker ended with status 1: no such thing as torch"),
        (worker_that("sys.exit(1)", state="failed", message="too little light"), "^too little light$"),
        (worker_that("sys.exit(0)", state="evaluating"), "is no model bundle"),
        (("/nowhere/python",), "the worker cannot be started"),
    ],
)
def test_a_failed_job_says_why_and_leaves_the_model(start, store, site, worker, says):
    collect(store, "shapes")
    before = site.bundle().version
    trainer = start(worker)
    try:
        trainer.wait(trainer.start(TrainRequest(task="shapes")).job_id, 30)
    except OnsiteError as error:
        assert "cannot be kept" in str(error)
    (job,) = trainer.jobs()
    assert job.state == "failed"
    assert re.search(says, job.message), job.message
    assert site.bundle().version == before and job.model_version == "" and job.ended
    trainer.start(TrainRequest(task="shapes")) if worker is KILLED else None  # the next one may begin


def test_progress_can_be_read_at_any_time_and_by_another_process(start, store, home):
    collect(store, "shapes")
    values = {"state": "training", "message": "on its way", "epoch": 4, "epochs": 30, "loss": 0.5, "time_left_s": 12.0}
    trainer = start(worker_that("import time; time.sleep(60)", **values))
    job = trainer.start(TrainRequest(task="shapes"))
    for _ in range(200):
        job = trainer.status(job.job_id)
        if job.epoch:
            break
        time.sleep(0.05)
    assert (job.state, job.message, job.epoch, job.epochs) == ("training", "on its way", 4, 30)
    assert (job.loss, job.time_left_s, job.sample_count) == (0.5, 12.0, 12) and job.elapsed_s > 0
    (other,) = [JobBook().status(found) for found in JobBook().jobs()]  # as another process does
    assert other.model_copy(update={"elapsed_s": 0}) == job.model_copy(update={"elapsed_s": 0})


def test_cancel(start, store, site):
    collect(store, "shapes")
    before = site.bundle().version
    trainer = start()
    with pytest.raises(OnsiteError, match="no job is running"):
        trainer.cancel()
    job = trainer.start(TrainRequest(task="shapes"))
    with pytest.raises(OnsiteError, match="there is no job 'other'; the latest are: shapes-"):
        trainer.cancel("other")
    began = time.monotonic()
    cancelled = trainer.cancel(job.job_id)
    assert cancelled.state == "cancelled" and time.monotonic() - began < 5
    assert site.bundle().version == before and not JobBook().work(job.job_id).exists()
    with pytest.raises(OnsiteError, match=f"job '{job.job_id}' is cancelled"):
        trainer.cancel(job.job_id)


def test_a_worker_that_takes_far_too_long_is_ended(start, store, monkeypatch):
    from face_mtl_ros.training import onsite

    monkeypatch.setattr(onsite, "OVERTIME_S", 0.0)
    collect(store, "shapes")
    trainer = start()
    job = trainer.wait(trainer.start(TrainRequest(task="shapes", time_budget_s=0.1)).job_id, 30)
    assert job.state == "failed" and "the training took more than 3 times its 0.1 s: ended" in job.message


def test_old_jobs_are_forgotten(start, store, monkeypatch):
    from face_mtl_ros.training import onsite

    monkeypatch.setattr(onsite, "REMEMBERED", 2)
    collect(store, "shapes")
    trainer = start(KILLED)
    ids = [trainer.wait(trainer.start(TrainRequest(task="shapes")).job_id, 30).job_id for _ in range(4)]
    trainer.close()
    assert [job.job_id for job in trainer.jobs()] == ids[:1:-1]
