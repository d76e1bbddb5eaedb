"""A bundle with random weights of any preset, for benchmarks and tests that need no trained one."""

from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np

from ..bundle.bundle import Bundle, Tensors, load_bundle, write_manifest
from ..bundle.files import write_tensors
from ..bundle.manifest import ColumnRecord, DescriptorRecord, EncoderRecord, Manifest, Preprocessing, Provenance
from ..networks.presets import get_preset
from ..networks.shapes import Shapes, column_shapes, encoder_shapes
from ..vision.alignment import TEMPLATE


def write_random_bundle(
    root: Path,
    preset: str,
    columns: dict[str, tuple[list[str], list[str]]],
    seed: int = 0,
    name: str = "random",
    descriptors: Mapping[str, DescriptorRecord] | None = None,
    skips: Container[str] = (),
) -> Bundle:
    """Write and load a bundle.

    Args:
        columns: task to (labels, sources), in order.
        descriptors: task to the foreign descriptor that its column draws on, for those that draw on one.
        skips: tasks whose column has a skip connection.
    """
    rng = np.random.default_rng(seed)
    made_by = Provenance(
        command="random weights", package_version="", torch_version="", date="", seed=seed, epochs=0, samples={}
    )
    size = get_preset(preset)
    encoder = write_tensors(root, "encoder.safetensors", _random(encoder_shapes(size), rng))
    records = []
    for task, (labels, sources) in columns.items():
        descriptor = (descriptors or {}).get(task)
        dimensions = descriptor.dimensions if descriptor else 0
        tensors = _random(column_shapes(size, len(labels), len(sources), dimensions, task in skips), rng)
        file = write_tensors(root, f"columns/{task}.safetensors", tensors)
        records.append(
            ColumnRecord(
                task=task,
                labels=labels,
                sources=sources,
                descriptor=descriptor,
                skip=task in skips,
                file=file,
                provenance=made_by,
            )
        )
    manifest = Manifest(
        name=name,
        preset=preset,
        preprocessing=Preprocessing(template=[(float(x), float(y)) for x, y in TEMPLATE]),
        encoder=EncoderRecord(file=encoder, provenance=made_by),
        columns=records,
    )
    write_manifest(root, manifest)
    return load_bundle(root)


def _random(shapes: Shapes, rng: np.random.Generator) -> Tensors:
    """He's initial weights, and statistics as after some training, so that activations neither vanish nor explode."""
    tensors: Tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = np.array(1, np.int64)
        elif name.endswith(("running_var", "norm.weight", "scale")):
            tensors[name] = rng.uniform(0.8, 1.2, shape).astype(np.float32)
        elif len(shape) > 1:
            tensors[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        else:
            tensors[name] = rng.normal(0, 0.05, shape).astype(np.float32)
    return tensors
