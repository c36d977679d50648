import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import type { HostCheck } from '../../../agent/check-host.js';
import { runCommand } from '../../lab/command.js';

const agentProgram = path.resolve(import.meta.dirname, '../../../programs/culvert-agent.js');

async function check(o: { readonly args?: readonly string[]; readonly path?: string } = {}) {
  const argv = [process.execPath, agentProgram, 'check', '--json', ...(o.args ?? ['--privileges', 'whole'])];
  const PATH = `${o.path === undefined ? '' : `${o.path}:`}${process.env['PATH'] ?? ''}`;
  const { code, stdout, stderr } = await runCommand(argv, { env: { ...process.env, PATH }, timeoutMs: 60_000 });
  assert.notEqual(stdout, '', stderr);
  const checks = JSON.parse(stdout) as readonly HostCheck[];
  return { code, found: new Map(checks.map((each) => [each.check, each])) };
}

/** Command lines of the processes of this machine that have a word. */
function processesWith(word: string): string[] {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return all.flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return line.includes(word) ? [line] : [];
    } catch {
      return [];
    }
  });
}

/** A folder with programs that say nothing and do nothing. */
function idlePrograms(names: readonly string[]): Disposable & { readonly directory: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-idle-'));
  for (const name of names) {
    writeFileSync(path.join(directory, name), '#!/bin/sh\ncat >/dev/null\n');
    chmodSync(path.join(directory, name), 0o755);
  }
  return { directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

test('a host that captures workloads passes, and nothing is left of the trial', async () => {
  const { code, found } = await check();
  assert.equal(code, 0, JSON.stringify([...found.values()]));
  assert.match(found.get('iptables')?.message ?? '', /^the rules of iptables \((nft|legacy)\) load and count$/);
  assert.equal(found.get('programs')?.state, 'ok');
  assert.deepEqual(processesWith('198.51.100.1/32'), []);
});

test('a user that is not there is named, with the command that makes it', async () => {
  const { code, found } = await check({ args: ['--user', 'culvert-no-such-user'] });
  assert.equal(code, 1);
  assert.equal(found.get('user')?.state, 'fail');
  assert.match(found.get('user')?.hint ?? '', /useradd --system/);
});

test('an iptables whose rules the kernel does not have is found out', async () => {
  const names = ['iptables-restore', 'ip6tables-restore', 'iptables-legacy-restore', 'ip6tables-legacy-restore'];
  using idle = idlePrograms(names);
  const { code, found } = await check({ path: idle.directory });
  assert.equal(code, 1);
  assert.equal(found.get('iptables')?.state, 'fail', found.get('iptables')?.message);
  assert.match(found.get('iptables')?.message ?? '', /do not (load|count)/);
});
