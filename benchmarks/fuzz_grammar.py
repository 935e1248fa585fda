"""Requests for a cloud: right ones in a right order, others by chance, and all of them spoiled.

Everything is drawn from one random.Random, so that a seed says it all. It knows the contract, no
connection.

Legend: T rows of an activation, B examples.
"""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import torch
from google.protobuf.message import Message

from benchmarks.fuzz_spoiling import Spoiler
from sft_common.config import ENCODINGS, ModelShape, SessionSpec
from sft_common.model.heads import HEAD_TABLE
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_common.rpc.spec import spec_to_proto
from sft_common.wire.codec import encoding_to_proto, tensor_to_proto
from sft_common.wire.encodings import ENCODING_TABLE
from sft_common.wire.framing import tensor_of

ROWS = 32

LATELY = 40
"""Sessions that are still spoken of."""

TYPES = (pb.ELEMENT_TYPE_FLOAT16, pb.ELEMENT_TYPE_BFLOAT16)
"""What a script may compute in under autocast."""

Names = dict[str, SessionSpec]
"""Sessions that are, or were, and what they were opened with."""


OTHERS = (
    pb.TrainRequest(),
    pb.TrainRequest(run=pb.Run(epochs=1, batch_size=1)),
    pb.TrainRequest(keep=pb.Keep(step=1)),
    pb.TrainRequest(park=pb.Park()),
    pb.TrainRequest(close=pb.Close()),
    pb.TrainRequest(piece=pb.Piece(data=b"abc")),
    pb.TrainRequest(apply=pb.Apply(step=1, learning_rate=1e-3, exchanges=1)),
    pb.TrainRequest(factor=pb.Factor(step=1, factor=1.0)),
    pb.TrainRequest(ask_norms=pb.AskNorms()),
    pb.TrainRequest(save=pb.Save(state="0123456789abcdef")),
    pb.TrainRequest(save=pb.Save(state="../" * 9)),
    pb.TrainRequest(drop=pb.Drop(step=1, groups=[0, 9])),
    pb.TrainRequest(weights=pb.Weights(name="classifier.bias", rows=pb.Tensor(shape=[2]))),
)
"""Requests that mean nothing at the beginning."""


@dataclasses.dataclass
class Course:
    """How far a right session would have come."""

    spec: SessionSpec
    position: Position = Position()
    share_left: float = 1.0
    waiting: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    """Passes without a backward: place in the step -> lengths."""
    session_id: str = ""
    incarnation: int = 0
    state: str = ""
    """The last that it has asked for."""


class Grammar:
    """Writes requests.

    Args:
        draw: of everything random.
        spec: of a session that the cloud takes.
        shape: of its model.
        names: of sessions that are, or were.
    """

    def __init__(self, draw: Random, spec: SessionSpec, shape: ModelShape, names: Names) -> None:
        self.draw, self._spec, self._shape, self._names = draw, spec, shape, names
        self._spoiler = Spoiler(draw, lambda: list(names)[-LATELY:])
        self._rows: dict[tuple[str, int], bytes] = {}

    def course(self) -> Course:
        """Return the beginning of a session of one kind or another."""
        head, classes = self.draw.choice(
            [
                ("sequence-classification", 2),
                ("sequence-classification", 3),
                ("regression", 1),
                ("token-classification", 3),
                ("question-answering", 2),
            ]
        )
        spec = dataclasses.replace(
            self._spec,
            head=head,
            num_labels=classes,
            split=dataclasses.replace(self._spec.split, cut=self.draw.choice(["sft", "none"])),
            encoding=self.draw.choice(ENCODINGS),
            gradient_encoding=self.draw.choice(ENCODINGS),
            seed=self.draw.randrange(2**63),
            dropout=self.draw.choice([None, 0.0, 0.5]),
        )
        return Course(spec, incarnation=self.draw.randrange(2**63))

    def opening(self, course: Course) -> pb.TrainRequest:
        """Return what opens a session."""
        message = spec_to_proto(course.spec)
        message.incarnation = course.incarnation
        return pb.TrainRequest(open=message)

    def return_to(self, course: Course) -> pb.TrainRequest:
        """Return what takes a session up again, with or without something in memory."""
        resume = pb.Resume(
            session_id=course.session_id,
            open=spec_to_proto(course.spec),
            incarnation=course.incarnation,
            snapshots=range(0, course.position.applied + 1),
        )
        if self.draw.random() < 0.3:
            resume.state = course.state or self._state()
            resume.replaces = self.draw.choice(["", *list(self._names)[-LATELY:]])
        if self.draw.random() < 0.5:
            resume.confirmed.CopyFrom(pb.Position())
            resume.sent.applied = 2**62
        return pb.TrainRequest(resume=resume)

    def following(self, course: Course) -> pb.TrainRequest:
        """Return a right next request, now and then one that repeats what was."""
        at, begun = course.position, course.share_left < 1.0
        if at.stored:
            return pb.TrainRequest(store=self._batch(course, pb.Store(part=0)))
        if course.waiting or (not at.exchanges and self.draw.random() < 0.2):
            return self._pass(course)
        if begun and (course.share_left <= 0 or self.draw.random() < 0.01):
            course.position, course.share_left = Position(at.applied + 1), 1.0
            apply = pb.Apply(step=at.applied + 1, learning_rate=1e-3, exchanges=at.exchanges)
            return pb.TrainRequest(apply=apply)
        if not begun and (chance := self.draw.random()) < 0.35:
            return self._beside(course, chance / 0.35)
        share = self.draw.choice([1.0, 1.0, 0.5]) if not begun else course.share_left
        course.share_left -= share
        course.position = at._replace(exchanges=at.exchanges + 1)
        step = pb.Step(step=at.applied + 1, exchange=at.exchanges, share=share)
        if share == 1 and self.draw.random() < 0.1:
            step.apart = True  # and nobody says what it counts: the apply is refused
        return pb.TrainRequest(step=self._batch(course, step))

    def _pass(self, course: Course) -> pb.TrainRequest:
        """Return a pass forward or backward; behind the last one the step waits for its apply."""
        at = course.position
        place: dict[str, Any] = {"step": at.applied + 1, "exchange": at.exchanges}
        course.position = at._replace(exchanges=at.exchanges + 1)
        if not course.waiting or self.draw.random() < 0.3:
            batch = self._batch(course, pb.Step())
            course.waiting[at.exchanges] = list(batch.lengths)
            forward = pb.Forward(activation=batch.activation, lengths=batch.lengths, **place)
            if batch.HasField("autocast"):
                forward.autocast.CopyFrom(batch.autocast)
            return pb.TrainRequest(forward=forward)
        forward_place = self.draw.choice([*course.waiting])
        lengths = course.waiting.pop(forward_place)
        shape = HEAD_TABLE[course.spec.head].rows_shape(lengths, course.spec.num_labels)
        gradient = tensor_to_proto(torch.full(shape, self.draw.uniform(-1, 1)))
        backward = pb.Backward(gradient=gradient, forward=forward_place, **place)
        if not course.waiting:
            course.share_left = 0.0
        return pb.TrainRequest(backward=backward)

    def _beside(self, course: Course, chance: float) -> pb.TrainRequest:
        """Return what may come between steps."""
        applied = course.position.applied
        if chance < 0.1:
            return pb.TrainRequest(keep=pb.Keep(step=applied))
        if chance < 0.15:
            return pb.TrainRequest(ask_norms=pb.AskNorms())
        if chance < 0.17:
            course.state = self._state()
            return pb.TrainRequest(save=pb.Save(state=course.state))
        if chance < 0.19:
            return pb.TrainRequest(drop=pb.Drop(step=applied + 1, groups=[0, 1]))
        if chance < 0.3 and applied:
            return pb.TrainRequest(apply=pb.Apply(step=applied, exchanges=1))
        if chance > 0.9 and not applied:
            course.position = Position(stored=1)
            return pb.TrainRequest(store=self._batch(course, pb.Store(part=0)))
        batch = self._batch(course, pb.Step())
        asked = pb.Evaluate(activation=batch.activation, lengths=batch.lengths)
        if batch.HasField("autocast"):
            asked.autocast.CopyFrom(batch.autocast)
        return pb.TrainRequest(evaluate=asked)

    def _state(self) -> str:
        """Return a name for a state."""
        return f"{self.draw.randrange(2**64):016x}"

    def last(self, course: Course) -> pb.TrainRequest | None:
        """Return what ends a stream in good order; None: it just breaks."""
        run = pb.Run(epochs=2, batch_size=4, learning_rate=1e-3, group_by_length=True)
        if course.position.stored:
            return pb.TrainRequest(run=run)
        return self.draw.choice(
            [
                None,
                None,
                None,
                pb.TrainRequest(close=pb.Close()),
                pb.TrainRequest(park=pb.Park()),
            ]
        )

    def any_first(self) -> pb.TrainRequest:
        """Return any request, as if it were the first."""
        course, chance = self.course(), self.draw.random()
        if chance < 0.06:
            return self.opening(course)
        if chance < 0.16:
            return self.following(course)
        if chance < 0.3:
            return self.draw.choice(OTHERS)
        name = self.draw.choice([*list(self._names)[-LATELY:], "0" * 16])
        course.session_id, course.spec = name, self._names.get(name, course.spec)
        return self.return_to(course)

    def _batch(self, course: Course, message: Any) -> Any:
        """Fill in an activation, lengths and labels."""
        spec = course.spec
        lengths = [self.draw.randint(1, 6) for _ in range(self.draw.randint(1, 4))]
        width, tokens = spec.split.wire_width(self._shape), sum(lengths)
        size = ENCODING_TABLE[spec.encoding].row_bytes(width)
        start = self.draw.randrange(ROWS - tokens + 1) * size
        data = self._encoded(spec.encoding, width)[start : start + tokens * size]
        tensor = pb.Tensor(
            data=data, shape=[tokens, width], element_type=encoding_to_proto(spec.encoding)
        )
        message.activation.CopyFrom(tensor)
        message.lengths.extend(lengths)
        if not isinstance(message, pb.Store) and self.draw.random() < 0.2:
            message.autocast.computes = self.draw.choice(TYPES)
            message.autocast.activation = self.draw.choice([pb.ELEMENT_TYPE_FLOAT32, *TYPES])
        match spec.head:
            case "regression":
                message.numbers.extend(self.draw.random() for _ in lengths)
            case "question-answering":
                message.labels.extend(self.draw.randrange(n) for n in lengths for _ in (0, 1))
            case head:
                count = tokens if head == "token-classification" else len(lengths)
                message.labels.extend(self.draw.randrange(spec.num_labels) for _ in range(count))
        return message

    def _encoded(self, encoding: str, width: int) -> bytes:
        key = encoding, width
        if key not in self._rows:
            generator = torch.Generator().manual_seed(width)
            rows = torch.randn(ROWS, width, generator=generator)
            self._rows[key] = ENCODING_TABLE[encoding].encode(rows).numpy().tobytes()
        return self._rows[key]

    def in_pieces(self, request: pb.TrainRequest) -> tuple[list[bytes], bool]:
        """Return a request whose tensor comes behind it, cut anywhere, and whether rightly."""
        tensor = tensor_of(request)
        data, tensor.data = tensor.data, b""
        tensor.following = len(data)
        cuts = sorted(self.draw.randrange(len(data) + 1) for _ in range(self.draw.randint(0, 3)))
        ends = [0, *cuts, len(data)]
        parts = [data[a:b] for a, b in zip(ends, ends[1:], strict=False) if a < b]
        chance = self.draw.random()
        if chance < 0.05:
            tensor.following = self._spoiler.whole(0, 2**64 - 1)
        elif chance < 0.1:
            self.draw.shuffle(parts)
            parts = parts[: self.draw.randint(0, len(parts))]
        pieces = [pb.TrainRequest(piece=pb.Piece(data=part)) for part in parts]
        return [message.SerializeToString() for message in (request, *pieces)], chance >= 0.1

    def spoiled(self, message: Message) -> bytes:
        """Return a message with something wrong about it, or nothing, by chance."""
        return self._spoiler.spoiled(message, self.any_first().SerializeToString)
