"""The service for operators, on its own listener."""

import unittest

import grpc

from support import scene
from support.case import PATIENCE_S, Case, duration
from support.stubs import admin_pb2, admin_pb2_grpc, key_value_pb2_grpc
from support.stubs import key_value_pb2 as kv

SLOTS = 65_536


class Admin(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = admin_pb2_grpc.AdminStub(cls.enterClassContext(scene.channel(scene.ADMIN)))

    def explain(self, key):
        return self.admin.Explain(admin_pb2.ExplainRequest(key=key), timeout=PATIENCE_S)

    def sweepers(self, **request):
        request = admin_pb2.ListSweepersRequest(**request)
        return self.admin.ListSweepers(request, timeout=PATIENCE_S).sweepers

    def pause(self, paused, shard=""):
        request = admin_pb2.PauseSweepersRequest(paused=paused, shard=shard)
        return self.admin.PauseSweepers(request, timeout=PATIENCE_S).sweepers

    def test_the_shards_own_every_slot_and_show_their_servers(self):
        shards = self.admin.ListShards(admin_pb2.ListShardsRequest(), timeout=PATIENCE_S).shards
        self.assertEqual(sum(shard.slots_owned for shard in shards), SLOTS)
        if scene.TAGS:
            self.assertEqual([shard.name for shard in shards], list(scene.TAGS))
        for shard in shards:
            self.assertGreater(shard.epoch, 0)
            [master] = shard.servers
            self.assertEqual(master.role, admin_pb2.SERVER_ROLE_MASTER)
            self.assertTrue(master.usable, master.reason)
            self.assertNotIn("@", master.address, "no credentials")

    def test_explain_shows_the_way_from_hash_to_row(self):
        for key, tag, slot in ((b"user:1", b"user:1", 15191), (b"{user:1}:cart", b"user:1", 15191)):
            self.put(key, b"12345", ttl=duration(60))
            answer = self.explain(key)
            self.assertEqual((answer.tag, answer.slot, answer.hash >> 48), (tag, slot, slot))
            self.assertEqual(answer.slot_state, "owned")
            self.assertEqual(answer.shard, self.get(key).served.shard)
            self.assertTrue(answer.row.live and answer.row.HasField("ttl"), answer)
            self.assertEqual(answer.row.version, self.get(key).entry.version)
            self.assertEqual(answer.row.value_bytes, 5)

    def test_explain_shows_a_key_that_is_not_there(self):
        answer = self.explain(self.key())
        self.assertFalse(answer.HasField("row") or answer.row_error, answer)

    def test_sweepers_are_listed_and_paused(self):
        names = [sweeper.shard for sweeper in self.sweepers(dry_run=True)]
        if scene.TAGS:
            self.assertEqual(names, list(scene.TAGS))
        for sweeper in self.pause(True, names[0]):
            self.assertEqual((sweeper.shard, sweeper.paused, sweeper.error), (names[0], True, ""))
        self.addCleanup(self.pause, False)
        self.assertEqual({one.shard for one in self.sweepers() if one.paused}, {names[0]})
        self.assertFalse(any(sweeper.paused for sweeper in self.pause(False)))
        self.assertEqual([one.shard for one in self.sweepers(shard=names[-1])], names[-1:])

    def test_bad_input_names_its_field(self):
        said = self.refused(lambda: self.explain(b""))
        self.assertInvalid(said, "key", "1024")
        said = self.refused(lambda: self.sweepers(shard="nowhere"))
        self.assertInvalid(said, "shard", "nowhere")
        said = self.refused(lambda: self.pause(True, "nowhere"))
        self.assertInvalid(said, "shard", "nowhere")

    def test_it_is_not_on_the_public_listener(self):
        admin = admin_pb2_grpc.AdminStub(self.channel)
        calls = [
            lambda: admin.ListShards(admin_pb2.ListShardsRequest(), timeout=PATIENCE_S),
            lambda: admin.Explain(admin_pb2.ExplainRequest(key=b"k"), timeout=PATIENCE_S),
            lambda: admin.ListSweepers(admin_pb2.ListSweepersRequest(), timeout=PATIENCE_S),
            lambda: admin.PauseSweepers(admin_pb2.PauseSweepersRequest(), timeout=PATIENCE_S),
        ]
        for call in calls:
            said = self.refused(call)
            self.assertEqual(said.code, grpc.StatusCode.UNIMPLEMENTED)
            self.assertIn("this listener", said.message)

    def test_keys_are_not_on_the_admin_listener(self):
        with scene.channel(scene.ADMIN) as channel:
            store = key_value_pb2_grpc.KeyValueStub(channel)
            said = self.refused(lambda: store.Get(kv.GetRequest(key=b"k"), timeout=PATIENCE_S))
        self.assertEqual(said.code, grpc.StatusCode.UNIMPLEMENTED)


if __name__ == "__main__":
    unittest.main()
