"""One above every limit, and other bad input: refused with field and limit, and never stored."""

import unittest

from support import limits, refusal, scene
from support.case import PATIENCE_S, duration
from support.limits import filled, writes_of
from support.stubs import admin_pb2, admin_pb2_grpc
from support.stubs import key_value_pb2 as kv
from support.untouched import Untouched

INT64_MAX, UINT32_MAX = 2**63 - 1, 2**32 - 1


class Broken(Untouched):
    def batch_write(self, writes):
        request = kv.BatchWriteRequest(writes=writes)
        return self.store.BatchWrite(request, timeout=PATIENCE_S).results

    def batch_get(self, keys, read=None):
        request = kv.BatchGetRequest(keys=keys, read=read)
        return self.store.BatchGet(request, timeout=PATIENCE_S).results

    def pipe(self, **body):
        requests = iter([kv.PipelineRequest(id=7, **body)])
        [answer] = self.store.Pipeline(requests, timeout=PATIENCE_S)
        self.assertEqual(answer.id, 7)
        return refusal.of_item(answer.error)

    def everywhere(self, key):
        """What each method says of the same bad key."""
        for call in (self.get, self.put, self.delete, self.ttl, self.expire):
            yield self.refused(lambda: call(key))
        [result] = self.batch_get([key])
        yield refusal.of_item(result.error)
        write = kv.Write(put=kv.PutRequest(key=key)), kv.Write(delete=kv.DeleteRequest(key=key))
        for result in self.batch_write(write):
            yield refusal.of_item(result.error)
        yield self.pipe(get=kv.GetRequest(key=key))
        yield self.pipe(put=kv.PutRequest(key=key))
        yield self.pipe(delete=kv.DeleteRequest(key=key))
        yield self.pipe(ttl=kv.TtlRequest(key=key))
        yield self.pipe(expire=kv.ExpireRequest(key=key))
        with scene.channel(scene.ADMIN) as channel:
            admin = admin_pb2_grpc.AdminStub(channel)
            yield self.refused(lambda: admin.Explain(admin_pb2.ExplainRequest(key=key)))

    def test_an_empty_key(self):
        for said in self.everywhere(b""):
            self.assertInvalid(said, "key", "empty", limits.KEY_BYTES_MAX)

    def test_a_key_of_1025_bytes(self):
        for key in (filled(limits.KEY_BYTES_MAX + 1, self.prefix), filled(1 << 20)):
            for said in self.everywhere(key):
                self.assertInvalid(said, "key", len(key), limits.KEY_BYTES_MAX)

    def test_a_value_of_one_byte_too_many(self):
        most = scene.VALUE_BYTES_MAX
        put = kv.PutRequest(key=self.key(), value=filled(most + 1))
        calls = [self.refused(lambda: self.put(self.key(), put.value)), self.pipe(put=put)]
        # The batch as a whole has a limit of its own.
        if most < limits.BATCH_BYTES_MAX:
            [result] = self.batch_write([kv.Write(put=put)])
            calls.append(refusal.of_item(result.error))
        for said in calls:
            self.assertInvalid(said, "value", most + 1, most)

    def test_a_ttl_outside_1_ms_to_100_years(self):
        for ttl in (
            duration(0),
            duration(0, -1),
            duration(-1),
            duration(-1, -1),
            duration(limits.TTL_SECONDS_MAX, 1),
            duration(limits.TTL_SECONDS_MAX + 1),
            duration(INT64_MAX, 999_999_999),
            duration(-INT64_MAX - 1),
        ):
            self.refuse_ttl(ttl)

    def test_a_ttl_whose_parts_contradict_each_other(self):
        for ttl in (
            duration(1, -1),
            duration(-1, 1),
            duration(1, 1_000_000_000),
            duration(1, 2**31 - 1),
            duration(1, -(2**31)),
        ):
            self.refuse_ttl(ttl)

    def refuse_ttl(self, ttl):
        put = kv.PutRequest(key=self.key(), ttl=ttl)
        [result] = self.batch_write([kv.Write(put=put)])
        for said in (
            self.refused(lambda: self.put(self.key(), b"v", ttl)),
            self.refused(lambda: self.expire(self.key(), ttl)),
            refusal.of_item(result.error),
            self.pipe(put=put),
            self.pipe(expire=kv.ExpireRequest(key=self.key(), ttl=ttl)),
        ):
            self.assertInvalid(said, "ttl", ttl.seconds, ttl.nanos, "1 ms to 100 years")

    def test_a_batch_of_0_or_1001_items(self):
        write = kv.Write(put=kv.PutRequest(key=self.key()))
        for count in (0, limits.BATCH_ITEMS_MAX + 1):
            said = self.refused(lambda: self.batch_write([write] * count))
            self.assertInvalid(said, "writes", count, limits.BATCH_ITEMS_MAX)
            said = self.refused(lambda: self.batch_get([self.key()] * count))
            self.assertInvalid(said, "keys", count, limits.BATCH_ITEMS_MAX)

    def test_a_batch_of_one_byte_too_many(self):
        bytes_total = limits.BATCH_BYTES_MAX + 1
        said = self.refused(lambda: self.batch_write(writes_of(bytes_total, self.prefix)))
        self.assertInvalid(said, "writes", bytes_total, limits.BATCH_BYTES_MAX)

    def test_a_write_or_a_request_that_is_not_set(self):
        [result] = self.batch_write([kv.Write()])
        self.assertInvalid(refusal.of_item(result.error), "writes", "neither a put nor a delete")
        self.assertInvalid(self.pipe(), "request", "not set")

    def test_a_page_of_1001_rows(self):
        for rows in (limits.PAGE_ROWS_MAX + 1, UINT32_MAX):
            said = self.refused(lambda: self.scan(self.prefix, page_size=rows))
            self.assertInvalid(said, "page_size", rows, limits.PAGE_ROWS_MAX)

    def test_a_prefix_of_1025_bytes(self):
        prefix = filled(limits.KEY_BYTES_MAX + 1, self.prefix)
        said = self.refused(lambda: self.scan(prefix))
        self.assertInvalid(said, "prefix", len(prefix), limits.KEY_BYTES_MAX)

    def test_slots_that_are_no_range(self):
        most = limits.SLOTS - 1
        for first, last, field in (
            (most + 1, most + 1, "slots.first"),
            (UINT32_MAX, 0, "slots.first"),
            (0, most + 1, "slots.last"),
            (0, UINT32_MAX, "slots.last"),
            (1, 0, "slots.last"),
            (most, most - 1, "slots.last"),
        ):
            slots = kv.SlotRange(first=first, last=last)
            for prefix in (self.prefix, b"untagged"):
                said = self.refused(lambda: self.scan(prefix, slots=slots))
                self.assertInvalid(said, field, first if field.endswith("first") else last, most)

    def test_a_level_that_nobody_knows(self):
        for level in (5, 99, -1):
            self.refuse_read(kv.ReadOptions(consistency=level), "read.consistency", level)

    def test_options_that_contradict_the_level(self):
        staleness, token = {"max_staleness": duration(1)}, {"session_token": b"token"}
        for level, options, field in (
            (kv.CONSISTENCY_UNSPECIFIED, staleness, "read.max_staleness"),
            (kv.CONSISTENCY_STRONG, staleness, "read.max_staleness"),
            (kv.CONSISTENCY_EVENTUAL, staleness, "read.max_staleness"),
            (kv.CONSISTENCY_SESSION, {**staleness, **token}, "read.max_staleness"),
            (kv.CONSISTENCY_UNSPECIFIED, token, "read.session_token"),
            (kv.CONSISTENCY_STRONG, token, "read.session_token"),
            (kv.CONSISTENCY_EVENTUAL, token, "read.session_token"),
            (kv.CONSISTENCY_BOUNDED_STALENESS, token, "read.session_token"),
        ):
            self.refuse_read(kv.ReadOptions(consistency=level, **options), field)

    def refuse_read(self, read, field, *words):
        ttl = kv.TtlRequest(key=self.key(), read=read)
        for said in (
            self.refused(lambda: self.get(self.key(), read)),
            self.refused(lambda: self.store.Ttl(ttl, timeout=PATIENCE_S)),
            self.refused(lambda: self.batch_get([self.key()], read)),
            self.refused(lambda: self.scan(self.prefix, read=read)),
            self.pipe(get=kv.GetRequest(key=self.key(), read=read)),
            self.pipe(ttl=ttl),
        ):
            self.assertInvalid(said, field, *words)


if __name__ == "__main__":
    unittest.main()
