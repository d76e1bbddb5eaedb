"""face-mtl samples: the faces that were collected on this robot, listed, counted, erased, exported and imported."""

import argparse
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from . import UsageError


def add_parser(commands) -> None:
    samples = commands.add_parser(
        "samples",
        help="list, count, erase, export and import the collected faces",
        description="Work on the sample store under FACE_MTL_HOME; the nodes may run meanwhile.",
    )
    actions = samples.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="the samples one by one, newest first")
    _add_filter(listing)
    listing.add_argument("--offset", type=int, default=0, metavar="N", help="skip so many")
    listing.add_argument("--limit", type=int, metavar="N", help="so many at most (default: all)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=run_list)

    count = actions.add_parser("count", help="how many samples each label has")
    _add_filter(count)
    count.add_argument("--json", action="store_true", help="one JSON object")
    count.set_defaults(run=run_count)

    forget = actions.add_parser(
        "forget",
        help="erase samples for good",
        description="Erase the samples that meet every condition given. A column that was trained with them knows them "
        "until it is trained anew or removed.",
    )
    _add_filter(forget)
    forget.add_argument("--id", type=int, action="append", default=[], dest="ids", help="may be repeated")
    forget.add_argument("--older-than", type=float, default=0.0, metavar="DAYS", help="collected longer ago")
    forget.add_argument("--everything", action="store_true", help="all samples of all tasks")
    forget.add_argument("--expired", action="store_true", help="those whose time is over, as the trainer does daily")
    forget.add_argument("--trust-clock", action="store_true", help="with --expired: this machine's clock is right now")
    forget.add_argument("--dry-run", action="store_true", help="only count what would be erased")
    forget.add_argument("--json", action="store_true", help="one JSON object")
    forget.set_defaults(run=run_forget)

    export = actions.add_parser("export", help="write a task's samples as a folder of pictures a label")
    export.add_argument("folder", type=Path, help="new or empty")
    export.add_argument("--task", required=True)
    export.add_argument("--label", default="", help="this one alone")
    export.add_argument("--no-margin", action="store_true", help="128 x 128 pixels, as the dataset 'folder' has them")
    export.add_argument("--json", action="store_true", help="one JSON object")
    export.set_defaults(run=run_export)

    importing = actions.add_parser(
        "import",
        help="store the pictures of a folder of pictures a label",
        description="Store what `export` wrote, or aligned crops in a folder a label.",
    )
    importing.add_argument("folder", type=Path)
    importing.add_argument("--task", default="", help="default: as it was exported")
    importing.add_argument("--requested-by", default="", metavar="NAME", help="who asks, kept with new samples")
    importing.add_argument("--keep-days", type=float, metavar="DAYS", help="of new samples (default: for ever)")
    importing.add_argument("--allow-built-in", action="store_true", help="take emotion, gender and age too")
    importing.add_argument("--json", action="store_true", help="one JSON object")
    importing.set_defaults(run=run_import)


def run_list(args: argparse.Namespace) -> int:
    from ..samples.store import SampleStore

    if args.offset < 0 or (args.limit is not None and args.limit < 0):
        raise UsageError("--offset and --limit: 0 or more is expected")
    for sample in SampleStore().find(args.task, args.label, offset=args.offset, limit=args.limit):
        if args.json:
            print(json.dumps(asdict(sample)))
            continue
        kept = "for ever" if sample.keep_days is None else f"for {sample.keep_days:g} days"
        if sample.expires_at is not None:
            kept = f"until {_time(sample.expires_at)}"
        source = f"face {sample.face_id or '-'}, camera {sample.camera or '-'}"
        asked = f", asked for by {sample.requested_by}" if sample.requested_by else ""
        print(f"{sample.id}: {sample.task} {sample.label}, {_time(sample.collected_at)}, {source}{asked}, kept {kept}")
    return 0


def run_count(args: argparse.Namespace) -> int:
    from ..samples.store import SampleStore

    store = SampleStore()
    counts = store.counts(args.task, args.label)
    total = sum(count.count for count in counts)
    if args.json:
        print(json.dumps({"counts": [asdict(c) for c in counts], "total": total, "store_bytes": store.size_bytes()}))
        return 0
    for count in counts:
        called = f" ({count.display_name})" if count.display_name != count.label else ""
        print(f"{count.task} {count.label}{called}: {count.count}, the newest of {_time(count.last)}")
    print(f"{total} samples, {store.size_bytes()} bytes in {store.file}")
    return 0


def run_forget(args: argparse.Namespace) -> int:
    from ..samples.store import SampleStore

    conditions = bool(args.task or args.label or args.ids or args.older_than or args.everything)
    if args.expired and (conditions or args.dry_run):
        raise UsageError("--expired: no other condition and no --dry-run may be given with it")
    if args.trust_clock and not args.expired:
        raise UsageError("--trust-clock: it goes with --expired")
    if not args.expired and not conditions:
        raise UsageError("nothing says what to forget: give --task, --label, --id, --older-than or --everything")
    store = SampleStore()
    if args.expired:
        done = store.enforce_retention(trust_clock=args.trust_clock)
    else:
        done = store.forget(
            args.task, args.label, args.ids, args.older_than, everything=args.everything, dry_run=args.dry_run
        )
    if args.json:
        counts = [{"task": task, "label": label, "count": count} for (task, label), count in done.counts.items()]
        print(json.dumps({"forgotten": done.count, "remaining": done.remaining, "counts": counts}))
        return 0
    for (task, label), count in done.counts.items():
        print(f"{task} {label}: {count}")
    print(f"{'would forget' if args.dry_run else 'forgot'} {done.count} samples, {done.remaining} remain")
    return 0


def run_export(args: argparse.Namespace) -> int:
    from ..samples.folders import export_samples
    from ..samples.store import SampleStore

    count = export_samples(SampleStore(), args.task, args.folder, args.label, margin=not args.no_margin)
    if args.json:
        print(json.dumps({"task": args.task, "exported": count, "folder": str(args.folder)}))
    else:
        print(f"exported {count} samples of {args.task} to {args.folder}; forgetting does not reach them there")
    return 0


def run_import(args: argparse.Namespace) -> int:
    from ..samples.folders import import_samples
    from ..samples.store import SampleStore

    done = import_samples(
        SampleStore(),
        args.folder,
        args.task,
        requested_by=args.requested_by,
        keep_days=args.keep_days,
        allow_built_in=args.allow_built_in,
    )
    if args.json:
        print(json.dumps({"task": done.task, "imported": len(done.ids), "known": done.known, "ids": done.ids}))
    else:
        print(f"imported {len(done.ids)} samples of {done.task}, {done.known} were there already")
    return 0


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="", help="of this task alone")
    parser.add_argument("--label", default="", help="of this label alone")


def _time(seconds: float) -> str:
    """This machine's date and time."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
