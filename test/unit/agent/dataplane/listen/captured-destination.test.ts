import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp, type HostPort, type IpAddress } from '../../../../../shared/address.js';
import { capturedDestination } from '../../../../../agent/dataplane/listen/captured-destination.js';

const at = (ip: string, port: number): HostPort => ({ ip: parseIp(ip) as IpAddress, port });
const local = at('127.0.0.1', 15_001);
const peer = at('198.18.0.1', 40_000);
const dialled = at('198.18.0.2', 5432);
const accepted = { local, peer, dialled, hasLeft: false };

test('it is where the client wanted to go before the redirect, with the port from which it dialled', () => {
  assert.deepEqual(capturedDestination(accepted), { kind: 'redirected', dialled, client: peer });
  const asked = { socket: { fd: 7 }, workload: { clientPort: ({ fd }: { readonly fd: number }) => 1000 + fd } };
  assert.deepEqual(capturedDestination(accepted, asked), {
    kind: 'redirected',
    dialled,
    client: { ...peer, port: 1007 },
  });
  const fault = (): never => assert.fail('of the kernel');
  assert.deepEqual(capturedDestination(accepted, { ...asked, workload: { clientPort: fault } }).client, peer);
});

test('without a redirect it is our own port, also where connection tracking does not know of it', () => {
  for (const own of [local, 'ENOENT'])
    assert.deepEqual(capturedDestination({ ...accepted, dialled: own }), {
      kind: 'direct',
      dialled: local,
      client: peer,
    });
});

test('an IPv4-mapped address in an IPv6 packet is told', () => {
  const v6 = { ...accepted, local: at('fd00::1', 15_001) };
  assert.equal(capturedDestination(v6).kind, 'mapped');
});

test('a client that has left before it was accepted is told, and where it wanted to go', () => {
  const captured = capturedDestination({ ...accepted, hasLeft: true });
  assert.deepEqual(captured, { kind: 'unreadable', dialled, client: null, hasLeft: true, detail: '' });
});

test('an error of this host is not taken for a client that has left, and is told', () => {
  for (const unread of [
    { ...accepted, dialled: 'ENOTSOCK' },
    { ...accepted, local: null, dialled: 'ENOTSOCK' },
  ]) {
    const captured = capturedDestination(unread);
    assert.ok(captured.kind === 'unreadable');
    assert.equal(captured.hasLeft, false);
    assert.match(captured.detail, /ENOTSOCK/);
  }
});
