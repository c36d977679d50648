import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { patientMs } from '../../../lab/patience.js';
import {
  cniConfig,
  cniEnvironment,
  cniPluginFile,
  fakeCniAgent,
  previousResult,
  runCniPlugin,
  type CniAnswer,
  type CniError,
} from '../../../support/agent/cni-plugin.js';

let directory = '';
let socket = '';
let enrolled = '';

before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'culvert-cni-'));
  socket = path.join(directory, 'cni.sock');
  enrolled = path.join(directory, 'cni-enrolled');
});
after(() => rm(directory, { recursive: true }));
beforeEach(() => writeFileSync(enrolled, list('billing', 'shop')));

function list(...namespaces: readonly string[]): string {
  return listOf(...namespaces.map((name) => `namespace ${name}`));
}

function listOf(...lines: readonly string[]): string {
  return ['culvert-enrolled 2', ...lines, `end ${lines.length}`, ''].join('\n');
}

function add(o: { readonly namespace?: string; readonly timeoutMs?: number; readonly cniVersion?: string } = {}) {
  const { namespace, ...config } = { timeoutMs: 200, ...o };
  return runCniPlugin({
    env: cniEnvironment({ command: 'ADD', ...(namespace === undefined ? {} : { namespace }) }),
    stdin: cniConfig({ socket, enrolled, ...config }),
  });
}

function assertPassed({ code, stdout, stderr }: CniAnswer): void {
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: `${previousResult}\n`, stderr: '' });
}

function errorOf({ code, stdout, stderr }: CniAnswer): CniError {
  assert.equal(code, 1, stdout);
  assert.equal(stderr, '');
  const error = JSON.parse(stdout) as CniError;
  assert.deepEqual(Object.keys(error), ['cniVersion', 'code', 'msg', 'details']);
  assert.match(error.msg, /^culvert: /);
  return error;
}

test('ADD tells the agent which pod it is, and hands the result before it on as it came', async () => {
  await using agent = await fakeCniAgent(socket, () => '{"outcome":"captured"}\n');
  assertPassed(await add());
  const [request = ''] = agent.requests;
  const { timeoutMs, ...rest } = JSON.parse(request) as { timeoutMs: number };
  assert.deepEqual(rest, {
    version: 1,
    command: 'ADD',
    containerId: '0f3a',
    netns: '/run/netns/none',
    interface: 'eth0',
    pod: { namespace: 'shop', name: 'web-1', uid: '6e2c-1' },
  });
  assert.ok(timeoutMs > 0 && timeoutMs <= 200, String(timeoutMs));
});

test('ADD of a pod that is not enrolled passes', async () => {
  await using _agent = await fakeCniAgent(socket, () => '{"outcome":"notEnrolled"}\n');
  assertPassed(await add({ namespace: 'guests' }));
});

test('what the agent says of a failure comes in the details, and the pod is tried again', async () => {
  await using _agent = await fakeCniAgent(
    socket,
    () => '{"outcome":"failed","problem":"no \\"nat\\" table\\u0007é"}\n',
  );
  const error = errorOf(await add({ cniVersion: '1.1.0' }));
  assert.deepEqual([error.cniVersion, error.code, error.details], ['1.1.0', 11, 'no "nat" table\u0007é']);
  assert.match(error.msg, /could not capture the pod; the kubelet tries again$/);
  for (const namespace of ['kube-system', 'culvert-system']) assertPassed(await add({ namespace }));
});

test('without an agent only pods of enrolled namespaces wait, and the error says what to do', async () => {
  const error = errorOf(await add());
  assert.equal(error.code, 11);
  assert.match(
    error.msg,
    /belongs into the mesh, and the agent of this node does not answer; it starts when the agent does/,
  );
  assert.match(
    error.details,
    /culvert-agent pod of this node; where Culvert was deleted, culvert-agent remove takes the plugin out/,
  );
  for (const namespace of ['guests', 'kube-system', 'culvert-system', 'shop-2', 'sho', 'end']) {
    const passed = await add({ namespace, timeoutMs: 10_000 });
    assertPassed(passed);
    assert.ok(passed.tookMs < patientMs(2000), 'it does not wait for the agent');
  }
});

test('without an agent what the list says of a pod itself counts more than what it says of its namespace', async () => {
  writeFileSync(enrolled, listOf('namespace shop', 'inside 6e2c-1', 'outside 77-a'));
  assert.equal(errorOf(await add({ timeoutMs: 0 })).code, 11);
  assert.equal(errorOf(await add({ namespace: 'guests', timeoutMs: 0 })).code, 11);
  writeFileSync(enrolled, listOf('namespace shop', 'inside 6e2c', 'inside 6e2c-10', 'outside 6e2c-1'));
  const passed = await add({ timeoutMs: 10_000 });
  assertPassed(passed);
  assert.ok(passed.tookMs < patientMs(2000), 'it does not wait for the agent');
  writeFileSync(enrolled, listOf('inside 6e2c-1', 'outside 6e2c-1'));
  assert.equal(errorOf(await add({ timeoutMs: 0 })).code, 11);
});

test('a pod of an enrolled namespace starts when the agent comes within the time', { timeout: 60_000 }, async () => {
  const waiting = add({ timeoutMs: 30_000 });
  await new Promise((resolve) => setTimeout(resolve, 300));
  await using _agent = await fakeCniAgent(socket, (_request, count) =>
    count === 0 ? '{"outcome":"unknown"}\n' : '{"outcome":"captured"}\n',
  );
  assertPassed(await waiting);
});

test('a list that is damaged, cut, too large or not there lets only the cluster itself pass', async () => {
  const large = `culvert-enrolled 2\n${'inside a\n'.repeat(150_000)}end 150000\n`;
  const damaged = {
    empty: '',
    'another version': list('shop').replace('enrolled 2', 'enrolled 1'),
    'cut within a name': 'culvert-enrolled 2\nnamespace sho',
    'cut after a name': 'culvert-enrolled 2\nnamespace billing\n',
    'without the last line end': list('billing').slice(0, -1),
    'another count': list('billing').replace('end 1', 'end 2'),
    'no count': list('billing').replace('end 1', 'end'),
    'a count with more behind': list('billing').replace('end 1', 'end 1 '),
    'more behind the end': `${list('billing')}shop\n`,
    'a name of another kind': list('Billing'),
    'a long name': list('a'.repeat(64)),
    'an empty name': list('billing', ''),
    'a line of another kind': listOf('namespace billing', 'beyond 6e2c'),
    'a line without a kind': listOf('billing'),
    'a long UID': listOf(`inside ${'a'.repeat(129)}`),
    'a UID with a space': listOf('outside 6e2c 1'),
    'a NUL': list('bil\0ling'),
    'no text': Buffer.from([0xff, 0xfe, 0]),
    'too large': large,
  };
  for (const [what, content] of Object.entries(damaged)) {
    writeFileSync(enrolled, content);
    const error = errorOf(await add({ namespace: 'guests', timeoutMs: 0 }));
    assert.match(error.msg, /its list of enrolled namespaces cannot be read/, what);
    assert.match(
      error.details,
      /culvert-agent remove takes the plugin out, or a person the entry of culvert-cni in \/etc\/cni\/net\.d/,
    );
    assertPassed(await add({ namespace: 'kube-system', timeoutMs: 0 }));
  }
  const others: readonly (() => void)[] = [
    () => undefined,
    () => mkdirSync(enrolled),
    () => symlinkSync('/dev/zero', enrolled),
  ];
  for (const make of others) {
    rmSync(enrolled, { recursive: true });
    make();
    assert.match(errorOf(await add({ namespace: 'guests', timeoutMs: 0 })).msg, /cannot be read/);
    if (make === others[0]) writeFileSync(enrolled, '');
  }
  rmSync(enrolled, { recursive: true });
  writeFileSync(enrolled, list());
  assertPassed(await add({ namespace: 'shop', timeoutMs: 0 }));
});

test('an agent that answers nothing, or nothing that is an answer, is away', { timeout: 120_000 }, async () => {
  const answers = [
    null,
    '',
    '\n',
    'captured\n',
    '{"outcome":"captured"}',
    '{"outcome":"captured"}\nmore\n',
    '{"outcome":"captured","outcome":"captured"}\n',
    '{"outcome":"Captured"}\n',
    '{"outcome":["captured"]}\n',
    '["captured"]\n',
    `{"outcome":"captured","x":"${'x'.repeat(5000)}"}\n`,
    `${'['.repeat(3000)}\n`,
  ];
  await using agent = await fakeCniAgent(socket, (_request, count) => answers[count] ?? null);
  for (const [index] of answers.entries()) {
    const result = await add({ namespace: 'guests', timeoutMs: 300 });
    assertPassed(result);
    assert.equal(agent.requests.length, index + 1, 'a pod that need not wait is asked about once');
  }
  assert.match(errorOf(await add()).msg, /the agent of this node does not answer/);
  // A name that nothing listens at any more, and one that is no socket.
  await agent[Symbol.asyncDispose]();
  writeFileSync(socket, '');
  assert.match(errorOf(await add()).msg, /does not answer/);
  rmSync(socket);
});

test('DEL, GC and STATUS succeed whatever they get, and CHECK fails only when the agent says so', async () => {
  for (const command of ['DEL', 'GC', 'STATUS'] as const) {
    for (const stdin of [cniConfig({ socket, enrolled }), '', '{', Buffer.alloc(3 * 1024 * 1024, 0x5b)]) {
      const { code, stdout, stderr } = await runCniPlugin({ env: { CNI_COMMAND: command }, stdin });
      assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' }, command);
    }
  }
  const check = () =>
    runCniPlugin({ env: cniEnvironment({ command: 'CHECK' }), stdin: cniConfig({ socket, enrolled, timeoutMs: 300 }) });
  assert.equal((await check()).code, 0, 'no agent');
  const answers = [
    '{"outcome":"captured"}\n',
    '{"outcome":"notEnrolled"}\n',
    '{"outcome":"failed","problem":"gone"}\n',
    null,
  ];
  await using agent = await fakeCniAgent(socket, (_request, count) => answers[count] ?? null);
  assert.deepEqual([(await check()).code, (await check()).code], [0, 0]);
  const error = errorOf(await check());
  assert.deepEqual([error.msg, error.details], ['culvert: the pod is enrolled and not captured', 'gone']);
  const { code, stdout } = await check();
  assert.deepEqual({ code, stdout }, { code: 0, stdout: '' }, 'an agent that hangs');
  assert.equal((JSON.parse(agent.requests[0] ?? '') as { command: string }).command, 'CHECK');
});

test('VERSION lists what it answers in, and another version or command is an error of CNI', async () => {
  const version = await runCniPlugin({ env: { CNI_COMMAND: 'VERSION' }, stdin: '{"cniVersion":"1.1.0"}' });
  assert.deepEqual(JSON.parse(version.stdout), {
    cniVersion: '1.1.0',
    supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
  for (const cniVersion of ['0.2.0', '1.2.0', '', '"', '0.3.1","0.4.0', '1.0', 'x'.repeat(40)]) {
    assert.equal(errorOf(await add({ cniVersion })).code, 1, cniVersion);
  }
  for (const cniVersion of ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
    assert.equal(errorOf(await add({ cniVersion, timeoutMs: 0 })).cniVersion, cniVersion);
  }
  for (const env of [{}, { CNI_COMMAND: '' }, { CNI_COMMAND: 'add' }, { CNI_COMMAND: 'EXEC' }]) {
    const error = errorOf(await runCniPlugin({ env, stdin: cniConfig({ socket, enrolled }) }));
    assert.deepEqual([error.code, error.msg], [4, 'culvert: CNI_COMMAND is none that this plugin knows']);
  }
});

test('what a runtime says is bounded and of a form, or an error of CNI', { timeout: 120_000 }, async () => {
  await using agent = await fakeCniAgent(socket, () => '{"outcome":"captured"}\n');
  const good = cniEnvironment({ command: 'ADD' });
  const stdin = cniConfig({ socket, enrolled });
  const pod = 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=6e2c-1';
  const wrong: readonly NodeJS.ProcessEnv[] = [
    { ...good, CNI_CONTAINERID: '' },
    { ...good, CNI_CONTAINERID: 'a'.repeat(256) },
    { ...good, CNI_CONTAINERID: 'a"b' },
    { ...good, CNI_NETNS: '' },
    { ...good, CNI_NETNS: 'run/netns/x' },
    { ...good, CNI_NETNS: `/${'n'.repeat(256)}` },
    { ...good, CNI_NETNS: '/run/netns/a"b' },
    { ...good, CNI_NETNS: '/run/netns/a\nb' },
    { ...good, CNI_IFNAME: 'e'.repeat(16) },
    { ...good, CNI_ARGS: `${pod};K8S_POD_NAMESPACE=kube-system` },
    { ...good, CNI_ARGS: pod.replace('shop', 'sh"op') },
    { ...good, CNI_ARGS: pod.replace('shop', 's'.repeat(64)) },
    { ...good, CNI_ARGS: pod.replace('web-1', 'w'.repeat(256)) },
    { ...good, CNI_ARGS: 'K8S_POD_NAMESPACE;K8S_POD_NAME=web-1' },
    { ...good, CNI_ARGS: `${pod};${'x'.repeat(8192)}` },
  ];
  for (const env of wrong) {
    const error = errorOf(await runCniPlugin({ env, stdin }));
    assert.equal(error.code, 4, JSON.stringify(env));
  }
  const { CNI_CONTAINERID: _id, ...noId } = good;
  const { CNI_NETNS: _netns, ...noNetns } = good;
  for (const env of [noId, noNetns]) assert.equal(errorOf(await runCniPlugin({ env, stdin })).code, 4);
  const { CNI_ARGS: _args, CNI_IFNAME: _interface, ...noPod } = good;
  for (const env of [noPod, { ...good, CNI_ARGS: ';;A;=;B==;' }]) assertPassed(await runCniPlugin({ env, stdin }));
  const last = JSON.parse(agent.requests.at(-1) ?? '') as { pod: object };
  assert.deepEqual(last.pod, { namespace: '', name: '', uid: '' });
});

test('a configuration is bounded and of a form, or an error of CNI', { timeout: 120_000 }, async () => {
  await using _agent = await fakeCniAgent(socket, () => '{"outcome":"captured"}\n');
  const env = cniEnvironment({ command: 'ADD' });
  const stdin = cniConfig({ socket, enrolled });
  const config = JSON.parse(stdin) as Record<string, unknown>;
  const without = (name: string): string => JSON.stringify({ ...config, [name]: undefined });
  const having = (name: string, value: unknown): string => JSON.stringify({ ...config, [name]: value });
  const deep = (depth: number): string => `${stdin.slice(0, -1)},"x":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const wrong: readonly (readonly [code: number, stdin: string | Uint8Array])[] = [
    [6, ''],
    [6, ' '],
    [6, '[]'],
    [6, '"x"'],
    [6, stdin.slice(0, -1)],
    [6, `${stdin}{}`],
    [6, `${stdin}\0`],
    [6, `\ufeff${stdin}`],
    [6, stdin.replace('"name"', "'name'")],
    [6, stdin.replace('"pods"', '"po\nds"')],
    [6, Buffer.from(stdin.replace('pods', 'p\u00e9ds'), 'latin1')],
    [6, deep(64)],
    [6, '['.repeat(1_000_000)],
    [5, `${stdin}${' '.repeat(1024 * 1024)}`],
    [1, having('cniVersion', 1)],
    [7, without('prevResult')],
    [7, having('prevResult', null)],
    [7, having('prevResult', [])],
    [7, `${stdin.slice(0, -1)},"prevResult":{}}`],
    [7, `${stdin.slice(0, -1)},"prev\\u0052esult":{}}`],
    [7, without('socket')],
    [7, having('socket', 'cni.sock')],
    [7, having('socket', `/${'x'.repeat(300)}`)],
    [7, having('socket', '/a\0b')],
    [7, having('socket', 5)],
    [7, without('enrolled')],
    [7, having('enrolled', '')],
    [7, having('ownNamespace', 'x'.repeat(64))],
    [7, having('timeoutMs', -1)],
    [7, having('timeoutMs', 1.5)],
    [7, having('timeoutMs', '10')],
    [7, having('timeoutMs', 120_001)],
    [7, stdin.replace('10000', '99999999999999999999999999')],
    [7, `${stdin.slice(0, -1)},"timeoutMs":5}`],
  ];
  for (const [code, text] of wrong) {
    const error = errorOf(await runCniPlugin({ env, stdin: text }));
    assert.equal(error.code, code, `${JSON.stringify(error)} for ${Buffer.from(text).toString().slice(0, 300)}`);
  }
  const escaped = stdin
    .replace('"socket":"', '"s\\u006fcket":"')
    .replace(socket, JSON.stringify(socket).slice(1, -1).replaceAll('/', '\\/'));
  for (const text of [escaped, deep(62), ` \r\n\t${stdin}\n`, having('name', '\ud83d\ude00 \u20ac')]) {
    const { code, stdout } = await runCniPlugin({ env, stdin: text });
    assert.equal(code, 0, stdout);
  }
});

test(
  'two ADD at once are two questions, and one that is killed midway leaves nothing',
  { timeout: 60_000 },
  async () => {
    let isFirst = true;
    await using agent = await fakeCniAgent(socket, () => (isFirst ? null : '{"outcome":"captured"}\n'));
    const env = cniEnvironment({ command: 'ADD' });
    const stdin = cniConfig({ socket, enrolled });
    let pid = 0;
    const killed = runCniPlugin({ env, stdin, onStart: (started) => (pid = started) });
    while (agent.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    process.kill(pid, 'SIGKILL');
    const { signal, stdout } = await killed;
    assert.deepEqual({ signal, stdout }, { signal: 'SIGKILL', stdout: '' });
    isFirst = false;
    for (const result of await Promise.all([add(), add()])) assertPassed(result);
    assert.equal(agent.requests.length, 3);
  },
);

test('it needs no library of the host, and costs a pod some milliseconds', async (t) => {
  await using _agent = await fakeCniAgent(socket, () => '{"outcome":"captured"}\n');
  const times: number[] = [];
  for (let round = 0; round < 20; round++) {
    const result = await add();
    assertPassed(result);
    times.push(result.tookMs);
  }
  times.sort((a, b) => a - b);
  t.diagnostic(`${cniPluginFile}: median ${times[10]?.toFixed(1)} ms, most ${times[19]?.toFixed(1)} ms`);
  assert.ok((times[10] ?? Infinity) < patientMs(50));
});
