import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { readSourceTree } from '../../../../house/source-tree.js';
import { compileErrors } from '../../../../support/house/compile-errors.js';

const root = path.resolve(import.meta.dirname, '../../../../../..');

const imports = [
  "import type { Authorized } from 'ROOT/agent/dataplane/connection/authorized.js';",
  "import { dial, type DialOptions } from 'ROOT/agent/dataplane/flow/dial.js';",
  "import { openPath } from 'ROOT/agent/dataplane/flow/open-path.js';",
  "import type { TrackedConnection, FactsSource } from 'ROOT/agent/dataplane/flow/tracked-connection.js';",
  "import type { WorkerState } from 'ROOT/agent/dataplane/state/worker-state.js';",
  "import type { TunnelClient, TunnelTarget } from 'ROOT/agent/dataplane/tunnel/tunnel.js';",
  "import type { TerminationSignal } from 'ROOT/agent/dataplane/connection/termination-signal.js';",
  "import type { OriginalDestination, PeerAddress } from 'ROOT/agent/dataplane/sockets/socket-addresses.js';",
  "import type { IpAddress } from 'ROOT/shared/address.js';",
  'declare const [ip, signal, options]: [IpAddress, TerminationSignal, DialOptions];',
  'declare const [connection, state, facts]: [TrackedConnection, WorkerState, FactsSource];',
  'declare const [tunnels, target]: [TunnelClient, TunnelTarget];',
  'declare const request: Parameters<typeof openPath>[1];',
  'const address = { ip, port: 80 };',
];

/** The errors of some statements, numbered from 1. */
function errorsOf(...statements: string[]): string[] {
  const uses =
    'export const all = [dial, openPath, connection, state, facts, tunnels, target, request, address, signal, options];';
  const types = 'export type All = [Authorized, OriginalDestination, PeerAddress];';
  return compileErrors([...imports, ...statements, uses, types].join('\n')).map((error) => {
    const [line, code] = error.split(': ');
    return `${Number(line) - imports.length}: ${code}`;
  });
}

describe('a dial on behalf of an application', () => {
  it('compiles with the decision that allows it', () => {
    const errors = errorsOf(
      'const decided = connection.authorize(state, address, facts);',
      'if (decided.ok) void dial(decided, options);',
      'if (decided.ok) void openPath(decided, request);',
      'if (decided.ok) void tunnels.open(decided, target);',
    );
    assert.deepEqual(errors, []);
  });

  it('does not compile without one', () => {
    const errors = errorsOf(
      'void dial(address, options);',
      'void openPath(address, request);',
      'void tunnels.open(address, target);',
      'void dial({ ok: true, address, signal }, options);',
      'void openPath({ ok: true, address, signal }, request);',
      'void tunnels.open({ ok: true, address, signal }, target);',
    );
    assert.deepEqual(
      errors,
      [1, 2, 3, 4, 5, 6].map((line) => `${line}: ${line < 4 ? 'TS2739' : 'TS2741'}`),
    );
  });

  it('does not compile before the decision was looked at', () => {
    const errors = errorsOf(
      'const decided = connection.authorize(state, address, facts);',
      'void dial(decided, options);',
      'void openPath(decided, request);',
      'void tunnels.open(decided, target);',
    );
    assert.deepEqual(errors, ['2: TS2345', '3: TS2345', '4: TS2345']);
  });

  it('has its decision from the rules: only TrackedConnection.authorize makes one', () => {
    const makers = readSourceTree(root).filter(
      ({ path: file, imports: imported }) =>
        !file.startsWith('test/') &&
        // Under any name: what is only a type cannot be constructed.
        imported.some((each) => each.file === 'agent/dataplane/connection/authorized.ts' && !each.isType),
    );
    assert.deepEqual(
      makers.map((file) => file.path),
      ['agent/dataplane/flow/tracked-connection.ts'],
    );
  });
});

describe('the addresses of a connection', () => {
  it('are not taken for each other, nor any address for one of them', () => {
    const errors = errorsOf(
      'declare const [dialled, client]: [OriginalDestination, PeerAddress];',
      'const a: OriginalDestination = client;',
      'const b: PeerAddress = dialled;',
      'const c: OriginalDestination = address;',
      'const d: PeerAddress = address;',
      'export const addresses = [a, b, c, d];',
    );
    assert.deepEqual(
      errors.map((error) => error.split(':')[0]),
      ['2', '3', '4', '5'],
    );
  });
});
