"""face-mtl models and export: what bundles there are, whether they are whole, and one as an ONNX file."""

import argparse
import json
from pathlib import Path

from ..bundle.bundle import MANIFEST, load_bundle
from ..bundle.card import model_card
from ..bundle.files import BundleError, write_atomically
from ..bundle.locate import DEFAULT_MODEL, bundle_folders, locate_bundle


def add_parsers(commands) -> None:
    models = commands.add_parser("models", help="list, verify and describe model bundles")
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the installed and shipped bundles, with their columns")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=run_list)
    verify = actions.add_parser("verify", help="check every file of a bundle against its manifest")
    verify.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    verify.set_defaults(run=run_verify)
    card = actions.add_parser("card", help="print a bundle's model card, Markdown made from its manifest")
    card.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    card.set_defaults(run=run_card)

    export = commands.add_parser("export", help="write a bundle as an ONNX file")
    export.add_argument("--model", default=DEFAULT_MODEL)
    export.add_argument("--engine", choices=["onnx"], default="onnx")
    export.add_argument("--precision", choices=["fp32"], default="fp32")
    export.add_argument("--output", type=Path, required=True, help="folder that gets model.onnx")
    export.set_defaults(run=run_export)


def run_list(args: argparse.Namespace) -> int:
    broken = 0
    for folder in bundle_folders():
        try:
            bundle = load_bundle(folder)
            entry = {
                "model": folder.name,
                "path": str(folder),
                "version": bundle.version,
                "preset": bundle.manifest.preset,
                "columns": [column.task for column in bundle.manifest.columns],
            }
        except BundleError as error:
            broken += 1
            entry = {"model": folder.name, "path": str(folder), "error": str(error)}
        if args.json:
            print(json.dumps(entry))
        elif "error" in entry:
            print(f"{entry['model']}: BROKEN, {entry['error']}")
        else:
            print(f"{entry['model']}: {entry['version']}, {entry['preset']}, {', '.join(entry['columns'])}, {folder}")
    return 1 if broken else 0


def run_verify(args: argparse.Namespace) -> int:
    bundle = load_bundle(locate_bundle(args.model))
    files = [MANIFEST, bundle.manifest.encoder.file.path, *(column.file.path for column in bundle.manifest.columns)]
    print(f"{bundle.version} is whole: {', '.join(files)}")
    return 0


def run_card(args: argparse.Namespace) -> int:
    print(model_card(load_bundle(locate_bundle(args.model))), end="")
    return 0


def run_export(args: argparse.Namespace) -> int:
    from ..runtime.graph import build_graph

    bundle = load_bundle(locate_bundle(args.model))
    file = args.output / "model.onnx"
    write_atomically(file, build_graph(bundle).SerializeToString())
    print(f"{bundle.version} written to {file}")
    return 0
