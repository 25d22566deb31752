"""Server reflection: a client that knows an address and nothing else."""

import unittest

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from support import scene
from support.case import PATIENCE_S, Case

STANDARD = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


class Reflection(Case):
    def setUp(self):
        super().setUp()
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def test_each_listener_lists_what_it_serves(self):
        self.assertEqual(set(self.database.get_services()), STANDARD | {"freehold.v1.KeyValue"})
        with scene.channel(scene.ADMIN) as channel:
            services = ProtoReflectionDescriptorDatabase(channel).get_services()
            self.assertEqual(set(services), STANDARD | {"freehold.v1.Admin"})

    def test_methods_and_messages_are_described(self):
        service = self.pool.FindServiceByName("freehold.v1.KeyValue")
        unary = {"Get", "Put", "Delete", "Ttl", "Expire", "BatchGet", "BatchWrite"}
        self.assertEqual(set(service.methods_by_name), unary | {"Scan", "Pipeline"})
        entry = self.pool.FindMessageTypeByName("freehold.v1.Entry")
        self.assertEqual([field.name for field in entry.fields], ["value", "version", "ttl"])
        level = self.pool.FindEnumTypeByName("freehold.v1.Consistency")
        self.assertEqual(level.values_by_name["CONSISTENCY_EVENTUAL"].number, 2)
        self.assertTrue(self.pool.FindServiceByName("grpc.health.v1.Health"))

    def test_a_symbol_is_found_by_any_of_its_names(self):
        for symbol in ("freehold.v1.KeyValue", "freehold.v1.KeyValue.Get", "google.rpc.Status"):
            file = self.database.FindFileContainingSymbol(symbol)
            self.assertTrue(file.name.endswith(".proto"), file.name)
        # The library ends the stream, where others would answer in it.
        with self.assertRaises(grpc.RpcError) as raised:
            self.database.FindFileContainingSymbol("freehold.v1.Nothing")
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_what_is_described_can_be_called(self):
        service = self.pool.FindServiceByName("freehold.v1.KeyValue")
        self.put(self.key(), b"v")
        answer = self.call(service.methods_by_name["Get"], key=self.key())
        self.assertEqual(answer.entry.value, b"v")

    def call(self, method, **fields):
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        call = self.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request(**fields), timeout=PATIENCE_S)


if __name__ == "__main__":
    unittest.main()
