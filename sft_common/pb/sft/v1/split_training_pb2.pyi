from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ElementType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ELEMENT_TYPE_UNSPECIFIED: _ClassVar[ElementType]
    ELEMENT_TYPE_FLOAT32: _ClassVar[ElementType]
    ELEMENT_TYPE_FLOAT16: _ClassVar[ElementType]
    ELEMENT_TYPE_BFLOAT16: _ClassVar[ElementType]
    ELEMENT_TYPE_INT8: _ClassVar[ElementType]
    ELEMENT_TYPE_INT4: _ClassVar[ElementType]
ELEMENT_TYPE_UNSPECIFIED: ElementType
ELEMENT_TYPE_FLOAT32: ElementType
ELEMENT_TYPE_FLOAT16: ElementType
ELEMENT_TYPE_BFLOAT16: ElementType
ELEMENT_TYPE_INT8: ElementType
ELEMENT_TYPE_INT4: ElementType

class GreetRequest(_message.Message):
    __slots__ = ("payload", "answer_bytes")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    answer_bytes: int
    def __init__(self, payload: _Optional[bytes] = ..., answer_bytes: _Optional[int] = ...) -> None: ...

class GreetResponse(_message.Message):
    __slots__ = ("protocol_version", "software_version", "clock_seconds", "device", "max_message_bytes", "snapshots", "free_memory_bytes", "free_places", "draining", "payload")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    FREE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_PLACES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    software_version: str
    clock_seconds: float
    device: str
    max_message_bytes: int
    snapshots: bool
    free_memory_bytes: int
    free_places: int
    draining: bool
    payload: bytes
    def __init__(self, protocol_version: _Optional[int] = ..., software_version: _Optional[str] = ..., clock_seconds: _Optional[float] = ..., device: _Optional[str] = ..., max_message_bytes: _Optional[int] = ..., snapshots: _Optional[bool] = ..., free_memory_bytes: _Optional[int] = ..., free_places: _Optional[int] = ..., draining: _Optional[bool] = ..., payload: _Optional[bytes] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("session_id", "from_event")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_EVENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    from_event: int
    def __init__(self, session_id: _Optional[str] = ..., from_event: _Optional[int] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("stepped", "judged", "finished")
    STEPPED_FIELD_NUMBER: _ClassVar[int]
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    stepped: Stepped
    judged: Judged
    finished: Finished
    def __init__(self, stepped: _Optional[_Union[Stepped, _Mapping]] = ..., judged: _Optional[_Union[Judged, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Stepped(_message.Message):
    __slots__ = ("step", "epoch", "loss", "learning_rate")
    STEP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    step: int
    epoch: int
    loss: float
    learning_rate: float
    def __init__(self, step: _Optional[int] = ..., epoch: _Optional[int] = ..., loss: _Optional[float] = ..., learning_rate: _Optional[float] = ...) -> None: ...

class Judged(_message.Message):
    __slots__ = ("step", "part", "logits")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    step: int
    part: int
    logits: Tensor
    def __init__(self, step: _Optional[int] = ..., part: _Optional[int] = ..., logits: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("steps", "saved", "cloud_seconds")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    CLOUD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    steps: int
    saved: bool
    cloud_seconds: float
    def __init__(self, steps: _Optional[int] = ..., saved: _Optional[bool] = ..., cloud_seconds: _Optional[float] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("data", "total_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    total_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class TrainRequest(_message.Message):
    __slots__ = ("step", "apply", "evaluate", "open", "close", "store", "run", "piece", "keep", "resume", "park", "forward", "backward", "ask_norms", "weights", "factor", "save", "drop")
    STEP_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    PARK_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_FIELD_NUMBER: _ClassVar[int]
    ASK_NORMS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    SAVE_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    step: Step
    apply: Apply
    evaluate: Evaluate
    open: Open
    close: Close
    store: Store
    run: Run
    piece: Piece
    keep: Keep
    resume: Resume
    park: Park
    forward: Forward
    backward: Backward
    ask_norms: AskNorms
    weights: Weights
    factor: Factor
    save: Save
    drop: Drop
    def __init__(self, step: _Optional[_Union[Step, _Mapping]] = ..., apply: _Optional[_Union[Apply, _Mapping]] = ..., evaluate: _Optional[_Union[Evaluate, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., store: _Optional[_Union[Store, _Mapping]] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., piece: _Optional[_Union[Piece, _Mapping]] = ..., keep: _Optional[_Union[Keep, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., park: _Optional[_Union[Park, _Mapping]] = ..., forward: _Optional[_Union[Forward, _Mapping]] = ..., backward: _Optional[_Union[Backward, _Mapping]] = ..., ask_norms: _Optional[_Union[AskNorms, _Mapping]] = ..., weights: _Optional[_Union[Weights, _Mapping]] = ..., factor: _Optional[_Union[Factor, _Mapping]] = ..., save: _Optional[_Union[Save, _Mapping]] = ..., drop: _Optional[_Union[Drop, _Mapping]] = ...) -> None: ...

class TrainResponse(_message.Message):
    __slots__ = ("step_result", "evaluation", "opened", "closed", "running", "piece", "resumed", "parked", "forward_result", "norms", "saved")
    STEP_RESULT_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    FORWARD_RESULT_FIELD_NUMBER: _ClassVar[int]
    NORMS_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    step_result: StepResult
    evaluation: Evaluation
    opened: Opened
    closed: Closed
    running: Running
    piece: Piece
    resumed: Resumed
    parked: Parked
    forward_result: ForwardResult
    norms: Norms
    saved: Saved
    def __init__(self, step_result: _Optional[_Union[StepResult, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ..., running: _Optional[_Union[Running, _Mapping]] = ..., piece: _Optional[_Union[Piece, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., parked: _Optional[_Union[Parked, _Mapping]] = ..., forward_result: _Optional[_Union[ForwardResult, _Mapping]] = ..., norms: _Optional[_Union[Norms, _Mapping]] = ..., saved: _Optional[_Union[Saved, _Mapping]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("data", "shape", "element_type", "following")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    shape: _containers.RepeatedScalarFieldContainer[int]
    element_type: ElementType
    following: int
    def __init__(self, data: _Optional[bytes] = ..., shape: _Optional[_Iterable[int]] = ..., element_type: _Optional[_Union[ElementType, str]] = ..., following: _Optional[int] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Autocast(_message.Message):
    __slots__ = ("computes", "activation")
    COMPUTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    computes: ElementType
    activation: ElementType
    def __init__(self, computes: _Optional[_Union[ElementType, str]] = ..., activation: _Optional[_Union[ElementType, str]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("step", "activation", "lengths", "labels", "numbers", "exchange", "share", "apart", "autocast")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    APART_FIELD_NUMBER: _ClassVar[int]
    AUTOCAST_FIELD_NUMBER: _ClassVar[int]
    step: int
    activation: Tensor
    lengths: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[int]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    exchange: int
    share: float
    apart: bool
    autocast: Autocast
    def __init__(self, step: _Optional[int] = ..., activation: _Optional[_Union[Tensor, _Mapping]] = ..., lengths: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[int]] = ..., numbers: _Optional[_Iterable[float]] = ..., exchange: _Optional[int] = ..., share: _Optional[float] = ..., apart: _Optional[bool] = ..., autocast: _Optional[_Union[Autocast, _Mapping]] = ...) -> None: ...

class Factor(_message.Message):
    __slots__ = ("step", "exchange", "factor")
    STEP_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    step: int
    exchange: int
    factor: float
    def __init__(self, step: _Optional[int] = ..., exchange: _Optional[int] = ..., factor: _Optional[float] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("step", "activation", "lengths", "exchange", "evaluation", "autocast")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    AUTOCAST_FIELD_NUMBER: _ClassVar[int]
    step: int
    activation: Tensor
    lengths: _containers.RepeatedScalarFieldContainer[int]
    exchange: int
    evaluation: bool
    autocast: Autocast
    def __init__(self, step: _Optional[int] = ..., activation: _Optional[_Union[Tensor, _Mapping]] = ..., lengths: _Optional[_Iterable[int]] = ..., exchange: _Optional[int] = ..., evaluation: _Optional[bool] = ..., autocast: _Optional[_Union[Autocast, _Mapping]] = ...) -> None: ...

class ForwardResult(_message.Message):
    __slots__ = ("step", "logits", "cloud_time", "exchange")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    CLOUD_TIME_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    step: int
    logits: Tensor
    cloud_time: CloudTime
    exchange: int
    def __init__(self, step: _Optional[int] = ..., logits: _Optional[_Union[Tensor, _Mapping]] = ..., cloud_time: _Optional[_Union[CloudTime, _Mapping]] = ..., exchange: _Optional[int] = ...) -> None: ...

class Backward(_message.Message):
    __slots__ = ("step", "gradient", "exchange", "forward")
    STEP_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    step: int
    gradient: Tensor
    exchange: int
    forward: int
    def __init__(self, step: _Optional[int] = ..., gradient: _Optional[_Union[Tensor, _Mapping]] = ..., exchange: _Optional[int] = ..., forward: _Optional[int] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("step", "loss", "gradient", "cloud_time", "exchange", "kept", "notice")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    CLOUD_TIME_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    gradient: Tensor
    cloud_time: CloudTime
    exchange: int
    kept: int
    notice: str
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ..., gradient: _Optional[_Union[Tensor, _Mapping]] = ..., cloud_time: _Optional[_Union[CloudTime, _Mapping]] = ..., exchange: _Optional[int] = ..., kept: _Optional[int] = ..., notice: _Optional[str] = ...) -> None: ...

class Keep(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class Save(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: str
    def __init__(self, state: _Optional[str] = ...) -> None: ...

class Saved(_message.Message):
    __slots__ = ("trouble",)
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    trouble: str
    def __init__(self, trouble: _Optional[str] = ...) -> None: ...

class Drop(_message.Message):
    __slots__ = ("step", "number", "groups")
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    step: int
    number: int
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, step: _Optional[int] = ..., number: _Optional[int] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("applied", "exchanges", "stored")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    applied: int
    exchanges: int
    stored: int
    def __init__(self, applied: _Optional[int] = ..., exchanges: _Optional[int] = ..., stored: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("session_id", "open", "incarnation", "confirmed", "sent", "snapshots", "state", "replaces")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    open: Open
    incarnation: int
    confirmed: Position
    sent: Position
    snapshots: _containers.RepeatedScalarFieldContainer[int]
    state: str
    replaces: str
    def __init__(self, session_id: _Optional[str] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., incarnation: _Optional[int] = ..., confirmed: _Optional[_Union[Position, _Mapping]] = ..., sent: _Optional[_Union[Position, _Mapping]] = ..., snapshots: _Optional[_Iterable[int]] = ..., state: _Optional[str] = ..., replaces: _Optional[str] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("position", "rewound", "max_message_bytes", "device", "snapshots")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REWOUND_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    position: Position
    rewound: bool
    max_message_bytes: int
    device: str
    snapshots: bool
    def __init__(self, position: _Optional[_Union[Position, _Mapping]] = ..., rewound: _Optional[bool] = ..., max_message_bytes: _Optional[int] = ..., device: _Optional[str] = ..., snapshots: _Optional[bool] = ...) -> None: ...

class Park(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Parked(_message.Message):
    __slots__ = ("kept",)
    KEPT_FIELD_NUMBER: _ClassVar[int]
    kept: bool
    def __init__(self, kept: _Optional[bool] = ...) -> None: ...

class Apply(_message.Message):
    __slots__ = ("step", "learning_rate", "exchanges", "groups")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    step: int
    learning_rate: float
    exchanges: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupUpdate]
    def __init__(self, step: _Optional[int] = ..., learning_rate: _Optional[float] = ..., exchanges: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupUpdate, _Mapping]]] = ...) -> None: ...

class GroupUpdate(_message.Message):
    __slots__ = ("settings", "scale", "skipped")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    settings: _containers.RepeatedCompositeFieldContainer[Setting]
    scale: float
    skipped: bool
    def __init__(self, settings: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ..., scale: _Optional[float] = ..., skipped: _Optional[bool] = ...) -> None: ...

class Weights(_message.Message):
    __slots__ = ("name", "rows", "first")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    name: str
    rows: Tensor
    first: int
    def __init__(self, name: _Optional[str] = ..., rows: _Optional[_Union[Tensor, _Mapping]] = ..., first: _Optional[int] = ...) -> None: ...

class Known(_message.Message):
    __slots__ = ("name", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: bytes
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[bytes] = ...) -> None: ...

class AskNorms(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Norms(_message.Message):
    __slots__ = ("norms",)
    NORMS_FIELD_NUMBER: _ClassVar[int]
    norms: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, norms: _Optional[_Iterable[float]] = ...) -> None: ...

class Evaluate(_message.Message):
    __slots__ = ("activation", "lengths", "labels", "every_token", "autocast")
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    EVERY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUTOCAST_FIELD_NUMBER: _ClassVar[int]
    activation: Tensor
    lengths: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[int]
    every_token: bool
    autocast: Autocast
    def __init__(self, activation: _Optional[_Union[Tensor, _Mapping]] = ..., lengths: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[int]] = ..., every_token: _Optional[bool] = ..., autocast: _Optional[_Union[Autocast, _Mapping]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("logits", "cloud_time")
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    CLOUD_TIME_FIELD_NUMBER: _ClassVar[int]
    logits: Tensor
    cloud_time: CloudTime
    def __init__(self, logits: _Optional[_Union[Tensor, _Mapping]] = ..., cloud_time: _Optional[_Union[CloudTime, _Mapping]] = ...) -> None: ...

class CloudTime(_message.Message):
    __slots__ = ("total", "queue", "compute")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    total: float
    queue: float
    compute: float
    def __init__(self, total: _Optional[float] = ..., queue: _Optional[float] = ..., compute: _Optional[float] = ...) -> None: ...

class Store(_message.Message):
    __slots__ = ("part", "activation", "lengths", "labels", "numbers")
    PART_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    part: int
    activation: Tensor
    lengths: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[int]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, part: _Optional[int] = ..., activation: _Optional[_Union[Tensor, _Mapping]] = ..., lengths: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[int]] = ..., numbers: _Optional[_Iterable[float]] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("epochs", "max_steps", "batch_size", "learning_rate", "seed", "group_by_length")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_LENGTH_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    max_steps: int
    batch_size: int
    learning_rate: float
    seed: int
    group_by_length: bool
    def __init__(self, epochs: _Optional[int] = ..., max_steps: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., seed: _Optional[int] = ..., group_by_length: _Optional[bool] = ...) -> None: ...

class Running(_message.Message):
    __slots__ = ("total_steps",)
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    total_steps: int
    def __init__(self, total_steps: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol_version", "model", "split", "optimizer", "num_labels", "seed", "dropout", "head", "basis", "trained_session", "encoding", "gradient_encoding", "replaces", "incarnation", "max_examples", "max_tokens", "own_optimizer", "known", "tail", "prompts", "federation")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    NUM_LABELS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DROPOUT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_SESSION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MAX_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OWN_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    model: Model
    split: Split
    optimizer: Optimizer
    num_labels: int
    seed: int
    dropout: float
    head: str
    basis: Basis
    trained_session: str
    encoding: ElementType
    gradient_encoding: ElementType
    replaces: str
    incarnation: int
    max_examples: int
    max_tokens: int
    own_optimizer: OwnOptimizer
    known: _containers.RepeatedCompositeFieldContainer[Known]
    tail: Tail
    prompts: int
    federation: FederationPart
    def __init__(self, protocol_version: _Optional[int] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., split: _Optional[_Union[Split, _Mapping]] = ..., optimizer: _Optional[_Union[Optimizer, _Mapping]] = ..., num_labels: _Optional[int] = ..., seed: _Optional[int] = ..., dropout: _Optional[float] = ..., head: _Optional[str] = ..., basis: _Optional[_Union[Basis, _Mapping]] = ..., trained_session: _Optional[str] = ..., encoding: _Optional[_Union[ElementType, str]] = ..., gradient_encoding: _Optional[_Union[ElementType, str]] = ..., replaces: _Optional[str] = ..., incarnation: _Optional[int] = ..., max_examples: _Optional[int] = ..., max_tokens: _Optional[int] = ..., own_optimizer: _Optional[_Union[OwnOptimizer, _Mapping]] = ..., known: _Optional[_Iterable[_Union[Known, _Mapping]]] = ..., tail: _Optional[_Union[Tail, _Mapping]] = ..., prompts: _Optional[int] = ..., federation: _Optional[_Union[FederationPart, _Mapping]] = ...) -> None: ...

class FederationPart(_message.Message):
    __slots__ = ("name", "client", "incarnation", "attempt")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    client: str
    incarnation: int
    attempt: Attempt
    def __init__(self, name: _Optional[str] = ..., client: _Optional[str] = ..., incarnation: _Optional[int] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("round", "number", "life")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    round: int
    number: int
    life: int
    def __init__(self, round: _Optional[int] = ..., number: _Optional[int] = ..., life: _Optional[int] = ...) -> None: ...

class Tail(_message.Message):
    __slots__ = ("split", "encoding", "gradient_encoding", "first_row")
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    split: Split
    encoding: ElementType
    gradient_encoding: ElementType
    first_row: bool
    def __init__(self, split: _Optional[_Union[Split, _Mapping]] = ..., encoding: _Optional[_Union[ElementType, str]] = ..., gradient_encoding: _Optional[_Union[ElementType, str]] = ..., first_row: _Optional[bool] = ...) -> None: ...

class Basis(_message.Message):
    __slots__ = ("mean", "decoder")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    mean: Tensor
    decoder: Tensor
    def __init__(self, mean: _Optional[_Union[Tensor, _Mapping]] = ..., decoder: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "revision", "config_digest", "weights_digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: str
    config_digest: str
    weights_digest: str
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[str] = ..., config_digest: _Optional[str] = ..., weights_digest: _Optional[str] = ...) -> None: ...

class Split(_message.Message):
    __slots__ = ("cut", "split_layer", "rank", "decoder_layers")
    CUT_FIELD_NUMBER: _ClassVar[int]
    SPLIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    DECODER_LAYERS_FIELD_NUMBER: _ClassVar[int]
    cut: str
    split_layer: int
    rank: int
    decoder_layers: int
    def __init__(self, cut: _Optional[str] = ..., split_layer: _Optional[int] = ..., rank: _Optional[int] = ..., decoder_layers: _Optional[int] = ...) -> None: ...

class Optimizer(_message.Message):
    __slots__ = ("beta1", "beta2", "eps", "weight_decay")
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    def __init__(self, beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., eps: _Optional[float] = ..., weight_decay: _Optional[float] = ...) -> None: ...

class OwnOptimizer(_message.Message):
    __slots__ = ("algorithm", "groups")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    groups: _containers.RepeatedCompositeFieldContainer[ParameterGroup]
    def __init__(self, algorithm: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[ParameterGroup, _Mapping]]] = ...) -> None: ...

class ParameterGroup(_message.Message):
    __slots__ = ("parameters", "settings")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedScalarFieldContainer[str]
    settings: _containers.RepeatedCompositeFieldContainer[Setting]
    def __init__(self, parameters: _Optional[_Iterable[str]] = ..., settings: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ...) -> None: ...

class Setting(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("protocol_version", "session_id", "edge_factor", "max_message_bytes", "device", "snapshots", "wanted")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EDGE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    session_id: str
    edge_factor: Tensor
    max_message_bytes: int
    device: str
    snapshots: bool
    wanted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol_version: _Optional[int] = ..., session_id: _Optional[str] = ..., edge_factor: _Optional[_Union[Tensor, _Mapping]] = ..., max_message_bytes: _Optional[int] = ..., device: _Optional[str] = ..., snapshots: _Optional[bool] = ..., wanted: _Optional[_Iterable[str]] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("discard",)
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    discard: bool
    def __init__(self, discard: _Optional[bool] = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ("steps", "saved")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    steps: int
    saved: bool
    def __init__(self, steps: _Optional[int] = ..., saved: _Optional[bool] = ...) -> None: ...
