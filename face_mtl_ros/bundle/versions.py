"""The versions of a model on a robot: one is active, the earlier ones stay for going back.

    FACE_MTL_HOME/bundles/<name>/versions/<version>/   whole bundles; equal weight files are hard links to one
    FACE_MTL_HOME/bundles/<name>/active.json           which one is in use, and which were before it

A version appears by the rename of a folder, and becomes active by the rename of a file, so a process that is killed at
any moment leaves what was before or what shall be. What it leaves of its work begins with a dot; the next call removes
it. locate_bundle finds the active version by the model's name, and each version by its own.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..file_lock import alone
from ..paths import models_dir
from .bundle import MANIFEST, Bundle, load_bundle
from .files import BundleError, write_atomically
from .locate import ACTIVE, DEFAULT_MODEL, VERSIONS, Active, check_name, read_active, unversioned_bundle
from .manifest import WeightFile


class ModelVersions:
    """What is installed under one model's name. Several threads and processes may use it at once: changes queue.

    Each method raises BundleError for a name or version that is no name or is not there, for a bundle that is not
    whole, and where the disk does not take it; what was active stays so.
    """

    def __init__(self, name: str = DEFAULT_MODEL) -> None:
        self.name = check_name(name)
        self.root = models_dir() / name
        self.versions_dir = self.root / VERSIONS

    def installed(self) -> list[str]:
        """The versions, the one that was installed or activated last at the end."""
        if not self.versions_dir.is_dir():
            return []
        found = [folder for folder in self.versions_dir.iterdir() if not folder.name.startswith(".")]
        return [folder.name for folder in sorted(found, key=_last_use)]

    def active(self) -> str | None:
        """The version in use; None where that is a bundle which lies there without versions, or ships."""
        return read_active(self.root).active

    def folder(self, version: str) -> Path:
        """A version's bundle."""
        folder = self.versions_dir / check_name(version)
        if not folder.is_dir():
            known = ", ".join(self.installed()) or "none"
            raise BundleError(f"model '{self.name}' has no version '{version}'; installed: {known}")
        return folder

    def install(self, source: Path, activate: bool = True) -> Path:
        """Make a bundle a version, and unless told otherwise the active one.

        The source stays as it is. Its manifest and weights are taken, nothing else that lies in its folder; what an
        installed version has already costs no space again. A version that is installed already is only activated.

        Returns:
            the version's folder.
        """
        bundle = load_bundle(source)
        with self._change(f"{source} cannot be installed as '{self.name}'", make=True):
            folder = self.versions_dir / bundle.version
            if not _is_whole(folder, bundle.version):
                self._place(bundle, folder)
            if activate:
                self._activate(bundle.version)
        return folder

    def activate(self, version: str) -> Path:
        """Take a version into use, verified first, and return its folder."""
        with self._change(f"version '{version}' cannot be activated"):
            folder = self.folder(version)
            load_bundle(folder)
            self._activate(version)
        return folder

    def rollback(self) -> Path:
        """Go back to the version that was active before, and before the first to the bundle without versions.

        Returns:
            the folder of what is in use now. The version that was left stays installed.
        """
        with self._change(f"model '{self.name}' cannot go back"):
            state = read_active(self.root)
            before = [version for version in state.before if (self.versions_dir / version).is_dir()]
            folder = self.versions_dir / before[-1] if before else unversioned_bundle(self.name)
            if state.active is None or folder is None:
                raise BundleError(f"model '{self.name}' has nothing to go back to: no version was active before")
            load_bundle(folder)
            self._write(Active(active=before[-1] if before else None, before=before[:-1]))
        return folder

    def prune(self, keep: int) -> list[str]:
        """Remove all versions but the active one and the `keep` others that were installed or activated last.

        Returns:
            the removed.
        """
        if keep < 0:
            raise BundleError(f"keep {keep} must be 0 or more")
        with self._change(f"versions of '{self.name}' cannot be removed"):
            state = read_active(self.root)
            others = [version for version in self.installed() if version != state.active]
            removed = others[: max(len(others) - keep, 0)]
            before = [version for version in state.before if version not in removed]
            if before != state.before:
                self._write(Active(active=state.active, before=before))
            for version in removed:
                self._remove(self.versions_dir / version)
        return removed

    @contextmanager
    def _change(self, failed: str, make: bool = False) -> Iterator[None]:
        """Alone, on a folder without leftovers of a call that was killed; OSErrors become BundleErrors."""
        try:
            if make:
                self.versions_dir.mkdir(parents=True, exist_ok=True)
            elif not self.versions_dir.is_dir():
                raise BundleError(f"model '{self.name}' has no versions: none was installed in {self.root}")
            with alone(self.root / "lock", f"a change of model '{self.name}'"):
                for leftover in (*self.versions_dir.glob(".*"), *self.root.glob(".*")):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                yield
        except OSError as error:
            raise BundleError(f"{failed}: {error}; the model in use stays") from error

    def _place(self, bundle: Bundle, folder: Path) -> None:
        partial = self.versions_dir / ".partial"
        try:
            for record in bundle.manifest.weights:
                for file in record.files:
                    self._give(file, bundle.root, partial)
            write_atomically(partial / MANIFEST, (bundle.root / MANIFEST).read_bytes())
            if load_bundle(partial).version != bundle.version:
                raise BundleError(f"{bundle.root} was changed while it was installed: try again")
            if folder.exists():
                self._remove(folder)
            partial.replace(folder)
            _to_disk(self.versions_dir)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _give(self, file: WeightFile, source: Path, partial: Path) -> None:
        """The same file of an installed version where there is one, else a copy."""
        target = partial / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        for version in self.installed():
            known = self.versions_dir / version / file.path
            if _holds(known, file):
                with suppress(OSError):  # a file system that has no hard links
                    os.link(known, target)
                    return
        write_atomically(target, (source / file.path).read_bytes())

    def _remove(self, folder: Path) -> None:
        trash = folder.with_name(f".{folder.name}")  # never half a bundle under a version's name
        folder.replace(trash)
        shutil.rmtree(trash)

    def _activate(self, version: str) -> None:
        os.utime(self.versions_dir / version / MANIFEST)
        state = read_active(self.root)
        if version == state.active:
            return
        before = [other for other in state.before if other != version]
        self._write(Active(active=version, before=[*before, state.active] if state.active else before))

    def _write(self, state: Active) -> None:
        write_atomically(self.root / ACTIVE, (state.model_dump_json() + "\n").encode())
        _to_disk(self.root)


def _is_whole(folder: Path, version: str) -> bool:
    try:
        return load_bundle(folder).version == version
    except BundleError:
        return False


def _last_use(folder: Path) -> tuple[int, str]:
    try:
        return (folder / MANIFEST).stat().st_mtime_ns, folder.name
    except OSError:  # damaged by hand: the first to go
        return 0, folder.name


def _holds(file: Path, record: WeightFile) -> bool:
    try:
        return file.stat().st_size == record.bytes and hashlib.sha256(file.read_bytes()).hexdigest() == record.sha256
    except OSError:
        return False


def _to_disk(folder: Path) -> None:
    """Let a rename in the folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
