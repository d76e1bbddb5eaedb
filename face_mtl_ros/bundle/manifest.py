"""manifest.json: what a bundle holds, validated."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..networks.presets import PRESETS

# 1: each part's weights are one file of float32. 2: they may be float16, and split over several files.
FORMAT_VERSION: Final = 2
# There is one framing, as it has one size and one normalization. vision.alignment cuts by it; a test compares the
# two, for nothing here may import vision.
TEMPLATE: Final = ((0.305, 0.375), (0.695, 0.375), (0.5, 0.575), (0.342, 0.755), (0.658, 0.755))

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightFile(_Strict):
    """One file: where it lies in the bundle and what its bytes are."""

    path: str
    sha256: Sha256
    bytes: int = Field(ge=1)

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or ".." in parts or PurePosixPath(path).is_absolute() or not path.endswith(".safetensors"):
            raise ValueError(f"'{path}' must be a .safetensors file inside the bundle")
        return path


class FileRecord(WeightFile):
    """The weights of the encoder or of a column: one file, or several shards with whole tensors in each.

    Where there are shards, `path` is the name that a whole file would have, `bytes` the sum of theirs, and `sha256`
    the sha256 over the text of theirs in order, so that it changes as any of the weights does.
    """

    dtype: Literal["float16"] | None = Field(default=None, description="of the matrices in the file; None: float32")
    shards: list[WeightFile] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _sums_up_its_shards(self) -> "FileRecord":
        if self.shards and (self.sha256, self.bytes) != (
            combined_sha256(self.shards),
            sum(s.bytes for s in self.shards),
        ):
            raise ValueError(f"'{self.path}' has another sha256 or size than its {len(self.shards)} shards make up")
        return self

    @property
    def files(self) -> list[WeightFile]:
        """The files on disk."""
        return self.shards or [self]

    @property
    def paths(self) -> list[str]:
        """Where in the bundle the files lie."""
        return [file.path for file in self.files]


def combined_sha256(shards: Sequence[WeightFile]) -> str:
    """What FileRecord.sha256 is for these shards."""
    return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()


class Provenance(_Strict):
    """How weights came to be, enough to make them again."""

    command: str
    package_version: str
    torch_version: str
    date: str
    seed: int
    epochs: float
    samples: dict[str, int] = Field(description="dataset and split to number of pictures")
    recipe: dict[str, Any] = Field(default_factory=dict)
    validation: list[dict[str, float]] = Field(default_factory=list, description="figures after each epoch, if any")
    terms: str = ""
    begun_from: "Provenance | None" = Field(default=None, description="how the weights that it began with came to be")


class Preprocessing(_Strict):
    """How a face becomes the network's input."""

    size: Literal[128] = 128
    channels: Literal[1] = 1
    normalization: Literal["per_crop"] = "per_crop"
    template: list[tuple[float, float]] = Field(min_length=5, max_length=5)

    @field_validator("template")
    @classmethod
    def _is_the_one_in_use(cls, template: list[tuple[float, float]]) -> list[tuple[float, float]]:
        # Manifests hold float32 written out; `not <=` refuses NaN too.
        if any(not math.dist(found, used) <= 1e-6 for found, used in zip(template, TEMPLATE, strict=True)):
            raise ValueError(
                f"{template} is not the framing that faces are cut to, {list(TEMPLATE)}: train the bundle anew"
            )
        return template


class OpenSet(_Strict):
    """When an identity column says `unknown`: where a score of the face does not lie above a threshold.

    The threshold was chosen on validation pictures, where known_kept of the known people's lay above it and
    strangers_refused of other people's did not (shares of 1).
    """

    method: Literal["energy", "probability", "embedding", "descriptor"]
    threshold: float
    margin: float | None = Field(
        default=None, gt=0, le=2, description="lead over the runner-up in cosine; None: runtime.open_set.MARGIN"
    )
    known_kept: float = Field(ge=0, le=1)
    strangers_refused: float | None = Field(default=None, ge=0, le=1, description="None: no strangers were at hand")
    auroc: float | None = Field(default=None, ge=0, le=1, description="chance that a known face scores higher")


class DescriptorRecord(_Strict):
    """A foreign face descriptor: which network it is, and how a face becomes its input.

    The network itself is no part of a bundle; see runtime.descriptor. Its input is (value - mean) / std of pixels from
    0 to 255.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    sha256: Sha256 = Field(description="of the ONNX file")
    dimensions: int = Field(ge=2, le=65536)
    size: tuple[int, int] = Field(description="height and width of the input in pixels")
    channels: Literal["rgb", "bgr", "grey"]
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: list[float] = Field(description="a number a channel")
    std: list[float] = Field(description="a number a channel")
    template: list[tuple[float, float]] = Field(
        min_length=5,
        max_length=5,
        description="where the input has the right eye, left eye, nose tip, right and left corner of the mouth, as "
        "shares of its width and height",
    )
    source: str = Field(min_length=1, description="where to get it")
    terms: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "DescriptorRecord":
        count = 1 if self.channels == "grey" else 3
        if len(self.mean) != count or len(self.std) != count:
            raise ValueError(f"channels '{self.channels}' needs {count} number(s) of mean and std each")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or not all(v > 0 for v in self.std):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, and std above 0")
        if not all(16 <= side <= 1024 for side in self.size):
            raise ValueError(f"size {list(self.size)} must be from 16 to 1024 pixels")
        if not all(-1 < value < 2 for point in self.template for value in point):
            raise ValueError(f"template {self.template} must be shares of the input's width and height, not pixels")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what the descriptor says of a face."""
        return self.model_dump(exclude={"name", "source", "terms"})


class ColumnRecord(_Strict):
    """One task's column: classes with their labels, or a descriptor with its number of dimensions."""

    task: TaskName
    kind: Literal["classification", "identity", "embedding"] = "classification"
    labels: list[Label] = Field(default_factory=list)
    dimensions: int | None = Field(default=None, ge=2, description="of an embedding")
    values: list[float] | None = Field(default=None, description="a number a label, for a task with an order")
    unit: str = ""
    sources: list[TaskName] = Field(default_factory=list)
    temperature: float = Field(default=1.0, gt=0)
    open_set: OpenSet | None = None
    descriptor: DescriptorRecord | None = Field(default=None, description="foreign descriptor that it draws on")
    skip: bool = Field(default=False, description="its hidden layer reads the encoder's map over a skip connection")
    file: FileRecord
    provenance: Provenance
    metrics: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "ColumnRecord":
        if (self.dimensions is None) != (self.kind != "embedding"):
            raise ValueError(f"task '{self.task}': an embedding has dimensions, and nothing else has")
        if self.kind == "embedding" and self.labels:
            raise ValueError(f"task '{self.task}' is an embedding and has labels: {self.labels}")
        if self.kind != "embedding" and len(self.labels) < 2:
            raise ValueError(f"task '{self.task}' needs at least 2 labels, it has {self.labels}")
        if self.open_set and self.kind != "identity":
            raise ValueError(f"task '{self.task}' is of kind '{self.kind}'; only an identity has an open set")
        if self.open_set and self.open_set.method == "descriptor" and not self.descriptor:
            raise ValueError(f"task '{self.task}' compares foreign descriptors, and draws on none")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"task '{self.task}' has a label twice: {self.labels}")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError(f"task '{self.task}' names a source twice: {self.sources}")
        if self.values is not None and len(self.values) != len(self.labels):
            raise ValueError(f"task '{self.task}' has {len(self.labels)} labels and {len(self.values)} values")
        return self

    @property
    def outputs(self) -> int:
        """How many numbers the column gives out: logits, or the dimensions of its embedding."""
        return self.dimensions or len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, bool]:
        """Outputs, number of sources, dimensions of the foreign descriptor (0: none) and whether it has a skip
        connection, as networks.shapes asks."""
        described = self.descriptor.dimensions if self.descriptor else 0
        return self.outputs, len(self.sources), described, self.skip


class EncoderRecord(_Strict):
    """The shared encoder."""

    file: FileRecord
    provenance: Provenance
    metrics: dict[str, float] = Field(default_factory=dict)


class Manifest(_Strict):
    """The whole of manifest.json."""

    format_version: Literal[1, 2] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    preset: str
    preprocessing: Preprocessing
    encoder: EncoderRecord
    columns: list[ColumnRecord] = Field(default_factory=list)

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"'{preset}' is unknown; this version knows {', '.join(PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _sources_come_first(self) -> "Manifest":
        seen: list[str] = []
        for column in self.columns:
            if column.task in seen:
                raise ValueError(f"task '{column.task}' has two columns")
            for source in column.sources:
                if source not in seen:
                    raise ValueError(f"task '{column.task}' draws on '{source}', which is no column before it")
            seen.append(column.task)
        return self

    @model_validator(mode="after")
    def _one_descriptor_a_name(self) -> "Manifest":
        for column in self.columns:
            if column.descriptor and column.descriptor.identity != self.descriptors[column.descriptor.name].identity:
                raise ValueError(
                    f"task '{column.task}' draws on another '{column.descriptor.name}' than a column before"
                )
        return self

    @property
    def weights(self) -> list[FileRecord]:
        """The encoder's record and the columns', in order."""
        return [self.encoder.file, *(column.file for column in self.columns)]

    @property
    def descriptors(self) -> dict[str, DescriptorRecord]:
        """The foreign descriptors that the columns draw on, by name."""
        found: dict[str, DescriptorRecord] = {}
        for column in self.columns:
            if column.descriptor:
                found.setdefault(column.descriptor.name, column.descriptor)
        return found

    @property
    def embedding(self) -> ColumnRecord | None:
        """The column that describes faces, the last where there are several; None where there is none."""
        found = [column for column in self.columns if column.kind == "embedding"]
        return found[-1] if found else None

    def column(self, task: str) -> ColumnRecord:
        """The record of a task; KeyError if the bundle has no such column."""
        for column in self.columns:
            if column.task == task:
                return column
        raise KeyError(task)
