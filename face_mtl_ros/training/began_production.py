"""From unlabelled pictures to a bundle whose encoder is that of a BEGAN's discriminator."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from ..bundle.bundle import Bundle, load_bundle, write_manifest
from ..bundle.files import write_tensors
from ..bundle.manifest import EncoderRecord
from ..bundle.network import to_numpy
from ..datasets.dataset import Dataset
from ..networks.presets import get_preset
from .began import BeganRecipe, train_began
from .encoder_production import new_manifest, refuse_to_replace
from .provenance import checkpoint_file, provenance
from .unlabelled import UnlabelledPool

RECENT = 10  # rows of the log


def make_began_encoder(
    output: Path,
    name: str,
    preset: str,
    datasets: Sequence[Dataset],
    recipe: BeganRecipe,
    command: str,
    report: Callable[[str], None],
    sheets: Path | None = None,
    force: bool = False,
) -> Bundle:
    """Train a BEGAN on the datasets' pictures, without their labels, and write its encoder as a bundle without columns.

    The manifest's metrics of the encoder are means over the log's last rows (began/m, began/l_real, began/l_fake) and
    what stood at the end (began/k, began/steps). A killed training goes on when it is called again.

    Args:
        sheets: a folder for sample sheets, the log and its plot (see train_began).
        force: replace the bundle that `output` holds; its columns go with the encoder that they were trained beside.

    Raises:
        ValueError: there is a bundle already, or the preset is unknown.
        DatasetError: there is no picture, or one cannot be read.
        CheckpointError, TrainingError, OSError: as train_began.
    """
    refuse_to_replace(output, force)
    checkpoint = checkpoint_file(output, "began")
    pool = UnlabelledPool(datasets)
    discriminator, _, history = train_began(get_preset(preset), pool, recipe, checkpoint, sheets, report)
    recent = history.rows[-RECENT:]
    record = EncoderRecord(
        file=write_tensors(output, "encoder.safetensors", to_numpy(discriminator.encoder)),
        provenance=provenance(datasets, recipe, history, command),
        metrics={
            "began/m": fmean(row.m for row in recent),
            "began/l_real": fmean(row.l_real for row in recent),
            "began/l_fake": fmean(row.l_fake for row in recent),
            "began/k": recent[-1].k,
            "began/steps": recent[-1].step,
        },
    )
    write_manifest(output, new_manifest(name, preset, record))
    checkpoint.unlink(missing_ok=True)
    return load_bundle(output)
