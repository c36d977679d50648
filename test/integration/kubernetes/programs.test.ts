import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Component, componentsOf, usualMinor } from '../../kubernetes/programs/components.js';
import { goEnvironment, requireGo, requireModules } from '../../kubernetes/programs/go-command.js';
import { ProgramCache } from '../../kubernetes/programs/program-cache.js';
import { runCommand } from '../../lab/command.js';

/** Which Go may build a cluster, and where what it built is kept. Go itself stands in as a script. */
let directory: string;
const searchPath = process.env['PATH'] ?? '';
before(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-cluster-programs-'));
});
after(() => {
  process.env['PATH'] = searchPath;
  rmSync(directory, { recursive: true });
});

const [pause] = componentsOf(usualMinor) as [Component];

async function askWith(script: string | null, components: readonly Component[] = [pause]): Promise<void> {
  const bin = mkdtempSync(path.join(directory, 'bin-'));
  if (script !== null) writeFileSync(path.join(bin, 'go'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  process.env['PATH'] = bin;
  try {
    await requireGo(components, goEnvironment(new ProgramCache(directory)));
  } finally {
    process.env['PATH'] = searchPath;
  }
}

test('without Go, and with one that is too old, one line says what to do', async () => {
  const hint = /^install Go 1\.26\.0 as https:.*GOTOOLCHAIN=auto/;
  await assert.rejects(askWith(null), { code: 'GO_MISSING', hint });
  const old = /^Kubernetes is built with Go 1\.26\.0 or newer: this is Go 1\.19\.8\.$/;
  await assert.rejects(askWith('echo go1.19.8'), { code: 'GO_TOO_OLD', message: old, hint });
  const refusal = 'go: go.mod requires go >= 1.26.0 (running go 1.25.3; GOTOOLCHAIN=local)';
  await assert.rejects(askWith(`echo "${refusal}" >&2; exit 1`), {
    code: 'GO_TOO_OLD',
    message: /GOTOOLCHAIN=local/,
    hint,
  });
  await askWith('echo go1.26.0');
  await askWith('echo go1.100.1');
  // Another process built it all while this one waited.
  await askWith(null, []);
});

test('without a network, one line says so before anything is compiled', async () => {
  const bin = mkdtempSync(path.join(directory, 'bin-'));
  const refusal = 'go: downloading x\\ngo: example.test/x@v1.0.0: dial tcp: network is unreachable';
  writeFileSync(path.join(bin, 'go'), `#!/bin/sh\nprintf "${refusal}\\n" >&2; exit 1\n`, { mode: 0o755 });
  const [etcd] = componentsOf(usualMinor).filter(({ name }) => name === 'etcd');
  assert.ok(etcd);
  process.env['PATH'] = bin;
  try {
    await assert.rejects(requireModules(etcd, goEnvironment(new ProgramCache(directory)), directory), {
      code: 'GO_NETWORK',
      message: /^The modules of Kubernetes cannot be downloaded, .*: go: example\.test.* network is unreachable\.$/,
      hint: new RegExp(`GOPROXY.* bring ${directory} from a machine`),
    });
  } finally {
    process.env['PATH'] = searchPath;
  }
});

test('Go keeps its caches where the user has them, or in ours', () => {
  const cache = new ProgramCache(directory);
  assert.equal(goEnvironment(cache)['GOMODCACHE'], path.join(directory, 'go/modules'));
  process.env['GOMODCACHE'] = '/elsewhere';
  try {
    assert.equal(goEnvironment(cache)['GOMODCACHE'], undefined);
  } finally {
    delete process.env['GOMODCACHE'];
  }
});

test('an entry is there as a whole or not at all, and another module is another entry', async () => {
  const cache = new ProgramCache(path.join(directory, 'cache'));
  mkdirSync(cache.directory);
  await assert.rejects(
    cache.make(pause, async (folder) => {
      writeFileSync(path.join(folder, 'pause'), 'half');
      throw new Error('no room');
    }),
    /no room/,
  );
  assert.deepEqual([cache.has(pause), readdirSync(cache.directory)], [false, []]);
  await cache.make(pause, async (folder) => {
    // A run that looks meanwhile finds nothing.
    assert.equal(cache.has(pause), false);
    writeFileSync(path.join(folder, 'pause'), 'whole');
  });
  assert.deepEqual(readdirSync(cache.entry(pause)), ['pause']);
  const changed = path.join(directory, 'changed');
  mkdirSync(changed);
  writeFileSync(path.join(changed, 'go.mod'), 'module changed\n');
  assert.notEqual(cache.entry({ ...pause, directory: changed }), cache.entry(pause));
});

test('one process builds at a time, and the lock of one that was killed does not count', async () => {
  const cache = new ProgramCache(path.join(directory, 'locked'));
  let waits = 0;
  const first = await cache.lock(() => waits++);
  const second = cache.lock(() => {
    waits++;
    first[Symbol.dispose]();
  });
  (await second)[Symbol.dispose]();
  assert.equal(waits, 1);
  const url = new URL('../../kubernetes/programs/program-cache.js', import.meta.url).href;
  const script = `
const { ProgramCache } = await import('${url}');
await new ProgramCache('${cache.directory}').lock(() => {});
(await import('node:fs')).mkdirSync('${cache.directory}/pause.new');
process.kill(process.pid, 'SIGKILL');`;
  await runCommand([process.execPath, '--input-type=module', '-e', script]);
  assert.ok(existsSync(path.join(cache.directory, 'lock')));
  (await cache.lock(() => {}))[Symbol.dispose]();
  assert.deepEqual(readdirSync(cache.directory), []);
});
