// The router under test, a client for it, and the hand that breaks the servers behind it.
//
// By hand, against a router that runs already:
//     NODE_PATH=... FREEHOLD_ADDRESS=127.0.0.1:7420 node --test-reporter=spec methods.test.js

'use strict';

const crypto = require('node:crypto');
const net = require('node:net');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const PROTO = path.resolve(__dirname, '../../../../proto');

// For calls that are not about deadlines: long enough for a machine that is busy.
const PATIENCE_MS = 60_000;

// A value of 15 MiB is more than clients accept by default.
const OPTIONS = { 'grpc.max_receive_message_length': 32 << 20 };

const address = process.env.FREEHOLD_ADDRESS ?? '127.0.0.1:7420';
const admin = process.env.FREEHOLD_ADMIN ?? '127.0.0.1:7421';

// The shards' names, each with a tag whose slot it owns.
const tags = Object.fromEntries(
  (process.env.FREEHOLD_TAGS ?? '').split(',').filter(Boolean).map((pair) => pair.split('=')),
);

const { v1 } = grpc.loadPackageDefinition(
  loader.loadSync(['freehold/v1/key_value.proto', 'freehold/v1/admin.proto'], {
    includeDirs: [PROTO],
    // Versions have 64 bits, and so may ids.
    longs: String,
    enums: String,
    oneofs: true,
    // Fields that are not on the wire have their defaults; messages that are absent are null.
    defaults: true,
  }),
).freehold;

const insecure = grpc.credentials.createInsecure();

function deadline(ms = PATIENCE_MS) {
  return Date.now() + ms;
}

// A client whose unary methods return promises: `await store.get({ key })`.
function promising(client) {
  return new Proxy(client, {
    get(target, name) {
      const method = target[name];
      if (typeof method !== 'function' || method.responseStream !== false) {
        return typeof method === 'function' ? method.bind(target) : method;
      }
      return (request, options = { deadline: deadline() }) =>
        new Promise((resolve, reject) => {
          const done = (error, response) => (error ? reject(error) : resolve(response));
          method.call(target, request, options, done);
        });
    },
  });
}

const store = () => promising(new v1.KeyValue(address, insecure, OPTIONS));
const operator = (at = admin) => promising(new v1.Admin(at, insecure, OPTIONS));

// Keys that no other test has; they share a tag, so a scan over them is short.
function fresh(shard) {
  const name = crypto.randomBytes(6).toString('hex');
  const prefix = shard ? `{${tags[shard]}}${name}/` : `{${name}}/`;
  return (rest) => Buffer.concat([Buffer.from(prefix), Buffer.from(rest)]);
}

// Has the test's owner do what a client cannot: `freeze a`, `thaw a`, `kill a`, `start a`.
function direct(command) {
  const [host, port] = process.env.FREEHOLD_DIRECTOR.split(':');
  return new Promise((resolve, reject) => {
    let answer = '';
    const connection = net.connect(Number(port), host, () => connection.write(`${command}\n`));
    connection.on('data', (data) => (answer += data));
    connection.on('error', reject);
    connection.on('end', () => {
      if (answer.startsWith('ok')) resolve(answer.slice(2).trim());
      else reject(new Error(`${command}: ${answer || 'no answer'}`));
    });
  });
}

module.exports = { address, admin, deadline, direct, fresh, operator, store, tags, PROTO };
