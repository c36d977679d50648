import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { NatsBucket, type NatsBucketInit } from '../../../../shared/bus/nats-bucket.js';

it('a list that loses its connection while it opens rejects, and no rejection is left that ends the process', async () => {
  const lost: (() => void)[] = [];
  let refuse: (error: Error) => void = () => undefined;
  const link = {
    connection: {},
    inboxPrefix: '_INBOX',
    names: { take: () => new Promise((_, reject) => (refuse = reject)) },
    busClosed: new AbortController().signal,
    onDisconnect: (listener: () => void) => {
      lost.push(listener);
      return () => undefined;
    },
  };
  const bucket = new NatsBucket({ name: 'rules', link, assertConnected: () => undefined } as unknown as NatsBucketInit);
  const listed = assert.rejects(bucket.entries(), /no answer/);
  await turn();
  // A rejection that nothing awaits fails the test here.
  for (const listener of lost) listener();
  await turn();
  await turn();
  refuse(new Error('no answer'));
  await listed;
});
