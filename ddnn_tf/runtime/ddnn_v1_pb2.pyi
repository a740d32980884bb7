from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Task(_message.Message):
    __slots__ = ("sample", "label")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    sample: int
    label: int
    def __init__(self, sample: _Optional[int] = ..., label: _Optional[int] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("ticket", "label", "probabilities", "exit", "tiers", "links", "degraded", "reason", "seconds", "class_name")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    label: int
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    exit: str
    tiers: _containers.RepeatedCompositeFieldContainer[TierReport]
    links: _containers.RepeatedCompositeFieldContainer[LinkBytes]
    degraded: bool
    reason: str
    seconds: float
    class_name: str
    def __init__(self, ticket: _Optional[int] = ..., label: _Optional[int] = ..., probabilities: _Optional[_Iterable[float]] = ..., exit: _Optional[str] = ..., tiers: _Optional[_Iterable[_Union[TierReport, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[LinkBytes, _Mapping]]] = ..., degraded: _Optional[bool] = ..., reason: _Optional[str] = ..., seconds: _Optional[float] = ..., class_name: _Optional[str] = ...) -> None: ...

class TierReport(_message.Message):
    __slots__ = ("tier", "entropy", "devices", "seconds")
    TIER_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    tier: str
    entropy: float
    devices: _containers.RepeatedScalarFieldContainer[str]
    seconds: float
    def __init__(self, tier: _Optional[str] = ..., entropy: _Optional[float] = ..., devices: _Optional[_Iterable[str]] = ..., seconds: _Optional[float] = ...) -> None: ...

class LinkBytes(_message.Message):
    __slots__ = ("link", "payload")
    LINK_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    link: str
    payload: int
    def __init__(self, link: _Optional[str] = ..., payload: _Optional[int] = ...) -> None: ...

class Orders(_message.Message):
    __slots__ = ("sense", "offload", "preview", "skip")
    SENSE_FIELD_NUMBER: _ClassVar[int]
    OFFLOAD_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    sense: _containers.RepeatedCompositeFieldContainer[Sense]
    offload: _containers.RepeatedCompositeFieldContainer[Sense]
    preview: bool
    skip: _containers.RepeatedCompositeFieldContainer[Sense]
    def __init__(self, sense: _Optional[_Iterable[_Union[Sense, _Mapping]]] = ..., offload: _Optional[_Iterable[_Union[Sense, _Mapping]]] = ..., preview: _Optional[bool] = ..., skip: _Optional[_Iterable[_Union[Sense, _Mapping]]] = ...) -> None: ...

class Sense(_message.Message):
    __slots__ = ("ticket", "sample")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    sample: int
    def __init__(self, ticket: _Optional[int] = ..., sample: _Optional[int] = ...) -> None: ...

class Reports(_message.Message):
    __slots__ = ("vectors", "preview")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Payload]
    preview: bytes
    def __init__(self, vectors: _Optional[_Iterable[_Union[Payload, _Mapping]]] = ..., preview: _Optional[bytes] = ...) -> None: ...

class Payload(_message.Message):
    __slots__ = ("ticket", "content", "absent")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    content: bytes
    absent: bool
    def __init__(self, ticket: _Optional[int] = ..., content: _Optional[bytes] = ..., absent: _Optional[bool] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("maps",)
    MAPS_FIELD_NUMBER: _ClassVar[int]
    maps: _containers.RepeatedCompositeFieldContainer[Payload]
    def __init__(self, maps: _Optional[_Iterable[_Union[Payload, _Mapping]]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Question(_message.Message):
    __slots__ = ("ticket", "senders", "thresholds", "awaited", "past_receiver", "devices")
    class ThresholdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TICKET_FIELD_NUMBER: _ClassVar[int]
    SENDERS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    PAST_RECEIVER_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    senders: _containers.RepeatedScalarFieldContainer[str]
    thresholds: _containers.ScalarMap[str, float]
    awaited: _containers.RepeatedScalarFieldContainer[str]
    past_receiver: bool
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ticket: _Optional[int] = ..., senders: _Optional[_Iterable[str]] = ..., thresholds: _Optional[_Mapping[str, float]] = ..., awaited: _Optional[_Iterable[str]] = ..., past_receiver: _Optional[bool] = ..., devices: _Optional[_Iterable[str]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("exits", "degraded", "reason")
    EXITS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    exits: _containers.RepeatedCompositeFieldContainer[ExitReport]
    degraded: bool
    reason: str
    def __init__(self, exits: _Optional[_Iterable[_Union[ExitReport, _Mapping]]] = ..., degraded: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ExitReport(_message.Message):
    __slots__ = ("name", "logits", "senders", "seconds", "absent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    SENDERS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    logits: bytes
    senders: _containers.RepeatedScalarFieldContainer[str]
    seconds: float
    absent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., logits: _Optional[bytes] = ..., senders: _Optional[_Iterable[str]] = ..., seconds: _Optional[float] = ..., absent: _Optional[_Iterable[str]] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("sample", "codes")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    sample: int
    codes: bytes
    def __init__(self, sample: _Optional[int] = ..., codes: _Optional[bytes] = ...) -> None: ...
