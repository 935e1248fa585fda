"""A frozen body in a cloud's process, between a head and a tail that are here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sft_common.config import SessionSpec, SplitSpec, TailSpec
from sft_common.errors import ConfigError, ProtocolError, SessionLostError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.parting import Parting
from sft_common.model.parts import Body
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession
from sft_edge.federation.body import RemoteBody
from sft_edge.retrying import Retry
from tests.models import SIZES, save_tiny_model
from tests.processes import Cloud, running_cloud

BLOCKS, HIDDEN, K = SIZES["num_hidden_layers"], SIZES["hidden_size"], 5
QUICK = Retry(for_seconds=20, first_seconds=0.05, most_seconds=0.1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    options = ("--save-dir", folder / "sessions", "--park-after", 2, "--max-sessions", 4)
    with running_cloud(folder, *options) as running:
        yield running
        kept = [path for path in (folder / "sessions").iterdir() if path.is_dir()]
        assert kept == []


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client's model, and what it opens sessions with."""

    pretrained: Pretrained
    spec: SessionSpec
    inputs: dict[str, Tensor]

    def reach(self, cloud: Cloud) -> GrpcSession:
        access, shape = Access(server=cloud.server), shape_of(self.pretrained.config)
        return GrpcSession(access, self.spec, shape, retry=QUICK)

    def body(self, cloud: Cloud) -> RemoteBody:
        assert self.spec.tail is not None
        return RemoteBody(lambda: self.reach(cloud), first_row=self.spec.tail.first_row)

    def train(self, body: Body, steps: int = 2) -> tuple[list[float], dict[str, Tensor], Tensor]:
        """Return losses, the last gradients by name, and the logits of an evaluation."""
        parts = Parting(self.pretrained, self.spec.parts).parts(seed=3, body=body)
        optimizer = torch.optim.Adam(parts.trained().values(), lr=1e-3, eps=1e-4)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = cross_entropy(parts(self.inputs), torch.tensor([0, 1]))
            loss.backward()
            gradients = {
                name: p.grad.clone() for name, p in parts.trained().items() if p.grad is not None
            }
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            return losses, gradients, parts(self.inputs)

    def here(self) -> Any:
        return self.train(Parting(self.pretrained, self.spec.parts).body())


def client_of(folder: Path, family: str, **tail: Any) -> Client:
    if family == "vit":
        pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        head, inputs = "image-classification", {"pixel_values": pixels}
    else:
        mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
        ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
        head, inputs = "sequence-classification", {"input_ids": ids, "attention_mask": mask}
    pretrained = Pretrained(folder, num_labels=2, head=head, dropout=0.0)
    settings = {"first_row": True, **tail}
    spec = SessionSpec(
        model=pretrained.identity(str(folder)),
        split=SplitSpec(cut="none", split_layer=2),
        tail=TailSpec(split=SplitSpec(cut="none-end", split_layer=BLOCKS), **settings),
        head=head,
        num_labels=2,
        prompts=K,
        max_examples=8,
        max_tokens=SIZES["max_position_embeddings"] + K,
    )
    return Client(pretrained=pretrained, spec=spec, inputs=inputs)


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    vit = tmp_path_factory.mktemp("vit") / "tiny-vit"
    return {"bert": tiny_model, "vit": save_tiny_model(vit, "vit", head="image-classification")}


@pytest.fixture
def client(folders: dict[str, Path]) -> Callable[..., Client]:
    return lambda family="bert", **tail: client_of(folders[family], family, **tail)


@pytest.mark.parametrize(("family", "first_row"), [("bert", True), ("bert", False), ("vit", True)])
def test_training_around_it_is_training_around_one_here(
    cloud: Cloud, client: Callable[..., Client], family: str, first_row: bool
) -> None:
    """Losses, gradients of prompts and tail, and an evaluation, within 1e-6."""
    mine = client(family, first_row=first_row)
    body = mine.body(cloud)
    found, expected = mine.train(body), mine.here()
    body.close()
    assert {"prompts", "classifier.weight"} < set(found[1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("encoding", "spacing"), [("float16", 2**-10), ("int8", 1 / 127)])
def test_fewer_bits_stay_within_their_error(
    cloud: Cloud, client: Callable[..., Client], encoding: str, spacing: float
) -> None:
    """Both ways and at both cuts; the spacing is that of a row's largest numbers."""
    exact = client()
    assert exact.spec.tail is not None
    tail = replace(exact.spec.tail, encoding=encoding, gradient_encoding=encoding)
    coarse = replace(
        exact,
        spec=replace(exact.spec, tail=tail, encoding=encoding, gradient_encoding=encoding),
    )
    body = coarse.body(cloud)
    found, expected = coarse.train(body), exact.here()
    body.close()
    assert found[0] != expected[0]
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=2 * spacing)
    for name, gradient in expected[1].items():
        error = (found[1][name] - gradient).norm() / gradient.norm()
        assert error < 10 * spacing, (name, error)


def test_two_clients_at_once_do_not_disturb_each_other(
    cloud: Cloud, client: Callable[..., Client]
) -> None:
    both = client(), client(first_row=False)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda mine: mine.train(mine.body(cloud), steps=4), both))
    for (losses, gradients, logits), mine in zip(found, both, strict=True):
        expected = mine.train(Parting(mine.pretrained, mine.spec.parts).body(), steps=4)
        torch.testing.assert_close((losses, gradients, logits), expected, rtol=1e-5, atol=1e-6)


def ask_step(session: GrpcSession) -> None:
    session.begin_step(1, torch.ones(9, HIDDEN), [9], [0])
    session.end_step()


def ask_store(session: GrpcSession) -> None:
    session.store(0, torch.ones(9, HIDDEN), [9], [0])
    session.close()


def ask_keep(session: GrpcSession) -> None:
    session.keep(0)
    session.close()


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("step", ask_step),
        ("store", ask_store),
        ("keep", ask_keep),
        ("save", lambda session: session.save("0123456789abcdef")),
        ("ask_norms", lambda session: session.norms()),
    ],
)
def test_it_is_not_asked_to_train_or_keep(
    cloud: Cloud, client: Callable[..., Client], name: str, ask: Callable[[GrpcSession], None]
) -> None:
    session = client().reach(cloud)
    with pytest.raises(ProtocolError, match=f"request {name} came in a session with a frozen body"):
        ask(session)
    session.abandon()


def test_a_coded_body_without_a_federation_is_refused(
    cloud: Cloud, client: Callable[..., Client]
) -> None:
    mine = client()
    coded = replace(mine.spec, split=SplitSpec(cut="sft", split_layer=2, rank=4))
    with pytest.raises(ConfigError, match="cut sft in block 2 at rank 4 needs a code, and bert"):
        replace(mine, spec=coded).reach(cloud)


def test_one_that_is_idle_is_forgotten_and_opened_anew(
    cloud: Cloud, client: Callable[..., Client]
) -> None:
    """Between forward and backward too, and the gradients are the same."""
    mine = client()
    body, raw = mine.body(cloud), mine.reach(cloud)
    first = body.session
    found = mine.train(body)
    parts = Parting(mine.pretrained, mine.spec.parts).parts(seed=3, body=body)
    loss = cross_entropy(parts(mine.inputs), torch.tensor([0, 1]))
    gone = [f"session {session.session_id} left memory" for session in (first, raw)]
    end = time.monotonic() + 30
    while not all(words in cloud.log.read_text() for words in gone):
        assert time.monotonic() < end
        time.sleep(0.05)
    loss.backward()
    assert body.session is not first
    here = Parting(mine.pretrained, mine.spec.parts).parts(seed=3)
    here.body = Parting(mine.pretrained, mine.spec.parts).body()
    cross_entropy(here(mine.inputs), torch.tensor([0, 1])).backward()
    torch.testing.assert_close(
        parts.head.prompts.grad, here.head.prompts.grad, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(mine.train(body), found, rtol=1e-5, atol=1e-6)
    body.close()
    with pytest.raises(SessionLostError, match=f"no session {raw.session_id}"):
        raw.begin_forward(1, torch.ones(9, HIDDEN), [9])
        raw.end_forward()
    raw.abandon()
