"""face-mtl doctor: what is installed here, what it can do, and what to fix."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform

from ..bundle.bundle import load_bundle
from ..bundle.files import BundleError
from ..bundle.locate import locate_bundle
from ..paths import home
from ..runtime.descriptor import load_descriptors
from ..runtime.engine import EngineError
from ..runtime.engines import ENGINES, make_engine
from ..vision.detectors import DETECTORS, DetectorError, make_detector

PACKAGES = ("numpy", "opencv-python-headless", "onnx", "openvino", "torch", "kornia", "safetensors", "pydantic")


def add_parser(commands) -> None:
    parser = commands.add_parser("doctor", help="what works on this machine, and what to fix")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 exactly where perception can run as it is set up: with the engine and detector that auto takes."""
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors")
    print(f"FACE_MTL_HOME {home()}")
    for package in PACKAGES:
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package} is not installed")
    print(f"ROS 2 {_ros()}")
    works = True
    try:
        bundle = load_bundle(locate_bundle())
        print(f"model {bundle.version}: {', '.join(column.task for column in bundle.manifest.columns)}")
    except BundleError as error:
        print(f"model: FAILED, {error}")
        return 1
    # auto is what the node and the commands run with; the rest says what else could be chosen.
    for name in ENGINES:
        try:
            engine = make_engine(bundle, name)
            print(f"engine {name}: {engine.device} in {engine.precision}")
        except EngineError as error:
            print(f"engine {name}: not here, {error}")
            works &= name != "auto"
    try:
        for name, descriptor in load_descriptors(bundle).items():
            print(f"descriptor {name}: ready, {descriptor.spec.dimensions} numbers a face")
    except EngineError as error:
        print(f"descriptor: FAILED, {error}")
        works = False
    for name in DETECTORS:
        try:
            make_detector(name)
            print(f"detector {name}: ready")
        except DetectorError as error:
            print(f"detector {name}: not here, {error}")
            works &= name != "auto"
    return 0 if works else 1


def _ros() -> str:
    if not importlib.util.find_spec("rclpy"):
        return "is not there: source it, or run make demo and source tools/env.sh"
    if not importlib.util.find_spec("face_mtl_msgs"):
        return "is there, face_mtl_msgs is not built: run make demo and source tools/env.sh"
    return "and face_mtl_msgs are there"
