"""At every limit, and one below it: taken, whole."""

import unittest

import grpc

from support import limits, scene
from support.case import PATIENCE_S, Case, duration
from support.limits import filled, writes_of
from support.stubs import key_value_pb2 as kv


class Keys(Case):
    def test_1_to_1024_bytes(self):
        for bytes_total in (1, limits.KEY_BYTES_MAX - 1, limits.KEY_BYTES_MAX):
            key = filled(bytes_total, self.prefix)[:bytes_total]
            self.put(key, b"v")
            self.assertLive(key, b"v")
            self.assertTrue(self.expire(key, duration(60)).existed)
            self.assertTrue(self.ttl(key).found)
            [result] = self.store.BatchGet(kv.BatchGetRequest(keys=[key])).results
            self.assertEqual(result.get.entry.value, b"v")
            self.assertTrue(self.delete(key).existed)

    def test_a_prefix_of_0_to_1024_bytes(self):
        longest = filled(limits.KEY_BYTES_MAX, self.prefix)
        self.put(longest)
        for bytes_total in (len(self.prefix), limits.KEY_BYTES_MAX - 1, limits.KEY_BYTES_MAX):
            rows = self.scan(longest[:bytes_total])
            self.assertEqual([row.key for row in rows[:-1]], [longest])
        # An empty one is every key: one page of it will do.
        self.assertTrue(self.scan(b"", page_size=1))


class Values(Case):
    """Up to what the router's config allows."""

    def test_0_bytes_to_the_configured_limit(self):
        for bytes_total in (0, 1, scene.VALUE_BYTES_MAX - 1, scene.VALUE_BYTES_MAX):
            value = filled(bytes_total)
            self.put(self.key(), value)
            self.assertTrue(self.get(self.key()).entry.value == value, f"{bytes_total} bytes")
        rows = self.scan(self.prefix)
        self.assertEqual([row.entry.value == value for row in rows[:-1]], [True])
        [result] = self.store.BatchGet(kv.BatchGetRequest(keys=[self.key()])).results
        self.assertTrue(result.get.entry.value == value)
        self.delete(self.key())

    def test_a_value_at_the_limit_goes_through_a_pipeline(self):
        value = filled(scene.VALUE_BYTES_MAX)
        requests = [kv.PipelineRequest(id=1, put=kv.PutRequest(key=self.key(), value=value))]
        [answer] = self.store.Pipeline(iter(requests), timeout=PATIENCE_S)
        self.assertEqual(answer.WhichOneof("response"), "put", answer)
        requests = [kv.PipelineRequest(id=2, get=kv.GetRequest(key=self.key()))]
        [answer] = self.store.Pipeline(iter(requests), timeout=PATIENCE_S)
        self.assertTrue(answer.get.entry.value == value)
        self.delete(self.key())


class Ttls(Case):
    def test_a_nanosecond_to_100_years(self):
        longest = limits.TTL_SECONDS_MAX
        for ttl in (
            duration(0, 1),
            duration(0, 999_999),
            duration(0, 1_000_000),
            duration(0, 1_000_001),
            duration(longest - 1, 999_999_999),
            duration(longest),
        ):
            self.put(self.key(), b"v", ttl)
            self.put(self.key(), b"v")
            self.assertTrue(self.expire(self.key(), ttl).existed, ttl)
        left = self.ttl(self.key()).ttl.seconds
        self.assertTrue(longest - PATIENCE_S <= left <= longest, left)


class Batches(Case):
    def test_1_to_1000_items(self):
        for count in (1, limits.BATCH_ITEMS_MAX - 1, limits.BATCH_ITEMS_MAX):
            keys = [self.key(b"%d" % number) for number in range(count)]
            writes = [kv.Write(put=kv.PutRequest(key=key)) for key in keys]
            wrote = self.store.BatchWrite(kv.BatchWriteRequest(writes=writes), timeout=PATIENCE_S)
            read = self.store.BatchGet(kv.BatchGetRequest(keys=keys), timeout=PATIENCE_S)
            self.assertEqual((len(wrote.results), len(read.results)), (count, count))
            self.assertTrue(all(result.get.HasField("entry") for result in read.results))

    def test_8_mib_of_keys_and_values(self):
        for bytes_total in (limits.BATCH_BYTES_MAX - 1, limits.BATCH_BYTES_MAX):
            request = kv.BatchWriteRequest(writes=writes_of(bytes_total, self.prefix))
            results = self.store.BatchWrite(request, timeout=PATIENCE_S).results
            self.assertEqual({result.WhichOneof("result") for result in results}, {"put"})


class Pages(Case):
    def test_1_to_1000_rows(self):
        self.put(self.key())
        for rows in (1, limits.PAGE_ROWS_MAX - 1, limits.PAGE_ROWS_MAX):
            page = self.scan(self.prefix, page_size=rows)
            self.assertEqual(page[0].key, self.key())


class Levels(Case):
    def test_a_bound_of_zero_is_the_latest_write(self):
        key = self.key()
        self.put(key, b"v")
        for bound in (duration(0), duration(1)):
            read = kv.ReadOptions(
                consistency=kv.CONSISTENCY_BOUNDED_STALENESS, max_staleness=bound
            )
            reply = self.get(key, read)
            self.assertEqual(reply.entry.value, b"v")
            self.assertTrue(reply.served.HasField("staleness"))

    def test_every_write_hands_out_a_token_that_reads_it(self):
        key = self.key()
        deleted = self.delete(key)
        self.assertFalse(deleted.existed)
        put = self.put(key, b"v")
        expired = self.expire(key, duration(3600))
        tokens = [write.session_token for write in (deleted, put, expired)]
        # Of one shard the greater covers the others; joined they are a token as well.
        for token in (tokens[-1], max(tokens), b"".join(tokens)):
            read = kv.ReadOptions(consistency=kv.CONSISTENCY_SESSION, session_token=token)
            reply = self.get(key, read)
            self.assertEqual(reply.entry.value, b"v")
            self.assertTrue(reply.entry.HasField("ttl"))


if __name__ == "__main__":
    unittest.main()
