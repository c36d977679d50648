import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The benchmarks whose load joins the mesh as agents do: what agents may do changes, and these have to go along. */
const bench = fileURLToPath(new URL('../bench/main.js', import.meta.url));
const timeoutMs = 120_000;

async function reportOf(...args: readonly string[]): Promise<Record<string, unknown>> {
  const { stdout } = await promisify(execFile)(process.execPath, [bench, ...args, '--json'], { timeout: timeoutMs });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

test('changes of a small cluster all reach an agent', async () => {
  const { cluster } = await reportOf('cluster', '--pods', '60', '--changes', '30', '--seconds', '1');
  const { changes, failed } = cluster as { readonly changes: number; readonly failed: number };
  assert.deepEqual({ changes, failed }, { changes: 30, failed: 0 });
});

test('rules and an endpoint reach two simulated agents', async () => {
  const { agents } = (await reportOf('scale', '--workloads', '0', '--agents', '2', '--rounds', '1')) as {
    readonly agents: readonly { readonly agents: number; readonly inForceMs: { readonly median: number } }[];
  };
  assert.deepEqual(
    agents.map((size) => [size.agents, size.inForceMs.median > 0]),
    [[2, true]],
  );
});
