"""One more session, or not: by places and by memory."""

from __future__ import annotations

import pytest

from sft_cloud.admission import Admission, Need
from sft_common.errors import CapacityError, LimitError

GB = 10**9


def test_what_sessions_keep_adds_up_and_the_largest_step_counts_once() -> None:
    admission = Admission(8, 10 * GB)
    for need in (Need(3 * GB, GB), Need(2 * GB, 4 * GB)):
        admission.check(need)
        admission.take(need)
    assert admission.taken_bytes == 9 * GB
    admission.check(Need(GB, 4 * GB))
    with pytest.raises(
        CapacityError,
        match=r"needs 2.00 GB for net2 and its optimizer, 1.00 GB for a step; 1.00 of 10.00 GB are "
        "free beside 2 sessions; try again later, or have the edge wait with --wait",
    ):
        admission.check(Need(2 * GB, GB))
    admission.give_back(Need(2 * GB, 4 * GB))
    admission.check(Need(2 * GB, GB))


def test_what_never_fits_is_not_waited_for() -> None:
    admission = Admission(8, 10 * GB)
    with pytest.raises(LimitError, match="has 10.00 GB for all sessions: choose a higher"):
        admission.check(Need(8 * GB, 3 * GB))


def test_places_run_out_too() -> None:
    admission = Admission(1, 10 * GB)
    admission.take(Need(0, 0))
    with pytest.raises(CapacityError, match="has 1 of 1 sessions open; try again later"):
        admission.check(Need(0, 0))
