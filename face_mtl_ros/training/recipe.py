"""How to train: the paper's recipe, and the one that measured best. No torch here."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the samples.
        minutes: where it is set, the time after which training ends at the latest; a cosine then falls with the time
            that has passed, if that is ahead of the steps, so that a short training is a whole one.
        batch: samples a step.
        optimizer: Adam without, AdamW with decay of the weights.
        learning_rate: the highest.
        schedule: "cosine": up along the warm-up, then down to 0 along a cosine; "plateau": halved whenever the mean
            loss of two epochs in a row is no lower than the lowest before them.
        weight_decay: AdamW's, on weights of two and more dimensions.
        warmup: share of the steps over which a cosine's learning rate rises first.
        average: decay of the exponential moving average of the weights, which is what training returns; 0 for none.
        smoothing: label smoothing, the share of the target spread evenly over the classes.
        soft_labels: learn the distribution of the annotators' votes where a dataset has it, else the winner alone.
        class_weight: each class weighs (mean count / its count) to this power; 0 weighs all samples alike, 1 all
            classes.
        augment: show a random view of each picture, else the picture itself.
        plain_end: share of the steps, the last ones, in which a column sees the pictures as they are, or mirrored,
            instead of random views: what those teach stays, and the last steps go to pictures as cameras make them.
        normalize: train layers of a preset without normalisation, such as `paper`'s, with a batch normalisation, and
            fold it into them at the end; without one 37 layers hardly learn. Not where they begin with other weights.
        views: with a frozen encoder, how many random views of a picture are passed through it, once, and kept on disk;
            0 passes a new view at every step.
        seed: of the samples' order, the initial weights and the augmentation.
    """

    epochs: float = 12
    minutes: float | None = None
    batch: int = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    weight_decay: float = 0.02
    warmup: float = 0.05
    average: float = 0.998
    smoothing: float = 0.05
    soft_labels: bool = True
    class_weight: float = 0.0
    augment: bool = True
    plain_end: float = 0.0
    normalize: bool = True
    views: int = 0
    seed: int = 0

    def __post_init__(self):
        limits = {
            "epochs": (0 < self.epochs < math.inf, "a finite number above 0"),
            "minutes": (self.minutes is None or self.minutes > 0, "more than 0"),
            "batch": (self.batch >= 2, "at least 2, for batch statistics"),
            "learning_rate": (0 < self.learning_rate < math.inf, "a finite number above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup": (0 <= self.warmup < 1, "0 to below 1"),
            "average": (0 <= self.average < 1, "0 to below 1"),
            "smoothing": (0 <= self.smoothing < 1, "0 to below 1"),
            "class_weight": (0 <= self.class_weight <= 1, "0 to 1"),
            "plain_end": (0 <= self.plain_end <= 1, "0 to 1"),
            "views": (self.views >= 0, "0 or more"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (holds, expected) in limits.items():
            if not holds:
                raise ValueError(f"{name}: {expected} is expected, got {getattr(self, name)}")


# Section III: Adam at 1e-4, halved when the loss stagnates for two epochs, batches of 32, 35 epochs.
PAPER = Recipe(
    epochs=35,
    batch=32,
    optimizer="adam",
    learning_rate=1e-4,
    schedule="plateau",
    weight_decay=0.0,
    warmup=0.0,
    average=0.0,
    smoothing=0.0,
    soft_labels=False,
    augment=False,
    normalize=False,
)
RECIPES = {"paper": PAPER, "best": Recipe()}
WITH_SKIP = ("best",)  # recipes whose columns have a skip connection where nothing else is said
