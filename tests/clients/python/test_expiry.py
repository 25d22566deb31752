"""Time to live: by the database's clock, exact to the millisecond, and final."""

import time
import unittest

from support.case import PATIENCE_S, Case, duration, milliseconds
from support.stubs import key_value_pb2 as kv

# The databases' clocks tick in milliseconds, and may be nudged while a test runs.
CLOCK_SLACK_S = 0.005


class Expiry(Case):
    def wait_until_gone(self, key):
        deadline = time.monotonic() + PATIENCE_S
        while self.get(key).HasField("entry"):
            self.assertLess(time.monotonic(), deadline, f"{key!r} does not expire")
        return time.monotonic()

    def test_a_key_lives_as_long_as_it_was_told_and_no_longer(self):
        sent = time.monotonic()
        self.put(self.key(), b"v", ttl=milliseconds(700))
        gone = self.wait_until_gone(self.key())
        self.assertGreaterEqual(gone - sent, 0.7 - CLOCK_SLACK_S, "it expired too early")

    def test_an_expired_key_is_gone_for_every_method(self):
        self.put(self.key(), b"v", ttl=milliseconds(50))
        self.wait_until_gone(self.key())
        self.assertFalse(self.ttl(self.key()).found)
        self.assertFalse(self.expire(self.key(), duration(60)).existed, "nothing revives it")
        self.assertFalse(self.delete(self.key()).existed)
        self.assertGone(self.key())
        [result] = self.store.BatchGet(kv.BatchGetRequest(keys=[self.key()])).results
        self.assertFalse(result.get.HasField("entry"))
        self.assertEqual([row.key for row in self.scan(self.prefix) if row.HasField("entry")], [])

    def test_an_expired_key_can_be_put_again(self):
        self.put(self.key(), b"old", ttl=milliseconds(50))
        self.wait_until_gone(self.key())
        self.put(self.key(), b"new")
        self.assertLive(self.key(), b"new")

    def test_reads_tell_what_is_left(self):
        self.put(self.key(), b"v", ttl=duration(60))
        for left in (self.ttl(self.key()).ttl, self.get(self.key()).entry.ttl):
            self.assertTrue(0 < left.ToTimedelta().total_seconds() <= 60, left)
        self.put(self.key(), b"v")
        answer = self.ttl(self.key())
        self.assertTrue(answer.found)
        self.assertFalse(answer.HasField("ttl"), "absent means for ever")

    def test_expire_changes_the_expiry_alone(self):
        stored = self.put(self.key(), b"v")
        self.assertTrue(self.expire(self.key(), duration(60)).existed)
        self.assertTrue(self.ttl(self.key()).HasField("ttl"))
        # Without a ttl it never expires again.
        self.assertTrue(self.expire(self.key()).existed)
        self.assertTrue(self.expire(self.key()).existed, "also if it did not before")
        entry = self.get(self.key()).entry
        self.assertEqual((entry.value, entry.version), (b"v", stored.version))
        self.assertFalse(entry.HasField("ttl"))

    def test_expire_can_end_a_key(self):
        self.put(self.key())
        self.assertTrue(self.expire(self.key(), milliseconds(1)).existed)
        self.wait_until_gone(self.key())

    def test_parts_of_a_millisecond_are_rounded_up(self):
        self.put(self.key(), b"v", ttl=duration(59, 999_000_001))
        left = self.ttl(self.key()).ttl
        self.assertEqual(left.nanos % 1_000_000, 0, "whole milliseconds")
        self.assertLessEqual(left.ToTimedelta().total_seconds(), 60)


if __name__ == "__main__":
    unittest.main()
