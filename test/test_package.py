"""The package's own files: one version everywhere, all that is promised is listed, interfaces say what they mean."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import face_mtl_ros

ROOT = Path(__file__).parents[1]
MSGS = ROOT / "face_mtl_msgs"
INTERFACES = sorted(p for p in MSGS.glob("*/*") if p.suffix in (".msg", ".srv", ".action"))


def manifest(folder):
    """Name, version and dependencies of a package.xml, read as strictly as colcon does where catkin_pkg is there."""
    path = folder / "package.xml"
    try:
        from catkin_pkg.package import parse_package
    except ImportError:
        root = ElementTree.parse(path).getroot()
        depends = {e.text for e in root if e.tag.endswith("depend")}
        return root.findtext("name"), root.findtext("version"), depends
    warnings = []
    package = parse_package(path, warnings=warnings)
    assert not warnings
    depends = package.build_depends + package.exec_depends + package.buildtool_depends + package.test_depends
    return package.name, package.version, {d.name for d in depends}


def setup_arguments():
    """The literal arguments of setup() in setup.py, and those of f-strings with NAME filled in."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "setup")
    return {k.arg: k.value for k in call.keywords}


def fields(text):
    """(type, name, comment) of each field and constant, sections divided by `---`."""
    sections = [[]]
    for line in text.splitlines():
        code, _, comment = line.partition("#")
        if code.strip() == "---":
            sections.append([])
        elif code.strip():
            kind, rest = code.split(None, 1)
            sections[-1].append((kind, rest.strip().split()[0], comment.strip()))
    return sections


def test_manifests_are_valid_and_of_one_version():
    name, version, depends = manifest(ROOT)
    assert name == "face_mtl_ros"
    assert {"rclpy", "cv_bridge", "launch_ros", "face_mtl_msgs", "python3-opencv", "python3-numpy"} <= depends
    assert manifest(MSGS)[:2] == ("face_mtl_msgs", version)
    assert ast.literal_eval(setup_arguments()["version"]) == version == face_mtl_ros.__version__


def test_each_executable_has_its_module():
    text = (ROOT / "setup.py").read_text()
    targets = re.findall(r'= \{NAME\}\.([\w.]+):main"', text)
    assert len(targets) >= 3
    for target in targets:
        module = ROOT / "face_mtl_ros" / target.replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__init__.py").exists(), f"{target} is missing"


def test_resource_marker_and_licence():
    assert (ROOT / "resource/face_mtl_ros").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "Forthcoming" in (ROOT / "CHANGELOG.rst").read_text()


def test_torch_is_pinned_and_opencv_keeps_its_cascades():
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.M))
    assert pins["torch"] == "2.13.0"
    assert pins["opencv-python-headless"].startswith("4.")


def test_cmake_lists_every_interface():
    listed = set(re.findall(r"(?:msg|srv|action)/\w+\.\w+", (MSGS / "CMakeLists.txt").read_text()))
    assert listed == {f"{p.parent.name}/{p.name}" for p in INTERFACES}


@pytest.mark.parametrize("path", INTERFACES, ids=lambda p: p.name)
def test_each_field_is_commented(path):
    assert path.read_text().startswith("# "), f"{path.name} does not begin with what it is for"
    for section in fields(path.read_text()):
        for kind, name, comment in section:
            # A constant (string NAME=value) says itself what it is.
            assert comment or "=" in name, f"{path.name}: {kind} {name} has no comment"


@pytest.mark.parametrize("path", [p for p in INTERFACES if p.suffix != ".msg"], ids=lambda p: p.name)
def test_each_answer_begins_with_success_and_message(path):
    answer = [(kind, name) for kind, name, _ in fields(path.read_text())[1]]
    assert answer[:2] == [("bool", "success"), ("string", "message")]


def test_the_action_takes_what_the_service_takes():
    service = fields((MSGS / "srv/TrainColumn.srv").read_text())
    action = fields((MSGS / "action/Train.action").read_text())
    assert service[0] == action[0]


def test_no_machine_in_the_set_up():
    """Paths and hosts of one machine must not get into files that run on others."""
    for name in ("Makefile", "constraints.txt", "tools/setup.sh", "tools/env.sh", ".ci/run", "setup.py"):
        found = re.search(r"https?://|--(?:extra-)?index-url|/home/|/root/|/tmp/", (ROOT / name).read_text())
        assert not found, f"{name} holds {found[0]}"
