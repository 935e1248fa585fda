"""A hub with one repository, which the hub client of this process takes for the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from safetensors.torch import save_file
from torch import Tensor

from sft_common.model.hub import remote_file
from tests.range_server import RangeServer, running_range_server
from tests.unit.model.hub.published import FILE, REPO, tensors_of


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[None]:
    """Give the hub client's connections back."""
    yield
    close_session()


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return tensors_of()


@pytest.fixture
def original(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    """The file as it lies on the hub."""
    (tmp_path / "hub").mkdir()
    save_file(tensors, tmp_path / "hub" / FILE, metadata={"format": "pt"})
    return tmp_path / "hub" / FILE


@pytest.fixture
def hub(tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """A hub with one repository, which the hub client of this process takes for the real one."""
    with running_range_server({REPO: original.parent}) as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(remote_file, "WAITS_S", (0.0,) * 5)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "cache" / FILE
