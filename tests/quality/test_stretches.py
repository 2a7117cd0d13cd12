import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.quality.stretches import stretches


@given(st.integers(1, 200), st.integers(1, 30))
def test_stretches_are_equally_long_cover_the_clip_and_overlap_by_half(length, frames):
    made = [np.arange(length)[stretch] for stretch in stretches(length, frames)]
    assert {len(one) for one in made} == {min(frames, length)}
    assert np.unique(np.concatenate(made)).tolist() == list(range(length))
    starts = [one[0] for one in made]
    assert all(0 < after - before <= max(1, frames // 2) for before, after in itertools.pairwise(starts))
