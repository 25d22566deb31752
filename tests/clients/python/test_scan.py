"""Scan: every live key once, whole or in pages."""

import unittest

import grpc

from support import scene
from support.case import PATIENCE_S, Case
from support.stubs import admin_pb2, admin_pb2_grpc
from support.stubs import key_value_pb2 as kv

MIB = 1 << 20


class Scan(Case):
    def rows_of(self, messages):
        """The rows of a stream that ended well, and the token to go on from."""
        *messages, last = messages
        self.assertFalse(last.HasField("entry"), "the last message has no row")
        for message in messages:
            self.assertTrue(message.HasField("entry") or message.page_token, "neither row nor place")
        return [message for message in messages if message.HasField("entry")], last.page_token

    def fill(self, count):
        keys = [self.key(b"\xff%04d" % number) for number in range(count)]
        writes = [kv.Write(put=kv.PutRequest(key=key, value=key[-4:])) for key in keys]
        self.store.BatchWrite(kv.BatchWriteRequest(writes=writes), timeout=PATIENCE_S)
        return keys

    def test_a_tag_is_read_in_key_order(self):
        keys = self.fill(30)
        self.delete(keys[7])
        rows, token = self.rows_of(self.scan(self.prefix))
        self.assertEqual([row.key for row in rows], keys[:7] + keys[8:])
        self.assertEqual([row.entry.value for row in rows], [row.key[-4:] for row in rows])
        self.assertEqual(token, b"", "nothing is left")

    def test_the_whole_store_is_read_in_slot_order_each_key_once(self):
        self.untagged()
        keys = self.fill(40)
        rows, token = self.rows_of(self.scan(self.prefix))
        self.assertEqual(token, b"")
        found = [row.key for row in rows]
        self.assertEqual(sorted(found), keys)
        with scene.channel(scene.ADMIN) as channel:
            admin = admin_pb2_grpc.AdminStub(channel)
            explain = (admin.Explain(admin_pb2.ExplainRequest(key=key)) for key in found)
            places = [(answer.slot, key) for answer, key in zip(explain, found)]
        self.assertEqual(places, sorted(places))

    def test_ranges_of_slots_are_read_each_key_once(self):
        self.untagged()
        keys = self.fill(40)
        found = []
        for first, last in ((0, 0), (1, 20_000), (20_001, 32_768), (32_769, 65_535)):
            slots = kv.SlotRange(first=first, last=last)
            rows, token = self.rows_of(self.scan(self.prefix, slots=slots))
            self.assertEqual(token, b"")
            found += [row.key for row in rows]
        whole, _ = self.rows_of(self.scan(self.prefix))
        self.assertEqual(found, [row.key for row in whole])
        self.assertEqual(sorted(found), keys)

    def test_a_tag_is_in_one_of_two_ranges(self):
        keys = self.fill(3)
        with scene.channel(scene.ADMIN) as channel:
            explain = admin_pb2.ExplainRequest(key=keys[0])
            slot = admin_pb2_grpc.AdminStub(channel).Explain(explain).slot
        others = [(0, slot - 1)] if slot > 0 else []
        others += [(slot + 1, 65_535)] if slot < 65_535 else []
        for first, last in others:
            slots = kv.SlotRange(first=first, last=last)
            self.assertEqual(self.rows_of(self.scan(self.prefix, slots=slots)), ([], b""))
        slots = kv.SlotRange(first=slot, last=slot)
        rows, _ = self.rows_of(self.scan(self.prefix, slots=slots))
        self.assertEqual([row.key for row in rows], keys)

    def test_pages_follow_each_other_to_the_end(self):
        keys = self.fill(30)
        for page_size in (1, 7, 30, 31, 1000):
            found, token, pages = [], b"", 0
            while pages == 0 or token:
                page = self.scan(self.prefix, page_size=page_size, page_token=token)
                rows, token = self.rows_of(page)
                self.assertLessEqual(len(rows), page_size)
                found += [row.key for row in rows]
                pages += 1
            self.assertEqual(found, keys, f"pages of {page_size}")
            self.assertLessEqual(pages, 30 // page_size + 2)

    def test_a_broken_stream_goes_on_at_any_token_it_sent(self):
        keys = self.fill(10)
        for key in keys:
            self.put(key, key.ljust(MIB))
        messages = self.scan(self.prefix)
        places = [index for index, row in enumerate(messages) if row.page_token]
        self.assertGreaterEqual(len(places), 3, "10 MiB have a token every 3 MiB")
        for index in places:
            rows, _ = self.rows_of(self.scan(self.prefix, page_token=messages[index].page_token))
            self.assertEqual([row.key for row in rows], keys[index + 1 :])

    def test_a_page_goes_on_after_its_last_key_was_deleted(self):
        keys = self.fill(4)
        _, token = self.rows_of(self.scan(self.prefix, page_size=2))
        self.delete(keys[1])
        rows, _ = self.rows_of(self.scan(self.prefix, page_token=token))
        self.assertEqual([row.key for row in rows], keys[2:])

    def test_a_prefix_is_bytes(self):
        keys = self.fill(3)
        self.put(self.key(b"\xfe"))
        rows, _ = self.rows_of(self.scan(self.key(b"\xff")))
        self.assertEqual([row.key for row in rows], keys)
        rows, token = self.rows_of(self.scan(self.key(b"nothing")))
        self.assertEqual((rows, token), ([], b""))

    def test_an_eventual_scan_is_answered(self):
        keys = self.fill(3)
        read = kv.ReadOptions(consistency=kv.CONSISTENCY_EVENTUAL)
        rows, _ = self.rows_of(self.scan(self.prefix, read=read))
        self.assertEqual([row.key for row in rows], keys)

    def test_a_client_may_stop_in_the_middle(self):
        self.fill(30)
        stream = self.store.Scan(kv.ScanRequest(prefix=self.prefix), timeout=PATIENCE_S)
        next(stream)
        stream.cancel()
        with self.assertRaises(grpc.RpcError) as raised:
            list(stream)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.CANCELLED)
        self.assertEqual(len(self.rows_of(self.scan(self.prefix))[0]), 30)


if __name__ == "__main__":
    unittest.main()
