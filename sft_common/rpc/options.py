"""Name of the service, and options of channel and server, each with its reason."""

from __future__ import annotations

SERVICE = "sft.v1.SplitTrainingService"
"""Full name of the service, as health and reflection know it."""

FEDERATION_SERVICE = "sft.v1.FederationService"
"""The same of the service that leads federations."""

MAX_MESSAGE_MB = 64
"""Largest message, or tensor in pieces, that either side takes unless told otherwise, in 2^20
bytes. gRPC's own limit of 4 MB is less than one plain split-learning activation of BERT-base
(32 x 66 x 768 float32: 6.5 MB) or a SQuAD batch (12 x 384 x 768: 14 MB)."""

MAX_MESSAGE_BYTES = MAX_MESSAGE_MB * 2**20

MOST_MESSAGE_MB = 1024
"""gRPC and protocol buffers count bytes in 31 bits."""

PROBE_BYTES = 2**20
"""Most bytes that a greeting carries either way to measure the link."""


def sized(options: list[tuple[str, int]], max_message_bytes: int) -> list[tuple[str, int]]:
    """Return options with the largest message that a side takes and sends."""
    return [
        *options,
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
    ]


CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # Clients of one process would otherwise share a connection and its flow-control window.
    ("grpc.use_local_subchannel_pool", 1),
    # The first retries of a connection come soon: an edge often starts together with its cloud.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # An HTTP proxy of the environment is for web pages, not for a stream of activations.
    ("grpc.enable_http_proxy", 0),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    # Two servers on one port would share its connections silently; the second must fail instead.
    ("grpc.so_reuseport", 0),
    # Half of an edge's shortest --keepalive, so that its pings are never "too many": gRPC's own
    # five minutes would end a session that is silent for four.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # An edge has one stream, and one more to follow or to fetch.
    ("grpc.max_concurrent_streams", 100),
]


PING_ANSWERS = 3
"""The answer to a ping may take so many times what TCP's own may: on a slow link it waits behind
the megabytes that the kernel has taken. Ending the connection would send them all once more."""


def pinged(
    options: list[tuple[str, int]], seconds: float, answer_seconds: float
) -> list[tuple[str, int]]:
    """Return options with which a side finds out that its peer is gone.

    Balancers drop connections that are silent, some after 4 minutes: a ping is traffic to them.

    Args:
        options: more of them.
        seconds: after so long without traffic the peer is pinged.
        answer_seconds: it is gone if TCP acknowledges nothing for so long, or if no ping is
            answered for `PING_ANSWERS` times that.
    """
    answer_ms = round(1000 * answer_seconds)
    return [
        *options,
        ("grpc.keepalive_time_ms", round(1000 * seconds)),
        # The first is TCP_USER_TIMEOUT; an answer has the second, a minute unless it is set.
        ("grpc.keepalive_timeout_ms", answer_ms),
        ("grpc.http2.ping_timeout_ms", PING_ANSWERS * answer_ms),
        # An edge would ping once a minute from the third ping without data on, whatever it is told.
        ("grpc.http2.max_pings_without_data", 0),
    ]
