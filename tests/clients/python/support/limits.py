"""The limits, as the contract states them."""

from google.protobuf import duration_pb2

KEY_BYTES_MAX = 1024
BATCH_ITEMS_MAX = 1000
BATCH_BYTES_MAX = 8 << 20
PAGE_ROWS_MAX = 1000

# A full batch, or the largest value, with some room.
MESSAGE_BYTES_MAX = 17 << 20

# 100 years of 365.25 days.
TTL_SECONDS_MAX = 3_155_760_000


def duration(seconds=0, nanos=0):
    return duration_pb2.Duration(seconds=seconds, nanos=nanos)


def filled(bytes_total, start=b""):
    """A key or value of exactly so many bytes."""
    return start.ljust(bytes_total, b"\xfe")
