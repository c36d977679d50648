import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { askConfined } from '../../../support/agent/confined-process.js';
import { buildHostile } from '../../../support/agent/hostile-client.js';

const helper = fileURLToPath(new URL('../../../../agent/native/culvert-helper', import.meta.url));
const { EPERM, ENOSYS } = constants.errno;
const name = `hcl${randomBytes(3).toString('hex')}`;
const netnsPath = `/run/netns/${name}`;
let directory: string;
let built: ReturnType<typeof buildHostile>;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'culvert-hostile-'));
  chmodSync(directory, 0o755);
  built = buildHostile(directory);
  writeFileSync(join(directory, 'iptables'), `#!/bin/sh\n: >${directory}/taken\n`, { mode: 0o755 });
  execFileSync('sh', ['-ec', `ip netns add ${name}; ip -n ${name} link set lo up`]);
});
after(() => {
  execFileSync('ip', ['netns', 'del', name]);
  rmSync(directory, { recursive: true });
});

/** In the namespace, which is the host's for the helper, and in a process group of its own. */
function attempts(args: readonly string[]): Readonly<Record<string, number>> {
  const argv = [`--net=${netnsPath}`, 'setsid', '--wait', built.client, helper, ...args];
  // An empty element of PATH is the current directory.
  const env = { ...process.env, PATH: `:.:${process.env['PATH']}` };
  const { stdout, stderr } = spawnSync('nsenter', argv, { encoding: 'utf8', cwd: directory, env });
  const found = Object.fromEntries(
    stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ') as [string, string])
      .map(([attempt, number]) => [attempt, Number(number)]),
  );
  assert.notDeepEqual(found, {}, stderr);
  return found;
}

test('no descriptor of a client keeps the helper waiting, or has a root program write into what is no pipe', () => {
  assert.deepEqual(attempts([]), {
    extra: EPERM,
    'after-linger': 0,
    transparent: EPERM,
    abort: EPERM,
    unsealed: EPERM,
    'half-sealed': EPERM,
    socket: EPERM,
    'socket-for-code': EPERM,
    netlink: EPERM,
    'never-stuck': 0,
    six: -1,
  });
  assert.ok(!existsSync(join(directory, 'taken')), 'it runs a program of the directory in which it was started');
});

test('a listening helper has a place for each who comes, also when one process takes all', () => {
  assert.deepEqual(attempts([String(process.getuid?.()), join(directory, 'helper.sock')]), {
    first: 0,
    crowded: 0,
    next: 0,
    'first-again': 0,
    'same-helper': 0,
  });
});

test('a confined process makes no namespace, by whatever call, and no socket that sees the wire', async () => {
  const question = `(() => {
    const out = fs.openSync(${JSON.stringify(directory)} + '/found', 'w+');
    process.env.PROBE_FD = String(out);
    try { process.dlopen({ exports: {} }, ${JSON.stringify(built.probe)}); } catch {}
    return JSON.parse(fs.readFileSync(${JSON.stringify(directory)} + '/found', 'utf8'));
  })()`;
  chmodSync(directory, 0o777);
  const found = await askConfined({ probe: question }, netnsPath);
  assert.deepEqual(found['probe']?.value, {
    user: EPERM,
    net: EPERM,
    clone3: ENOSYS,
    plain: 0,
    uring: EPERM,
    fsopen: EPERM,
    pidfd: EPERM,
    packet: EPERM,
    vsock: EPERM,
    udp: 0,
    dumpable: 0,
  });
});
