"""Name of the service, and options of channel and server, each with its reason."""

from __future__ import annotations

SERVICE = "sft.v1.SplitTrainingService"
"""Full name of the service, as health and reflection know it."""

MAX_MESSAGE_MB = 64
"""Largest message, or tensor in pieces, that either side takes unless told otherwise, in 2^20
bytes. gRPC's own limit of 4 MB is less than one plain split-learning activation of BERT-base
(32 x 66 x 768 float32: 6.5 MB) or a SQuAD batch (12 x 384 x 768: 14 MB)."""

MAX_MESSAGE_BYTES = MAX_MESSAGE_MB * 2**20

MOST_MESSAGE_MB = 1024
"""gRPC and protocol buffers count bytes in 31 bits."""


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
    # A dead peer is noticed while a reply is awaited; well under a balancer's 4 idle minutes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The first retries of a connection come soon: an edge often starts together with its cloud.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # An HTTP proxy of the environment is for web pages, not for a stream of activations.
    ("grpc.enable_http_proxy", 0),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    # Two servers on one port would share its connections silently; the second must fail instead.
    ("grpc.so_reuseport", 0),
    # Half the client's ping interval, so that its pings are never "too many".
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]
