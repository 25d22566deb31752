"""The methods on one key."""

import unittest

from support import scene
from support.case import Case, duration
from support.stubs import key_value_pb2 as kv

ALL_BYTES = bytes(range(256))


class Methods(Case):
    def test_what_was_put_is_read_back_with_its_version(self):
        stored = self.put(self.key(), b"value")
        read = self.get(self.key())
        self.assertEqual(read.entry.value, b"value")
        self.assertEqual(read.entry.version, stored.version)
        self.assertFalse(read.entry.HasField("ttl"), "it never expires")

    def test_a_key_that_is_not_there_is_an_answer(self):
        self.assertGone(self.key())
        self.assertFalse(self.ttl(self.key()).found)
        self.assertFalse(self.delete(self.key()).existed)
        self.assertFalse(self.expire(self.key(), duration(60)).existed)
        self.assertGone(self.key())

    def test_a_read_says_who_served_it(self):
        self.put(self.key())
        for served in (self.get(self.key()).served, self.ttl(self.key()).served):
            self.assertTrue(served.shard)
            if scene.TAGS:
                self.assertIn(served.shard, scene.TAGS)
            self.assertEqual(served.source, kv.SOURCE_MASTER)
            self.assertTrue(served.HasField("staleness"), "absent means unknown")
            self.assertEqual(served.staleness, duration())

    def test_a_tagged_key_is_served_by_the_owner_of_its_slot(self):
        for shard in scene.TAGS:
            key = scene.key_on(shard, self.prefix)
            self.put(key, shard.encode())
            read = self.get(key)
            self.assertEqual((read.served.shard, read.entry.value), (shard, shard.encode()))

    def test_a_put_replaces_value_and_expiry(self):
        first = self.put(self.key(), b"first", ttl=duration(60))
        second = self.put(self.key(), b"second")
        self.assertNotEqual(first.version, second.version)
        entry = self.get(self.key()).entry
        self.assertEqual((entry.value, entry.version), (b"second", second.version))
        self.assertFalse(entry.HasField("ttl"))

    def test_a_delete_tells_whether_the_key_was_there(self):
        self.put(self.key())
        self.assertTrue(self.delete(self.key()).existed)
        self.assertGone(self.key())
        self.assertFalse(self.delete(self.key()).existed)

    def test_an_empty_value_is_not_an_absent_one(self):
        self.put(self.key(), b"")
        self.assertLive(self.key(), b"")
        self.assertTrue(self.ttl(self.key()).found)
        self.assertTrue(self.delete(self.key()).existed)
        self.assertGone(self.key())

    def test_keys_and_values_are_arbitrary_bytes(self):
        # No text in any encoding, from its first byte to its last.
        for key in (self.key(ALL_BYTES[::-1]), ALL_BYTES + self.key(), b"\xff" + self.key(b"\0")):
            self.put(key, key * 4)
            self.assertLive(key, key * 4)
            self.assertTrue(self.delete(key).existed)
            self.assertGone(key)

    def test_keys_are_equal_only_if_all_their_bytes_are(self):
        alike = [b"a", b"A", b"a ", b"a\0", b"\xc3\xa4", b"a\xcc\x88", b" a"]
        for name in alike:
            self.put(self.key(name), name)
        for name in alike:
            self.assertLive(self.key(name), name)
        self.delete(self.key(b"a"))
        for name in alike[1:]:
            self.assertLive(self.key(name), name)

    def test_strong_and_eventual_reads_are_answered(self):
        self.put(self.key(), b"v")
        for level in (kv.CONSISTENCY_UNSPECIFIED, kv.CONSISTENCY_STRONG, kv.CONSISTENCY_EVENTUAL):
            read = kv.ReadOptions(consistency=level)
            # There are no replicas here: the master answers.
            answer = self.get(self.key(), read)
            self.assertEqual((answer.entry.value, answer.served.source), (b"v", kv.SOURCE_MASTER))


if __name__ == "__main__":
    unittest.main()
