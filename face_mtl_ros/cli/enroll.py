"""face-mtl enroll: the running nodes collect pictures of a person in view, and learn the face."""

import argparse
import json
import math
import sys

from . import UsageError
from .trainer import connect, progress, train_on_site


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "enroll",
        help="collect pictures of a person before the camera (needs the running nodes)",
        description="Let the running trainer node store pictures of a face that perception sees, under a label. With "
        "--train the column is trained with them at once, and answers with the name seconds later.",
    )
    parser.add_argument("--label", required=True, help="any name or number: who, or what, the face shows")
    parser.add_argument("--task", default="identity", help="task that the label belongs to (identity)")
    parser.add_argument("--face-id", default="", metavar="ID", help="which face, as on /face_attributes (the only one)")
    parser.add_argument("--display-name", default="", metavar="NAME", help="what to call the label aloud")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="how many pictures (the trainer's parameter)")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long to wait for them (likewise)")
    parser.add_argument("--min-quality", type=float, default=0.0, metavar="Q", help="lowest to take, 0 to 1 (likewise)")
    parser.add_argument(
        "--keep-days", type=float, default=0.0, metavar="DAYS", help="then erased; -1: never (likewise)"
    )
    parser.add_argument("--requested-by", default="", metavar="NAME", help="who asks, kept with each picture")
    parser.add_argument("--train", action="store_true", help="train the task's column with them at once")
    parser.add_argument("--namespace", default="", help="of the nodes")
    parser.add_argument("--json", action="store_true", help="the answer as one JSON object; with --train as two")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    for option in ("count", "seconds", "min_quality"):
        if not 0 <= getattr(args, option) < 2**31:
            raise UsageError(f"--{option.replace('_', '-')} {getattr(args, option)}: 0 or more is expected")
    if not math.isfinite(args.keep_days):
        raise UsageError(f"--keep-days {args.keep_days}: a number is expected")
    with connect(args.namespace) as client:
        answer = _collect(client, args)
        if args.json:
            names = ("success", "message", "face_id", "collected", "total")
            refused = ("refused_blurred", "refused_small", "refused_duplicate", "refused_quality")
            shown = {name: getattr(answer, name) for name in (*names, *refused)}
            print(json.dumps(shown | {"sample_ids": list(answer.sample_ids)}), flush=True)
        if not answer.success:
            raise RuntimeError(answer.message)
        if not args.json:
            print(f"{args.label}: {answer.message}")
        return train_on_site(client, args.json, task=args.task, requested_by=args.requested_by) if args.train else 0


def _collect(client, args: argparse.Namespace):
    """The answer of collect_samples, with the time shown meanwhile."""
    from ..nodes.interfaces import CollectSamples, ForgetSamples

    request = CollectSamples.Request(
        face_id=args.face_id,
        task=args.task,
        label=args.label,
        display_name=args.display_name,
        count=args.count,
        time_limit_s=args.seconds,
        min_quality=args.min_quality,
        retention_days=args.keep_days,
        requested_by=args.requested_by,
    )
    with progress() as bar:
        bar.add_task(f"collecting {args.label}: look into the camera, and turn the head a little", total=None)
        try:
            answer = client.begin(CollectSamples, "collect_samples", request)
            return answer.wait()
        except KeyboardInterrupt:
            print("interrupted: what is still collected will be erased; Ctrl-C again to leave it", file=sys.stderr)
            if stored := list(answer.wait().sample_ids):
                client.call(ForgetSamples, "forget_samples", ForgetSamples.Request(sample_ids=stored))
            raise
