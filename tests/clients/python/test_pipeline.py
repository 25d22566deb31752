"""Pipeline: many requests of one connection in flight."""

import queue
import unittest

import grpc

from support import refusal
from support.case import PATIENCE_S, Case, duration
from support.stubs import key_value_pb2 as kv

IN_FLIGHT = 1000
LAST_ID = 2**64 - 1


def request(id, **body):
    return kv.PipelineRequest(id=id, **body)


class Pipe:
    """One stream: requests go out as they are sent, until it is closed."""

    def __init__(self, store, timeout=PATIENCE_S):
        self._requests = queue.SimpleQueue()
        self.answers = store.Pipeline(iter(self._requests.get, None), timeout=timeout)

    def send(self, *requests):
        for one in requests:
            self._requests.put(one)

    def close(self):
        self._requests.put(None)

    def receive(self, count):
        return {answer.id: answer for _, answer in zip(range(count), self.answers)}


class Pipeline(Case):
    def setUp(self):
        super().setUp()
        self.untagged()
        self.pipe = Pipe(self.store)
        self.addCleanup(self.pipe.close)

    def ask(self, *requests):
        """Sends all of them before an answer is read; the answers by id."""
        self.pipe.send(*requests)
        answers = self.pipe.receive(len(requests))
        self.assertEqual(set(answers), {one.id for one in requests}, "each is answered once")
        return answers

    def keys(self, count):
        return [self.key(b"%d" % number) for number in range(count)]

    def test_hundreds_are_in_flight_at_once(self):
        keys = self.keys(IN_FLIGHT)
        puts = self.ask(
            *(request(id, put=kv.PutRequest(key=key, value=key)) for id, key in enumerate(keys))
        )
        gets = self.ask(*(request(id, get=kv.GetRequest(key=key)) for id, key in enumerate(keys)))
        for id, key in enumerate(keys):
            entry = gets[id].get.entry
            self.assertEqual((entry.value, entry.version), (key, puts[id].put.version))

    def test_every_method_on_one_key_can_be_piped(self):
        live, gone = self.key(b"live"), self.key(b"gone")
        self.put(live, b"v", duration(60))
        answers = self.ask(
            request(0, get=kv.GetRequest(key=live)),
            request(LAST_ID, ttl=kv.TtlRequest(key=live)),
            request(2, get=kv.GetRequest(key=gone)),
            request(3, delete=kv.DeleteRequest(key=gone)),
            request(4, expire=kv.ExpireRequest(key=gone, ttl=duration(60))),
            request(5, ttl=kv.TtlRequest(key=gone)),
        )
        self.assertEqual(answers[0].get.entry.value, b"v")
        self.assertTrue(answers[LAST_ID].ttl.found and answers[LAST_ID].ttl.HasField("ttl"))
        self.assertFalse(answers[2].get.HasField("entry"))
        self.assertFalse(answers[3].delete.existed)
        self.assertFalse(answers[4].expire.existed)
        self.assertFalse(answers[5].ttl.found)

    def test_writes_to_one_key_are_applied_in_the_order_they_were_sent_in(self):
        keys, rounds = self.keys(20), 25
        puts = [
            request(round * 100 + index, put=kv.PutRequest(key=key, value=b"%d" % round))
            for round in range(rounds)
            for index, key in enumerate(keys)
        ]
        answers = self.ask(*puts)
        for index, key in enumerate(keys):
            entry = self.get(key).entry
            last = answers[(rounds - 1) * 100 + index].put
            self.assertEqual((entry.value, entry.version), (b"%d" % (rounds - 1), last.version))

    def test_each_write_sees_what_the_one_before_it_left(self):
        key = self.key()
        kinds = [
            ("delete", kv.DeleteRequest(key=key), False),
            ("put", kv.PutRequest(key=key), None),
            ("expire", kv.ExpireRequest(key=key, ttl=duration(60)), True),
            ("delete", kv.DeleteRequest(key=key), True),
            ("expire", kv.ExpireRequest(key=key), False),
            ("put", kv.PutRequest(key=key, value=b"last"), None),
        ]
        bodies = enumerate({kind: body} for kind, body, _ in kinds)
        answers = self.ask(*(request(id, **body) for id, body in bodies))
        for id, (kind, _, existed) in enumerate(kinds):
            self.assertEqual(answers[id].WhichOneof("response"), kind)
            if existed is not None:
                self.assertEqual(getattr(answers[id], kind).existed, existed, f"{id}: {kind}")
        self.assertLive(key, b"last")

    def test_a_bad_request_fails_alone(self):
        answers = self.ask(
            request(1, get=kv.GetRequest(key=b"")),
            request(2, put=kv.PutRequest(key=self.key(), value=b"v")),
            request(3),
            request(4, put=kv.PutRequest(key=self.key(), ttl=duration(0))),
        )
        self.assertInvalid(refusal.of_item(answers[1].error), "key", "1024")
        self.assertInvalid(refusal.of_item(answers[3].error), "request", "not set")
        self.assertInvalid(refusal.of_item(answers[4].error), "ttl", "100 years")
        self.assertEqual(answers[2].WhichOneof("response"), "put")
        self.assertLive(self.key(), b"v")

    def test_a_stream_that_is_closed_ends_well_after_the_last_answer(self):
        self.pipe.send(*(request(id, get=kv.GetRequest(key=self.key())) for id in range(100)))
        self.pipe.close()
        self.assertEqual(sorted(answer.id for answer in self.pipe.answers), list(range(100)))
        self.assertEqual(self.pipe.answers.code(), grpc.StatusCode.OK)

    def test_a_client_may_leave_in_the_middle(self):
        self.pipe.send(*(request(id, put=kv.PutRequest(key=self.key())) for id in range(IN_FLIGHT)))
        next(self.pipe.answers)
        self.pipe.answers.cancel()
        # What it left behind may be applied yet: another key.
        self.put(self.key(b"after"), b"v")
        self.assertLive(self.key(b"after"), b"v")


if __name__ == "__main__":
    unittest.main()
