"""The trainer node's parameters."""

from typing import Literal

from pydantic import Field

from ..samples.selection import MIN_FACE
from .parameters import Settings, live


class TrainerSettings(Settings):
    """What a request's 0 or empty text stands for, and what the node itself goes by."""

    autostart: bool = Field(True, description="Whether the node configures and activates itself at its start.")
    model: str = Field("default", description="Name of the model that gets the columns, as perception's parameter.")
    perception: str = Field("perception", description="Name of the perception node, in this node's namespace or full.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of a training; 0: half of the cores.")
    nice: int = Field(10, ge=0, le=19, description="By how much a training yields to other processes.")
    descriptor: str = Field(
        "", description="Installed foreign face descriptor that columns of people draw on; empty: none."
    )
    keep_versions: int = Field(
        5, ge=1, le=1000, description="How many versions of the model beside the active one stay for rollback."
    )

    collect_count: int = live(15, ge=1, le=1000, description="Samples to collect, where a request does not say.")
    collect_time_s: float = live(30.0, ge=1.0, le=3600.0, description="Seconds to wait for good pictures, likewise.")
    collect_quality: float = live(0.3, ge=0.0, le=1.0, description="Lowest quality that is taken, likewise.")
    retention_days: float = live(
        0.0, ge=0.0, le=36500.0, description="Days after which new samples are erased, likewise; 0: never."
    )
    min_face: float = live(MIN_FACE, ge=16.0, le=2000.0, description="Smallest face that is collected, in pixels.")
    face_timeout_s: float = live(
        2.0, ge=0.1, le=60.0, description="Seconds without the face after which a collection ends."
    )

    recipe: Literal["fast", "paper"] = live("fast", description="How to train, where a request does not say.")
    time_budget_s: float = live(45.0, ge=1.0, le=86400.0, description="Seconds in which to be trained, likewise.")
    min_samples: int = live(5, ge=1, le=10000, description="Fewest samples a label to train with, likewise.")
