"""manifest.json: what a bundle holds, validated."""

import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..networks.presets import PRESETS

FORMAT_VERSION: Final = 1
# Format 1 has one framing, as it has one size and one normalization. vision.alignment cuts by it; a test compares the
# two, for nothing here may import vision.
TEMPLATE: Final = ((0.305, 0.375), (0.695, 0.375), (0.5, 0.575), (0.342, 0.755), (0.658, 0.755))

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Strict):
    """One weight file: where it lies in the bundle and what its bytes are."""

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
    terms: str = ""


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


class ColumnRecord(_Strict):
    """One task's column."""

    task: TaskName
    kind: Literal["classification", "identity"] = "classification"
    labels: list[Label] = Field(min_length=2)
    values: list[float] | None = Field(default=None, description="a number a label, for a task with an order")
    unit: str = ""
    sources: list[TaskName] = Field(default_factory=list)
    temperature: float = Field(default=1.0, gt=0)
    file: FileRecord
    provenance: Provenance
    metrics: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "ColumnRecord":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"task '{self.task}' has a label twice: {self.labels}")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError(f"task '{self.task}' names a source twice: {self.sources}")
        if self.values is not None and len(self.values) != len(self.labels):
            raise ValueError(f"task '{self.task}' has {len(self.labels)} labels and {len(self.values)} values")
        return self


class EncoderRecord(_Strict):
    """The shared encoder."""

    file: FileRecord
    provenance: Provenance
    metrics: dict[str, float] = Field(default_factory=dict)


class Manifest(_Strict):
    """The whole of manifest.json."""

    format_version: Literal[1] = FORMAT_VERSION
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

    def column(self, task: str) -> ColumnRecord:
        """The record of a task; KeyError if the bundle has no such column."""
        for column in self.columns:
            if column.task == task:
                return column
        raise KeyError(task)
