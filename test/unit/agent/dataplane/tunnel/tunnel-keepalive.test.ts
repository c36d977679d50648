import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import type { Session } from '../../../../../agent/dataplane/engine/http2-engine.js';
import { waitUntil } from '../../../../lab/wait-until.js';
import { keepTunnelAlive, type TunnelPulse } from '../../../../../agent/dataplane/tunnel/tunnel-keepalive.js';

type Answer = (error: Error | null) => void;

/** A session that hands each PING to the test. */
class AskedSession extends EventEmitter<{ ping: [Answer]; close: [] }> {
  readonly destroyed = false;

  ping(answer: Answer): void {
    this.emit('ping', answer);
  }
}

const sessions: AskedSession[] = [];
// The PINGs alone do not keep a process running.
let running: NodeJS.Timeout;
beforeEach(() => {
  running = setInterval(() => {}, 1000);
});
afterEach(() => {
  clearInterval(running);
  for (const session of sessions.splice(0)) session.emit('close');
});

function alive(intervalMs: number): {
  readonly session: AskedSession;
  readonly pulse: TunnelPulse;
  readonly arrive: (bytes: number) => void;
} {
  const session = new AskedSession();
  sessions.push(session);
  let bytesRead = 0;
  const socket = Object.defineProperty(new net.Socket(), 'bytesRead', { get: () => bytesRead });
  const onDead = (): void => assert.fail('it is not dead');
  const pulse = keepTunnelAlive({
    session: session as unknown as Session,
    socket,
    intervalMs,
    timeoutMs: 60_000,
    onDead,
  });
  return { session, pulse, arrive: (bytes) => void (bytesRead += bytes) };
}

test('a PING that is due in an hour goes out at once when a connection has to know sooner', async () => {
  const { session, pulse } = alive(3_600_000);
  pulse.hurry(5);
  for (let count = 0; count < 3; count++) {
    const [answer] = (await once(session, 'ping')) as [Answer];
    answer(null);
  }
  assert.equal(pulse.unansweredMs, 0);
});

test('the time without an answer counts from the first PING that waits, and ends with its answer', async () => {
  const { session, pulse } = alive(5);
  const [answer] = (await once(session, 'ping')) as [Answer];
  await waitUntil('the PING has waited', () => (pulse.unansweredMs >= 25 ? true : undefined));
  answer(null);
  assert.equal(pulse.unansweredMs, 0);
});

test('bytes that came after a PING put it off, and the silence after them counts again', async () => {
  const { session, pulse, arrive } = alive(5);
  await once(session, 'ping');
  await waitUntil('the PING has waited', () => (pulse.unansweredMs >= 25 ? true : undefined));
  arrive(9);
  assert.ok(pulse.unansweredMs < 25);
  await waitUntil('it has waited since the bytes', () => (pulse.unansweredMs >= 25 ? true : undefined));
});

test('where PINGs are off, none goes out', () => {
  const { session, pulse } = alive(0);
  session.once('ping', () => assert.fail('a PING'));
  pulse.hurry(1);
  assert.equal(pulse.unansweredMs, 0);
});
