"""What the commands that drive the running trainer node have in common."""

import json
import math
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..nodes.clients import TrainerClient


def connect(namespace: str) -> "TrainerClient":
    """A client of the trainer node; RuntimeError where there is no ROS 2 in this shell."""
    try:
        from ..nodes.clients import TrainerClient
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rclpy":
            raise
        raise RuntimeError(
            "it drives the running nodes, and this shell has no ROS 2: source /opt/ros/<distro>/setup.bash, or in a "
            "checkout tools/env.sh"
        ) from None
    return TrainerClient(namespace)


def progress(*columns):
    """A bar on stderr while the block lasts, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)


def train_on_site(client: "TrainerClient", as_json: bool, **goal: Any) -> int:
    """Have the trainer train a column, with a bar of its progress, and print what came of it.

    Args:
        as_json: print the result as one JSON object; None stands for a figure that there is not.
        goal: fields of the action's goal.

    Raises:
        RuntimeError: it was refused, cancelled or failed, and why.
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    from ..nodes.interfaces import Train

    with progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as bar:
        shown = bar.add_task(f"training {goal['task']}: Ctrl-C cancels", total=None)

        def show(feedback) -> None:
            figures = [f"{goal['task']}: {feedback.state}"]
            figures += [] if math.isnan(feedback.loss) else [f"loss {feedback.loss:.3f}"]
            figures += [] if math.isnan(feedback.validation_accuracy) else [f"{feedback.validation_accuracy:.0%} right"]
            figures += [] if math.isnan(feedback.time_left_s) else [f"{feedback.time_left_s:.0f} s left"]
            bar.update(shown, description=", ".join(figures), total=feedback.epochs or None, completed=feedback.epoch)

        result = client.train(Train.Goal(**goal), show)
    if as_json:
        names = [name for name in result.get_fields_and_field_types()]
        print(json.dumps({name: _or_none(getattr(result, name)) for name in names}), flush=True)
    if not result.success:
        raise RuntimeError(result.message)
    if not as_json:
        print(result.message, file=sys.stderr)
        print(f"{goal['task']}: {result.accuracy:.1%} of the held-back samples right, model {result.model_version}")
    return 0


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
