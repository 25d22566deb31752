"""A database that answers and does not do what it was asked, a full router, and one that ends."""

import time
import unittest

import grpc
from test_pipeline import Pipe, request

from support import refusal, scene
from support.case import PATIENCE_S, Case
from support.stubs import key_value_pb2 as kv

# The config of this scene lets so many calls run at once.
CALLS_MAX = 8


class Database(Case):
    def setUp(self):
        super().setUp()
        self.key_on_a = scene.key_on("a", self.prefix)
        self.put(self.key_on_a, b"before")

    def on_a(self, statements, afterwards):
        scene.direct(f"sql a {statements}")
        self.addCleanup(scene.direct, f"sql a {afterwards}")

    def assertSays(self, said, code, reason):
        self.assertEqual((said.code, said.reason), (code, reason), said)
        self.assertIn("shard", said.message + str(said.metadata))

    def test_a_row_that_somebody_locks_is_busy_and_not_written(self):
        self.on_a("START TRANSACTION; UPDATE store SET version = version + 1", "ROLLBACK")
        for call in (self.put, self.delete, self.expire):
            said = self.refused(lambda: call(self.key_on_a))
            self.assertSays(said, grpc.StatusCode.UNAVAILABLE, "DATABASE_BUSY")
            self.assertGreater(said.retry_seconds, 0)
        # Reads wait for nobody's lock, and an item of a batch is told the same.
        self.assertLive(self.key_on_a, b"before")
        write = kv.Write(put=kv.PutRequest(key=self.key_on_a))
        batch = kv.BatchWriteRequest(writes=[write])
        [result] = self.store.BatchWrite(batch, timeout=PATIENCE_S).results
        said = refusal.of_item(result.error)
        self.assertSays(said, grpc.StatusCode.UNAVAILABLE, "DATABASE_BUSY")

    def test_a_table_that_is_gone_is_for_people_to_mend(self):
        self.on_a("RENAME TABLE store TO stored_away", "RENAME TABLE stored_away TO store")
        for call in (self.put, self.get, self.delete, self.ttl, self.expire, self.scan):
            said = self.refused(lambda: call(self.key_on_a))
            self.assertSays(said, grpc.StatusCode.FAILED_PRECONDITION, "SCHEMA")
            self.assertIsNone(said.retry_seconds, "it does not go away by itself")


class Router(Case):
    def setUp(self):
        super().setUp()
        self.pipes = []

    def stream(self):
        """A stream that the router has taken, and that stays open."""
        pipe = Pipe(self.store)
        self.pipes.append(pipe)
        self.addCleanup(pipe.close)
        pipe.send(request(1, get=kv.GetRequest(key=self.key())))
        pipe.receive(1)
        return pipe

    def wait_until_served(self):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.put(self.key())
            except grpc.RpcError:
                assert time.monotonic() < deadline, "the router does not serve again"

    def test_a_router_with_as_many_calls_as_it_may_have_takes_no_more(self):
        for _ in range(CALLS_MAX):
            self.stream()
        for call in (lambda: self.get(self.key()), lambda: self.put(self.key()), self.stream):
            said = self.refused(call)
            self.assertEqual(
                (said.code, said.reason), (grpc.StatusCode.RESOURCE_EXHAUSTED, "ROUTER_FULL")
            )
            self.assertGreater(said.retry_seconds, 0)
            self.assertIn("server.calls_max", said.message)
            self.assertIn(str(CALLS_MAX), said.message)
        for pipe in self.pipes:
            pipe.close()
        self.wait_until_served()

    def test_a_router_that_ends_gives_back_what_it_did_not_take(self):
        pipe = self.stream()
        scene.direct("drain")
        self.addCleanup(self.wait_until_served)
        self.addCleanup(scene.direct, "serve")
        said = self.refused(lambda: list(pipe.answers))
        self.assertEqual((said.code, said.reason), (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"))
        self.assertGreater(said.retry_seconds, 0)


if __name__ == "__main__":
    unittest.main()
