"""The order of samples: every one once an epoch, each dataset's share in every batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="training needs torch, which the train extra installs")

from face_mtl_ros.training import distributed  # noqa: E402
from face_mtl_ros.training.order import batch_indices, layout, mixed_indices  # noqa: E402

PARTS = st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any)


@given(PARTS, st.integers(5, 64), st.integers(0, 3))
def test_each_place_of_every_batch_holds_a_sample_of_the_same_part(parts, batch, seed):
    owners, firsts = layout(tuple(parts), batch), np.cumsum([0, *parts])
    for step in range(4):
        indices = mixed_indices(step, parts, batch, seed)
        assert (np.searchsorted(firsts, indices, side="right") - 1 == owners).all()


@given(PARTS, st.integers(5, 64))
def test_parts_have_places_by_their_sizes_and_one_at_least(parts, batch):
    counts = np.bincount(layout(tuple(parts), batch), minlength=len(parts))
    assert counts.sum() == batch and ((counts > 0) == (np.array(parts) > 0)).all()
    wanted = np.array(parts) * batch / sum(parts)
    if wanted.min() >= 1:
        assert np.abs(counts - wanted).max() < 1


@given(PARTS, st.integers(5, 32), st.integers(0, 3))
def test_a_part_shows_each_sample_once_before_any_a_second_time(parts, batch, seed):
    steps = 3 * max(parts)
    seen = np.concatenate([mixed_indices(step, parts, batch, seed) for step in range(steps)])
    firsts = np.cumsum([0, *parts])
    for first, size in zip(firsts, parts, strict=False):
        if not size:
            continue
        own = seen[(seen >= first) & (seen < first + size)]
        whole = own[: len(own) // size * size].reshape(-1, size)
        assert (np.sort(whole, axis=1) == np.arange(first, first + size)).all()


def test_a_piece_of_a_batch_is_mixed_as_the_whole():
    owners = layout((26940, 7809, 16180), 512)
    for piece in owners.reshape(-1, 32):
        assert np.abs(np.bincount(piece, minlength=3) - np.array([16.9, 4.9, 10.2])).max() < 2


@pytest.mark.parametrize("parts", [(20000, 20000), (40000, 300), (26940, 7809, 16180)])
def test_each_process_s_share_is_mixed_as_the_whole(parts, monkeypatch):
    owners = layout(parts, 512)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        share = np.bincount(distributed.share(owners), minlength=len(parts))
        assert np.abs(share - np.bincount(owners) / 2).max() <= 1


def test_one_part_is_an_epoch_after_another():
    assert (mixed_indices(3, [10], 4, seed=1) == batch_indices(3, 10, 4, seed=1)).all()


def test_a_batch_too_small_for_the_parts_is_named():
    with pytest.raises(ValueError, match="batch: at least 3 is expected, one of each dataset, got 2"):
        layout((5, 5, 5), 2)
