"""What of a failure reaches the edge."""

from __future__ import annotations

import pytest
import torch

from sft_cloud.failures import as_sft_error
from sft_common.errors import CapacityError, ConfigError, InternalError


def test_a_peers_words_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    as_sft_error(ConfigError("no model 'x\n2026 ERROR forged \x1b[2J" + "y" * 5000))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(r"a session is refused: no model 'x\n2026 ERROR forged \x1b[2Jyyy")
    assert len(line) < 1100


@pytest.mark.parametrize(
    ("error", "cls", "text"),
    [
        (MemoryError(), CapacityError, "out of memory: MemoryError"),
        (torch.OutOfMemoryError("CUDA: 2 GB\nmore"), CapacityError, "out of memory: CUDA: 2 GB"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            CapacityError,
            "out of memory: [enforce fail]",
        ),
        (KeyError("x"), InternalError, "the cloud failed: KeyError: 'x'; its log says where"),
        (ValueError(), InternalError, "the cloud failed: ValueError: ValueError"),
        (ConfigError("rank 0"), ConfigError, "rank 0"),
    ],
)
def test_every_failure_becomes_one_clear_error(
    error: Exception, cls: type[Exception], text: str
) -> None:
    found = as_sft_error(error)
    assert type(found) is cls
    assert text in str(found) and "\n" not in str(found)
