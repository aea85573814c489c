import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from crossfade.plan.units import (
    Bytes,
    Fraction,
    Milliseconds,
    Seconds,
    ShareBp,
    Times,
    parse_bytes,
    parse_fraction,
    parse_milliseconds,
    parse_seconds,
    parse_share_bp,
    parse_times,
)


@pytest.mark.parametrize(
    ("parse", "written", "value"),
    [
        (parse_seconds, "90s", 90),
        (parse_seconds, "500ms", 0.5),
        (parse_seconds, "1h30m", 5400),
        (parse_seconds, "1h 30m", 5400),
        (parse_seconds, "2d", 172800),
        (parse_seconds, "0.5h", 1800),
        (parse_seconds, 0, 0),
        (parse_seconds, "0", 0),
        (parse_milliseconds, "500ms", 500),
        (parse_milliseconds, "1.5s", 1500),
        (parse_fraction, "1%", 0.01),
        (parse_fraction, "0.5 %", 0.005),
        (parse_fraction, "100%", 1),
        (parse_fraction, 0, 0),
        (parse_share_bp, "5%", 500),
        (parse_share_bp, "0.25%", 25),
        (parse_share_bp, "0.01%", 1),
        (parse_share_bp, "100%", 10_000),
        (parse_times, "1.3x", 1.3),
        (parse_times, "2 x", 2),
        (parse_bytes, "2GiB", 2 * 2**30),
        (parse_bytes, "500MB", 500 * 10**6),
        (parse_bytes, "1.5kib", 1536),
        (parse_bytes, "7B", 7),
    ],
)
def test_units_are_read_as_people_mean_them(parse, written, value):
    assert parse(written) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "written", "said"),
    [
        (parse_seconds, "5", "with its unit"),
        (parse_seconds, 5, "with its unit"),
        (parse_seconds, "5 minutes", "with its unit"),
        (parse_seconds, "-5s", "with its unit"),
        (parse_seconds, "1h30", "with its unit"),
        (parse_seconds, "", "with its unit"),
        (parse_seconds, False, "with its unit"),
        (parse_seconds, None, "with its unit"),
        (parse_fraction, "1", "not a percentage"),
        (parse_fraction, 0.01, "not a percentage"),
        (parse_fraction, False, "not a percentage"),
        (parse_fraction, "-1%", "not a percentage"),
        (parse_fraction, "100.1%", "above 100%"),
        (parse_share_bp, "150%", "above 100%"),
        (parse_share_bp, "0.001%", "finer than 0.01%"),
        (parse_share_bp, 50, "not a percentage"),
        (parse_times, "1.3", "not a factor"),
        (parse_times, 2, "not a factor"),
        (parse_times, "0.9x", "smallest factor is 1x"),
        (parse_bytes, "2", "not a size"),
        (parse_bytes, 2, "not a size"),
        (parse_bytes, "5iB", "not a size"),
        (parse_bytes, "2 gigabytes", "not a size"),
    ],
)
def test_a_value_whose_unit_must_be_guessed_is_refused_with_a_way_to_write_it(parse, written, said):
    with pytest.raises(ValueError, match=said):
        parse(written)


@settings(deadline=None)
@given(st.sampled_from(["ms", "s", "m", "h", "d"]), st.decimals(min_value=0, max_value=5000, places=3))
def test_a_duration_is_written_back_as_the_same_duration(unit, number):
    written_back_is_the_same(Seconds, f"{number}{unit}")
    written_back_is_the_same(Milliseconds, f"{number}{unit}")


@settings(deadline=None)
@given(st.decimals(min_value=0, max_value=100, places=6))
def test_a_percentage_is_written_back_as_the_same_percentage(number):
    written_back_is_the_same(Fraction, f"{number}%")


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_a_share_is_written_back_as_the_same_share(share_bp):
    assert written_back_is_the_same(ShareBp, f"{share_bp / 100}%") == share_bp


@settings(deadline=None)
@given(st.decimals(min_value=1, max_value=1000, places=4), st.integers(0, 2**50))
def test_factors_and_sizes_are_written_back_the_same(factor, size_bytes):
    written_back_is_the_same(Times, f"{factor}x")
    assert written_back_is_the_same(Bytes, f"{size_bytes}B") == size_bytes


def test_sizes_are_written_in_the_largest_unit_that_is_exact():
    assert [TypeAdapter(Bytes).dump_python(n) for n in (2**31, 3 * 2**20, 2**20 + 1, 0)] == ["2GiB", "3MiB", "1048577B", "0B"]


def written_back_is_the_same(kind, written):
    unit = TypeAdapter(kind)
    value = unit.validate_python(written)
    assert unit.validate_python(unit.dump_python(value)) == value
    return value
