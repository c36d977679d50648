import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { ReadyFile } from '../../../../agent/admin/ready-file.js';
import { agentObjects } from '../../../../controller/install/agent-objects.js';
import { defaultValues } from '../../../../controller/install/install-options.js';
import { runCommand } from '../../../lab/command.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';

/** The readiness probe of the agents' pods, as kubelet runs it, with files that an agent wrote or left. */
const directory = mkdtempSync(path.join(tmpdir(), 'culvert-ready-probe-'));
const file = path.join(directory, 'ready');
after(() => rmSync(directory, { recursive: true }));

type Probed = {
  readonly spec: {
    readonly template: {
      readonly spec: { readonly containers: readonly { readonly readinessProbe: { readonly exec: Exec } }[] };
    };
  };
};
type Exec = { readonly command: readonly string[] };

async function probe(shell?: string): Promise<{ readonly isReady: boolean; readonly said: string }> {
  const [daemonSet] = agentObjects(defaultValues('0.1.0')) as unknown as readonly Probed[];
  const [program = '', ...args] = daemonSet?.spec.template.spec.containers[0]?.readinessProbe.exec.command ?? [];
  const { code, stdout } = await runCommand([
    shell ?? program,
    ...args.map((word) => word.replaceAll('/run/culvert/ready', file)),
  ]);
  return { isReady: code === 0, said: stdout.trim() };
}

function written(): string[] {
  return readFileSync(file, 'utf8').trim().split(' ');
}

test('the probe passes for the process that writes the file, and for no other one', async () => {
  assert.equal((await probe()).isReady, false, 'there is no file');
  {
    using _ = new ReadyFile({ path: file, isReady: () => true, log: silentLog });
    await waitUntil('the probe passes', async () => (await probe()).isReady || undefined);
    const [at = '', pid = '', began = ''] = written();
    // What a process with the same id has left.
    writeFileSync(file, `${at} ${pid} ${Number(began) - 1}\n`);
    const { isReady, said } = await probe();
    assert.deepEqual({ isReady, said }, { isReady: false, said: `process ${pid} is not the one that was ready` });
    const child = spawn('true');
    await once(child, 'close');
    writeFileSync(file, `${at} ${child.pid} ${began}\n`);
    assert.equal((await probe()).isReady, false, 'the process has ended');
    writeFileSync(file, '');
    assert.equal((await probe()).isReady, false, 'the file is empty');
  }
  assert.equal((await probe()).isReady, false, 'the file went with the process');
});

test('the probe fails when the process that was ready has not written the file for ten seconds', async () => {
  using ready = new ReadyFile({ path: file, isReady: () => true, log: silentLog });
  await waitUntil('the probe passes', async () => (await probe()).isReady || undefined);
  const [at = '', ...process] = written();
  ready[Symbol.dispose]();
  for (const [ageSeconds, isFresh] of [
    [4, true],
    [11, false],
  ] as const) {
    // As it would be if nothing had written it since.
    writeFileSync(file, [Number(at) - ageSeconds, ...process].join(' ').concat('\n'));
    const { isReady, said } = await probe();
    assert.equal(isReady, isFresh, `${ageSeconds} s: ${said}`);
    if (!isFresh) assert.match(said, /^the agent has hung for \d+ s$/);
  }
});

test('the probe runs nothing that it finds in the file, in any shell', async () => {
  using ready = new ReadyFile({ path: file, isReady: () => true, log: silentLog });
  await waitUntil('the probe passes', async () => (await probe()).isReady || undefined);
  const [, ...process] = written();
  ready[Symbol.dispose]();
  const trace = path.join(directory, 'trace');
  for (const shell of ['sh', 'bash']) {
    writeFileSync(file, `x[$(echo>${trace})] ${process.join(' ')}\n`);
    assert.deepEqual(await probe(shell), { isReady: false, said: `${file} is damaged` });
    assert.equal(existsSync(trace), false, shell);
  }
});
