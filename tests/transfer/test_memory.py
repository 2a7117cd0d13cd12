import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.memory import GIB, SegmentWork, estimate, parse_bytes, plan_memory

CONFIG = SIZES["2b"]
FOUR_BRANCHES = int(6.06 * GIB)  # 2B base without image path, and four branches, in bfloat16
HD = SegmentWork(height=704, width=1280, frames=93, branches=4, rows=10)


def test_tokens_are_those_of_the_published_sizes():
    assert HD.tokens(CONFIG) == 84_480


def test_720p_with_four_controls_is_planned_within_24_gib():
    plan = plan_memory(CONFIG, FOUR_BRANCHES, HD, 24 * GIB)
    assert plan.offload == "resident"
    assert plan.rows == 1
    assert plan.peak_bytes <= 24 * GIB


def test_a_smaller_limit_moves_more_and_a_larger_one_batches_more():
    small = SegmentWork(height=256, width=320, frames=93, branches=1, rows=10)
    policies = [plan_memory(CONFIG, FOUR_BRANCHES, HD, limit * GIB).offload for limit in (24, 16, 13)]
    assert policies == ["resident", "turns", "blocks"]
    assert plan_memory(CONFIG, FOUR_BRANCHES, small, 80 * GIB).rows > 1


@pytest.mark.parametrize("limit_gib", [10, 14, 18, 24, 40, 80])
@pytest.mark.parametrize("rows", [1, 7])
def test_a_plan_never_exceeds_its_limit(limit_gib, rows):
    work = SegmentWork(height=480, width=640, frames=93, branches=2, rows=rows)
    plan = plan_memory(CONFIG, int(5 * GIB), work, limit_gib * GIB)
    assert plan.peak_bytes <= limit_gib * GIB
    assert 1 <= plan.rows <= rows


def test_too_little_memory_is_one_line_that_says_how_much_is_needed():
    with pytest.raises(InputError, match=r"need about \d+\.\d GiB even with offload, 4\.0 GiB are allowed"):
        plan_memory(CONFIG, FOUR_BRANCHES, HD, 4 * GIB)


def test_the_estimate_grows_with_rows_and_branches():
    one = estimate(CONFIG, FOUR_BRANCHES, HD, "resident", 1)
    assert estimate(CONFIG, FOUR_BRANCHES, HD, "resident", 4).peak_bytes > one.peak_bytes
    assert "GiB" in str(one)


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * GIB), ("24gb", 24 * 10**9), (" 800 MiB ", 800 * 2**20), ("1.5GiB", GIB * 3 // 2)]
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "24TiBs", "-1GiB", "0", "GiB"])
def test_sizes_that_are_none_are_one_line(text):
    with pytest.raises(InputError, match="such as 24GiB"):
        parse_bytes(text)
