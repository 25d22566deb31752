"""A shard whose database was killed: its keys are unavailable, the others' are not."""

import time
import unittest

import grpc
from grpc_health.v1 import health_pb2 as health
from grpc_health.v1 import health_pb2_grpc

from support import refusal, scene
from support.case import PATIENCE_S, Case
from support.stubs import admin_pb2, admin_pb2_grpc
from support.stubs import key_value_pb2 as kv

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE")


class Down(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        stub = health_pb2_grpc.HealthStub(cls.channel)
        cls.watch = stub.Watch(health.HealthCheckRequest(service="shard/a"), timeout=PATIENCE_S)
        cls.check = staticmethod(
            lambda name: stub.Check(health.HealthCheckRequest(service=name)).status
        )
        cls.await_status(health.HealthCheckResponse.SERVING)
        scene.direct("kill a")
        cls.addClassCleanup(cls.come_back)
        cls.await_status(health.HealthCheckResponse.NOT_SERVING)
        # A write on a connection of which nobody knows yet that it is dead has an unknown outcome.
        try:
            cls.store.Put(kv.PutRequest(key=scene.key_on("a", b"first")), timeout=PATIENCE_S)
        except grpc.RpcError:
            pass

    @classmethod
    def await_status(cls, wanted):
        """Who watches is told of every change; the stream ends with an error if none comes."""
        assert any(answer.status == wanted for answer in cls.watch)

    @classmethod
    def come_back(cls):
        """Who watches learns of it, and what was acknowledged is there."""
        scene.direct("start a")
        cls.await_status(health.HealthCheckResponse.SERVING)
        cls.watch.cancel()
        request = kv.PutRequest(key=scene.key_on("a", b"again"), value=b"v")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return cls.store.Put(request, timeout=PATIENCE_S)
            except grpc.RpcError:
                assert time.monotonic() < deadline, "the shard does not come back"

    def setUp(self):
        super().setUp()
        self.down, self.up = (scene.key_on(shard, self.prefix) for shard in "ab")

    def assertUnavailable(self, said):
        self.assertEqual((said.code, said.reason), UNAVAILABLE, said)
        self.assertEqual(said.metadata, {"shard": "a"})
        self.assertGreater(said.retry_seconds, 0)

    def test_reads_and_writes_are_not_applied_and_told_when_to_try_again(self):
        calls = [self.put, self.get, self.delete, self.ttl, self.expire]
        for call in [*calls, self.scan]:
            self.assertUnavailable(self.refused(lambda: call(self.down)))

    def test_the_other_shard_serves(self):
        self.put(self.up, b"v")
        self.assertLive(self.up, b"v")
        self.assertEqual([row.key for row in self.scan(self.up)][:1], [self.up])

    def test_each_item_of_a_batch_has_its_own_ending(self):
        keys = [self.down, self.up]
        writes = [kv.Write(put=kv.PutRequest(key=key, value=b"v")) for key in keys]
        request = kv.BatchWriteRequest(writes=writes)
        down, up = self.store.BatchWrite(request, timeout=PATIENCE_S).results
        self.assertUnavailable(refusal.of_item(down.error))
        self.assertTrue(up.put.version)
        request = kv.BatchGetRequest(keys=keys)
        down, up = self.store.BatchGet(request, timeout=PATIENCE_S).results
        self.assertUnavailable(refusal.of_item(down.error))
        self.assertEqual(up.get.entry.value, b"v")

    def test_a_walk_over_all_slots_says_that_it_is_not_complete(self):
        self.assertUnavailable(self.refused(self.scan))

    def test_health_names_the_shard_and_the_router_stays_well(self):
        for name in ("", "freehold.v1.KeyValue", "shard/b"):
            self.assertEqual(self.check(name), health.HealthCheckResponse.SERVING, name)
        self.assertEqual(self.check("shard/a"), health.HealthCheckResponse.NOT_SERVING)

    def test_operators_are_told_which_server_and_why(self):
        with scene.channel(scene.ADMIN) as channel:
            admin = admin_pb2_grpc.AdminStub(channel)
            shards = admin.ListShards(admin_pb2.ListShardsRequest()).shards
            explained = admin.Explain(admin_pb2.ExplainRequest(key=self.down))
            request = admin_pb2.ListSweepersRequest(dry_run=True)
            sweepers = admin.ListSweepers(request).sweepers
        usable = {shard.name: shard.servers[0].usable for shard in shards}
        self.assertEqual(usable, {"a": False, "b": True})
        self.assertTrue(shards[0].servers[0].reason)
        self.assertEqual((explained.shard, explained.HasField("row")), ("a", False))
        self.assertTrue(explained.row_error)
        self.assertEqual([bool(sweeper.error) for sweeper in sweepers], [True, False])


if __name__ == "__main__":
    unittest.main()
