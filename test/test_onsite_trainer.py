"""Jobs: what is refused, how they end, and what a kill at any moment leaves."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the columns that are installed are made by torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

from onsite_world import TINY_WORKER, collect, write_model  # noqa: E402
from tiny_world import know_tiny  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.bundle.files import BundleError  # noqa: E402
from face_mtl_ros.bundle.versions import ModelVersions  # noqa: E402
from face_mtl_ros.samples.errors import SampleStoreError  # noqa: E402
from face_mtl_ros.samples.store import SampleStore  # noqa: E402
from face_mtl_ros.site_model import SiteModel, SwapError  # noqa: E402
from face_mtl_ros.training.onsite import OnsiteTrainer  # noqa: E402
from face_mtl_ros.training.onsite_jobs import JobBook, OnsiteError, TrainRequest  # noqa: E402

# Workers of a few milliseconds: the job's folder is their argument.
SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
KILLED = (sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)")
DEFECT = (sys.executable, "-S", "-c", "raise SystemExit('no such thing as torch')")
COPY = (
    "import shutil, pathlib, sys; shutil.copytree({}, pathlib.Path(sys.argv[1], 'work', 'bundle'), dirs_exist_ok=True);"
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


@pytest.fixture
def store(home):
    return SampleStore()


@pytest.fixture
def site(tmp_path):
    ModelVersions("default").install(write_model(tmp_path / "model").root)
    return SiteModel("default")


@pytest.fixture
def start(store, site):
    """A trainer with a worker of one's choice, closed at the end."""
    opened = []

    def open_trainer(worker=SLEEP, **options):
        opened.append(OnsiteTrainer(store, site, threads=1, nice=0, worker=worker, **options))
        return opened[-1]

    yield open_trainer
    for trainer in opened:
        trainer.close()


@pytest.fixture
def grown(store, site, tmp_path):
    """A bundle with a column `shapes`, as the worker makes it."""
    from test_onsite_fewshot import make

    collect(store, "shapes", count=5)
    made, _ = make(store, site.bundle().root, tmp_path / "grown")
    return made


def worker_that(*code, **values):
    """A worker that says how far it is, and then does something."""
    says = f"import json, pathlib, sys; pathlib.Path(sys.argv[1], 'progress.json').write_text(json.dumps({values!r}));"
    return (sys.executable, "-S", "-c", says + "".join(code))


def finishing(bundle, **values):
    """A worker that has made a bundle."""
    return worker_that(COPY.format(repr(str(bundle.root))), state="evaluating", **values)


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
        ({"sources": ["emotion", "emotion"]}, "name a task twice"),
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
    from test_onsite_fewshot import make

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
    import re

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


# What a restart finds


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
    import shutil

    shutil.copytree(grown.root, book.work(job.job_id) / "bundle")
    book.save(record)
    second = start(DEFECT)
    assert second.wait(job.job_id, 30).state == "done" and site.bundle().version == grown.version


def test_a_job_that_ends_its_trainer_again_and_again_is_given_up(start, store, site):
    collect(store, "shapes")
    job_id = ""
    for _ in range(3):
        trainer = start()
        job_id = job_id or trainer.start(TrainRequest(task="shapes")).job_id
        trainer.close()
    (job,) = start().jobs()
    assert job.state == "failed" and "the trainer was ended 3 times during this job" in job.message


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
