// The methods that stream: Scan and Pipeline.

'use strict';

const assert = require('node:assert/strict');
const { after, test } = require('node:test');
const grpc = require('@grpc/grpc-js');

const { assertInvalid, ofItem, refused } = require('./support/refusal');
const { deadline, fresh, store } = require('./support/scene');

const client = store();
after(() => client.close());

async function collect(stream) {
  const messages = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

// The rows of a scan that ended well, and the token to go on from.
async function scan(request) {
  const messages = await collect(client.scan(request, { deadline: deadline() }));
  const last = messages.pop();
  assert.equal(last.entry, null, 'the last message has no row');
  return { rows: messages.filter(({ entry }) => entry), token: last.pageToken };
}

async function fill(key, count) {
  const keys = Array.from({ length: count }, (_, n) => key(String(n).padStart(4, '0')));
  await client.batchWrite({ writes: keys.map((one) => ({ put: { key: one, value: one } })) });
  return keys;
}

// Sends all requests before an answer is read; the answers by id.
async function pipe(requests) {
  const stream = client.pipeline({ deadline: deadline() });
  for (const request of requests) stream.write(request);
  stream.end();
  const answers = await collect(stream);
  assert.equal(answers.length, requests.length, 'each is answered once');
  return new Map(answers.map((answer) => [answer.id, answer]));
}

test('a scan is read whole, in order', async () => {
  const key = fresh();
  const keys = await fill(key, 600);
  const { rows, token } = await scan({ prefix: key('') });
  assert.deepEqual(rows.map((row) => row.key), keys);
  assert.deepEqual(rows.map((row) => row.entry.value), keys);
  assert.equal(token.length, 0);
});

test('a scan is read in pages', async () => {
  const key = fresh();
  const keys = await fill(key, 30);
  const found = [];
  let token = Buffer.alloc(0);
  do {
    const page = await scan({ prefix: key(''), pageSize: 7, pageToken: token });
    assert.ok(page.rows.length <= 7);
    found.push(...page.rows.map((row) => row.key));
    token = page.token;
  } while (token.length > 0);
  assert.deepEqual(found, keys);
});

test('a client that reads slowly holds the scan back, and gets all of it', async () => {
  const key = fresh();
  const value = Buffer.alloc(1 << 20, 1);
  for (let n = 0; n < 12; n += 1) await client.put({ key: key(String(n)), value });
  let rows = 0;
  for await (const { entry } of client.scan({ prefix: key('') }, { deadline: deadline() })) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    if (entry) rows += 1;
  }
  assert.equal(rows, 12);
});

test('ranges of slots are read, each key once', async () => {
  const key = fresh();
  const name = (rest) => Buffer.from(key(rest).toString().replace(/[{}]/g, ''));
  const keys = await fill(name, 40);
  const found = [];
  for (const slots of [{ first: 0, last: 40000 }, { first: 40001, last: 65535 }]) {
    const { rows } = await scan({ prefix: name(''), slots });
    found.push(...rows.map((row) => row.key.toString()));
  }
  assert.deepEqual(found.toSorted(), keys.map(String));
});

test('a scan that is refused says why', async () => {
  const bad = async (request) => refused(() => scan(request));
  assertInvalid(await bad({ pageSize: 1001 }), 'page_size', '1001', '1000');
  assertInvalid(await bad({ prefix: Buffer.alloc(1025) }), 'prefix', '1025', '1024');
  assertInvalid(await bad({ pageToken: Buffer.from('noise') }), 'page_token');
  assertInvalid(await bad({ slots: { first: 2, last: 1 } }), 'slots.last', '2', '65535');
  assertInvalid(await bad({ slots: { last: 65536 } }), 'slots.last', '65536', '65535');
});

test('a thousand requests are in flight on one stream', async () => {
  const key = fresh();
  const name = (n) => Buffer.from(key(String(n)).toString().replace(/[{}]/g, ''));
  const ids = Array.from({ length: 1000 }, (_, n) => n);
  const puts = await pipe(ids.map((id) => ({ id, put: { key: name(id), value: name(id) } })));
  const gets = await pipe(ids.map((id) => ({ id, get: { key: name(id) } })));
  for (const id of ids.map(String)) {
    assert.deepEqual(gets.get(id).get.entry.value, name(id));
    assert.equal(gets.get(id).get.entry.version, puts.get(id).put.version);
  }
});

test('writes to one key are applied in the order they were sent in', async () => {
  const key = fresh()('k');
  const ids = Array.from({ length: 300 }, (_, n) => n);
  const writes = ids.map((id) =>
    id % 3 === 1 ? { id, delete: { key } } : { id, put: { key, value: Buffer.from(`${id}`) } },
  );
  const answers = await pipe(writes);
  for (const id of ids) {
    const answer = answers.get(String(id));
    if (id % 3 === 1) assert.ok(answer.delete.existed, `${id}: a put stands before it`);
    else assert.equal(answer.response, 'put');
  }
  assert.equal((await client.get({ key })).entry.value.toString(), '299');
});

test('a bad request of a stream fails alone, and ids have 64 bits', async () => {
  const key = fresh()('k');
  const last = '18446744073709551615';
  const answers = await pipe([
    { id: '1', get: { key: Buffer.alloc(0) } },
    { id: last, expire: { key, ttl: { seconds: '60', nanos: 0 } } },
    { id: '3' },
    { id: '4', ttl: { key } },
  ]);
  assertInvalid(ofItem(answers.get('1').error), 'key', '1024');
  assert.equal(answers.get(last).expire.existed, false);
  assertInvalid(ofItem(answers.get('3').error), 'request', 'not set');
  assert.equal(answers.get('4').ttl.found, false);
});

test('a client may leave in the middle', async () => {
  const stream = client.pipeline({ deadline: deadline() });
  for (let id = 0; id < 100; id += 1) stream.write({ id, get: { key: fresh()('k') } });
  stream.once('data', () => stream.cancel());
  const error = await new Promise((resolve) => stream.on('error', resolve));
  assert.equal(error.code, grpc.status.CANCELLED);
});
