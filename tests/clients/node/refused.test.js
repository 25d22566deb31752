// A database that answers and does not do what it was asked.

'use strict';

const assert = require('node:assert/strict');
const { after, describe, test } = require('node:test');
const grpc = require('@grpc/grpc-js');

const { refused } = require('./support/refusal');
const { deadline, direct, fresh, store } = require('./support/scene');

const client = store();
after(() => client.close());

describe('a master that was closed for writing', () => {
  const key = fresh('a')('k');

  after(() => direct('sql a SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF'));

  test('refuses all but EVENTUAL reads, which may be tried again', async () => {
    await client.put({ key, value: Buffer.from('before') });
    await direct('sql a SET GLOBAL super_read_only = ON');
    const calls = ['put', 'delete', 'expire', 'get', 'ttl'].map((name) => () => client[name]({ key }));
    for (const call of calls) {
      const said = await refused(call);
      assert.equal(said.code, grpc.status.UNAVAILABLE, said.message);
      assert.equal(said.ErrorInfo.reason, 'DATABASE_READ_ONLY');
      assert.ok(said.RetryInfo.retryDelay.nanos > 0 || said.RetryInfo.retryDelay.seconds > 0);
    }
    const { entry } = await client.get({ key, read: { consistency: 'CONSISTENCY_EVENTUAL' } });
    assert.equal(entry.value.toString(), 'before');
    await direct('sql a SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF');
    await client.put({ key, value: Buffer.from('after') }, { deadline: deadline() });
  });
});
