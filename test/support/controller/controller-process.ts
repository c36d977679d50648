import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';
import { programs } from '../../lab/programs.js';
import { ownPort } from '../own-port.js';
import { callApi, eventually } from './controller-fixture.js';

const [, program] = programs.controller;

export type Access = { readonly url: string; readonly caPem: string; readonly adminToken: string };

/**
 * A controller as a process of its own, killed at the end of the test whatever happens. `program`: instead of this build's;
 * `within`: a command that runs the one that follows it.
 */
export async function spawnedController(
  stateDir: string,
  args: readonly string[] = [],
  o: { readonly program?: string; readonly env?: NodeJS.ProcessEnv; readonly within?: readonly string[] } = {},
) {
  const at = [`127.0.0.1:${await ownPort()}`, `127.0.0.1:${await ownPort()}`] as const;
  const own = ['--state-dir', stateDir, '--listen', at[0], '--nats-listen', at[1]];
  const [first, ...rest] = [...(o.within ?? []), process.execPath, o.program ?? program, 'run', ...own, ...args];
  const child: ChildProcess = spawn(first ?? '', rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...o.env },
  });
  let output = '';
  let isClosed = false;
  child.once('close', () => (isClosed = true));
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const access = async (): Promise<Access> =>
    eventually('the controller says that it serves', async () => {
      assert.ok(!isClosed, `it has ended: ${output}`);
      const url = /"url":"(https:[^"]+)"/.exec(output)?.[1];
      if (url === undefined) return undefined;
      const context = parse(await readFile(path.join(stateDir, 'admin.yaml'), 'utf8')) as Record<string, string>;
      assert.equal(context['controller'], url);
      return { url, caPem: context['ca'] ?? '', adminToken: context['token'] ?? '' };
    });
  return {
    child,
    exited,
    access,
    output: () => output,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await exited;
    },
  };
}

export async function ready(access: Access): Promise<void> {
  await eventually('the controller is ready', async () => {
    const answer = await callApi(access, 'GET', '/readyz', { token: null });
    return answer.status === 200 ? true : undefined;
  });
}
