"""A shard whose database stands still: every call ends by its deadline, in the router's own words.

Those came before the client's deadline, or its library would have made a status of its own. Shard a
is frozen under traffic while the class is set up, and thawed at its end.
"""

import time
import unittest

import grpc

from support import refusal, scene
from support.case import PATIENCE_S, Case, duration
from support.stubs import key_value_pb2 as kv
from support.traffic import DEADLINE_S, Traffic

# The router answers some 50 ms before a deadline. On a machine that is busy the client may look
# at its clock before it looks at the answer; then it is asked again.
TRIES = 5

BEFORE_SENDING = (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_BEFORE_SENDING")
READ_TIMED_OUT = (grpc.StatusCode.DEADLINE_EXCEEDED, "READ_TIMED_OUT")
OUTCOME_UNKNOWN = (grpc.StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
QUEUE_FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")


class Frozen(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.puts, cls.gets = Traffic(cls.put_one), Traffic(cls.get_one)
        for traffic in (cls.puts, cls.gets):
            traffic.start()
        scene.direct("freeze a")
        cls.addClassCleanup(cls.thaw)
        for traffic in (cls.puts, cls.gets):
            traffic.join()

    @classmethod
    def put_one(cls, number, deadline_s):
        request = kv.PutRequest(key=scene.key_on("a", b"put%d" % number), value=b"v")
        cls.store.Put(request, timeout=deadline_s)

    @classmethod
    def get_one(cls, number, deadline_s):
        request = kv.GetRequest(key=scene.key_on("a", b"get%d" % number))
        cls.store.Get(request, timeout=deadline_s)

    @classmethod
    def thaw(cls):
        """Service comes back by itself."""
        scene.direct("thaw a")
        request = kv.PutRequest(key=scene.key_on("a", b"again"), value=b"v")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return cls.store.Put(request, timeout=DEADLINE_S)
            except grpc.RpcError:
                assert time.monotonic() < deadline, "the shard does not come back"

    def setUp(self):
        super().setUp()
        self.frozen, self.live = (scene.key_on(shard, self.prefix) for shard in "ab")

    def outlasted(self, call):
        """What the router says of a call that the deadline ends."""
        for _ in range(TRIES):
            with self.assertRaises(grpc.RpcError) as raised:
                call()
            said = refusal.of_call(raised.exception)
            if said.is_the_routers:
                return said
        self.fail(f"{TRIES} times the deadline came before the router's answer: {said}")

    def seen(self, traffic, may_be):
        """The kinds of refusals that reached the callers; all of them are of these kinds."""
        told = [said for said in traffic.refusals if said.is_the_routers]
        kinds = {(said.code, said.reason) for said in told}
        self.assertLessEqual(kinds, may_be, traffic.refusals)
        return kinds

    def test_a_write_that_was_sent_has_an_unknown_outcome(self):
        kinds = self.seen(self.puts, {OUTCOME_UNKNOWN, BEFORE_SENDING})
        self.assertIn(OUTCOME_UNKNOWN, kinds, self.puts.refusals)

    def test_a_read_that_was_sent_timed_out(self):
        kinds = self.seen(self.gets, {READ_TIMED_OUT, BEFORE_SENDING})
        self.assertIn(READ_TIMED_OUT, kinds, self.gets.refusals)

    def test_what_waited_was_not_applied(self):
        calls = [
            lambda: self.store.Put(kv.PutRequest(key=self.frozen), timeout=DEADLINE_S),
            lambda: self.store.Delete(kv.DeleteRequest(key=self.frozen), timeout=DEADLINE_S),
            lambda: self.store.Expire(
                kv.ExpireRequest(key=self.frozen, ttl=duration(9)), timeout=DEADLINE_S
            ),
        ]
        for call in calls:
            said = self.outlasted(call)
            self.assertEqual((said.code, said.reason), BEFORE_SENDING)
            self.assertEqual(said.metadata, {"shard": "a"})
            self.assertIn("not applied", said.message)

    def test_reads_and_scans_end_by_their_deadline(self):
        calls = [
            lambda: self.store.Ttl(kv.TtlRequest(key=self.frozen), timeout=DEADLINE_S),
            lambda: list(self.store.Scan(kv.ScanRequest(prefix=self.frozen), timeout=DEADLINE_S)),
        ]
        for call in calls:
            said = self.outlasted(call)
            self.assertIn((said.code, said.reason), (READ_TIMED_OUT, BEFORE_SENDING))
            self.assertEqual(said.metadata, {"shard": "a"})

    def test_a_full_queue_says_so_and_when_to_try_again(self):
        # The config of this scene lets 128 keys wait.
        keys = [scene.key_on("a", b"%d" % number) for number in range(500)]
        writes = [kv.Write(put=kv.PutRequest(key=key)) for key in keys]
        for _ in range(TRIES):
            try:
                request = kv.BatchWriteRequest(writes=writes)
                results = self.store.BatchWrite(request, timeout=DEADLINE_S).results
                break
            except grpc.RpcError as error:
                self.assertFalse(refusal.of_call(error).is_the_routers, "items have the errors")
        said = [refusal.of_item(result.error) for result in results]
        self.assertEqual({(one.code, one.reason) for one in said}, {QUEUE_FULL, BEFORE_SENDING})
        for one in said:
            self.assertEqual(one.metadata, {"shard": "a"})
            full = one.reason == "QUEUE_FULL"
            self.assertEqual(one.retry_seconds is not None, full, "when to try again")
            self.assertEqual("128 requests" in one.message, full)

    def test_the_other_shard_is_not_held_up(self):
        writes = [kv.Write(put=kv.PutRequest(key=key)) for key in (self.frozen, self.live)]
        for _ in range(TRIES):
            self.assertTrue(self.put(self.live).version)
            self.assertTrue(self.get(self.live).HasField("entry"))
            try:
                batch = kv.BatchWriteRequest(writes=writes)
                frozen, live = self.store.BatchWrite(batch, timeout=DEADLINE_S).results
                break
            except grpc.RpcError as error:
                self.assertFalse(refusal.of_call(error).is_the_routers)
        self.assertEqual(live.WhichOneof("result"), "put")
        said = refusal.of_item(frozen.error)
        self.assertEqual((said.code, said.reason), BEFORE_SENDING)

    def test_a_pipeline_answers_each_by_its_deadline(self):
        requests = [
            kv.PipelineRequest(id=1, put=kv.PutRequest(key=self.frozen)),
            kv.PipelineRequest(id=2, put=kv.PutRequest(key=self.live)),
        ]
        for _ in range(TRIES):
            stream = self.store.Pipeline(iter(requests), timeout=DEADLINE_S)
            try:
                answers = {answer.id: answer for answer in stream}
                break
            except grpc.RpcError as error:
                self.assertFalse(refusal.of_call(error).is_the_routers)
        self.assertEqual(answers[2].WhichOneof("response"), "put")
        said = refusal.of_item(answers[1].error)
        self.assertEqual((said.code, said.reason), BEFORE_SENDING)


if __name__ == "__main__":
    unittest.main()
