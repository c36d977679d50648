import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';

const source = fileURLToPath(new URL('../../../../../agent/native/', import.meta.url));
const programs = ['culvert-cni', 'culvert-cni-install', 'culvert-helper', 'culvert.node'];
let root: string;
let addon: string;

before(() => {
  root = mkdtempSync(join(tmpdir(), 'culvert-native-'));
  mkdirSync(join(root, 'agent', 'native'), { recursive: true });
  const files = readdirSync(source).filter((name) => /\.(?:c|h|mjs)$/.test(name));
  for (const file of files) cpSync(join(source, file), join(root, 'agent', 'native', file));
  for (const part of ['helper', 'cni', 'cni-install', 'io']) {
    cpSync(join(source, part), join(root, 'agent', 'native', part), { recursive: true });
  }
  cpSync(join(source, '../../shared/native'), join(root, 'shared/native'), { recursive: true });
  // Node may have been installed without its headers.
  const headers = 'node-api-headers';
  mkdirSync(join(root, 'node_modules'));
  const installed = dirname(createRequire(import.meta.url).resolve(`${headers}/package.json`));
  symlinkSync(installed, join(root, 'node_modules', headers));
  addon = join(root, 'dist', 'agent', 'native', 'culvert.node');
});
after(() => rmSync(root, { recursive: true }));

function build(args: readonly string[], env: NodeJS.ProcessEnv = {}): { code: number | null; out: string } {
  const script = join(root, 'agent', 'native', 'build.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    encoding: 'utf8',
  });
  return { code: status, out: stdout + stderr };
}

test('without a compiler a build fails and an installation goes on, both with one line that says what to install', () => {
  const expected =
    /^native addon not built: CC=no-such-cc cannot be run\. Install one .*apt-get install -y gcc libc6-dev.*\n$/;
  const failed = build(['--if-missing'], { CC: 'no-such-cc' });
  assert.equal(failed.code, 1);
  assert.match(failed.out, expected);
  const installed = build([], { CC: 'no-such-cc', npm_lifecycle_event: 'install' });
  assert.equal(installed.code, 0);
  assert.match(installed.out, expected);
});

test('it builds with the headers on this machine, leaves no temporary file, and what it built can be loaded', () => {
  const { code, out } = build(['--if-missing']);
  assert.equal(code, 0, out);
  assert.deepEqual(readdirSync(join(root, 'dist', 'agent', 'native')), programs);
  const locks = createRequire(import.meta.url)(join(root, 'dist/shared/native/file-lock.node')) as object;
  assert.deepEqual(Object.keys(locks), ['lockFile', 'isLocked']);
  const loaded = createRequire(import.meta.url)(addon) as Record<string, unknown>;
  const calls = [
    'abortSocket',
    'becomeHelper',
    'closeFd',
    'closeMemory',
    'confine',
    'deleteEmptyTable',
    'dialFrom',
    'dialPlain',
    'dialSockets',
    'duplicate',
    'exitAtOnce',
    'findSocket',
    'foundTables',
    'giveVerdict',
    'hasUnread',
    'helperPair',
    'ioAccept',
    'ioAdopt',
    'ioAsk',
    'ioClose',
    'ioConnect',
    'ioCounts',
    'ioDescriptor',
    'ioFreeTlsContext',
    'ioListen',
    'ioPoll',
    'ioReceive',
    'ioRelease',
    'ioSend',
    'ioSendParts',
    'ioSetOption',
    'ioShutdown',
    'ioSocket',
    'ioSplice',
    'ioStart',
    'ioTlsAdmit',
    'ioTlsBegin',
    'ioTlsContext',
    'ioTlsEnd',
    'ioTlsFailure',
    'ioTlsFlush',
    'ioTlsHandshake',
    'ioTlsPeer',
    'ioTlsReceive',
    'ioTlsSend',
    'ioTlsSendBytes',
    'ioWatch',
    'isTracked',
    'keepUrgentInline',
    'listenTcp',
    'listenerOf',
    'makeTransparent',
    'mayChangeEarlyDemux',
    'notify',
    'openConntrack',
    'openNetnsFile',
    'openSockDiag',
    'openSynQueue',
    'originalDestination',
    'originalSourcePort',
    'outlastSilence',
    'passSockets',
    'peerUser',
    'pingHelper',
    'readProcFile',
    'replaceableSocket',
    'resetOnClose',
    'runProgram',
    'setDeaf',
    'setProbing',
    'shutDown',
    'socketAddresses',
    'takeChanges',
    'takeSocketError',
    'takeSockets',
    'tcpCondition',
    'useHelper',
    'watchChanges',
    'watchConnections',
    'watchedPort',
  ];
  assert.deepEqual(Object.keys(loaded).toSorted(), calls);
});

test('what is made of a source is built again only when that is newer', () => {
  const times = (): number[] => [...programs, '../../shared/native/file-lock.node'].map((name) => builtAt(name));
  const builtAt = (name: string): number => statSync(join(dirname(addon), name)).mtimeMs;
  const before = times();
  assert.equal(build(['--if-missing']).out, '');
  assert.deepEqual(times(), before);
  const rebuiltFor = (source: string): string[] => {
    const was = new Map(programs.map((name) => [name, builtAt(name)]));
    const future = new Date(Math.max(...was.values()) + 1);
    utimesSync(join(root, 'agent', 'native', source), future, future);
    assert.match(build(['--if-missing']).out, /native addon built/);
    return programs.filter((name) => builtAt(name) !== was.get(name));
  };
  assert.deepEqual(rebuiltFor('culvert.c'), ['culvert.node']);
  assert.deepEqual(rebuiltFor('cni/json.c'), ['culvert-cni', 'culvert-cni-install']);
});

test('a source that does not compile fails the build and leaves the last good addon', () => {
  writeFileSync(join(root, 'agent', 'native', 'culvert.c'), '#error broken\n');
  const before = statSync(addon).mtimeMs;
  const { code, out } = build([]);
  assert.equal(code, 1);
  assert.match(out, /native addon not built: \w+ failed/);
  assert.equal(statSync(addon).mtimeMs, before);
  assert.deepEqual(readdirSync(join(root, 'dist', 'agent', 'native')), programs);
});
