"""One safetensors file behind a URL, of which single tensors are fetched. It knows no hub layout.

Its sparse copy has the header whole, and the body where tensors were fetched: `safe_open` reads
those as from the original.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # lazily imported

from sft_common.errors import ModelError, first_line
from sft_common.model.hub.extents import Range
from sft_common.model.hub.header import Place, places
from sft_common.model.hub.sparse_copy import (
    RECORD_EVERY,
    SparseCopy,
    TransferBroken,
    VersionChanged,
)

HEAD = 64 * 1024
"""Bytes that are asked for first; they hold the header of most files."""

HEADER_LIMIT = 100_000_000

WAITS_S = (1, 2, 4, 8, 16)
"""Seconds before a broken transfer goes on, until it is given up."""

# The base of all errors of the hub client's HTTP library, which is another one in each version.
_TransportError: type[Exception] = HfHubHTTPError.__bases__[0]

_ADVICE = {
    200: "its server sends whole files only; download the model and give its folder",
    401: "there is no such model, or it needs a login; run 'hf auth login' or set HF_TOKEN",
    403: "the login may not read it; accept the model's terms on its page or use another token",
    404: "there is no such file; take a model or revision that has safetensors, "
    "or convert it with save_pretrained, which writes them, and give its folder",
}


class RemoteFile:
    """One remote safetensors file and its sparse copy, which threads and processes may share.

    A copy that has all that is asked for is used without a look at the remote file.

    Args:
        url: where the file is; redirects are followed.
        path: where the copy is or will be; its sidecar and its lock lie beside it.
        headers: sent with each request, such as a login.
        gap: bytes; wanted ranges that are no further apart are fetched as one.
    """

    def __init__(
        self,
        url: str,
        path: Path,
        *,
        headers: Mapping[str, str] | None = None,
        gap: int = HEAD,
    ) -> None:
        self.url = url
        self.path = path
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}
        self._gap = gap
        self._copy = SparseCopy(path)

    def tensors(self) -> dict[str, Place]:
        """Return name -> place in the file, fetching the header if need be.

        Raises:
            ModelError: the file cannot be fetched, or its header is not one of safetensors.
        """
        return self._ensure((), None)[0]

    def fetch(self, names: Iterable[str], *, rows: int | None = None) -> int:
        """Make sure that the copy has some tensors; return the bytes that were transferred.

        Args:
            names: as in the file.
            rows: so many first rows of each matrix are enough; None for all of them.

        Raises:
            ModelError: the file lacks one of them or cannot be fetched; what came is kept.
        """
        return self._ensure(tuple(names), rows)[1]

    def _ensure(self, names: tuple[str, ...], rows: int | None) -> tuple[dict[str, Place], int]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(f"{self.path}.lock"):
                return self._ensure_alone(names, rows)
        except OSError as error:
            raise ModelError(
                f"cannot keep {self.path}: {error}; make room or set HF_HOME"
            ) from error

    def _ensure_alone(
        self, names: tuple[str, ...], rows: int | None
    ) -> tuple[dict[str, Place], int]:
        before = self._copy.stored
        self._copy.load()
        for _ in range(2):
            try:
                tensors = self._header()
                if unknown := [name for name in names if name not in tensors]:
                    raise ModelError(f"{self.url} has no tensor {unknown[0]}; is it another model?")
                self._fill(tensors[name].first(rows) for name in names)
                return tensors, self._copy.stored - before
            except VersionChanged:
                self._copy.drop()
        raise ModelError(f"{self.url} changes while it is fetched; name a commit as its revision")

    def _header(self) -> dict[str, Place]:
        self._fill([(0, HEAD)])
        length, size = int.from_bytes(self._copy.read(0, 8), "little"), self._copy.size
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise self._misfit(f"header of {length} bytes in a file of {size}")
        self._fill([(0, 8 + length)])
        try:
            return places(self._copy.read(8, 8 + length), 8 + length, size)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise self._misfit(first_line(error)) from error

    def _misfit(self, reason: str) -> ModelError:
        return ModelError(
            f"{self.url} is not a safetensors file ({reason}); take another revision or model"
        )

    def _fill(self, wanted: Iterable[Range]) -> None:
        for begin, end in self._copy.missing(wanted, self._gap):
            breaks = 0
            while rest := self._copy.missing([(begin, end)]):
                before = self._copy.stored
                try:
                    self._transfer(*rest[0])
                except TransferBroken as error:
                    breaks = 1 if self._copy.stored - before >= RECORD_EVERY else breaks + 1
                    if breaks > len(WAITS_S):
                        raise ModelError(
                            f"{self.url} cannot be fetched after {breaks} attempts ({error}); "
                            "what came is kept, try again later"
                        ) from error
                    time.sleep(WAITS_S[breaks - 1])

    def _transfer(self, begin: int, end: int) -> None:
        try:
            with get_session().stream(
                "GET",
                self.url,
                headers={**self._headers, "Range": f"bytes={begin}-{end - 1}"},
                follow_redirects=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            ) as answer:
                self._check_status(answer.status_code)
                size = self._checked_size(answer.headers, begin, end)
                version = _version([answer.headers, *(hop.headers for hop in answer.history)])
                self._copy.agree(version, size)
                self._copy.store(begin, min(end, size), answer.iter_raw())
        except OfflineModeIsEnabled as error:
            raise ModelError(
                f"{self.path} lacks tensors, and HF_HUB_OFFLINE is set; unset it once to fetch them"
            ) from error
        except _TransportError as error:
            raise TransferBroken(first_line(error)) from error

    def _check_status(self, status: int) -> None:
        if status == 416:
            raise VersionChanged
        if status in (408, 429) or status >= 500:
            raise TransferBroken(f"HTTP {status}")
        if status != 206:
            advice = _ADVICE.get(status, "its server refuses it")
            raise ModelError(f"{self.url} cannot be fetched: HTTP {status}, {advice}")

    def _checked_size(self, headers: Mapping[str, str], begin: int, end: int) -> int:
        found = headers.get("Content-Range", "nothing")
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", found)
        first, last, size = map(int, match.groups()) if match else (-1, -1, -1)
        if not (first == begin <= last < min(end, size)) or "Content-Encoding" in headers:
            raise ModelError(
                f"{self.url} cannot be fetched: asked for bytes {begin}-{end - 1}, its server sent "
                f"{found!r}; download the model and give its folder"
            )
        return size


def _version(answers: Iterable[Mapping[str, str]]) -> str:
    """Return what changes with the content: the hub's hash of it, else the server's own mark."""
    found = (
        headers[field]
        for field in ("X-Linked-Etag", "ETag", "Last-Modified")
        for headers in answers
        if field in headers
    )
    return next(found, "")
