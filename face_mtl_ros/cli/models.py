"""face-mtl models: what bundles there are, whether they are whole, their versions, and one in another form."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from ..bundle.bundle import MANIFEST, load_bundle
from ..bundle.card import model_card
from ..bundle.convert import LIMIT_BYTES, convert_bundle
from ..bundle.files import BundleError
from ..bundle.locate import DEFAULT_MODEL, bundle_folders, locate_bundle, model_name
from ..bundle.versions import ModelVersions
from . import UsageError


def add_parsers(commands) -> None:
    models = commands.add_parser("models", help="list, verify, describe and change model bundles, and their versions")
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

    convert = actions.add_parser("convert", help="write a bundle anew in float16 and in files of limited size")
    convert.add_argument("--model", default=DEFAULT_MODEL)
    convert.add_argument("--output", type=Path, required=True, help="folder of the new bundle; must not exist yet")
    convert.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    convert.add_argument("--limit-mb", type=float, default=LIMIT_BYTES / 1e6, help="of a file, in 10^6 bytes (16)")
    convert.set_defaults(run=run_convert)

    install = actions.add_parser("install", help="make a bundle the active version of a model under FACE_MTL_HOME")
    install.add_argument("bundle", type=Path, help="folder of the bundle; it stays as it is")
    install.add_argument("model", nargs="?", default=DEFAULT_MODEL, help="name (default: default)")
    install.set_defaults(run=run_install)
    activate = actions.add_parser("activate", help="take an installed version into use")
    activate.add_argument("version", help="as models list shows it")
    activate.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    activate.set_defaults(run=run_activate)
    rollback = actions.add_parser("rollback", help="go back to the version that was active before")
    rollback.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    rollback.set_defaults(run=run_rollback)
    prune = actions.add_parser("prune", help="remove old versions; the active one always stays")
    prune.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    prune.add_argument("--keep", type=int, default=5, help="how many others stay, the last used (5)")
    prune.set_defaults(run=run_prune)


def run_list(args: argparse.Namespace) -> int:
    broken = 0
    for folder in bundle_folders():
        name = model_name(folder)
        try:
            bundle = load_bundle(folder)
            entry: dict[str, Any] = {
                "model": name,
                "path": str(folder),
                "version": bundle.version,
                "active": locate_bundle(name) == folder,
                "preset": bundle.manifest.preset,
                "columns": [column.task for column in bundle.manifest.columns],
            }
        except BundleError as error:
            broken += 1
            entry = {"model": name, "path": str(folder), "error": str(error)}
        if args.json:
            print(json.dumps(entry))
        elif "error" in entry:
            print(f"{entry['model']}: BROKEN, {entry['error']}")
        else:
            use = "" if entry["active"] else " (not in use)"
            columns = ", ".join(entry["columns"]) or "an encoder alone"
            print(f"{name}: {entry['version']}{use}, {entry['preset']}, {columns}, {folder}")
    return 1 if broken else 0


def run_verify(args: argparse.Namespace) -> int:
    bundle = load_bundle(locate_bundle(args.model))
    files = [MANIFEST, *(path for record in bundle.manifest.weights for path in record.paths)]
    print(f"{bundle.version} is whole: {', '.join(files)}")
    return 0


def run_card(args: argparse.Namespace) -> int:
    print(model_card(load_bundle(locate_bundle(args.model))), end="")
    return 0


def run_convert(args: argparse.Namespace) -> int:
    limit = int(args.limit_mb * 1e6) if math.isfinite(args.limit_mb) else 0
    if limit < 1:
        raise UsageError(f"--limit-mb {args.limit_mb:g} must be a number above 0")
    bundle = convert_bundle(locate_bundle(args.model), args.output, args.dtype, limit)
    sizes = [file.bytes for record in bundle.manifest.weights for file in record.files]
    print(
        f"{bundle.version} written to {args.output}: {args.dtype}, {len(sizes)} weight files, "
        f"{sum(sizes) / 1e6:.1f} MB, the largest {max(sizes) / 1e6:.1f} MB"
    )
    return 0


def run_install(args: argparse.Namespace) -> int:
    return _in_use(args.model, ModelVersions(args.model).install(args.bundle))


def run_activate(args: argparse.Namespace) -> int:
    return _in_use(args.model, ModelVersions(args.model).activate(args.version))


def run_rollback(args: argparse.Namespace) -> int:
    return _in_use(args.model, ModelVersions(args.model).rollback())


def _in_use(model: str, folder: Path) -> int:
    print(f"model '{model}' is now {load_bundle(folder).version}, {folder}; a running node takes it by ~/set_model")
    return 0


def run_prune(args: argparse.Namespace) -> int:
    if args.keep < 0:
        raise UsageError(f"--keep {args.keep} must be 0 or more")
    removed = ModelVersions(args.model).prune(args.keep)
    print(f"removed: {', '.join(removed) or 'nothing'}")
    return 0
