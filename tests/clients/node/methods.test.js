// The methods that answer once: on one key, on many, and the service for operators.

'use strict';

const assert = require('node:assert/strict');
const { after, test } = require('node:test');
const grpc = require('@grpc/grpc-js');

const { assertInvalid, ofItem, refused } = require('./support/refusal');
const { address, fresh, operator, store, tags } = require('./support/scene');

const client = store();
after(() => client.close());

const seconds = (count) => ({ seconds: String(count), nanos: 0 });

async function untilGone(key) {
  while ((await client.get({ key })).entry) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('what was put is read back, with its version and who served it', async () => {
  const key = fresh()('k');
  const { version } = await client.put({ key, value: Buffer.from('value') });
  const { entry, served } = await client.get({ key });
  assert.equal(entry.value.toString(), 'value');
  assert.equal(entry.version, version);
  assert.equal(entry.ttl, null);
  assert.equal(served.source, 'SOURCE_MASTER');
  assert.ok(served.shard);
});

test('a key that is not there is an answer', async () => {
  const key = fresh()('k');
  assert.equal((await client.get({ key })).entry, null);
  assert.ok(!(await client.ttl({ key })).found);
  assert.ok(!(await client.delete({ key })).existed);
  assert.ok(!(await client.expire({ key, ttl: seconds(60) })).existed);
});

test('keys and values are arbitrary bytes, and a value may be empty', async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const key = fresh()(bytes);
  for (const value of [bytes, Buffer.alloc(0)]) {
    await client.put({ key, value });
    assert.deepEqual((await client.get({ key })).entry.value, value);
  }
  assert.ok((await client.delete({ key })).existed);
  assert.equal((await client.get({ key })).entry, null);
});

test('a key expires, and expire and persist change when', async () => {
  const key = fresh()('k');
  await client.put({ key, value: Buffer.from('v'), ttl: seconds(60) });
  const { found, ttl } = await client.ttl({ key });
  assert.ok(found && Number(ttl.seconds) <= 60);
  assert.ok((await client.expire({ key })).existed);
  assert.equal((await client.ttl({ key })).ttl, null);
  const sent = Date.now();
  assert.ok((await client.expire({ key, ttl: { seconds: '0', nanos: 300_000_000 } })).existed);
  await untilGone(key);
  // The clocks tick in milliseconds, and may be nudged.
  assert.ok(Date.now() - sent >= 295, 'it expired too early');
  assert.ok(!(await client.expire({ key, ttl: seconds(60) })).existed, 'nothing revives it');
});

test('a batch answers each item in order', async () => {
  const key = fresh();
  const keys = Array.from({ length: 1000 }, (_, number) => Buffer.from(`${key('')}${number}`));
  // Over all shards: without the tag.
  const spread = keys.map((one) => Buffer.from(one.toString().replace(/[{}]/g, '')));
  const writes = spread.map((one) => ({ put: { key: one, value: one } }));
  const wrote = await client.batchWrite({ writes });
  assert.ok(wrote.results.every(({ result }) => result === 'put'));
  const read = await client.batchGet({ keys: spread });
  assert.deepEqual(read.results.map(({ get }) => get.entry.value), spread);
  assert.ok(new Set(read.results.map(({ get }) => get.served.shard)).size > 1);
});

test('a bad item of a batch fails alone', async () => {
  const good = fresh()('good');
  const puts = [Buffer.alloc(0), good, Buffer.alloc(1025)].map((key) => ({ put: { key } }));
  const { results } = await client.batchWrite({ writes: [...puts, {}] });
  assertInvalid(ofItem(results[0].error), 'key', 'empty');
  assert.equal(results[1].result, 'put');
  assertInvalid(ofItem(results[2].error), 'key', '1025', '1024');
  assertInvalid(ofItem(results[3].error), 'writes', 'neither');
});

test('bad input names field and limit', async () => {
  const key = fresh()('k');
  const cases = [
    [() => client.get({ key: Buffer.alloc(0) }), 'key', '1024'],
    [() => client.put({ key: Buffer.alloc(1025) }), 'key', '1025', '1024'],
    [() => client.put({ key, value: Buffer.alloc((1 << 20) + 1) }), 'value', '1048577', '1048576'],
    [() => client.put({ key, ttl: seconds(0) }), 'ttl', '100 years'],
    [() => client.expire({ key, ttl: seconds(-1) }), 'ttl', '100 years'],
    [() => client.get({ key, read: { consistency: 99 } }), 'read.consistency', '99'],
    [() => client.get({ key, read: { sessionToken: Buffer.from('t') } }), 'read.session_token'],
    [() => client.batchGet({ keys: [] }), 'keys', '0 items', '1000'],
    [() => client.batchWrite({ writes: Array(1001).fill({}) }), 'writes', '1001', '1000'],
  ];
  for (const [call, field, ...words] of cases) assertInvalid(await refused(call), field, ...words);
});

test('tokens of several writes, one behind the other, read all of them', async () => {
  const key = fresh();
  const tokens = [];
  for (const name of ['a', 'b']) {
    const { sessionToken } = await client.put({ key: key(name), value: Buffer.from(name) });
    assert.ok(sessionToken.length > 0);
    tokens.push(sessionToken);
  }
  const read = { consistency: 'CONSISTENCY_SESSION', sessionToken: Buffer.concat(tokens) };
  for (const name of ['a', 'b']) {
    const { entry, served } = await client.get({ key: key(name), read });
    assert.equal(entry.value.toString(), name);
    assert.notEqual(served.staleness, null);
  }
});

test('what is no token, and a bound that is none, are refused', async () => {
  const session = (sessionToken) => ({ consistency: 'CONSISTENCY_SESSION', sessionToken });
  const bounded = (maxStaleness) => ({ consistency: 'CONSISTENCY_BOUNDED_STALENESS', maxStaleness });
  const key = fresh()('k');
  const { sessionToken } = await client.put({ key, value: Buffer.from('v') });
  const changed = Buffer.from(sessionToken);
  changed[20] ^= 1;
  const cases = [
    [session(Buffer.alloc(0)), 'read.session_token'],
    [session(Buffer.from('t')), 'read.session_token'],
    [session(changed), 'read.session_token', 'checksum'],
    [session(Buffer.alloc(65_537, 1)), 'read.session_token', '65536'],
    [bounded(null), 'read.max_staleness', 'missing'],
    [bounded(seconds(-1)), 'read.max_staleness', 'negative'],
  ];
  for (const [read, field, ...words] of cases) {
    assertInvalid(await refused(() => client.get({ key, read })), field, ...words);
  }
  const { served } = await client.get({ key, read: bounded(seconds(1)) });
  assert.notEqual(served.staleness, null);
});

test('operators are served on their own listener only', async () => {
  const own = operator();
  const misplaced = operator(address);
  const { shards } = await own.listShards({});
  assert.deepEqual(shards.map(({ name }) => name), Object.keys(tags));
  const explained = await own.explain({ key: Buffer.from('{user:1}:cart') });
  assert.equal(explained.slot, 15191);
  assert.equal((await own.listSweepers({})).sweepers.length, shards.length);
  const said = await refused(() => misplaced.listShards({}));
  assert.equal(said.code, grpc.status.UNIMPLEMENTED);
  own.close();
  misplaced.close();
});
