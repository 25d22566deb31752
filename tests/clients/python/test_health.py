"""The standard health service, with grpcio's own client."""

import unittest

import grpc
from grpc_health.v1 import health_pb2 as health
from grpc_health.v1 import health_pb2_grpc

from support import scene
from support.case import PATIENCE_S, Case

SERVING = health.HealthCheckResponse.SERVING


class Health(Case):
    def setUp(self):
        super().setUp()
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def check(self, name, client=None):
        request = health.HealthCheckRequest(service=name)
        return (client or self.health).Check(request, timeout=PATIENCE_S).status

    def test_the_router_its_service_and_its_shards_are_well(self):
        for name in ("", "freehold.v1.KeyValue", *(f"shard/{shard}" for shard in scene.TAGS)):
            self.assertEqual(self.check(name), SERVING, name)

    def test_the_admin_listener_answers_too(self):
        with scene.channel(scene.ADMIN) as channel:
            self.assertEqual(self.check("", health_pb2_grpc.HealthStub(channel)), SERVING)

    def test_a_service_that_is_not_there_is_not_found(self):
        for name in ("freehold.v1.Nothing", "shard/nowhere"):
            with self.assertRaises(grpc.RpcError) as raised:
                self.check(name)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_who_watches_is_told_at_once(self):
        stream = self.health.Watch(health.HealthCheckRequest(), timeout=PATIENCE_S)
        self.assertEqual(next(stream).status, SERVING)
        stream.cancel()


if __name__ == "__main__":
    unittest.main()
