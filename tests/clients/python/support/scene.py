"""The router under test, and the hand that breaks the servers behind it."""

import os
import socket

import grpc

ADDRESS = os.environ.get("FREEHOLD_ADDRESS", "127.0.0.1:7420")
ADMIN = os.environ.get("FREEHOLD_ADMIN", "127.0.0.1:7421")

# The shards' names, each with a tag whose slot it owns: a key that begins with b"{tag}" is its.
TAGS = dict(pair.split("=") for pair in os.environ.get("FREEHOLD_TAGS", "").split(",") if pair)

# What the router's config allows.
VALUE_BYTES_MAX = int(os.environ.get("FREEHOLD_VALUE_BYTES_MAX", 1 << 20))

# A value of 15 MiB is more than clients accept by default.
_LARGE = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", -1)]


def channel(address=ADDRESS, options=()):
    """A connection of its own, to the public listener unless told otherwise."""
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(address, options=[*_LARGE, *own_connection, *options])


def key_on(shard, rest):
    """A key that the shard owns."""
    return b"{%s}%s" % (TAGS[shard].encode(), rest)


def direct(command):
    """Has the test's owner do what a client cannot; answers with its reply.

    `freeze SHARD`, `thaw SHARD`, `kill SHARD`, `start SHARD` are about a shard's master; `watch`
    begins to count, and `touched` answers how many statements on keys the databases have seen.
    """
    host, port = os.environ["FREEHOLD_DIRECTOR"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(command.encode() + b"\n")
        answer = connection.makefile().readline().strip()
    if not answer.startswith("ok"):
        raise RuntimeError(f"{command}: {answer or 'no answer'}")
    return answer.removeprefix("ok").strip()
