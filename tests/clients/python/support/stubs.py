"""The client, generated from proto/ when this is first imported."""

import pathlib
import sys
import tempfile

import grpc_tools
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[4] / "proto"
FILES = ("freehold/v1/key_value.proto", "freehold/v1/admin.proto")

# Goes when the interpreter ends.
_folder = tempfile.TemporaryDirectory(prefix="freehold-stubs-")


def _generate():
    """Only Freehold's own files: google.rpc.Status comes with googleapis-common-protos."""
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}"]
    arguments += [f"--python_out={_folder.name}", f"--grpc_python_out={_folder.name}", *FILES]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc refused {PROTO}")
    sys.path.insert(0, _folder.name)


_generate()

from freehold.v1 import admin_pb2, admin_pb2_grpc  # noqa: E402
from freehold.v1 import key_value_pb2, key_value_pb2_grpc  # noqa: E402

__all__ = ["admin_pb2", "admin_pb2_grpc", "key_value_pb2", "key_value_pb2_grpc"]
