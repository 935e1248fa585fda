from sft_common.pb.sft.v1 import split_training_pb2 as _split_training_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Duty(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DUTY_UNSPECIFIED: _ClassVar[Duty]
    DUTY_TRAIN: _ClassVar[Duty]
    DUTY_CALIBRATE_CUT: _ClassVar[Duty]
    DUTY_CALIBRATE_TAIL: _ClassVar[Duty]
    DUTY_EVALUATE: _ClassVar[Duty]
DUTY_UNSPECIFIED: Duty
DUTY_TRAIN: Duty
DUTY_CALIBRATE_CUT: Duty
DUTY_CALIBRATE_TAIL: Duty
DUTY_EVALUATE: Duty

class DescribeRequest(_message.Message):
    __slots__ = ("protocol_version", "federation")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    federation: str
    def __init__(self, protocol_version: _Optional[int] = ..., federation: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: FederationPlan
    def __init__(self, plan: _Optional[_Union[FederationPlan, _Mapping]] = ...) -> None: ...

class FederationPlan(_message.Message):
    __slots__ = ("name", "method", "model", "kind", "labels", "rounds", "seed", "clients", "training", "cut", "tail", "privacy", "first_row")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    name: str
    method: str
    model: _split_training_pb2.Model
    kind: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    rounds: int
    seed: int
    clients: FederationClients
    training: LocalTraining
    cut: Transfer
    tail: Transfer
    privacy: UpdatePrivacy
    first_row: bool
    def __init__(self, name: _Optional[str] = ..., method: _Optional[str] = ..., model: _Optional[_Union[_split_training_pb2.Model, _Mapping]] = ..., kind: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., rounds: _Optional[int] = ..., seed: _Optional[int] = ..., clients: _Optional[_Union[FederationClients, _Mapping]] = ..., training: _Optional[_Union[LocalTraining, _Mapping]] = ..., cut: _Optional[_Union[Transfer, _Mapping]] = ..., tail: _Optional[_Union[Transfer, _Mapping]] = ..., privacy: _Optional[_Union[UpdatePrivacy, _Mapping]] = ..., first_row: _Optional[bool] = ...) -> None: ...

class FederationClients(_message.Message):
    __slots__ = ("per_round", "minimum", "quorum", "round_seconds", "patience_seconds")
    PER_ROUND_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    ROUND_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    per_round: int
    minimum: int
    quorum: int
    round_seconds: float
    patience_seconds: float
    def __init__(self, per_round: _Optional[int] = ..., minimum: _Optional[int] = ..., quorum: _Optional[int] = ..., round_seconds: _Optional[float] = ..., patience_seconds: _Optional[float] = ...) -> None: ...

class LocalTraining(_message.Message):
    __slots__ = ("epochs", "batch_size", "learning_rate", "dropout", "max_length", "keep", "prompts", "evaluate_every")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    DROPOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_EVERY_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float
    max_length: int
    keep: float
    prompts: int
    evaluate_every: int
    def __init__(self, epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., dropout: _Optional[float] = ..., max_length: _Optional[int] = ..., keep: _Optional[float] = ..., prompts: _Optional[int] = ..., evaluate_every: _Optional[int] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("split", "encoding", "gradient_encoding")
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    split: _split_training_pb2.Split
    encoding: _split_training_pb2.ElementType
    gradient_encoding: _split_training_pb2.ElementType
    def __init__(self, split: _Optional[_Union[_split_training_pb2.Split, _Mapping]] = ..., encoding: _Optional[_Union[_split_training_pb2.ElementType, str]] = ..., gradient_encoding: _Optional[_Union[_split_training_pb2.ElementType, str]] = ...) -> None: ...

class UpdatePrivacy(_message.Message):
    __slots__ = ("clip", "noise", "delta")
    CLIP_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    clip: float
    noise: float
    delta: float
    def __init__(self, clip: _Optional[float] = ..., noise: _Optional[float] = ..., delta: _Optional[float] = ...) -> None: ...

class AttendRequest(_message.Message):
    __slots__ = ("protocol_version", "federation", "client", "incarnation", "config_digest", "weights_digest", "working_on", "plan_digest")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WORKING_ON_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    federation: str
    client: str
    incarnation: int
    config_digest: str
    weights_digest: str
    working_on: _split_training_pb2.Attempt
    plan_digest: str
    def __init__(self, protocol_version: _Optional[int] = ..., federation: _Optional[str] = ..., client: _Optional[str] = ..., incarnation: _Optional[int] = ..., config_digest: _Optional[str] = ..., weights_digest: _Optional[str] = ..., working_on: _Optional[_Union[_split_training_pb2.Attempt, _Mapping]] = ..., plan_digest: _Optional[str] = ...) -> None: ...

class AttendResponse(_message.Message):
    __slots__ = ("waiting", "assignment", "piece", "over", "ended")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    waiting: Waiting
    assignment: Assignment
    piece: bytes
    over: Over
    ended: Ended
    def __init__(self, waiting: _Optional[_Union[Waiting, _Mapping]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ..., piece: _Optional[bytes] = ..., over: _Optional[_Union[Over, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("round", "present", "minimum")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    round: int
    present: int
    minimum: int
    def __init__(self, round: _Optional[int] = ..., present: _Optional[int] = ..., minimum: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("attempt", "duty", "evaluate", "following", "rounds")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DUTY_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    attempt: _split_training_pb2.Attempt
    duty: Duty
    evaluate: bool
    following: int
    rounds: int
    def __init__(self, attempt: _Optional[_Union[_split_training_pb2.Attempt, _Mapping]] = ..., duty: _Optional[_Union[Duty, str]] = ..., evaluate: _Optional[bool] = ..., following: _Optional[int] = ..., rounds: _Optional[int] = ...) -> None: ...

class Over(_message.Message):
    __slots__ = ("attempt", "reason")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    attempt: _split_training_pb2.Attempt
    reason: str
    def __init__(self, attempt: _Optional[_Union[_split_training_pb2.Attempt, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("following",)
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    following: int
    def __init__(self, following: _Optional[int] = ...) -> None: ...

class HandInRequest(_message.Message):
    __slots__ = ("header", "piece")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    header: HandInHeader
    piece: bytes
    def __init__(self, header: _Optional[_Union[HandInHeader, _Mapping]] = ..., piece: _Optional[bytes] = ...) -> None: ...

class HandInHeader(_message.Message):
    __slots__ = ("federation", "client", "incarnation", "attempt", "examples", "following", "session_id", "finding", "trouble")
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    federation: str
    client: str
    incarnation: int
    attempt: _split_training_pb2.Attempt
    examples: int
    following: int
    session_id: str
    finding: Finding
    trouble: str
    def __init__(self, federation: _Optional[str] = ..., client: _Optional[str] = ..., incarnation: _Optional[int] = ..., attempt: _Optional[_Union[_split_training_pb2.Attempt, _Mapping]] = ..., examples: _Optional[int] = ..., following: _Optional[int] = ..., session_id: _Optional[str] = ..., finding: _Optional[_Union[Finding, _Mapping]] = ..., trouble: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("examples", "metric", "value", "loss")
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    examples: int
    metric: str
    value: float
    loss: float
    def __init__(self, examples: _Optional[int] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., loss: _Optional[float] = ...) -> None: ...

class HandInResponse(_message.Message):
    __slots__ = ("taken", "reason")
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    taken: bool
    reason: str
    def __init__(self, taken: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...
