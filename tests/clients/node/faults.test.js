// Shard a is frozen, then killed: every call ends by its deadline, with the truth.

'use strict';

const assert = require('node:assert/strict');
const { after, before, describe, test } = require('node:test');
const grpc = require('@grpc/grpc-js');

const { isTheRouters, ofCall, ofItem, refused } = require('./support/refusal');
const { deadline, direct, fresh, store } = require('./support/scene');

const DEADLINE_MS = 1200;

// The router answers some 50 ms before a deadline. On a machine that is busy the client may look
// at its clock before it looks at the answer; then it is asked again.
const TRIES = 5;

const client = store();
after(() => client.close());

// What the router says of a call that its deadline ends.
async function outlasted(call) {
  let said;
  for (let tries = 0; tries < TRIES; tries += 1) {
    said = ofCall(await call({ deadline: deadline(DEADLINE_MS) }).then(assert.fail, (e) => e));
    if (isTheRouters(said)) return said;
  }
  return assert.fail(`the deadline came before the router's answer: ${said.message}`);
}

// Repeats a call until it fails.
async function untilItFails(call) {
  for (;;) {
    const error = await call().then(
      () => null,
      (raised) => raised,
    );
    if (error) return ofCall(error);
  }
}

async function untilServed(key) {
  const end = deadline();
  for (;;) {
    const options = { deadline: deadline(DEADLINE_MS) };
    const served = await client.put({ key }, options).then(
      () => true,
      () => false,
    );
    if (served) return;
    assert.ok(Date.now() < end, 'the shard does not come back');
  }
}

describe('while shard a is frozen', () => {
  const [frozen, live] = [fresh('a'), fresh('b')];
  let puts;

  before(async () => {
    const callers = Array.from({ length: 6 }, (_, n) => n);
    const put = (n) =>
      client.put({ key: frozen(`put${n}`) }, { deadline: deadline(DEADLINE_MS + 200 * n) });
    await untilServed(frozen('k'));
    const traffic = callers.map((n) => untilItFails(() => put(n)));
    await direct('freeze a');
    puts = await Promise.all(traffic);
  });

  after(async () => {
    await direct('thaw a');
    await untilServed(frozen('k'));
  });

  test('a write that was sent has an unknown outcome', () => {
    const told = puts.filter(isTheRouters).map((said) => [said.code, said.ErrorInfo.reason].join());
    const unknown = [grpc.status.UNKNOWN, 'OUTCOME_UNKNOWN'].join();
    const waited = [grpc.status.DEADLINE_EXCEEDED, 'DEADLINE_BEFORE_SENDING'].join();
    assert.ok(told.includes(unknown), JSON.stringify(puts));
    assert.ok(told.every((one) => one === unknown || one === waited), told.join(' '));
  });

  test('what waited was not applied', async () => {
    const said = await outlasted((options) => client.put({ key: frozen('k') }, options));
    assert.equal(said.code, grpc.status.DEADLINE_EXCEEDED);
    assert.equal(said.ErrorInfo.reason, 'DEADLINE_BEFORE_SENDING');
    assert.equal(said.ErrorInfo.metadata.shard, 'a');
  });

  test('the other shard is not held up', async () => {
    await client.put({ key: live('k'), value: Buffer.from('v') });
    assert.equal((await client.get({ key: live('k') })).entry.value.toString(), 'v');
  });

  test('a full queue says when to try again', async () => {
    const writes = Array.from({ length: 500 }, (_, n) => ({ put: { key: frozen(`${n}`) } }));
    let results;
    for (let tries = 0; tries < TRIES && !results; tries += 1) {
      const options = { deadline: deadline(DEADLINE_MS) };
      ({ results } = await client.batchWrite({ writes }, options).catch(() => ({})));
    }
    const full = results
      .map(({ error }) => ofItem(error))
      .filter(({ code }) => code === grpc.status.RESOURCE_EXHAUSTED);
    assert.ok(full.length > 0);
    for (const said of full) {
      assert.equal(said.ErrorInfo.reason, 'QUEUE_FULL');
      assert.ok(said.RetryInfo.retryDelay.nanos > 0);
    }
  });
});

describe('while shard a is down', () => {
  const [down, up] = [fresh('a'), fresh('b')];

  before(async () => {
    await direct('kill a');
    // A write on a connection of which nobody knows yet that it is dead has an unknown outcome.
    await untilItFails(() => client.put({ key: down('k') }));
  });

  after(async () => {
    await direct('start a');
    await untilServed(down('k'));
  });

  test('its keys are unavailable, not applied, and it says when to try again', async () => {
    for (const call of [client.put, client.get]) {
      const said = await refused(() => call({ key: down('k') }));
      assert.equal(said.code, grpc.status.UNAVAILABLE, said.message);
      assert.equal(said.ErrorInfo.reason, 'SHARD_UNAVAILABLE');
      assert.ok(said.RetryInfo.retryDelay.nanos > 0);
    }
  });

  test('each item of a batch has its own ending', async () => {
    await client.put({ key: up('k') });
    const { results } = await client.batchGet({ keys: [down('k'), up('k')] });
    assert.equal(ofItem(results[0].error).code, grpc.status.UNAVAILABLE);
    assert.ok(results[1].get.entry);
  });
});
