"""Page tokens that no scan returned, or not this one: refused, and never looked up."""

import unittest

from support.case import PATIENCE_S
from support.stubs import key_value_pb2 as kv
from support.untouched import Untouched


class Tokens(Untouched):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tag = b"{tokens}/"
        for number in range(3):
            put = kv.PutRequest(key=cls.tag + b"%d" % number)
            cls.store.Put(put, timeout=PATIENCE_S)
        page = cls.store.Scan(kv.ScanRequest(prefix=cls.tag, page_size=2), timeout=PATIENCE_S)
        *_, last = page
        cls.token = last.page_token

    def refuse(self, token, prefix=None, slots=None):
        prefix = self.tag if prefix is None else prefix
        request = {"prefix": prefix, "page_token": token, "slots": slots}
        for page_size in (0, 10):
            said = self.refused(lambda: self.scan(**request, page_size=page_size))
            self.assertInvalid(said, "page_token", "page_token")

    def test_one_that_was_cut(self):
        for length in range(1, len(self.token)):
            self.refuse(self.token[:length])

    def test_one_that_was_lengthened(self):
        for more in (b"\0", b"0", b"\xff" * 2000):
            self.refuse(self.token + more)

    def test_one_that_was_changed(self):
        for index in range(len(self.token)):
            changed = bytearray(self.token)
            changed[index] ^= 1 << index % 8
            self.refuse(bytes(changed))

    def test_one_of_a_scan_with_another_prefix(self):
        for prefix in (b"", self.tag[:-1], self.tag + b"0", b"{token}/", b"other"):
            self.refuse(self.token, prefix)

    def test_one_of_a_scan_over_other_slots(self):
        for first, last in ((0, 65_534), (1, 65_535), (7, 7)):
            self.refuse(self.token, slots=kv.SlotRange(first=first, last=last))

    def test_one_that_is_noise(self):
        for token in (b"\0", b"\1", b"token", bytes(range(256)), b"\xff" * 12, b"\1" * 4096):
            self.refuse(token)


if __name__ == "__main__":
    unittest.main()
