"""What is no request at all: refused before any method sees it, and it still says why."""

import unittest

import grpc

from support import limits, refusal, scene
from support.case import PATIENCE_S, Case
from support.stubs import key_value_pb2 as kv
from support.untouched import Untouched

METHODS = ("Get", "Put", "Delete", "Ttl", "Expire", "BatchGet", "BatchWrite")

# No message of any type: what the tag or the length promises does not come.
MALFORMED = (
    b"\x0a\x05abc",  # a key of 5 bytes, 3 of them there
    b"\x0a\xff\xff\xff\xff\x0f",  # a key of 4 GiB
    b"\x0a",  # a tag alone
    b"\xff" * 11,  # a number that does not end
    b"\x07",  # a wire type that is not known
    b"\x00\x01",  # field 0
    b"\x0b\x0a\x01a",  # a group that is not closed
)


def raw(channel, method, **options):
    """Sends bytes as they are."""
    return channel.unary_unary(
        method, request_serializer=bytes, response_deserializer=bytes, **options
    )


class Unreadable(Untouched):
    def send(self, method, message, **options):
        call = raw(self.channel, f"/freehold.v1.KeyValue/{method}")
        return self.refused(lambda: call(message, timeout=PATIENCE_S, **options))

    def pipe(self, *messages):
        """What a stream of these messages ends with."""
        call = self.channel.stream_stream(
            "/freehold.v1.KeyValue/Pipeline",
            request_serializer=bytes,
            response_deserializer=kv.PipelineResponse.FromString,
        )
        return self.refused(lambda: list(call(iter(messages), timeout=PATIENCE_S)))

    def scan(self, message):
        call = self.channel.unary_stream(
            "/freehold.v1.KeyValue/Scan", request_serializer=bytes, response_deserializer=bytes
        )
        return self.refused(lambda: list(call(message, timeout=PATIENCE_S)))

    def test_bytes_that_are_no_message(self):
        for message in MALFORMED:
            for method in METHODS:
                self.assertInvalid(self.send(method, message), "message", "decode")
            self.assertInvalid(self.scan(message), "message", "decode")
            self.assertInvalid(self.pipe(message), "message", "decode")

    def test_a_name_that_is_no_text(self):
        # Keys are bytes; the names of shards are UTF-8.
        with scene.channel(scene.ADMIN) as channel:
            call = raw(channel, "/freehold.v1.Admin/ListSweepers")
            said = self.refused(lambda: call(b"\x0a\x02\xff\xfe", timeout=PATIENCE_S))
        self.assertInvalid(said, "message", "UTF-8")

    def test_no_message_at_all(self):
        call = self.channel.stream_unary(
            "/freehold.v1.KeyValue/Put", request_serializer=bytes, response_deserializer=bytes
        )
        said = self.refused(lambda: call(iter([]), timeout=PATIENCE_S))
        self.assertInvalid(said, "message", "Missing request message")

    def test_a_message_larger_than_messages_may_be(self):
        put = kv.PutRequest(key=self.key(), value=bytes(limits.MESSAGE_BYTES_MAX))
        message = put.SerializeToString()
        for said in (
            self.send("Put", message),
            self.pipe(kv.PipelineRequest(put=put).SerializeToString()),
        ):
            self.assertInvalid(said, "message", limits.MESSAGE_BYTES_MAX)
        # One that just fits is read, and its value is too large.
        put.value = bytes(limits.MESSAGE_BYTES_MAX - len(message) + len(put.value))
        self.assertEqual(put.ByteSize(), limits.MESSAGE_BYTES_MAX)
        self.assertInvalid(self.send("Put", put.SerializeToString()), "value")

    def test_a_compressed_message(self):
        put = kv.PutRequest(key=self.key(), value=bytes(10_000)).SerializeToString()
        for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            said = self.send("Put", put, compression=algorithm)
            self.assertEqual(said.code, grpc.StatusCode.UNIMPLEMENTED)
            self.assertIn("compressed", said.message)

    def test_a_method_or_a_service_that_is_not_there(self):
        for path in (
            "/freehold.v1.KeyValue/Nothing",
            "/freehold.v1.KeyValue/get",
            "/freehold.v1.Nothing/Get",
            "/freehold.v2.KeyValue/Get",
        ):
            call = raw(self.channel, path)
            said = self.refused(lambda: call(b"", timeout=PATIENCE_S))
            self.assertEqual(said.code, grpc.StatusCode.UNIMPLEMENTED)
            self.assertIn(path, said.message)
        with self.assertRaises(grpc.RpcError) as raised:
            raw(self.channel, "/somebody.Else/Get")(b"", timeout=PATIENCE_S)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_metadata_of_more_than_16_kib(self):
        put = kv.PutRequest(key=self.key())
        for metadata in (
            [("x-large", "x" * 20_000)],
            [(f"x-{number}", "x" * 100) for number in range(200)],
        ):
            with self.assertRaises(grpc.RpcError) as raised:
                self.store.Put(put, timeout=PATIENCE_S, metadata=metadata)
            # The transport says no: nobody is left to add an ErrorInfo.
            self.assertFalse(refusal.of_call(raised.exception).is_the_routers)


class Pipeline(Case):
    def test_what_came_before_a_message_that_is_none_is_answered(self):
        call = self.channel.stream_stream(
            "/freehold.v1.KeyValue/Pipeline",
            request_serializer=bytes,
            response_deserializer=kv.PipelineResponse.FromString,
        )
        puts = [
            kv.PipelineRequest(id=id, put=kv.PutRequest(key=self.key(b"%d" % id), value=b"v"))
            for id in range(100)
        ]
        messages = [put.SerializeToString() for put in puts]
        stream, answered = call(iter([*messages, b"\x07"]), timeout=PATIENCE_S), set()

        def read():
            for answer in stream:
                answered.add(answer.id)

        self.assertInvalid(self.refused(read), "message", "decode")
        self.assertEqual(answered, set(range(len(puts))))
        for put in puts:
            self.assertLive(put.put.key, b"v")


if __name__ == "__main__":
    unittest.main()
