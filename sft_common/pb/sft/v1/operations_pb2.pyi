from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATE_UNSPECIFIED: _ClassVar[SessionState]
    SESSION_STATE_AT_WORK: _ClassVar[SessionState]
    SESSION_STATE_WAITING: _ClassVar[SessionState]
    SESSION_STATE_TRAINING: _ClassVar[SessionState]
    SESSION_STATE_PARKED: _ClassVar[SessionState]
    SESSION_STATE_FINISHED: _ClassVar[SessionState]
    SESSION_STATE_DAMAGED: _ClassVar[SessionState]
    SESSION_STATE_FAILED: _ClassVar[SessionState]

class FederationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEDERATION_STATE_UNSPECIFIED: _ClassVar[FederationState]
    FEDERATION_STATE_WAITING: _ClassVar[FederationState]
    FEDERATION_STATE_CALIBRATING: _ClassVar[FederationState]
    FEDERATION_STATE_TRAINING: _ClassVar[FederationState]
    FEDERATION_STATE_EVALUATING: _ClassVar[FederationState]
    FEDERATION_STATE_ENDED: _ClassVar[FederationState]
    FEDERATION_STATE_FAILED: _ClassVar[FederationState]
SESSION_STATE_UNSPECIFIED: SessionState
SESSION_STATE_AT_WORK: SessionState
SESSION_STATE_WAITING: SessionState
SESSION_STATE_TRAINING: SessionState
SESSION_STATE_PARKED: SessionState
SESSION_STATE_FINISHED: SessionState
SESSION_STATE_DAMAGED: SessionState
SESSION_STATE_FAILED: SessionState
FEDERATION_STATE_UNSPECIFIED: FederationState
FEDERATION_STATE_WAITING: FederationState
FEDERATION_STATE_CALIBRATING: FederationState
FEDERATION_STATE_TRAINING: FederationState
FEDERATION_STATE_EVALUATING: FederationState
FEDERATION_STATE_ENDED: FederationState
FEDERATION_STATE_FAILED: FederationState

class ServerStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerStatusResponse(_message.Message):
    __slots__ = ("version", "address", "door", "device", "uptime_seconds", "draining", "sessions_in_memory", "max_sessions", "queue_depth", "steps", "received_bytes", "sent_bytes", "errors", "resident_bytes", "device_bytes", "device_free_bytes", "disk_free_bytes", "scheduling", "sharing_sessions")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DOOR_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_IN_MEMORY_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_FIELD_NUMBER: _ClassVar[int]
    SHARING_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    address: str
    door: str
    device: str
    uptime_seconds: float
    draining: bool
    sessions_in_memory: int
    max_sessions: int
    queue_depth: int
    steps: int
    received_bytes: int
    sent_bytes: int
    errors: int
    resident_bytes: int
    device_bytes: int
    device_free_bytes: int
    disk_free_bytes: int
    scheduling: str
    sharing_sessions: int
    def __init__(self, version: _Optional[str] = ..., address: _Optional[str] = ..., door: _Optional[str] = ..., device: _Optional[str] = ..., uptime_seconds: _Optional[float] = ..., draining: _Optional[bool] = ..., sessions_in_memory: _Optional[int] = ..., max_sessions: _Optional[int] = ..., queue_depth: _Optional[int] = ..., steps: _Optional[int] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., errors: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., device_bytes: _Optional[int] = ..., device_free_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., scheduling: _Optional[str] = ..., sharing_sessions: _Optional[int] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionSummary]
    def __init__(self, sessions: _Optional[_Iterable[_Union[SessionSummary, _Mapping]]] = ...) -> None: ...

class SessionSummary(_message.Message):
    __slots__ = ("session_id", "state", "owner", "model", "cut", "split_layer", "rank", "steps", "steps_per_second", "received_bytes", "sent_bytes", "idle_seconds", "memory_bytes", "disk_bytes", "snapshots")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    SPLIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    state: SessionState
    owner: str
    model: str
    cut: str
    split_layer: int
    rank: int
    steps: int
    steps_per_second: float
    received_bytes: int
    sent_bytes: int
    idle_seconds: float
    memory_bytes: int
    disk_bytes: int
    snapshots: int
    def __init__(self, session_id: _Optional[str] = ..., state: _Optional[_Union[SessionState, str]] = ..., owner: _Optional[str] = ..., model: _Optional[str] = ..., cut: _Optional[str] = ..., split_layer: _Optional[int] = ..., rank: _Optional[int] = ..., steps: _Optional[int] = ..., steps_per_second: _Optional[float] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., idle_seconds: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., snapshots: _Optional[int] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: _Optional[bool] = ...) -> None: ...

class ListFederationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFederationsResponse(_message.Message):
    __slots__ = ("federations",)
    FEDERATIONS_FIELD_NUMBER: _ClassVar[int]
    federations: _containers.RepeatedCompositeFieldContainer[FederationSummary]
    def __init__(self, federations: _Optional[_Iterable[_Union[FederationSummary, _Mapping]]] = ...) -> None: ...

class FederationSummary(_message.Message):
    __slots__ = ("name", "method", "model", "cuts", "state", "failure", "rounds_done", "rounds_planned", "clients_present", "clients_known", "clients_needed", "under_way", "measured", "received_bytes", "sent_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_PLANNED_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_PRESENT_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    UNDER_WAY_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    method: str
    model: str
    cuts: str
    state: FederationState
    failure: str
    rounds_done: int
    rounds_planned: int
    clients_present: int
    clients_known: int
    clients_needed: int
    under_way: RoundUnderWay
    measured: AverageMeasured
    received_bytes: int
    sent_bytes: int
    def __init__(self, name: _Optional[str] = ..., method: _Optional[str] = ..., model: _Optional[str] = ..., cuts: _Optional[str] = ..., state: _Optional[_Union[FederationState, str]] = ..., failure: _Optional[str] = ..., rounds_done: _Optional[int] = ..., rounds_planned: _Optional[int] = ..., clients_present: _Optional[int] = ..., clients_known: _Optional[int] = ..., clients_needed: _Optional[int] = ..., under_way: _Optional[_Union[RoundUnderWay, _Mapping]] = ..., measured: _Optional[_Union[AverageMeasured, _Mapping]] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class RoundUnderWay(_message.Message):
    __slots__ = ("round", "try_number", "drawn", "arrived", "lost", "seconds")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TRY_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DRAWN_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    round: int
    try_number: int
    drawn: int
    arrived: int
    lost: int
    seconds: float
    def __init__(self, round: _Optional[int] = ..., try_number: _Optional[int] = ..., drawn: _Optional[int] = ..., arrived: _Optional[int] = ..., lost: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class AverageMeasured(_message.Message):
    __slots__ = ("round", "metric", "value", "loss")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    round: int
    metric: str
    value: float
    loss: float
    def __init__(self, round: _Optional[int] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., loss: _Optional[float] = ...) -> None: ...
