"""The limits, as the contract states them."""

from .stubs import key_value_pb2 as kv

KEY_BYTES_MAX = 1024
BATCH_ITEMS_MAX = 1000
BATCH_BYTES_MAX = 8 << 20
PAGE_ROWS_MAX = 1000
SLOTS = 65_536

# A full batch, or the largest value, with some room.
MESSAGE_BYTES_MAX = 17 << 20

# 100 years of 365.25 days.
TTL_SECONDS_MAX = 3_155_760_000


def filled(bytes_total, start=b""):
    """A key or value of exactly so many bytes."""
    return start.ljust(bytes_total, b"\xfe")


def writes_of(bytes_total, prefix, count=16):
    """Puts whose keys and values have so many bytes together."""
    writes = [kv.Write(put=kv.PutRequest(key=prefix + b"%02d" % index)) for index in range(count)]
    left = bytes_total - sum(len(write.put.key) for write in writes)
    for write in writes:
        write.put.value = filled(min(left, bytes_total // count))
        left -= len(write.put.value)
    assert left == 0, f"{left} bytes do not fit"
    return writes
