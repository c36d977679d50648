import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { HeldConnect } from '../../../../../agent/dataplane/listen/late/held-connect.js';
import type { ApplicationSocket } from '../../../../../agent/dataplane/relay/application-socket.js';
import type { OriginalDestination, PeerAddress } from '../../../../../agent/dataplane/sockets/socket-addresses.js';
import { synMarks } from '../../../../../agent/ports.js';

const client = { ip: '198.18.0.1', port: 40_000 } as PeerAddress;
const dialled = { ip: '198.18.0.2', port: 80 } as OriginalDestination;

/** A held connect, and what was decided about which packet. */
function hold(): { connect: HeldConnect; decided: string[]; again: (id: number) => void } {
  const decided: string[] = [];
  const packet = (id: number) => ({ id, mark: 0, syn: { client, dialled } });
  const connect = new HeldConnect({
    packet: packet(1),
    client,
    dialled,
    queue: {
      decide: ({ id }, verdict) => {
        const mark = verdict.kind === 'pass' ? verdict.mark : undefined;
        decided.push(`${id} ${mark === undefined ? verdict.kind : `0x${mark.toString(16)}`}`);
      },
      leave: () => decided.push('left'),
    },
  });
  return { connect, decided, again: (id) => connect.decide(packet(id)) };
}
const [accepted, refused] = [synMarks.accepted, synMarks.refused].map((mark) => `0x${mark.toString(16)}`);

/** Of no connection: no call is made for it. */
function connection(): { readonly socket: ApplicationSocket; readonly isClosed: () => boolean } {
  let isClosed = false;
  const socket = { close: () => (isClosed = true) } as unknown as ApplicationSocket;
  return { socket, isClosed: () => isClosed };
}

test('a SYN that the client sends again goes the way of the first one', async () => {
  const { connect, decided, again } = hold();
  again(2);
  const { socket } = connection();
  const given = connect.accept(new TerminationSignal());
  again(3);
  connect.give(socket);
  assert.equal(await given, socket);
  assert.deepEqual(decided, ['2 drop', `1 ${accepted}`, `3 ${accepted}`, 'left']);
});

test('the first verdict counts', async () => {
  const { connect, decided } = hold();
  connect.refuse();
  connect.refuse();
  connect.forget();
  assert.equal(await connect.accept(new TerminationSignal()), null);
  const late = connection();
  connect.give(late.socket);
  assert.equal(late.isClosed(), true, 'what comes too late is closed');
  assert.deepEqual(decided, ['left', `1 ${refused}`]);
});

test('a connect that was cut while it waited can still be refused, and one whose SYN has gone on cannot', async () => {
  const [before, after] = [hold(), hold()];
  const signal = new TerminationSignal();
  const accepting = after.connect.accept(signal);
  signal.raise(new ConnectionCut({ reason: 'POLICY_TERMINATED' }));
  assert.equal(await accepting, null);
  assert.equal(await before.connect.accept(signal), null);
  for (const { connect } of [before, after]) connect.refuse();
  assert.deepEqual(before.decided, ['left', `1 ${refused}`]);
  assert.deepEqual(after.decided, [`1 ${accepted}`, 'left']);
});
