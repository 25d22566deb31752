"""The class that all tests derive from."""

import secrets
import unittest

import grpc
from google.protobuf import duration_pb2

from . import refusal, scene
from .stubs import key_value_pb2 as kv
from .stubs import key_value_pb2_grpc

# For calls that are not about deadlines: long enough for a machine that is busy.
PATIENCE_S = 60


def duration(seconds=0, nanos=0):
    return duration_pb2.Duration(seconds=seconds, nanos=nanos)


def milliseconds(ms):
    return duration(ms // 1000, ms % 1000 * 1_000_000)


class Case(unittest.TestCase):
    """One connection per class, and keys that no other test has.

    The keys of a test share a tag, so they are one slot's, and a scan over them is short. Tests
    that are about many slots call `untagged`.
    """

    @classmethod
    def setUpClass(cls):
        cls.channel = cls.enterClassContext(scene.channel())
        cls.store = key_value_pb2_grpc.KeyValueStub(cls.channel)

    def setUp(self):
        self.prefix = b"{%s}/" % secrets.token_hex(6).encode()

    def untagged(self):
        """From here on this test's keys are spread over all slots and shards."""
        self.prefix = self.prefix.translate(None, b"{}")

    def key(self, name=b"k"):
        return self.prefix + name

    # The methods on one key, in as few words as tests want.

    def put(self, key, value=b"v", ttl=None):
        return self.store.Put(kv.PutRequest(key=key, value=value, ttl=ttl), timeout=PATIENCE_S)

    def get(self, key, read=None):
        return self.store.Get(kv.GetRequest(key=key, read=read), timeout=PATIENCE_S)

    def delete(self, key):
        return self.store.Delete(kv.DeleteRequest(key=key), timeout=PATIENCE_S)

    def ttl(self, key):
        return self.store.Ttl(kv.TtlRequest(key=key), timeout=PATIENCE_S)

    def expire(self, key, ttl=None):
        return self.store.Expire(kv.ExpireRequest(key=key, ttl=ttl), timeout=PATIENCE_S)

    def scan(self, prefix=b"", **more):
        return list(self.store.Scan(kv.ScanRequest(prefix=prefix, **more), timeout=PATIENCE_S))

    def assertLive(self, key, value):
        """The key is there, with this value."""
        answer = self.get(key)
        self.assertTrue(answer.HasField("entry"), f"{key!r} is not there")
        self.assertEqual(answer.entry.value, value)

    def assertGone(self, key):
        """The key is not there, which is an answer and no error."""
        self.assertFalse(self.get(key).HasField("entry"), f"{key!r} is there")

    # Refusals.

    def refused(self, call):
        """Runs the call; what the router refused it with."""
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        said = refusal.of_call(raised.exception)
        self.assertTrue(said.is_the_routers, f"not the router's own words: {said}")
        return said

    def assertInvalid(self, said, field, *words):
        """It is the caller's mistake; field and words say where and what is allowed."""
        self.assertEqual((said.code, said.reason), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID"))
        self.assertEqual((said.field, said.metadata), (field, {"field": field}), said)
        self.assertIsNone(said.retry_seconds, "the same request never succeeds")
        for word in words:
            self.assertIn(str(word), said.description)
            self.assertIn(str(word), said.message)
