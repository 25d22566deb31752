// What a router says when it does not do what it was asked.

'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protobuf = require('protobufjs');

const { PROTO } = require('./scene');

const root = new protobuf.Root();
root.resolvePath = (_, target) => path.join(PROTO, target);
root.loadSync('google/rpc/status.proto');
const Status = root.lookupType('google.rpc.Status');

// As in googleapis' error_details.proto, as far as routers use it.
const details = protobuf.parse(`
  syntax = "proto3";
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message FieldViolation { string field = 1; string description = 2; }
`).root;

function ofItem(status) {
  const said = { code: status.code, message: status.message };
  for (const { type_url: url, value } of status.details) {
    const type = url.slice(url.lastIndexOf('.') + 1);
    said[type] = details.lookupType(type).toObject(details.lookupType(type).decode(value));
  }
  return said;
}

function ofCall(error) {
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!bytes) return { code: error.code, message: error.details };
  const status = Status.decode(bytes);
  assert.equal(status.code, error.code, 'the details speak of another status');
  return ofItem(status);
}

// Whether a router said it. gRPC libraries make statuses of their own.
function isTheRouters(said) {
  return said.ErrorInfo?.domain === 'freehold';
}

// The router's refusal of a call.
async function refused(call) {
  const error = await call().then(
    () => assert.fail('it was not refused'),
    (raised) => raised,
  );
  if (error instanceof assert.AssertionError) throw error;
  const said = ofCall(error);
  assert.ok(isTheRouters(said), `not the router's own words: ${JSON.stringify(said)}`);
  return said;
}

// It is the caller's mistake; field and words say where and what is allowed.
function assertInvalid(said, field, ...words) {
  assert.equal(said.code, grpc.status.INVALID_ARGUMENT, said.message);
  assert.equal(said.ErrorInfo.reason, 'INVALID');
  const [violation] = said.BadRequest.fieldViolations;
  assert.equal(violation.field, field);
  for (const word of words) assert.ok(violation.description.includes(word), violation.description);
}

module.exports = { assertInvalid, isTheRouters, ofCall, ofItem, refused };
