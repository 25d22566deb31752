"""What somebody has to mend first: FAILED_PRECONDITION, and what to do. A scene for each class."""

import unittest

import grpc

from support import scene
from support.case import Case

MISCONFIGURED = (grpc.StatusCode.FAILED_PRECONDITION, "MISCONFIGURED")


class Misconfigured(Case):
    def assertRefused(self, key, *words):
        for call in (self.get, self.put, self.delete, self.ttl, self.expire, self.scan):
            said = self.refused(lambda: call(key))
            self.assertEqual((said.code, said.reason), MISCONFIGURED, said)
            self.assertIsNone(said.retry_seconds, "trying again does not help")
            for word in words:
                self.assertIn(word, said.message)


class Unowned(Misconfigured):
    """The router's config has shard a only; b's slots have an owner it does not know."""

    def test_a_slot_of_a_shard_that_is_not_in_the_config(self):
        self.assertRefused(scene.key_on("b", b"k"), "no owner", "add the shard")
        self.put(scene.key_on("a", b"k"), b"v")
        self.assertLive(scene.key_on("a", b"k"), b"v")


class ClaimedTwice(Misconfigured):
    """The slot of a's tag is claimed by b, too."""

    def test_a_slot_that_two_shards_claim(self):
        self.assertRefused(scene.key_on("a", b"k"), "claimed by", "'a'", "'b'")
        self.put(scene.key_on("b", b"k"), b"v")
        self.assertLive(scene.key_on("b", b"k"), b"v")


class Uninitialised(Misconfigured):
    """No shard has tables."""

    def test_a_database_without_tables(self):
        self.assertRefused(self.key(), "freehold init")


if __name__ == "__main__":
    unittest.main()
