import pytest

from crossfade.hub.transfer import Progress
from tasks.download import in_words


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Progress(0, 10_000_000_000), "0 of 10,000,000,000 bytes"),
        (Progress(1_000_000_000, 10_000_000_000, 100e6), "1,000,000,000 of 10,000,000,000 bytes at 100.0 MB/s, 90 s left"),
        (Progress(1_000_000_000, 10_000_000_000, 10e6), "1,000,000,000 of 10,000,000,000 bytes at 10.0 MB/s, 15 min left"),
        (Progress(1_000_000_000, 100_000_000_000, 10e6), "1,000,000,000 of 100,000,000,000 bytes at 10.0 MB/s, 2.8 h left"),
        (Progress(10, 10, 5.0), "10 of 10 bytes"),
    ],
)
def test_progress_says_what_is_here_how_fast_it_comes_and_how_long_it_takes_still(now, said):
    assert in_words(now) == said
