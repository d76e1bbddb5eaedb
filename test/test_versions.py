"""Versions of a model: installed whole, switched at once, gone back from, pruned, whatever is killed when."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from face_mtl_ros.bundle.bundle import load_bundle, with_column, write_manifest
from face_mtl_ros.bundle.convert import convert_bundle
from face_mtl_ros.bundle.files import BundleError, write_tensors
from face_mtl_ros.bundle.locate import locate_bundle
from face_mtl_ros.bundle.versions import ModelVersions
from face_mtl_ros.cli import main
from face_mtl_ros.networks.presets import PRESETS
from face_mtl_ros.runtime.random_bundle import write_random_bundle

TINY = replace(PRESETS["compact"], name="tiny", width=1 / 16, hidden_units=16)
LABELS = ["happy", "sad"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    monkeypatch.setitem(PRESETS, "tiny", TINY)


def grow(source, task, root):
    """The bundle with another column beside the others, as the trainer makes it."""
    shutil.copytree(source, root)
    bundle = load_bundle(root)
    first = bundle.manifest.columns[0]
    file = write_tensors(root, f"columns/{task}.safetensors", bundle.columns[first.task])
    write_manifest(root, with_column(bundle.manifest, first.model_copy(update={"task": task, "file": file})))
    return root


@pytest.fixture
def sources(tmp_path):
    """Three bundles, each with one column more than the one before."""
    roots = [write_random_bundle(tmp_path / "0", "tiny", {"mood": (LABELS, [])}, name="default").root]
    for i, task in enumerate(("guest", "shirt"), start=1):
        roots.append(grow(roots[-1], task, tmp_path / str(i)))
    return roots


@pytest.fixture
def versions():
    return ModelVersions()


def in_use():
    return load_bundle(locate_bundle("default")).version


def test_what_is_installed_is_what_the_model_s_name_finds(sources, versions, home):
    shipped = locate_bundle()
    assert versions.active() is None and versions.installed() == []
    folder = versions.install(sources[0])
    bundle = load_bundle(sources[0])
    assert folder == home / "bundles" / "default" / "versions" / bundle.version
    assert locate_bundle() == locate_bundle("default") == locate_bundle("") == folder != shipped
    assert versions.active() == bundle.version and versions.installed() == [bundle.version]
    assert load_bundle(folder).version == bundle.version
    assert load_bundle(sources[0]).version == bundle.version


def test_a_version_is_found_by_its_own_name_active_or_not(sources, versions):
    first, second = (versions.install(source) for source in sources[:2])
    assert locate_bundle(first.name) == first and locate_bundle(second.name) == second


def test_a_new_version_costs_its_new_column_alone(sources, versions):
    first, second = (versions.install(source) for source in sources[:2])
    for name in ("encoder.safetensors", "columns/mood.safetensors"):
        assert (first / name).stat().st_ino == (second / name).stat().st_ino != (sources[1] / name).stat().st_ino
    assert not (first / "columns/guest.safetensors").exists()
    assert (second / "columns/guest.safetensors").stat().st_nlink == 1


def test_shards_are_linked_too(sources, versions, tmp_path):
    half = [convert_bundle(source, tmp_path / f"half{i}", limit=20_000) for i, source in enumerate(sources[:2])]
    assert len(half[0].manifest.encoder.file.paths) > 1
    folders = [versions.install(bundle.root) for bundle in half]
    for path in half[0].manifest.encoder.file.paths:
        assert (folders[0] / path).samefile(folders[1] / path)


def test_where_no_hard_links_are_the_files_are_copied(sources, versions, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first, second = (versions.install(source) for source in sources[:2])
    assert load_bundle(second).version == in_use() and not (first / "encoder.safetensors").samefile(
        second / "encoder.safetensors"
    )


def test_a_damaged_older_version_is_no_source_of_links(sources, versions):
    first = versions.install(sources[0])
    data = (first / "encoder.safetensors").read_bytes()
    (first / "encoder.safetensors").write_bytes(bytes(len(data)))
    second = versions.install(sources[1])
    assert load_bundle(second).version == in_use()


def test_rollback_goes_back_step_by_step_to_what_was_there_without_versions(sources, versions):
    shipped = locate_bundle()
    folders = [versions.install(source) for source in sources]
    for folder in (folders[1], folders[0], shipped):
        assert versions.rollback() == folder == locate_bundle()
    assert versions.active() is None
    with pytest.raises(BundleError, match="'default' has nothing to go back to"):
        versions.rollback()
    assert len(versions.installed()) == 3
    assert versions.activate(folders[2].name) == locate_bundle()


def test_a_model_that_is_not_shipped_has_nothing_before_its_first_version(sources):
    versions = ModelVersions("site")
    folder = versions.install(sources[0])
    with pytest.raises(BundleError, match="'site' has nothing to go back to"):
        versions.rollback()
    assert locate_bundle("site") == folder


def test_a_bundle_that_lay_there_without_versions_is_what_rollback_comes_back_to(sources, home):
    plain = home / "bundles" / "site"
    shutil.copytree(sources[0], plain)
    versions = ModelVersions("site")
    assert locate_bundle("site") == plain
    assert versions.install(sources[1]) == locate_bundle("site")
    assert versions.rollback() == plain == locate_bundle("site")


def test_activating_to_and_fro_remembers_each_version_once(sources, versions):
    first, second = (versions.install(source).name for source in sources[:2])
    for _ in range(3):
        versions.activate(first)
        versions.activate(second)
        versions.activate(second)
    assert json.loads((versions.root / "active.json").read_text()) == {"active": second, "before": [first]}


def test_one_can_install_first_and_activate_later(sources, versions):
    versions.install(sources[0])
    before = in_use()
    folder = versions.install(sources[1], activate=False)
    assert in_use() == before and versions.installed() == [before, folder.name]
    versions.activate(folder.name)
    assert in_use() == folder.name


def test_prune_keeps_the_active_and_the_last_used(sources, versions):
    names = [versions.install(source).name for source in sources]
    versions.activate(names[0])
    assert versions.prune(5) == []
    assert versions.prune(1) == [names[1]]
    assert versions.installed() == [names[2], names[0]] and in_use() == names[0]
    assert versions.rollback().name == names[2]
    assert versions.prune(0) == [names[0]] and in_use() == names[2]
    assert load_bundle(versions.folder(names[2]))  # though it shared files with those that went
    with pytest.raises(BundleError, match="keep -1 must be 0 or more"):
        versions.prune(-1)


def test_rollback_passes_over_what_was_pruned(sources, versions):
    shipped = locate_bundle()
    for source in sources:
        versions.install(source)
    versions.prune(0)
    assert versions.rollback() == shipped


def test_a_damaged_version_is_never_taken_into_use(sources, versions, tmp_path):
    first, second = (versions.install(source) for source in sources[:2])
    (first / "columns/mood.safetensors").unlink()
    for attempt in (versions.rollback, lambda: versions.activate(first.name)):
        with pytest.raises(BundleError, match="columns/mood.safetensors is missing"):
            attempt()
    broken = tmp_path / "broken"
    shutil.copytree(sources[2], broken)
    (broken / "encoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(BundleError, match="encoder.safetensors has 10 bytes"):
        versions.install(broken)
    assert in_use() == second.name and len(versions.installed()) == 2
    assert load_bundle(versions.install(sources[0])).version == first.name  # mends it


def test_a_full_disk_leaves_what_was_active(sources, versions, monkeypatch):
    before = versions.install(sources[0]).name

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            BundleError, match="cannot be installed as 'default': .*No space left.*the model in use stays"
        ):
            versions.install(sources[1])
    assert in_use() == before and versions.installed() == [before]
    assert [entry.name for entry in versions.versions_dir.iterdir()] == [before]
    assert versions.install(sources[1]) == locate_bundle()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/etc", "a\n", "-x", "x" * 101, "é", "a\0"])
def test_bad_names_are_refused(name, sources, versions):
    with pytest.raises(BundleError, match="is no model's name"):
        ModelVersions(name)
    versions.install(sources[0])
    for attempt in (versions.activate, versions.folder):
        with pytest.raises(BundleError, match="is no model's name"):
            attempt(name)


def test_a_version_that_is_not_there_is_named_with_those_that_are(sources, versions):
    with pytest.raises(BundleError, match="model 'default' has no versions"):
        versions.activate("default-0")
    assert not versions.root.exists()
    first = versions.install(sources[0]).name
    with pytest.raises(BundleError, match=f"has no version 'default-0'; installed: {first}"):
        versions.activate("default-0")


@pytest.mark.parametrize("content", ["", "[]", '{"active": "../../etc"}', '{"active": 1}', "\x00"])
def test_a_damaged_pointer_says_what_to_do(sources, versions, content):
    first = versions.install(sources[0])
    pointer = versions.root / "active.json"
    pointer.write_text(content)
    with pytest.raises(BundleError, match="active.json is damaged: .*; remove it and activate a version"):
        locate_bundle()
    pointer.unlink()
    assert versions.activate(first.name) == locate_bundle()


def test_the_commands(sources, capsys, home):
    def run(*words):
        status = main(["models", *map(str, words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and err.count("\n") == (status != 0)
        return status, out + err

    first, second = (load_bundle(source).version for source in sources[:2])
    shipped = load_bundle(locate_bundle()).version
    assert run("rollback")[0] == 1
    for source, version in zip(sources[:2], (first, second), strict=True):
        status, said = run("install", source)
        assert status == 0 and f"model 'default' is now {version}, " in said
    status, said = run("list", "--json")
    found = {e["version"]: e["active"] for e in map(json.loads, said.splitlines()) if e["model"] == "default"}
    assert status == 0 and found == {first: False, second: True, shipped: False}
    assert f"default: {first} (not in use), tiny, mood, " in run("list")[1]
    assert f"is now {first}" in run("rollback")[1] and in_use() == first
    assert f"is now {second}" in run("activate", second)[1] and in_use() == second
    assert run("prune", "--keep", 0) == (0, f"removed: {first}\n")
    assert run("prune") == (0, "removed: nothing\n")
    assert run("prune", "--keep", -1) == (2, "face-mtl models: --keep -1 must be 0 or more\n")
    assert run("activate", first)[0] == 1 and run("activate", "../x")[0] == 1 and run("rollback", "../x")[0] == 1
    assert run("verify", second) == (0, f"{second} is whole: {', '.join(FILES)}\n")


FILES = ["manifest.json", "encoder.safetensors", "columns/mood.safetensors", "columns/guest.safetensors"]


# Killed and concurrent processes. Forks are made by a process of their own, which has no threads: `main` below.


@pytest.mark.parametrize("how", ["at every step", "at random moments", "two at once"])
def test_killed_or_disturbed_it_is_the_old_or_the_new_version_and_whole(sources, how):
    words = [sys.executable, __file__, how, *map(str, sources)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= {"at every step": 20, "at random moments": 5, "two at once": 10}[how]


def check_whole(versions: ModelVersions, expected: set[str]) -> None:
    active = load_bundle(locate_bundle()).version
    assert active in expected, f"{active} is neither of {expected}"
    for version in versions.installed():
        assert load_bundle(versions.folder(version)).version == version


def check_swept(versions: ModelVersions) -> None:
    left = [path for path in versions.root.rglob("*") if path.name.startswith(".")]
    assert not left, left


def change(versions: ModelVersions, source: Path) -> None:
    """All that changes files: install, replace the active one, remove an old one."""
    versions.install(source)
    versions.prune(0)


def fork(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def kill_at(step: int) -> None:
    """End this process, as SIGKILL does, before its step-th change of the disk."""
    steps = itertools.count()
    changes = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "shutil.rmtree")

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in changes or writes) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def every_step(versions: ModelVersions, sources: list[Path]) -> int:
    """Kill a change at its first step, its second, and so on until it comes through; return how many were killed."""
    change(versions, sources[0])
    for step in itertools.count():
        old, new = sources[step % 2], sources[1 - step % 2]

        def work(step=step, new=new) -> None:
            kill_at(step)
            change(versions, new)

        status = os.waitpid(fork(work), 0)[1]
        check_whole(versions, {load_bundle(old).version, load_bundle(new).version})
        change(versions, new)
        check_swept(versions)
        if not os.WIFSIGNALED(status):
            assert status == 0
            return step
    raise AssertionError


def random_moments(versions: ModelVersions, sources: list[Path]) -> int:
    change(versions, sources[0])
    began = time.monotonic()
    change(versions, sources[1])
    span = time.monotonic() - began
    killed = 0
    for i in range(12):
        old, new = sources[i % 3], sources[(i + 1) % 3]
        change(versions, old)
        child = fork(lambda new=new: change(versions, new))
        time.sleep(random.uniform(0, span))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        check_whole(versions, {load_bundle(old).version, load_bundle(new).version})
    change(versions, new)
    check_swept(versions)
    return killed


def two_at_once(versions: ModelVersions, sources: list[Path]) -> int:
    def work(order: list[Path]) -> None:
        for source in order * 5:
            change(versions, source)

    children = [fork(lambda order=order: work(order)) for order in (sources, sources[::-1])]
    expected = {None, *(load_bundle(source).version for source in sources)}
    looks = 0
    while children:
        assert versions.active() in expected
        looks += 1
        time.sleep(0.005)
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            assert status == 0
            children.remove(done)
    check_whole(versions, {load_bundle(source).version for source in sources})
    check_swept(versions)
    assert len(versions.installed()) == 1
    return looks


if __name__ == "__main__":
    PRESETS["tiny"] = TINY
    ways = {"at every step": every_step, "at random moments": random_moments, "two at once": two_at_once}
    print(ways[sys.argv[1]](ModelVersions(), [Path(word) for word in sys.argv[2:]]))
