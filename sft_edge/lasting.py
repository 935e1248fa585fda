"""A stream that outlives its connections: what has no answer when one breaks is sent on the next.

Before anything moves, edge and cloud agree on where to go on; what the cloud has computed before it
answers again. It knows what is sent, not what it is for.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from sft_common import PROTOCOL_VERSION
from sft_common.config import SessionSpec
from sft_common.errors import (
    CapacityError,
    ProtocolError,
    SftError,
    UnreachableError,
    printable,
)
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Return
from sft_common.rpc.access import Access
from sft_common.rpc.spec import check_version, position_from_proto, return_to_proto
from sft_common.wire.framing import Numbers
from sft_edge.journal import Journal
from sft_edge.remote import Rewound
from sft_edge.retrying import Retry, pause
from sft_edge.stream import Reply, Stream
from sft_edge.traffic import Traffic

MAX_SAID = 1000
"""Characters of a cloud's own words that a person is shown."""

_SESSION_ID = re.compile("[0-9A-Za-z]{1,64}")


class LastingStream:
    """The streams of one session, one after another; `open` or `take_up` comes first.

    Args:
        access: how to reach the cloud and log in to it.
        spec: of the session.
        traffic: counts the messages, and the time without a connection.
        max_message_bytes: largest message, or tensor in pieces, to take or send.
        retry: how long to try again when the connection is lost.
        snapshots: tells the steps behind which the edge has snapshots.

    Raises:
        UnreachableError: nobody answers there.
    """

    def __init__(
        self,
        access: Access,
        spec: SessionSpec,
        traffic: Traffic,
        *,
        max_message_bytes: int,
        retry: Retry,
        snapshots: Callable[[], Sequence[int]],
    ) -> None:
        self.say: Callable[[str], None] = lambda line: None
        self.stopped: Callable[[], bool] = lambda: False
        self.session_id, self.device, self.keeps_snapshots = "", "", False
        self.lost_seconds = 0.0
        """In which there was no connection; counted as waiting for the wire."""

        self._spec, self._retry, self._snapshots = spec, retry, snapshots
        self._traffic, self._incarnation = traffic, secrets.randbits(63)
        self._journal, self._stored = Journal(), 0
        self._connect = partial(Stream, access, traffic, max_message_bytes=max_message_bytes)
        self._stream, self.since = self._connect(), 0.0
        """When the connection took the session up again, by `time.perf_counter`."""

    @property
    def answered(self) -> bool:
        """Whether `receive` need not wait."""
        return self._stream.answered

    def open(self, request: pb.Open) -> pb.Opened:
        """Open a session with the cloud; returns what it says of it.

        Raises:
            MismatchError: who answers is no cloud, or speaks another protocol version.
            SftError: the cloud refuses the session.
        """
        request.incarnation = self._incarnation
        self._stream.send(pb.TrainRequest(open=request))
        opened = self._stream.receive("opened").message.opened
        check_version(edge=PROTOCOL_VERSION, cloud=opened.protocol_version)
        if not _SESSION_ID.fullmatch(opened.session_id):
            raise ProtocolError(f"the cloud names the session {opened.session_id[:40]!r}")
        self.session_id = opened.session_id
        self._meet(opened)
        return opened

    def take_up(self, session_id: str, state: str = "", replaces: str = "") -> int:
        """Take up a session that another program had; returns the step behind which to go on.

        Args:
            session_id: its name.
            state: a state of it to go back to, whoever has it; empty: none.
            replaces: a session that gives way then; empty: none.

        Raises:
            SessionLostError: the cloud has nothing from which both could go on.
        """
        self.session_id = session_id
        resumed = self._resume(in_memory=False, state=state, replaces=replaces)
        self._journal = Journal(position_from_proto(resumed.position))
        return int(resumed.position.applied)

    def send(self, request: pb.TrainRequest, numbers: Numbers = b"") -> float:
        """Send a request, on a new connection if it must be; returns when it left.

        Args:
            request: may lack the numbers of its tensor.
            numbers: of its tensor; not to be changed until it is answered.

        Raises:
            Rewound: the cloud has gone back to a snapshot, and the edge must.
            UnreachableError: it was not to be reached for as long as was to be tried.
            SftError: the cloud refused a request.
        """
        try:
            sent = self._stream.send(request, numbers)
        except UnreachableError as lost:
            self._journal.add(request, numbers)
            self._recover(lost)
            return time.perf_counter()
        self._journal.add(request, numbers)
        return sent

    def store(self, request: pb.TrainRequest, numbers: Numbers) -> None:
        """Send examples; after a lost connection the edge must ask which ones have come.

        Raises:
            Rewound: the connection was lost; says how many have come.
            SftError: as of `send`.
        """
        try:
            self._stream.send(request, numbers)
            self._stored += 1
        except UnreachableError as lost:
            self._recover(lost)
            raise Rewound(0, self._stored) from lost

    def receive(self, kind: str) -> Reply:
        """Wait for the next reply, on a new connection if it must be; raises as `send`.

        Args:
            kind: what it must be.
        """
        while True:
            try:
                reply = self._stream.receive(kind)
            except UnreachableError as lost:
                self._recover(lost)
            else:
                self._journal.answered()
                return reply

    def close(self) -> None:
        """Drop the connection; safe to repeat."""
        self._stream.close()

    def _meet(self, hello: pb.Opened | pb.Resumed) -> None:
        """Note what the cloud says of itself."""
        self.device = printable(hello.device[:MAX_SAID])
        self.keeps_snapshots = hello.snapshots
        self._stream.limit_bytes = min(self._stream.limit_bytes, hello.max_message_bytes)

    def _resume(self, *, in_memory: bool, state: str = "", replaces: str = "") -> pb.Resumed:
        """Tell the cloud where the edge is; returns where it is itself."""
        asked = Return(
            session_id=self.session_id,
            spec=self._spec,
            incarnation=self._incarnation,
            confirmed=self._journal.confirmed if in_memory else None,
            sent=self._journal.sent if in_memory else None,
            snapshots=tuple(self._snapshots()),
            state=state,
            replaces=replaces,
        )
        self._stream.send(pb.TrainRequest(resume=return_to_proto(asked)))
        resumed = self._stream.receive("resumed").message.resumed
        self._meet(resumed)
        return resumed

    def _recover(self, lost: UnreachableError) -> None:
        """Reach the cloud again, agree with it on where to go on, and send what has no answer.

        Raises:
            Rewound: the cloud has lost what the edge still has.
            SessionLostError: it has lost all of it.
            UnreachableError: it was not to be reached for as long as was to be tried.
        """
        begin, pauses = time.perf_counter(), self._retry.pauses()
        error: SftError = lost
        if self._retry.for_seconds:
            self.say(f"{lost}; trying again for {self._retry.for_seconds:g} s")
        try:
            while time.perf_counter() - begin < self._retry.for_seconds and not self.stopped():
                self._stream.close()
                pause(next(pauses), stopped=self.stopped)
                try:
                    self._stream = self._connect()
                    self._go_on(self._resume(in_memory=True))
                    return
                except (UnreachableError, CapacityError) as again:
                    error = again
            raise error
        finally:
            lost_for = time.perf_counter() - begin
            self.lost_seconds += lost_for
            self._traffic.blocked(lost_for)

    def _go_on(self, resumed: pb.Resumed) -> None:
        """Go on where the cloud says."""
        position = position_from_proto(resumed.position)
        if resumed.rewound or position.stored != self._stored:
            self._journal = Journal(position._replace(stored=0))
            self._stored = position.stored
            raise Rewound(position.applied, position.stored)
        self.say(f"the cloud is back: going on at step {position.applied + 1}")
        self.since = time.perf_counter()
        for sent in self._journal:
            self._stream.send(sent.request, sent.numbers)
