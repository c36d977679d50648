import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CniInstaller } from '../../../../agent/native/cni-installer.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { cniPluginFile } from '../../../support/agent/cni-plugin.js';

const installer = fileURLToPath(new URL('../../../../agent/native/culvert-cni-install', import.meta.url));
const entry =
  '{"type":"culvert-cni","socket":"/run/x/cni.sock","enrolled":"/var/x/cni-enrolled","ownNamespace":"culvert-system"}';
/** As a program other than this one writes it: unknown members, a number that no double holds, spaces of its own. */
const chain = `{
  "cniVersion": "0.3.1",
  "name": "cbr0",
  "x-unknown": { "big": 12345678901234567890123, "1": "\\u00e9" },
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true}},
    { "type":"portmap",
      "capabilities": {"portMappings": true} }
  ]
}
`;
const single = '{ "cniVersion":"1.0.0", "name":"pods", "type":"bridge", "mtu": 1500.0 }\n';

let directory = '';
let config = '';
let bin = '';
const running = new Set<ChildProcess>();

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-cni-install-'));
  config = path.join(directory, 'net.d');
  bin = path.join(directory, 'bin');
  mkdirSync(config);
  mkdirSync(bin);
});

afterEach(async () => {
  for (const child of running) {
    child.stdin?.end();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
  }
  running.clear();
  rmSync(directory, { recursive: true });
});

function put(name: string, content: string): void {
  writeFileSync(path.join(config, name), content);
}

/** As a careful program writes it. */
function replace(name: string, content: string): void {
  writeFileSync(path.join(config, `.${name}.tmp`), content);
  renameSync(path.join(config, `.${name}.tmp`), path.join(config, name));
}

function get(name: string): string {
  return readFileSync(path.join(config, name), 'utf8');
}

function pluginsOf(name: string): readonly string[] {
  return (JSON.parse(get(name)) as { plugins: { type: string }[] }).plugins.map(({ type }) => type);
}

/** Starts the program, and resolves with its first word. */
async function keep(o: { readonly entry?: string } = {}): Promise<{ lines: string[]; child: ChildProcess }> {
  const child = spawn(installer, ['keep', config, bin, cniPluginFile, o.entry ?? entry], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  running.add(child);
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  child.stdin?.write('install\n');
  await waitUntil('the installer says something', () => (lines.length > 0 ? true : undefined));
  return { lines, child };
}

function remove(): { code: number | null; stdout: string } {
  const { status, stdout } = spawnSync(installer, ['remove', config, bin], { encoding: 'utf8' });
  return { code: status, stdout };
}

test('the installer has no capability but that to write into directories of another user, and uses it', async () => {
  put('10-pods.conflist', chain);
  for (const each of [config, bin]) chownSync(each, 64_001, 64_001);
  const { child, lines } = await keep();
  assert.deepEqual(lines, [`{"installed":"${config}/10-pods.conflist"}`]);
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  const sets = ['Inh', 'Prm', 'Eff', 'Amb'].map((set) => new RegExp(`^Cap${set}:\\t0*(.)$`, 'm').exec(status)?.[1]);
  assert.deepEqual(sets, ['0', '2', '2', '0'], status);
  assert.equal(remove().code, 0);
  assert.deepEqual([get('10-pods.conflist'), readdirSync(bin)], [chain, []]);
});

test('the plugin comes last in the first chain, everything else stays, and taking it out gives the file back', async () => {
  put('10-flannel.conflist', chain);
  put('20-other.conflist', chain);
  put('05-not-read.conflist.bak', single);
  chmodSync(path.join(config, '10-flannel.conflist'), 0o640);
  const { lines } = await keep();
  assert.deepEqual(lines, [`{"installed":"${config}/10-flannel.conflist"}`]);
  const written = get('10-flannel.conflist');
  assert.equal(written, chain.replace('true} }\n', `true} },\n    ${entry}\n`));
  assert.equal(statSync(path.join(config, '10-flannel.conflist')).mode & 0o777, 0o640);
  assert.equal(get('20-other.conflist'), chain);
  assert.deepEqual(readdirSync(config).toSorted(), [
    '05-not-read.conflist.bak',
    '10-flannel.conflist',
    '20-other.conflist',
  ]);
  assert.deepEqual(readFileSync(path.join(bin, 'culvert-cni')), readFileSync(cniPluginFile));
  assert.equal(statSync(path.join(bin, 'culvert-cni')).mode & 0o777, 0o755);
  assert.deepEqual(remove(), { code: 0, stdout: '{"removed":""}\n' });
});

test('what is taken out leaves the files as they were', async () => {
  put('10-flannel.conflist', chain);
  const { child } = await keep();
  child.stdin?.write('remove\n');
  assert.deepEqual(await once(child, 'close'), [0, null]);
  assert.equal(get('10-flannel.conflist'), chain);
  assert.deepEqual([readdirSync(config), readdirSync(bin)], [['10-flannel.conflist'], []]);
  // Nothing is there to take out, also not the directories.
  assert.equal(remove().code, 0);
});

test('one that ends leaves the plugin where it is, and the next one changes nothing', async () => {
  put('10-flannel.conflist', chain);
  const first = await keep();
  const { mtimeMs, ino } = statSync(path.join(config, '10-flannel.conflist'));
  first.child.stdin?.end();
  assert.deepEqual(await once(first.child, 'close'), [0, null]);
  await Promise.all([keep(), keep()]);
  const found = statSync(path.join(config, '10-flannel.conflist'));
  assert.deepEqual([found.mtimeMs, found.ino], [mtimeMs, ino]);
  assert.deepEqual(pluginsOf('10-flannel.conflist'), ['flannel', 'portmap', 'culvert-cni']);
});

test('when another program rewrites the chain, takes the plugin away or removes the program, it is put back', async () => {
  put('10-flannel.conflist', chain);
  await keep();
  const isBack = (): true | undefined => (get('10-flannel.conflist').includes('culvert-cni') ? true : undefined);
  replace('10-flannel.conflist', chain);
  await waitUntil('it is back after a rename', isBack);
  put('10-flannel.conflist', chain);
  await waitUntil('it is back after a write', isBack);
  assert.deepEqual(pluginsOf('10-flannel.conflist'), ['flannel', 'portmap', 'culvert-cni']);
  rmSync(path.join(bin, 'culvert-cni'));
  await waitUntil('the program is back', () => (existsSync(path.join(bin, 'culvert-cni')) ? true : undefined));
  // The whole directory goes, and comes with another chain.
  renameSync(config, path.join(directory, 'gone'));
  mkdirSync(config);
  put('15-new.conflist', chain);
  await waitUntil('it is in the new directory', () =>
    get('15-new.conflist').includes('culvert-cni') ? true : undefined,
  );
});

test('entries that are old, doubled or in the wrong place become one', async () => {
  const old = '{"type":"culvert-cni","socket":"/old"}';
  put('10-a.conflist', `{"name":"a","plugins":[${old},{"type":"x"},${old},{"type":"y"}, ${old} ]}`);
  put('20-b.conflist', `{"name":"b","plugins":[{"type":"x"},${entry}]}`);
  await keep();
  assert.equal(get('10-a.conflist'), `{"name":"a","plugins":[{"type":"x"},{"type":"y"},${entry} ]}`);
  assert.equal(get('20-b.conflist'), '{"name":"b","plugins":[{"type":"x"}]}', 'one that no runtime reads has none');
});

test('an entry that another program has put in other lines is left as it is', async () => {
  const pretty = JSON.stringify({ name: 'a', plugins: [{ type: 'x' }, JSON.parse(entry) as object] }, null, 2);
  put('10-a.conflist', pretty);
  await keep();
  assert.equal(get('10-a.conflist'), pretty);
});

test('the configuration of one plugin becomes a chain, and comes back', async () => {
  put('10-bridge.conf', single);
  const { lines, child } = await keep();
  assert.deepEqual(lines, [`{"installed":"${config}/10-bridge.culvert.conflist"}`]);
  assert.deepEqual(readdirSync(config).toSorted(), ['10-bridge.conf.culvert-saved', '10-bridge.culvert.conflist']);
  assert.equal(
    get('10-bridge.culvert.conflist'),
    `{"cniVersion": "1.0.0", "name": "pods", "plugins": [\n${single.trim()},\n${entry}\n]}\n`,
  );
  // Its owner writes it again: that one counts.
  const newer = single.replace('1500.0', '9000');
  replace('10-bridge.conf', newer);
  await waitUntil('the newer one is in the chain', () =>
    get('10-bridge.culvert.conflist').includes('9000') ? true : undefined,
  );
  assert.deepEqual(pluginsOf('10-bridge.culvert.conflist'), ['bridge', 'culvert-cni']);
  child.stdin?.write('remove\n');
  await once(child, 'close');
  assert.deepEqual([readdirSync(config), get('10-bridge.conf')], [['10-bridge.conf'], newer]);
});

test('a chain that the owner of one plugin writes meanwhile stays, and is the one that counts at the end', async () => {
  put('10-bridge.conf', single);
  const { child } = await keep();
  // As an upgrade does: the file of one plugin is not there any more.
  put('10-bridge.conflist', chain);
  await waitUntil('it has the plugin', () => (get('10-bridge.conflist').includes('culvert-cni') ? true : undefined));
  assert.deepEqual(pluginsOf('10-bridge.conflist'), ['flannel', 'portmap', 'culvert-cni']);
  child.stdin?.write('remove\n');
  await once(child, 'close');
  assert.deepEqual([readdirSync(config), get('10-bridge.conflist')], [['10-bridge.conflist'], chain]);
});

test('a chain that was there before one plugin of the same name is not written over', async () => {
  put('10-bridge.conf', single);
  put('10-bridge.conflist', chain);
  const { child } = await keep();
  assert.equal(get('10-bridge.conflist'), chain);
  child.stdin?.write('remove\n');
  await once(child, 'close');
  assert.equal(get('10-bridge.conflist'), chain);
});

test('what cannot be a chain is told and left alone, until it can', async () => {
  const { lines } = await keep();
  assert.match(lines[0] ?? '', /^\{"problem":".*net\.d\/: no CNI plugin has a configuration there yet"\}$/);
  const rows: readonly (readonly [name: string, content: string, problem: RegExp])[] = [
    ['10-a.conflist', '{', /it is no JSON/],
    ['10-a.conflist', '{"name":"a"}', /it has no one list of plugins/],
    ['10-a.conflist', '{"name":"a","plugins":{}}', /it has no one list of plugins/],
    ['10-a.conflist', '{"name":"a","plugins":[{"type":"culvert-cni"}]}', /it has no other plugin/],
    ['10-a.conflist', `{"plugins":[${'{},'.repeat(70)}{}]}`, /it has too many plugins/],
    ['10-a.conflist', ' '.repeat(1024 * 1024 + 1), /File too large/],
    ['10-a.conf', '{"type":"a"}', /it has no one name/],
    ['10-a.json', '{"name":"a"}', /it has no one type/],
  ];
  for (const [name, content, problem] of rows) {
    for (const each of readdirSync(config)) rmSync(path.join(config, each));
    replace(name, content);
    await waitUntil(`${content.slice(0, 40)} is told`, () => (problem.test(lines.at(-1) ?? '') ? true : undefined));
    assert.deepEqual([readdirSync(config), get(name)], [[name], content]);
  }
  for (const each of readdirSync(config)) rmSync(path.join(config, each));
  symlinkSync(path.join(directory, 'elsewhere'), path.join(config, '10-a.conflist'));
  await waitUntil('a link is told', () => (/it is a link/.test(lines.at(-1) ?? '') ? true : undefined));
  rmSync(path.join(config, '10-a.conflist'));
  replace('10-a.conflist', chain);
  await waitUntil('it is installed', () => (/installed/.test(lines.at(-1) ?? '') ? true : undefined));
});

test('a program that fights about the chain costs one look a second', { timeout: 60_000 }, async () => {
  put('10-flannel.conflist', chain);
  await keep();
  let repairs = 0;
  const until = performance.now() + 3000;
  while (performance.now() < until) {
    if (get('10-flannel.conflist').includes('culvert-cni')) {
      repairs++;
      replace('10-flannel.conflist', chain);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.ok(repairs >= 2 && repairs <= 5, String(repairs));
});

test('one that dies is started again by the agent, puts the plugin back, and takes it out also when it has died', async () => {
  put('10-flannel.conflist', chain);
  const directories = { configDirectory: config, binDirectory: bin };
  const installed = { socket: '/run/x/cni.sock', enrolled: '/var/x/cni-enrolled', ownNamespace: 'culvert-system' };
  const kept = new CniInstaller({ ...directories, entry: installed, firstRestartMs: 50 });
  let ends = 0;
  kept.onChange((said) => {
    if ('problem' in said && said.problem === 'the installer ended (SIGKILL)') ends++;
  });
  const isIn = (): true | undefined => (kept.problem === null ? true : undefined);
  const kill = async (): Promise<void> => {
    const before = ends;
    process.kill(kept.pid ?? 0, 'SIGKILL');
    await waitUntil('its end is told', () => (ends > before ? true : undefined));
  };
  try {
    kept.install();
    await waitUntil('it is installed', isIn);
    for (let round = 0; round < 2; round++) {
      await kill();
      replace('10-flannel.conflist', chain);
      await waitUntil('it is installed again', isIn);
      assert.deepEqual(pluginsOf('10-flannel.conflist'), ['flannel', 'portmap', 'culvert-cni']);
    }
    await kill();
    assert.equal(await kept.remove(), null);
    assert.equal(get('10-flannel.conflist'), chain);
    assert.deepEqual(readdirSync(bin), []);
  } finally {
    kept.close();
  }
});

test('a command line of another form is refused, and a parent that goes ends it', async () => {
  for (const args of [[], ['keep', config, bin], ['keep', config, bin, cniPluginFile, '{'], ['remove', config]]) {
    assert.equal(spawnSync(installer, args).status, 64);
  }
  for (const order of ['', 'nothing\n', 'x'.repeat(100)]) {
    const { status } = spawnSync(installer, ['keep', config, bin, cniPluginFile, entry], { input: order });
    assert.equal(status, 0);
  }
  assert.deepEqual([readdirSync(config), readdirSync(bin)], [[], []]);
});
