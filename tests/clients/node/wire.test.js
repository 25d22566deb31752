// Broken framing, spoken over plain HTTP/2: refused with the reason, and never in a database.

'use strict';

const assert = require('node:assert/strict');
const { after, afterEach, before, beforeEach, describe, test } = require('node:test');
const http2 = require('node:http2');
const net = require('node:net');
const grpc = require('@grpc/grpc-js');

const { assertInvalid, isTheRouters, ofCall } = require('./support/refusal');
const { address, direct, fresh, store } = require('./support/scene');

const PUT = '/freehold.v1.KeyValue/Put';

const client = store();
const connection = http2.connect(`http://${address}`);
after(() => {
  client.close();
  connection.close();
});

// PutRequest { key }, as it is on the wire.
const message = (key) => Buffer.concat([Buffer.from([0x0a, key.length]), key]);

// A gRPC frame: flag, length, message; each may be a lie.
function frame(body, { flag = 0, length = body.length } = {}) {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, body]);
}

// What a request is answered with: headers and trailers in one.
function post(path, body, headers = {}) {
  const stream = connection.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  const answer = {};
  stream.on('response', (found) => Object.assign(answer, found));
  stream.on('trailers', (found) => Object.assign(answer, found));
  stream.resume();
  stream.end(body);
  return new Promise((resolve, reject) => {
    stream.on('error', reject);
    stream.on('end', () => resolve(answer));
  });
}

// The router's words in it.
function saidBy(answer) {
  const metadata = new grpc.Metadata();
  const details = answer['grpc-status-details-bin'];
  if (details) metadata.set('grpc-status-details-bin', Buffer.from(details, 'base64'));
  const said = ofCall({ code: Number(answer['grpc-status']), metadata });
  assert.ok(isTheRouters(said), `not the router's own words: ${JSON.stringify(answer)}`);
  return said;
}

describe('what cannot be read', () => {
  const key = fresh()('k');
  let touched;

  before(() => direct('watch'));
  beforeEach(async () => {
    touched = await direct('touched');
  });
  afterEach(async () => {
    assert.equal(await direct('touched'), touched, 'it has reached a database');
  });

  test('a message that says it is compressed, and by nothing', async () => {
    const said = saidBy(await post(PUT, frame(message(key), { flag: 1 })));
    assertInvalid(said, 'message', 'compressed-flag');
  });

  test('a flag that nobody knows', async () => {
    const said = saidBy(await post(PUT, frame(message(key), { flag: 7 })));
    assertInvalid(said, 'message', 'compression flag: 7');
  });

  test('a message that ends early', async () => {
    for (const body of [frame(message(key), { length: 500 }), Buffer.from([0, 0, 0])]) {
      assertInvalid(saidBy(await post(PUT, body)), 'message', 'EOF');
    }
  });

  test('a message of 4 GiB is refused by its length, before it comes', async () => {
    const body = frame(Buffer.alloc(0), { length: 2 ** 32 - 1 });
    assertInvalid(saidBy(await post(PUT, body)), 'message', '4294967295', String(17 << 20));
  });

  test('encodings that the router does not speak, and it says which it does', async () => {
    for (const encoding of ['gzip', 'snappy', 'x']) {
      const headers = { 'grpc-encoding': encoding };
      const answer = await post(PUT, frame(message(key), { flag: 1 }), headers);
      assert.equal(saidBy(answer).code, grpc.status.UNIMPLEMENTED);
      assert.equal(answer['grpc-accept-encoding'], 'identity');
    }
  });

  test('a path that is no method', async () => {
    for (const path of ['/freehold.v1.KeyValue/', '/freehold.v1.KeyValue/Put/', '/freehold.v1.']) {
      const said = saidBy(await post(path, frame(message(key))));
      assert.equal(said.code, grpc.status.UNIMPLEMENTED, path);
    }
    const answer = await post('/', frame(message(key)));
    assert.equal(Number(answer['grpc-status']), grpc.status.UNIMPLEMENTED);
  });

  test('another protocol', async () => {
    const hello = ['GET / HTTP/1.1\r\nHost: x\r\n\r\n', Buffer.alloc(100_000, 0xff), 'PRI * HTTP'];
    for (const bytes of hello) {
      await new Promise((resolve) => {
        const [host, port] = address.split(':');
        const socket = net.connect(Number(port), host, () => socket.end(bytes));
        socket.on('error', resolve).on('close', resolve).resume();
      });
    }
  });
});

test('the router serves on, and so does the connection', async () => {
  const key = fresh()('k');
  const answer = await post(PUT, frame(message(key)));
  assert.equal(answer['grpc-status'], '0');
  assert.ok((await client.get({ key })).entry);
});

test('a timeout that nobody can read is none', async () => {
  for (const timeout of ['', 'x', '1', '-1S', '123456789S', '1.5S']) {
    const answer = await post(PUT, frame(message(fresh()('k'))), { 'grpc-timeout': timeout });
    assert.equal(answer['grpc-status'], '0', timeout);
  }
});
