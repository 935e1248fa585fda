"""Sessions with a frozen body: what they compute, refuse, share and leave behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sft_cloud import answers
from sft_cloud.admission import Admission, Need
from sft_cloud.bodies import TAKES, check_takes
from sft_cloud.builder import ModelBuilder
from sft_cloud.catalog import ModelCatalog
from sft_cloud.host import Host, Limits, Opening
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.store import Store
from sft_common.config import SessionSpec, SplitSpec, TailSpec
from sft_common.errors import (
    CapacityError,
    ConfigError,
    LimitError,
    MismatchError,
    ProtocolError,
    SessionLostError,
)
from sft_common.model.codes import code_of
from sft_common.model.loading import Pretrained
from sft_common.model.parting import CPU, NO_CODE, Parting
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position, Return
from sft_common.wire.codec import tensor_from_parts, tensor_to_parts
from sft_edge.federation.body import RemoteBody
from tests.doubles import LocalSession
from tests.models import SIZES

BLOCKS, HIDDEN, K = SIZES["num_hidden_layers"], SIZES["hidden_size"], 3
LENGTHS = [7 + K, 4 + K]


@pytest.fixture(scope="module")
def pretrained(tiny_model: Path) -> Pretrained:
    return Pretrained(tiny_model, num_labels=2)


@pytest.fixture(scope="module")
def spec(pretrained: Pretrained, tiny_model: Path) -> SessionSpec:
    return SessionSpec(
        model=pretrained.identity(str(tiny_model)),
        split=SplitSpec(cut="none", split_layer=2),
        tail=TailSpec(split=SplitSpec(cut="none-end", split_layer=BLOCKS), first_row=True),
        num_labels=2,
        prompts=K,
    )


@pytest.fixture
def builder() -> ModelBuilder:
    return ModelBuilder(ModelCatalog(trust_paths=True), CPU)


def coded(spec: SessionSpec) -> SessionSpec:
    """Return the spec with factors in both places."""
    assert spec.tail is not None
    split = replace(spec.tail.split, cut="svd-residual", rank=6)
    return replace(
        spec,
        split=SplitSpec(cut="sft", split_layer=2, rank=6),
        tail=replace(spec.tail, split=split, first_row=False),
    )


def codes(pretrained: Pretrained, spec: SessionSpec) -> Mapping[str, Tensor]:
    parts = spec.parts
    return code_of(pretrained, parts.first) | code_of(pretrained, parts.second)


def built(
    builder: ModelBuilder, spec: SessionSpec, code: Mapping[str, Tensor] = NO_CODE
) -> Session:
    return builder(spec, code).build("ab12", None, None)[0]


def inputs() -> dict[str, Tensor]:
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("how", ["raw", "coded"])
def test_a_step_around_a_body_elsewhere_is_that_around_one_here(
    pretrained: Pretrained, builder: ModelBuilder, spec: SessionSpec, how: str
) -> None:
    """Two steps with an optimizer, an evaluation, and passes whose backwards come crossed."""
    spec = spec if how == "raw" else coded(spec)
    code = codes(pretrained, spec)
    parting, session = Parting(pretrained, spec.parts, code), built(builder, spec, code)
    assert spec.tail is not None
    remote: Any = RemoteBody(lambda: LocalSession(session), first_row=spec.tail.first_row)
    found = []
    for body in (parting.body(), remote):
        torch.manual_seed(4)
        parts = parting.parts(seed=3, body=body)
        optimizer = torch.optim.Adam(parts.trained().values(), lr=1e-2, eps=1e-3)
        losses = []
        for _ in range(2):
            one = cross_entropy(parts(inputs()), torch.tensor([0, 1]))
            (one + cross_entropy(parts(inputs()), torch.tensor([1, 1]))).backward()
            losses.append(one.item())
            gradients = {name: p.grad.clone() for name, p in parts.trained().items()}
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            found.append((losses, gradients, parts.state(), parts.eval()(inputs())))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    assert session.position == Position(2)
    assert session.waiting == {}


def test_a_body_that_was_forgotten_is_opened_again_between_forward_and_backward(
    pretrained: Pretrained, builder: ModelBuilder, spec: SessionSpec
) -> None:
    opened: list[Any] = []

    def reach() -> Any:
        opened.append(LocalSession(built(builder, spec)))
        return opened[-1]

    def lost(*_: object, **__: object) -> None:
        raise SessionLostError("this cloud has no session ab12")

    parting = Parting(pretrained, spec.parts)
    body, here = RemoteBody(reach, first_row=True), parting.body()
    activation = parting.head(seed=3)(inputs()).detach().requires_grad_()
    mask = torch.tensor([[1] * 10, [1] * 7 + [0] * 3])
    here(activation, mask).square().sum().backward()
    expected, activation.grad = activation.grad, None
    for lose in (["begin_backward"], ["begin_forward"], ["apply"], []):
        for name in lose:
            setattr(opened[-1], name, lost)
        body(activation, mask).square().sum().backward()
        torch.testing.assert_close(activation.grad, expected, rtol=0, atol=1e-6)
        activation.grad = None
    opened[-1].begin_evaluation = lost
    with torch.no_grad():
        torch.testing.assert_close(body(activation, mask), here(activation, mask))
    assert len(opened) == 5


def test_an_evaluation_beside_a_pass_that_waits_belongs_to_its_step(
    builder: ModelBuilder, spec: SessionSpec, pretrained: Pretrained
) -> None:
    session = built(builder, spec)
    body = RemoteBody(lambda: LocalSession(session), first_row=True)
    activation = torch.randn(sum(LENGTHS), HIDDEN).requires_grad_()
    kept = body.rows(activation, LENGTHS)
    with torch.no_grad():
        assert torch.equal(body.rows(activation, LENGTHS), kept)
    assert len(session.waiting) == 2
    kept.sum().backward()
    assert (session.position, session.waiting) == (Position(1), {})
    body.rows(activation.detach(), LENGTHS)
    assert session.position == Position(1)


def forward(activation: Tensor, encoding: str = "float32") -> tuple[pb.Forward, memoryview]:
    tensor, numbers = tensor_to_parts(activation, encoding)
    return pb.Forward(step=1, activation=tensor, lengths=LENGTHS), numbers


def backward(gradient: Tensor, encoding: str = "float32") -> tuple[pb.Backward, memoryview]:
    tensor, numbers = tensor_to_parts(gradient, encoding)
    return pb.Backward(step=1, exchange=1, gradient=tensor), numbers


@pytest.mark.parametrize("first_row", [True, False])
def test_rows_and_gradients_travel_as_the_tail_says(
    builder: ModelBuilder, spec: SessionSpec, first_row: bool
) -> None:
    assert spec.tail is not None
    tail = replace(spec.tail, encoding="int8", gradient_encoding="float16", first_row=first_row)
    spec = replace(spec, tail=tail, encoding="bfloat16", gradient_encoding="int4")
    session, shape = built(builder, spec), (2 if first_row else sum(LENGTHS), HIDDEN)
    activation = torch.randn(sum(LENGTHS), HIDDEN)
    message, numbers = forward(activation, "bfloat16")
    answer, data = answers.forward(session, message, numbers, 0.0)
    rows = tensor_from_parts(answer.forward_result.logits, data, shape, "rows", "int8")
    exact = session._waiting[0].passed.rows.detach()
    assert 0 < (rows - exact).abs().max() <= exact.abs().max() / 127
    answer, data = answers.backward(session, *backward(torch.ones(shape), "float16"), 0.0)
    gradient = answer.step_result.gradient
    assert tensor_from_parts(gradient, data, activation.shape, "gradient", "int4").abs().max() > 0
    session.apply(1, 0.0, exchanges=2)
    asked = pb.Evaluate(activation=message.activation, lengths=LENGTHS)
    answer, data = answers.evaluate(session, asked, numbers, 0.0)
    assert torch.equal(
        tensor_from_parts(answer.evaluation.logits, data, shape, "rows", "int8"), rows
    )


def test_what_does_not_fit_is_refused_before_a_byte_is_trusted(
    builder: ModelBuilder, spec: SessionSpec
) -> None:
    session = built(builder, spec)
    for lengths, words in (
        ([K, 9], f"lengths lie in {K}..9, the model takes {1 + K}..{64 + K} tokens"),
        ([9, 65 + K], f"lengths lie in 9..{65 + K}, the model takes"),
    ):
        with pytest.raises(ProtocolError, match=words):
            session.bounds.activation_shape(lengths)
    session.bounds.activation_shape([64 + K])
    message, numbers = forward(torch.randn(sum(LENGTHS), HIDDEN))
    with pytest.raises(ProtocolError, match=r"shape \(17, 32\), expected \(16, 32\)"):
        wrong = pb.Forward(step=1, activation=message.activation, lengths=[9, 7])
        answers.forward(session, wrong, numbers, 0.0)
    answers.forward(session, message, numbers, 0.0)
    for gradient, encoding, words in (
        (torch.ones(sum(LENGTHS), HIDDEN), "float32", r"gradient of the rows has shape \(17, 32\)"),
        (torch.ones(2, HIDDEN), "int8", "gradient of the rows has element type 4; float32"),
        (torch.full((2, HIDDEN), torch.nan), "float32", "gradient of the rows holds nan"),
    ):
        with pytest.raises(ProtocolError, match=words):
            answers.backward(session, *backward(gradient, encoding), 0.0)
    answers.backward(session, *backward(torch.ones(2, HIDDEN)), 0.0)
    session.apply(1, 0.0, exchanges=2)
    for more in ({"labels": [1, 0]}, {"every_token": True}):
        asked = pb.Evaluate(activation=message.activation, lengths=LENGTHS, **more)
        with pytest.raises(ProtocolError, match="evaluate takes no .* with a frozen body"):
            answers.evaluate(session, asked, numbers, 0.0)


def test_an_answer_that_is_too_large_is_refused(builder: ModelBuilder, spec: SessionSpec) -> None:
    assert spec.tail is not None
    builder.max_message_bytes = 2000
    every = built(builder, replace(spec, tail=replace(spec.tail, first_row=False)))
    with pytest.raises(LimitError, match="the rows of 17 tokens would take 3,176 bytes"):
        every.bounds.check_rows(LENGTHS)
    built(builder, spec).bounds.check_rows(LENGTHS)
    tail = replace(spec.tail, first_row=False, encoding="int4")
    built(builder, replace(spec, tail=tail)).bounds.check_rows(LENGTHS)


REFUSED = ("step", "store", "run", "keep", "save", "weights", "factor", "drop", "ask_norms")


@pytest.mark.parametrize("request_of", [*REFUSED, "open", None])
def test_a_frozen_body_is_not_asked_to_train(spec: SessionSpec, request_of: str | None) -> None:
    with pytest.raises(
        ProtocolError, match=f"request {request_of} came in a session with a frozen"
    ):
        check_takes(spec, request_of)
    check_takes(replace(spec, tail=None, prompts=0), request_of)
    known = {field.name for field in pb.TrainRequest.DESCRIPTOR.fields}
    assert known == {*REFUSED, *TAKES, "open", "resume", "piece"}


@pytest.mark.parametrize("request_of", [*REFUSED, *TAKES])
def test_what_a_federation_trains_is_kept_by_it_alone(spec: SessionSpec, request_of: str) -> None:
    part = replace(spec, tail=None, prompts=0, federation="reviews")
    if request_of in (*TAKES, "step", "ask_norms"):
        check_takes(part, request_of)
    else:
        with pytest.raises(ProtocolError, match=f"{request_of} came in a session of federation re"):
            check_takes(part, request_of)


def test_an_apply_moves_the_step_on_and_nothing_else(
    builder: ModelBuilder, spec: SessionSpec
) -> None:
    session = built(builder, spec)
    before = {name: weight.clone() for name, weight in session.weights().items()}
    session.forward(1, torch.randn(sum(LENGTHS), HIDDEN), LENGTHS)  # nothing will come back
    session.apply(1, 1.0)
    assert (session.position, session.waiting) == (Position(1), {})
    rows = session.forward(2, torch.randn(sum(LENGTHS), HIDDEN), LENGTHS)
    session.backward(2, torch.ones_like(rows), forward=0)
    session.apply(2, 1.0, exchanges=2)
    assert all(torch.equal(before[name], weight) for name, weight in session.weights().items())
    assert session._engine.state()["gradients"] == session._engine.state()["moments"] == {}


def test_sessions_that_mean_the_same_share_a_body(
    pretrained: Pretrained, builder: ModelBuilder, spec: SessionSpec
) -> None:
    code = codes(pretrained, coded(spec))
    other = {name: value + 1 for name, value in code.items()}
    sessions = [
        built(builder, spec),
        built(builder, replace(spec, seed=9, num_labels=2, prompts=0, encoding="int8")),
        built(builder, coded(spec), code),
        built(builder, coded(spec), dict(code)),
        built(builder, coded(spec), other),
    ]
    bodies = [session._engine.net2 for session in sessions]
    assert bodies[0] is bodies[1] and bodies[2] is bodies[3]
    assert len({id(body) for body in bodies}) == 3
    sessions.clear()
    bodies.clear()
    gc.collect()
    assert len(builder._bodies._held) == 0


def test_a_shared_body_needs_room_once_and_no_place() -> None:
    admission = Admission(1, 1000)
    for need in (Need(600, 100, "a"), Need(600, 50, "a"), Need(100, 20)):
        admission.check(need)
        admission.take(need)
    assert (admission.taken, admission.sharing) == (1, 2)
    assert admission.taken_bytes == 600 + 100 + 50 + 100 + 20, "each pass waits for its gradient"
    with pytest.raises(CapacityError, match="GB for a frozen body"):
        admission.check(Need(600, 100, "b"))
    with pytest.raises(CapacityError, match="1 of 1 sessions open"):
        admission.check(Need(1, 1))
    admission.check(Need(600, 130, "a"))
    with pytest.raises(CapacityError, match="are free beside 3 sessions"):
        admission.check(Need(600, 131, "a"))
    admission.give_back(Need(600, 100, "a"))
    assert admission.taken_bytes == 770
    admission.give_back(Need(600, 50, "a"))
    admission.check(Need(600, 100, "b"))


def test_a_body_needs_its_weights_alone(builder: ModelBuilder, spec: SessionSpec) -> None:
    need = builder(spec).need
    weights = sum(p.numel() for p in built(builder, spec)._engine.net2.parameters())
    assert need.kept == 4 * weights
    small = builder(replace(spec, max_examples=2, max_tokens=9)).need
    assert 0 < small.step < builder(replace(spec, max_examples=4, max_tokens=9)).need.step


def test_what_a_body_cannot_be_built_of_is_refused(
    builder: ModelBuilder, spec: SessionSpec, pretrained: Pretrained
) -> None:
    with pytest.raises(ConfigError, match=r"cut sft .* needs a code, and .*sigma was not given; a"):
        builder(coded(spec))
    assert spec.tail is not None
    for tail, words in (
        (
            SplitSpec(cut="none-end", split_layer=2**32 - 1),
            "split layer 4294967295 is outside 1..4",
        ),
        (
            SplitSpec(cut="stream-end", split_layer=4, rank=2**31),
            "rank 2147483648 is outside 1..32",
        ),
        (SplitSpec(cut="none-end", split_layer=2), "the tail's block must be above the head's"),
        (SplitSpec(cut="none-end", split_layer=3), "first_row with a tail cut off in block 3"),
        (SplitSpec(cut="stream", split_layer=4, rank=4, decoder_layers=2), "2 decoder layers; the"),
    ):
        with pytest.raises(ConfigError, match=words):
            builder(replace(spec, tail=replace(spec.tail, split=tail)))
    with pytest.raises(ProtocolError, match="a frozen body takes no basis, no trained_session"):
        builder(spec).build("ab12", (torch.zeros(32), torch.zeros(4, 32)), None)
    unknown = replace(spec, model=replace(spec.model, weights_digest=""))
    with pytest.raises(MismatchError, match="the edge does not say which weights"):
        builder(unknown).build("ab12", None, None)
    other = replace(spec, model=replace(spec.model, weights_digest="00"))
    with pytest.raises(MismatchError):
        builder(other)


def hosted(
    builder: ModelBuilder, folder: Path, scene: Callable[[Host], Awaitable[None]], **limits: Any
) -> None:
    """Run a scene with a host that keeps what can be kept."""

    async def go() -> None:
        scheduler = Scheduler(2)
        host = Host(
            builder=builder,
            scheduler=scheduler,
            limits=Limits(max_sessions=2, **limits),
            store=Store(folder),
        )
        try:
            await scene(host)
        finally:
            scheduler.close()

    asyncio.run(go())


def at_work(session: Session) -> None:
    """Leave a session in the midst of a step."""
    rows = session.forward(1, torch.randn(sum(LENGTHS), HIDDEN), LENGTHS)
    session.backward(1, torch.ones_like(rows), forward=0)
    session.apply(1, 0.0, exchanges=2)
    session.forward(2, torch.randn(sum(LENGTHS), HIDDEN), LENGTHS)


@pytest.mark.parametrize("end", ["park", "close", "stop", "room", "idle"])
def test_nothing_of_it_is_ever_on_a_disk(
    builder: ModelBuilder, spec: SessionSpec, tmp_path: Path, end: str
) -> None:
    stopped = []

    async def scene(host: Host) -> None:
        visit, factor = await host.open(Opening(spec=spec), "", stopped.append)
        assert factor is None
        name, here = visit.session.session_id, Position(1, 1)
        at_work(visit.session)
        match end:
            case "park":
                assert not await host.park(visit)
            case "close":
                assert not (await host.close(visit)).saved
            case "stop":
                await host.stop()
                host._stopping = False
            case "room":
                visit.leave()
                for _ in range(2):
                    await host.open(Opening(spec=spec), "", stopped.append)
            case "idle":
                watch = asyncio.create_task(host.watch())
                await asyncio.wait_for(visit.hosted.gone.wait(), 20)
                watch.cancel()
        assert host.residents.get(name) is None
        asked = Return(session_id=name, spec=spec, incarnation=0, confirmed=here, sent=here)
        with pytest.raises(SessionLostError, match=f"no session {name}"):
            await host.resume(asked, "", stopped.append)

    need = builder(spec).need
    limits = {"idle": {"park_seconds": 0.05}, "room": {"memory_bytes": need.kept + 2 * need.step}}
    hosted(builder, tmp_path, scene, **limits.get(end, {}))
    assert list(tmp_path.rglob("*")) == []
    assert bool(stopped) == (end in ("stop", "idle"))


def test_a_stream_that_breaks_finds_its_session_and_no_other_program_does(
    builder: ModelBuilder, spec: SessionSpec, tmp_path: Path
) -> None:
    async def scene(host: Host) -> None:
        visit, _ = await host.open(Opening(spec=spec, incarnation=7), "", stopped.append)
        at_work(visit.session)
        visit.leave()
        here = Position(1, 1)
        asked = Return(
            session_id=visit.session.session_id,
            spec=spec,
            incarnation=7,
            confirmed=here,
            sent=here,
            snapshots=(1,),
        )
        again, rewound = await host.resume(asked, "", stopped.append)
        assert again.session is visit.session and not rewound
        again.leave()
        for lost in (
            replace(asked, confirmed=None, sent=None),
            replace(asked, confirmed=Position(3), sent=Position(3)),
        ):
            with pytest.raises(SessionLostError, match="no snapshot of session .* the edge has"):
                await host.resume(lost, "", stopped.append)

    stopped: list[Exception] = []
    hosted(builder, tmp_path, scene)
    assert list(tmp_path.rglob("*")) == []


def test_a_second_session_costs_its_host_no_second_body(
    builder: ModelBuilder, pretrained: Pretrained, spec: SessionSpec, tmp_path: Path
) -> None:
    code = codes(pretrained, coded(spec))

    async def scene(host: Host) -> None:
        need = builder(coded(spec), code).need
        for count in (1, 2, 3):
            await host.open(Opening(spec=coded(spec), code=code), "", lambda _: None)
            assert host.residents.admission.taken_bytes == need.kept + count * need.step

    hosted(builder, tmp_path, scene)
