"""What a router says when it does not do what it was asked."""

import dataclasses

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "freehold"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A status with its details; those that are missing are None."""

    code: grpc.StatusCode
    message: str
    domain: str | None = None
    reason: str | None = None
    metadata: dict | None = None
    field: str | None = None
    description: str | None = None
    retry_seconds: float | None = None

    @property
    def is_the_routers(self):
        """Whether a router said it. gRPC libraries make statuses of their own."""
        return self.domain == DOMAIN


def of_call(error):
    """The refusal of a whole call, from the exception it raised."""
    status = rpc_status.from_call(error)
    if status is None:
        return Refusal(error.code(), error.details())
    refusal = of_item(status)
    assert refusal.code == error.code(), f"{refusal.code} in details of {error.code()}"
    return refusal


def of_item(status):
    """The refusal of one item of a batch or a pipeline."""
    assert isinstance(status, status_pb2.Status), status
    known = {}
    for detail in status.details:
        known |= _read(detail)
    return Refusal(_code(status.code), status.message, **known)


def _read(detail):
    info = error_details_pb2.ErrorInfo()
    if detail.Unpack(info):
        return {"domain": info.domain, "reason": info.reason, "metadata": dict(info.metadata)}
    retry = error_details_pb2.RetryInfo()
    if detail.Unpack(retry):
        return {"retry_seconds": retry.retry_delay.ToTimedelta().total_seconds()}
    bad = error_details_pb2.BadRequest()
    if detail.Unpack(bad):
        [violation] = bad.field_violations
        return {"field": violation.field, "description": violation.description}
    raise AssertionError(f"a detail of a kind that is not documented: {detail.type_url}")


def _code(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)
