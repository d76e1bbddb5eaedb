"""INT8 models as `face-mtl export --precision int8` makes them: ONNX files, each for one bundle, found by its content.

They hold explicit quantisation, QuantizeLinear and DequantizeLinear around the convolutions. There are two kinds: CPU
takes activations as unsigned bytes, GPU as signed bytes around zero, for TensorRT knows no others.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .. import __version__
from ..bundle.bundle import Bundle
from ..bundle.files import write_atomically
from ..paths import cache_dir
from .bundle_key import bundle_key
from .engine import EngineError

if TYPE_CHECKING:
    import onnx

CPU: Final = "cpu"
GPU: Final = "gpu"
DIGEST: Final = "sha256"


def int8_dir() -> Path:
    """Where engines look for INT8 models; RuntimeError where the user has no home folder."""
    return cache_dir() / "int8"


def int8_name(bundle: Bundle, kind: str) -> str:
    """The file's name: a bundle of other weights, and another version of this package, has another."""
    return f"int8-{kind}-{hashlib.sha256(f'{bundle_key(bundle)} {__version__}'.encode()).hexdigest()[:24]}.onnx"


def write_int8(file: Path, bundle: Bundle, kind: str, model: "onnx.ModelProto", notes: dict[str, str]) -> None:
    """Write a model with the notes, what it was calibrated on and how it scored, in its metadata; atomically.

    Raises:
        OSError: it cannot be written.
    """
    entries = {"model": bundle_key(bundle), "package": __version__, "kind": kind, **notes}
    del model.metadata_props[:]
    for key, value in sorted(entries.items()):
        model.metadata_props.add(key=key, value=value)
    model.metadata_props.add(key=DIGEST, value=_digest(model))
    write_atomically(file, model.SerializeToString())


def read_int8(bundle: Bundle, kind: str) -> bytes:
    """The INT8 model of a bundle from FACE_MTL_HOME, serialised ONNX.

    Raises:
        EngineError: there is none, or it is of another bundle or version, or not whole; says how to make it.
    """
    file = int8_dir() / int8_name(bundle, kind)
    engine = "onnx" if kind == CPU else "tensorrt --target portable"
    remedy = (
        f"make it: face-mtl export --model {bundle.root} --engine {engine} --precision int8 --calibrate NAME=ROOT "
        "--output DIR"
    )
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise EngineError(f"precision 'int8' needs {file}, and it is not there; {remedy}") from None
    except OSError as error:
        raise EngineError(f"{file} cannot be read: {error.strerror}") from error
    notes = read_notes(data)
    if notes.get(DIGEST) is None:
        raise EngineError(f"{file} is cut, corrupt or no INT8 model of this package; {remedy}")
    if (notes["model"], notes["package"], notes["kind"]) != (bundle_key(bundle), __version__, kind):
        raise EngineError(f"{file} is for another model, version or device; {remedy}")
    return data


def read_notes(data: bytes) -> dict[str, str]:
    """The metadata of a serialised model; empty where it is not whole."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return {}
    notes = {entry.key: entry.value for entry in model.metadata_props}
    digest = notes.get(DIGEST)
    kept = [entry for entry in model.metadata_props if entry.key != DIGEST]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return notes if digest == _digest(model) else {}


def _digest(model: "onnx.ModelProto") -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
