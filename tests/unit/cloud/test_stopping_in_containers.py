"""The container files give the cloud longer to stop than it gives itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sft_cloud.cli import parser

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("docker-compose.yml", r"stop_grace_period: (\d+)s"),
        ("Dockerfile.cloud", r"docker run .*--stop-timeout (\d+)"),
    ],
)
def test_the_engine_kills_later_than_the_grace_time_ends(file: str, pattern: str) -> None:
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"))
    assert found
    assert int(found[1]) > parser().parse_args(["serve"]).grace
