"""What tells bundles apart for engines: the weights and how they hang together."""

import hashlib
import json

from ..bundle.bundle import Bundle


def bundle_key(bundle: Bundle) -> str:
    """sha256 of what decides a bundle's graph: its preset, weights, sources and descriptors, not its labels' names."""
    manifest = bundle.manifest
    columns = [
        [column.task, column.outputs, column.file.sha256, column.sources, column.descriptor and column.descriptor.name]
        for column in manifest.columns
    ]
    return hashlib.sha256(json.dumps([manifest.preset, manifest.encoder.file.sha256, columns]).encode()).hexdigest()
