import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import type net from 'node:net';
import { test } from 'node:test';
import { capturedDestination } from '../../../../../agent/dataplane/listen/captured-destination.js';

function socketOn(handle: { readonly fd: number } | null): net.Socket {
  return { _handle: handle } as unknown as net.Socket;
}

test('a socket that is closed is of a client that has left', () => {
  const captured = capturedDestination(socketOn(null));
  assert.deepEqual([captured.kind, 'hasLeft' in captured && captured.hasLeft], ['unreadable', true]);
});

test('an error of this host is not taken for a client that has left, and is told', () => {
  const fd = openSync('/dev/null', 'r');
  try {
    const captured = capturedDestination(socketOn({ fd }));
    assert.ok(captured.kind === 'unreadable');
    assert.equal(captured.hasLeft, false);
    assert.match(captured.detail, /ENOTSOCK/);
  } finally {
    closeSync(fd);
  }
});
