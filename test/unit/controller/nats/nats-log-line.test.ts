import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNatsLogLine } from '../../../../controller/nats/nats-log-line.js';

const user = `U${'A'.repeat(55)}`;

test('lines that matter become events', () => {
  const cases: [string, object | undefined][] = [
    ['[1] [INF] Listening for client connections on 127.0.0.1:4222', { kind: 'listening', port: 4222 }],
    ['[1] [INF] Listening for client connections on [::]:34115', { kind: 'listening', port: 34115 }],
    ['[1] [INF] Server is ready', { kind: 'ready' }],
    ['[1] [INF] Reloaded server configuration', { kind: 'reloaded' }],
    ['[1] [ERR] Failed to reload server configuration: tls', { kind: 'reload-failed' }],
    [
      `[1] [ERR] 127.0.0.1:5 - cid:13 - "v2.29.3:nats.js:n1" - Publish Violation - Nkey "${user}", Subject "a.b"`,
      { kind: 'refused', operation: 'publish', subject: 'a.b', user, remote: '127.0.0.1:5' },
    ],
    [
      `[1] [ERR] 127.0.0.1:5 - cid:13 - Subscription Violation - JWT User "${user}", Subject ">", Queue: "q", SID 2`,
      { kind: 'refused', operation: 'subscribe', subject: '>', user, remote: '127.0.0.1:5' },
    ],
    [
      '[1] [ERR] [fd00::1]:5 - cid:15 - "v2:nats.js:x" - authentication error',
      { kind: 'refused', operation: 'connect', subject: null, user: null, remote: '[fd00::1]:5' },
    ],
    ['[1] [INF] Starting nats-server', undefined],
    ['goroutine 1 [running]:', undefined],
    ['', undefined],
  ];
  for (const [line, event] of cases) assert.deepEqual(parseNatsLogLine(line).event, event, line);
});

test('levels are those of the log, and what is no log line is a warning', () => {
  assert.equal(parseNatsLogLine('[1] [FTL] x').level, 'fatal');
  assert.deepEqual(parseNatsLogLine('panic: x'), { level: 'warn', text: 'panic: x' });
});

test('a client that went away in the handshake is no error, and a handshake that was refused is', () => {
  const of = (problem: string): string =>
    parseNatsLogLine(`[1] [ERR] 198.18.0.2:5 - cid:7 - TLS handshake error: ${problem}`).level;
  assert.equal(of('EOF'), 'debug');
  assert.equal(of('read tcp 198.18.0.1:4222->198.18.0.2:5: read: connection reset by peer'), 'debug');
  assert.equal(of('remote error: tls: bad certificate'), 'error');
  assert.equal(of('tls: client offered only unsupported versions'), 'error');
});

test('a client cannot forge a refusal of another client with its own name', () => {
  const name = `\\" - Publish Violation - Nkey \\"${user}\\", Subject \\"x`;
  const line = `[1] [ERR] 127.0.0.1:5 - cid:15 - "v2:nats.js:${name}" - authentication error`;
  assert.deepEqual(parseNatsLogLine(line).event, {
    kind: 'refused',
    operation: 'connect',
    subject: null,
    user: null,
    remote: '127.0.0.1:5',
  });
});
