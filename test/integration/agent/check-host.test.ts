import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import type { HostCheck } from '../../../agent/check-host.js';
import { runCommand } from '../../lab/command.js';
import { waitUntil } from '../../lab/wait-until.js';
import { withoutProgram } from '../../support/program/without-program.js';

const agentProgram = path.resolve(import.meta.dirname, '../../../programs/culvert-agent.js');

type Asked = { readonly args?: readonly string[]; readonly path?: string; readonly without?: string };

/** `without`: a program that cannot be run there. */
async function check(o: Asked = {}) {
  const asked = [process.execPath, agentProgram, 'check', '--json', ...(o.args ?? ['--privileges', 'whole'])];
  const argv = o.without === undefined ? asked : withoutProgram(o.without, asked);
  const PATH = `${o.path === undefined ? '' : `${o.path}:`}${process.env['PATH'] ?? ''}`;
  const { code, stdout, stderr } = await runCommand(argv, { env: { ...process.env, PATH }, timeoutMs: 60_000 });
  assert.notEqual(stdout, '', stderr);
  const checks = JSON.parse(stdout) as readonly HostCheck[];
  return { code, found: new Map(checks.map((each) => [each.check, each])) };
}

/** Ids of the processes of this machine that have a word in their command line. */
function processesWith(word: string): readonly string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && hasWord(name, word));
}

function hasWord(pid: string, word: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(word);
  } catch {
    return false;
  }
}

/** A folder with programs that are this script of a shell. */
function programsThat(script: string, names: readonly string[]): Disposable & { readonly directory: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-replaced-'));
  for (const name of names) {
    writeFileSync(path.join(directory, name), `#!/bin/sh\n${script}\n`);
    chmodSync(path.join(directory, name), 0o755);
  }
  return { directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

test('a host that captures workloads passes, and nothing is left of the trial', async () => {
  const { code, found } = await check();
  assert.equal(code, 0, JSON.stringify([...found.values()]));
  assert.match(found.get('iptables')?.message ?? '', /^the rules of iptables \((nft|legacy)\) load and count$/);
  assert.equal(found.get('programs')?.state, 'ok');
  // This test may run with two versions of Node at once: the trial of the other one ends, and what is left of ours does not.
  const word = '198.51.100.1/32';
  const seen = processesWith(word);
  await waitUntil(
    'the processes of trials end',
    () => (seen.some((pid) => hasWord(pid, word)) ? undefined : true),
    10_000,
  );
});

test('a low limit of open files is a warning, with what it is enough for and what an agent needs', async () => {
  const asked = ['sh', '-c', 'ulimit -n 1024 && exec "$0" "$@"', process.execPath, agentProgram, 'check', '--json'];
  const { stdout } = await runCommand([...asked, '--privileges', 'whole'], { timeoutMs: 60_000 });
  const found = (JSON.parse(stdout) as readonly HostCheck[]).find(({ check }) => check === 'files');
  assert.equal(found?.state, 'warn');
  assert.match(found.message, /may open 1024 files, which is enough for 256 connections/);
  assert.match(found.hint, /raise the limit of open files to 40512 or more: LimitNOFILE=/);
  assert.equal((await check()).found.get('files')?.state, 'ok');
});

test('a user that is not there is named, with the command that makes it', async () => {
  const { code, found } = await check({ args: ['--user', 'culvert-no-such-user'] });
  assert.equal(code, 1);
  assert.equal(found.get('user')?.state, 'fail');
  assert.match(found.get('user')?.hint ?? '', /useradd --system/);
});

test('an iptables whose rules the kernel does not have is found out', async () => {
  const names = ['iptables-restore', 'ip6tables-restore', 'iptables-legacy-restore', 'ip6tables-legacy-restore'];
  using idle = programsThat('cat >/dev/null', names);
  const { code, found } = await check({ path: idle.directory });
  assert.equal(code, 1);
  assert.equal(found.get('iptables')?.state, 'fail', found.get('iptables')?.message);
  assert.match(found.get('iptables')?.message ?? '', /do not (load|count)/);
});

test('a host without unshare is told so, and not that its kernel lacks modules', async () => {
  const { code, found } = await check({ without: 'unshare' });
  assert.equal(code, 1);
  assert.equal(found.get('iptables'), undefined);
  assert.deepEqual(found.get('trial'), {
    check: 'trial',
    state: 'fail',
    message: 'whether its rules load and count is not known: unshare is not installed',
    hint: 'apt-get install util-linux',
  });
});

test('a namespace that cannot be made has a cause and a cure of its own', async () => {
  for (const [said, hint] of [
    ['unshare: unshare failed: Operation not permitted', /CAP_SYS_ADMIN/],
    ['unshare: unshare failed: No space left on device', /sysctl user\.max_net_namespaces/],
    ['unshare: unshare failed: Invalid argument', /CONFIG_NET_NS/],
  ] as const) {
    using failing = programsThat(`echo '${said}' >&2; exit 1`, ['unshare']);
    const { code, found } = await check({ path: failing.directory });
    assert.equal(code, 1);
    assert.equal(found.get('iptables'), undefined);
    assert.match(found.get('trial')?.message ?? '', new RegExp(`no network namespace can be made: ${said}$`));
    assert.match(found.get('trial')?.hint ?? '', hint);
  }
});

test('rules that do not load for another cause than the kernel say that one', async () => {
  for (const [said, hint] of [
    ["iptables-restore: Couldn't load match `owner':No such file or directory", /reinstall iptables$/],
    ['Another app is currently holding the xtables lock', /xtables\.lock/],
    ['iptables-restore: Memory allocation problem.', /short of memory/],
    ['nsenter: reassociate to namespace failed: Operation not permitted', /NET_ADMIN and SYS_ADMIN/],
  ] as const) {
    const script = `cat >/dev/null; printf '%s\\n' "${said.replace('`', '\\`')}" >&2; exit 4`;
    using failing = programsThat(script, ['iptables-restore', 'iptables-legacy-restore']);
    const { found } = await check({ path: failing.directory });
    assert.match(found.get('iptables')?.message ?? '', /do not load/, JSON.stringify([...found.values()]));
    assert.match(found.get('iptables')?.hint ?? '', hint);
  }
});
