"""Batch sizes that GPU engines prepare once and run again: a batch is padded to the next, a larger one is cut."""

import math
from collections.abc import Iterator, Mapping

# Powers of two: no face costs more than two, and six sizes are few enough to record a CUDA graph for each.
BUCKETS = (1, 2, 4, 8, 16, 32)
ALIGNMENT = 64  # float32 values; CUDA wants tensors to begin at multiples of 256 bytes


def bucket_of(n: int) -> int:
    """The smallest bucket that holds n faces, 1 <= n <= 32."""
    return next(bucket for bucket in BUCKETS if bucket >= n)


def chunks(n: int, largest: int = BUCKETS[-1]) -> Iterator[tuple[int, int]]:
    """(start, stop) of the consecutive parts, each of at most `largest` faces, of a batch of n >= 0."""
    for start in range(0, n, largest):
        yield start, min(start + largest, n)


def offsets(shapes: Mapping[str, tuple[int, ...]], bucket: int) -> tuple[dict[str, int], int]:
    """Where tensors of the shapes (bucket, *shape) begin in one block of float32 values, and the block's length.

    One block is one copy between host and device, however many tensors there are.
    """
    found, end = {}, 0
    for name, shape in shapes.items():
        found[name] = end
        size = bucket * math.prod(shape)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return found, end
