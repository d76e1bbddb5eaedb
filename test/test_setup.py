"""The set-up on this machine: called again it does nothing, env.sh works, mistakes are answered clearly."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAMPS = ROOT / ".venv/.stamps"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (STAMPS / "test").exists(), reason="not set up here: bash tools/setup.sh test"),
]


def sh(command, **environment):
    run = ["bash", "-c", command]
    return subprocess.run(run, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120)


def stamps():
    return {p.name: p.stat().st_mtime_ns for p in STAMPS.iterdir()}


@pytest.mark.parametrize("goal", ["run", "test"])
def test_a_second_call_does_nothing(goal):
    before = stamps()
    start = time.monotonic()
    answer = sh(f"bash tools/setup.sh {goal}")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert time.monotonic() - start < 5
    assert stamps() == before


def test_wrong_use_is_told():
    answer = sh("bash tools/setup.sh everything")
    assert answer.returncode == 2
    assert "usage: tools/setup.sh run|test" in answer.stderr


@pytest.fixture
def copy(tmp_path):
    """The files that the set-up reads, somewhere else, so that nothing here is touched."""
    for name in ("tools", "face_mtl_msgs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("constraints.txt", "setup.py", "setup.cfg"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def fake_python(folder, version, headers, modules=True, ros=False):
    """An interpreter that says of itself what the set-up asks for, and has the modules that make a venv, rclpy, or not.

    numpy it has never.
    """
    path = folder / "python3"
    path.write_text(
        f"""#!/bin/sh
case "$2" in
*sysconfig*) printf '%s\\n' {version} /usr {headers} {path} ;;
*ensurepip*) exit {0 if modules else 1} ;;
*rclpy*) exit {0 if ros else 1} ;;
*) exit 1 ;;
esac
"""
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", ["3.9", "3.15"])
def test_another_python_is_refused(version, copy):
    answer = sh(f"bash {copy}/tools/setup.sh run", PYTHON=fake_python(copy, version, "/usr/include"))
    assert answer.returncode == 1
    assert f"Python {version}" in answer.stderr
    assert "3.10 to 3.14" in answer.stderr
    assert not (copy / ".venv").exists()


def test_missing_prerequisites_are_named(copy):
    python = fake_python(copy, "3.11", copy / "nowhere", modules=False)
    answer = sh(f"bash {copy}/tools/setup.sh run", PYTHON=python, ROS_DISTRO="")
    assert answer.returncode == 1
    assert "apt install python3-venv python3-dev" in answer.stderr
    assert str(copy / "nowhere") in answer.stderr
    assert not (copy / ".venv").exists()


@pytest.fixture
def jetson(copy):
    """The PATH of a machine that no ROS 2 on PyPI is for."""
    uname = copy / "uname"
    uname.write_text("#!/bin/sh\necho Linux aarch64\n")
    uname.chmod(0o755)
    return f"{copy}:{os.environ['PATH']}"


def test_another_machine_is_sent_to_a_sourced_ros(copy, jetson):
    python = fake_python(copy, "3.11", "/usr/include")
    answer = sh(f"bash {copy}/tools/setup.sh run", PYTHON=python, PATH=jetson, ROS_DISTRO="")
    assert answer.returncode == 1
    assert "Linux aarch64" in answer.stderr
    assert "source /opt/ros/" in answer.stderr


def test_a_sourced_ros_will_do_on_another_machine_and_needs_its_own_packages(copy, jetson):
    python = fake_python(copy, "3.12", copy / "nowhere", modules=False, ros=True)
    answer = sh(f"bash {copy}/tools/setup.sh run", PYTHON=python, PATH=jetson, ROS_DISTRO="kilted")
    assert answer.returncode == 1
    assert "aarch64" not in answer.stderr
    colcon = "" if shutil.which("colcon") else "python3-colcon-common-extensions "
    assert f"apt install python3-venv python3-dev {colcon}python3-numpy\n" in answer.stderr
    assert not (copy / ".venv").exists()


def test_a_sourced_ros_of_another_python_is_not_mixed_with_one_from_pypi(copy):
    python = fake_python(copy, "3.13", "/usr/include")
    sourced = {"ROS_DISTRO": "kilted", "AMENT_PREFIX_PATH": "/opt/ros/kilted"}
    answer = sh(f"bash {copy}/tools/setup.sh run", PYTHON=python, **sourced)
    assert answer.returncode == 1
    assert "ROS kilted is sourced" in answer.stderr
    assert f"'{python}' (Python 3.13) can't import its rclpy" in answer.stderr
    assert "PYTHON=/usr/bin/python3 make demo" in answer.stderr
    assert not (copy / ".venv").exists()


def test_the_mere_name_of_a_ros_is_told_and_stops_nothing(copy):
    python = fake_python(copy, "3.11", copy / "nowhere")
    command = f"unset AMENT_PREFIX_PATH; bash {copy}/tools/setup.sh run"
    answer = sh(command, PYTHON=python, ROS_DISTRO="kilted", ROS_PACKAGE_PATH="")
    assert "taking ROS 2 from PyPI instead" in answer.stderr
    assert "apt install python3-dev\n" in answer.stderr  # the next thing that is looked for


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_from_anywhere(shell, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    code = "import face_mtl_ros, face_mtl_msgs.msg, sys; print(sys.prefix)"
    command = [shell, "-c", f"source {ROOT}/tools/env.sh && python -c '{code}'"]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    if not (ROOT / ".venv/share/rclpy").exists():  # set up on a sourced ROS 2, which this shell needs too
        names = ("ROS_DISTRO", "AMENT_PREFIX_PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
        clean |= {name: os.environ[name] for name in names}
    answer = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == str(ROOT / ".venv")


def test_env_says_what_to_do_where_nothing_is_set_up(tmp_path):
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/env.sh", tmp_path / "tools")
    answer = sh(f"source {tmp_path}/tools/env.sh")
    assert answer.returncode == 1
    assert "tools/setup.sh run" in answer.stderr


def test_env_says_so_where_the_ros_of_the_setup_is_not_sourced(tmp_path):
    for folder in ("tools", ".venv/.stamps", "install/face_mtl_msgs/lib/python3.12/site-packages/face_mtl_msgs"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tools/env.sh", tmp_path / "tools")
    (tmp_path / ".venv/.stamps/run").touch()
    command = f"source {tmp_path}/tools/env.sh && echo $PYTHONPATH"
    unsourced = sh(command, AMENT_PREFIX_PATH="")
    assert unsourced.returncode == 1
    assert "source /opt/ros/" in unsourced.stderr
    sourced = sh(command, AMENT_PREFIX_PATH="/opt/ros/kilted", PYTHONPATH="/opt/ros/kilted/lib")
    messages = tmp_path / "install/face_mtl_msgs/lib/python3.12/site-packages"
    assert sourced.stdout == f"{messages}:/opt/ros/kilted/lib\n"


def test_scripts_parse():
    for name in ("tools/setup.sh", "tools/env.sh", ".ci/run"):
        assert sh(f"bash -n {name}").returncode == 0
