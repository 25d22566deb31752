"""BatchGet and BatchWrite: one result per item, in order, each with its own status."""

import unittest

import grpc

from support import refusal
from support.case import PATIENCE_S, Case, duration
from support.stubs import key_value_pb2 as kv

MIB = 1 << 20


def put(key, value=b"v", ttl=None):
    return kv.Write(put=kv.PutRequest(key=key, value=value, ttl=ttl))


def delete(key):
    return kv.Write(delete=kv.DeleteRequest(key=key))


class Batches(Case):
    def setUp(self):
        super().setUp()
        self.untagged()

    def write(self, *writes):
        request = kv.BatchWriteRequest(writes=writes)
        results = self.store.BatchWrite(request, timeout=PATIENCE_S).results
        self.assertEqual(len(results), len(writes))
        return results

    def read(self, *keys):
        request = kv.BatchGetRequest(keys=keys)
        results = self.store.BatchGet(request, timeout=PATIENCE_S).results
        self.assertEqual(len(results), len(keys))
        return results

    def test_a_thousand_keys_over_all_shards_are_answered_in_order(self):
        keys = [self.key(b"%d" % number) for number in range(1000)]
        for result in self.write(*(put(key, b"is " + key) for key in keys)):
            self.assertEqual(result.WhichOneof("result"), "put")
        results = self.read(*keys)
        values = [result.get.entry.value for result in results]
        self.assertEqual(values, [b"is " + key for key in keys])
        shards = {result.get.served.shard for result in results}
        self.assertGreater(len(shards), 1)

    def test_every_byte_in_a_key_and_in_a_value(self):
        keys = [self.key(bytes([byte])) for byte in range(256)]
        self.write(*(put(key, key[-1:] * 3) for key in keys))
        for key, result in zip(keys, self.read(*keys)):
            self.assertEqual(result.get.entry.value, key[-1:] * 3)

    def test_puts_and_deletes_mix(self):
        first, second, absent = (self.key(name) for name in (b"1", b"2", b"absent"))
        self.put(first)
        results = self.write(delete(first), put(second, b"new", duration(60)), delete(absent))
        kinds = [result.WhichOneof("result") for result in results]
        self.assertEqual(kinds, ["delete", "put", "delete"])
        self.assertEqual([results[0].delete.existed, results[2].delete.existed], [True, False])
        gone, live = self.read(first, second)
        self.assertFalse(gone.get.HasField("entry"))
        self.assertEqual(live.get.entry.version, results[1].put.version)
        self.assertTrue(live.get.entry.HasField("ttl"))

    def test_writes_to_one_key_keep_their_order(self):
        results = self.write(put(self.key(), b"1"), delete(self.key()), put(self.key(), b"2"))
        self.assertTrue(results[1].delete.existed)
        self.assertLive(self.key(), b"2")
        self.write(put(self.key(), b"3"), put(self.key(), b"4"), delete(self.key()))
        self.assertGone(self.key())

    def test_a_key_asked_for_twice_is_answered_twice(self):
        self.put(self.key(), b"v")
        values = [result.get.entry.value for result in self.read(*[self.key()] * 3)]
        self.assertEqual(values, [b"v"] * 3)

    def test_a_bad_item_fails_alone(self):
        good = self.key(b"good")
        results = self.write(put(b"", b"v"), put(good), kv.Write(), delete(b"k" * 1025))
        said = [refusal.of_item(results[index].error) for index in (0, 2, 3)]
        self.assertInvalid(said[0], "key", "1024")
        self.assertInvalid(said[1], "writes", "neither a put nor a delete")
        self.assertInvalid(said[2], "key", "1025", "1024")
        bad, live = self.read(b"", good)
        self.assertInvalid(refusal.of_item(bad.error), "key")
        self.assertEqual(live.get.entry.value, b"v")

    def test_what_does_not_fit_a_response_is_to_be_asked_for_again(self):
        keys = [self.key(b"%d" % number) for number in range(5)]
        for key in keys:
            self.put(key, key.ljust(MIB))
        wanted, rounds = list(keys), 0
        while wanted:
            results = self.read(*wanted)
            self.assertLess(sum(result.ByteSize() for result in results), 4 * MIB)
            rounds += 1
            self.assertLess(rounds, 6)
            wanted = [key for key, result in zip(wanted, results) if not self.fits(key, result)]
        self.assertGreater(rounds, 1, "5 MiB do not fit 3 MiB")

    def fits(self, key, result):
        if result.WhichOneof("result") == "get":
            self.assertEqual(result.get.entry.value, key.ljust(MIB))
            return True
        said = refusal.of_item(result.error)
        self.assertEqual((said.code, said.reason), (grpc.StatusCode.UNAVAILABLE, "ASK_AGAIN"))
        self.assertEqual(said.retry_seconds, 0)
        return False


if __name__ == "__main__":
    unittest.main()
