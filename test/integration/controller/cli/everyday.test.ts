import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RunningController } from '../../../../controller/app.js';
import { programs } from '../../../lab/programs.js';
import { patientMs } from '../../../lab/patience.js';
import { ownPort } from '../../../support/own-port.js';
import { culvert as run, type CliRun } from '../../../support/controller/cli-fixture.js';
import {
  apply,
  documents,
  eventually,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../../support/controller/controller-fixture.js';

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;
let env: Record<string, string>;

const segment = JSON.stringify({
  apiVersion: 'culvert.dev/v1',
  kind: 'Segment',
  metadata: { name: 'databases' },
  spec: { members: [{ serviceAccount: 'shop/db' }] },
});
const user = JSON.stringify({
  apiVersion: 'culvert.dev/v1',
  kind: 'SegmentationRule',
  metadata: { name: 'uses-it' },
  spec: { action: 'deny', priority: 10, to: [{ segment: 'databases' }] },
});

before(async () => {
  directory = await temporaryDirectory();
  controller = await startedController(join(directory.path, 'state'));
  env = { CULVERT_CONTEXT: join(directory.path, 'state', 'admin.yaml') };
  const applied = await apply(
    controller,
    documents(
      workloadDocument('shop', 'api', { ip: '198.18.0.1', labels: { app: 'api' } }),
      workloadDocument('shop', 'db', { ip: '198.18.0.2', labels: { app: 'db' } }),
      segment,
      user,
    ),
  );
  assert.equal(applied.status, 200, applied.text);
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

const culvert = (...argv: readonly string[]): Promise<CliRun> => run(argv, { env });

test('get takes NAMESPACE/NAME, labels, all namespaces, and prints names', async () => {
  assert.match((await culvert('get', 'workload', 'shop/api')).out, /^NAMESPACE.*\nshop +api /);
  assert.equal((await culvert('get', 'workloads', '-l', 'app=db', '-o', 'name')).out, 'Workload/shop/db');
  assert.equal((await culvert('get', 'wl', '-A', '-o', 'name')).out, 'Workload/shop/api\nWorkload/shop/db');
  assert.match((await culvert('get', 'all', '-o', 'name')).out, /^Segment\/databases$/m);
  assert.match((await culvert('get', 'wl', 'shop/api', '-o', 'wide')).out, /198\.18\.0\.1/);
  assert.match(
    (await culvert('get', 'wl', 'api')).err,
    /no Workload api in the namespace default \(there is shop\/api\)/,
  );
  assert.equal((await culvert('get', 'wl', '-A', '-n', 'shop')).code, 64);
  assert.equal((await culvert('export', '-o', 'table')).code, 64);
  assert.match((await culvert('export', '-o', 'yaml')).out, /^apiVersion: /);
  assert.equal((await culvert('get', 'wl', 'shop/api', '-n', 'other')).code, 64);
});

test('get takes several names, shows those that exist, and fails for the others', async () => {
  assert.equal(
    (await culvert('get', 'wl', 'shop/db', 'shop/api', '-o', 'name')).out,
    'Workload/shop/db\nWorkload/shop/api',
  );
  assert.equal((await culvert('get', 'wl', '-n', 'shop', 'api', 'db', '-o', 'name')).out.split('\n').length, 2);
  const { items } = JSON.parse((await culvert('get', 'wl', 'shop/api', 'shop/db', '-o', 'json')).out) as {
    items: unknown[];
  };
  assert.equal(items.length, 2);
  const part = await culvert('get', 'wl', 'shop/gone', 'shop/api', 'shop/lost', '-o', 'name');
  assert.deepEqual([part.code, part.out], [4, 'Workload/shop/api']);
  assert.match(part.err, /no Workload gone[^]*\n[^]*no Workload lost/);
});

test('delete takes several names', async () => {
  for (const name of ['one', 'two'])
    await apply(controller, workloadDocument('shop', name, { ip: name === 'one' ? '198.18.1.1' : '198.18.1.2' }));
  const { code, out } = await culvert('delete', 'workload', 'shop/one', '--dry-run');
  assert.deepEqual([code, out], [0, 'Workload/shop/one would be deleted']);
  assert.equal((await culvert('delete', 'workload', '-n', 'shop', 'one', 'two')).code, 0);
  assert.equal((await culvert('get', 'wl', 'shop/one', 'shop/two')).code, 4);
});

test('version names the versions of this program and of the controller, and asks for the first alone with --client', async () => {
  const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
  assert.equal((await culvert('version')).out, `culvert     ${version}\ncontroller  ${version}`);
  assert.deepEqual(JSON.parse((await culvert('version', '-o', 'json')).out), {
    culvert: version,
    controller: version,
    agents: {},
  });
  const alone = await run(['version', '--client'], { env: { CULVERT_CONTEXT: '/nowhere' } });
  assert.deepEqual([alone.code, alone.out], [0, `culvert     ${version}`]);
});

test('get -w prints what changes until it is interrupted', { timeout: patientMs(60_000) }, async () => {
  const [command, ...first] = programs.culvert;
  const child = spawn(command, [...first, 'get', 'workloads', '-w', '-o', 'name'], { env: { ...process.env, ...env } });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  const ended = once(child, 'exit');
  try {
    await eventually('the list', async () => (out.includes('Workload/shop/db') ? true : undefined));
    await apply(controller, workloadDocument('shop', 'new', { ip: '198.18.0.3' }));
    await eventually('the new one', async () => (out.includes('Workload/shop/new\n') ? true : undefined));
    assert.equal((await culvert('delete', 'workload', 'shop/new')).code, 0);
    await eventually('the deletion', async () => (out.includes('Workload/shop/new deleted') ? true : undefined));
  } finally {
    child.kill('SIGINT');
    await ended;
  }
});

test('get -w goes on after an outage of the controller, and says so once', { timeout: patientMs(60_000) }, async () => {
  const port = Number(new URL(controller.url).port);
  const between = createServer((socket) => {
    const onward = connect(port, '127.0.0.1');
    for (const each of [socket, onward]) each.on('error', () => {});
    socket.pipe(onward).pipe(socket);
  });
  await once(between.listen(await ownPort(), '127.0.0.1'), 'listening');
  const own = (between.address() as AddressInfo).port;
  const context = join(directory.path, 'outage.yaml');
  const admin = await readFile(env['CULVERT_CONTEXT']!, 'utf8');
  assert.match(admin, new RegExp(`:${port}\\b`));
  await writeFile(context, admin.replaceAll(`:${port}`, `:${own}`), { mode: 0o600 });
  const [command, ...first] = programs.culvert;
  const child = spawn(command, [...first, 'get', 'workloads', '-w', '-o', 'name'], {
    env: { ...process.env, CULVERT_CONTEXT: context },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const ended = once(child, 'exit');
  try {
    await eventually('the list', async () => (out.includes('Workload/shop/db') ? true : undefined));
    between.close();
    await eventually('the outage', async () => (err.includes('trying again every second') ? true : undefined));
    await apply(controller, workloadDocument('shop', 'meanwhile', { ip: '198.18.0.4' }));
    await once(between.listen(own, '127.0.0.1'), 'listening');
    await eventually('the new one', async () => (out.includes('Workload/shop/meanwhile\n') ? true : undefined));
    assert.match(err, /^cannot reach the controller at [^\n]*; trying again[^\n]*\nthe controller answers again\n$/);
  } finally {
    child.kill('SIGINT');
    await ended;
    between.close();
  }
  assert.equal((await culvert('delete', 'workload', 'shop/meanwhile')).code, 0);
});

test('delete names the rules, segments and services that no longer match, also with --dry-run', async () => {
  const named = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: 'to-gone' },
    spec: { action: 'deny', priority: 20, to: [{ workload: 'shop/gone' }] },
  });
  const service = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { name: 'gone', namespace: 'shop' },
    spec: { vips: ['198.18.200.9'], ports: [{ port: 80 }], selector: { app: 'gone' } },
  });
  const gone = workloadDocument('shop', 'gone', { ip: '198.18.0.9', labels: { app: 'gone' } });
  const applied = await apply(controller, documents(gone, named, service));
  assert.equal(applied.status, 200, applied.text);
  for (const dryRun of [['--dry-run'], []]) {
    const { code, err } = await culvert('delete', 'workload', 'shop/gone', ...dryRun);
    assert.equal(code, 0, err);
    assert.match(
      err,
      /^warning: SegmentationRule\/to-gone: .* names the workload shop\/gone, which this change removes/m,
    );
    assert.doesNotMatch(err, /did you mean/);
    assert.match(err, /^warning: Service\/shop\/gone: /m);
    assert.match(err, /^while something still answers at its addresses, they count as outside the mesh: /m);
  }
  for (const rest of [
    ['rule', 'to-gone'],
    ['service', 'shop/gone'],
  ]) {
    assert.deepEqual([(await culvert('delete', ...rest)).code], [0]);
  }
});

test('a change prints warnings that it has something to do with, and counts those that were there before', async () => {
  const to = (name: string, peer: object) =>
    JSON.stringify({
      apiVersion: 'culvert.dev/v1',
      kind: 'SegmentationRule',
      metadata: { name },
      spec: { action: 'deny', priority: 30, ports: [9], to: [peer] },
    });
  const file = async (name: string, ...docs: readonly string[]): Promise<string> => {
    const path = join(directory.path, name);
    await writeFile(path, documents(...docs));
    return path;
  };
  const members = (account: string) =>
    JSON.stringify({
      apiVersion: 'culvert.dev/v1',
      kind: 'Segment',
      metadata: { name: 'apart' },
      spec: { members: [{ workload: account }] },
    });
  const others = await file('others.yaml', to('others', { workload: 'shop/missing' }), members('shop/api'));
  assert.match((await culvert('apply', '-f', others)).err, /^warning: .*SegmentationRule\/others: /m);
  const own = await file('own.yaml', to('own', { workload: 'shop/none' }));
  const { err } = await culvert('apply', '-f', own);
  assert.match(err, /^warning: .*SegmentationRule\/own: .*shop\/none/);
  assert.match(err, /^1 warning about other documents: culvert check$/m);
  assert.doesNotMatch(err, /SegmentationRule\/others/);
  // Applied again, what is in the file is warned of again.
  assert.match((await culvert('apply', '-f', own)).err, /^warning: .*SegmentationRule\/own: /);
  // The answer for programs has all of them.
  const { warnings } = JSON.parse((await culvert('apply', '-f', own, '-o', 'json')).out) as {
    warnings: { resource: string; isEarlier?: boolean }[];
  };
  const told = warnings.map(({ resource, isEarlier = false }) => `${resource} ${isEarlier}`);
  assert.deepEqual(told.sort(), ['SegmentationRule/others true', 'SegmentationRule/own false']);
  // A warning about another document that this change brings about is printed.
  const rest = await culvert('delete', '-f', own);
  assert.doesNotMatch(rest.err, /SegmentationRule\/others/);
  const uses = await file('uses.yaml', to('uses', { segment: 'apart' }));
  assert.doesNotMatch((await culvert('apply', '-f', uses)).err, /SegmentationRule\/uses/);
  const emptied = await culvert('apply', '-f', await file('emptied.yaml', members('shop/none')));
  assert.match(emptied.err, /^warning: (?:Segment|.*emptied).*apart/m);
  for (const path of [uses, others]) assert.equal((await culvert('delete', '-f', path)).code, 0);
});

test('delete names what selects the workload by labels, or workloads by those of the Namespace, also with --dry-run', async () => {
  const rule = (name: string, peers: object) =>
    JSON.stringify({
      apiVersion: 'culvert.dev/v1',
      kind: 'SegmentationRule',
      metadata: { name },
      spec: { action: 'deny', priority: 20, ...peers },
    });
  const namespace = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Namespace',
    metadata: { name: 'pods', labels: { team: 'blue' } },
  });
  const isolated = JSON.stringify({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'isolated', namespace: 'pods' },
    spec: { podSelector: { matchLabels: { app: 'x' } }, policyTypes: ['Ingress'] },
  });
  const applied = await apply(
    controller,
    documents(
      namespace,
      isolated,
      workloadDocument('pods', 'one', { ip: '198.18.0.10', labels: { app: 'x' } }),
      workloadDocument('pods', 'two', { ip: '198.18.0.11', labels: { app: 'x' } }),
      rule('by-label', { to: [{ labels: { app: 'x' } }] }),
      rule('by-team', { from: [{ namespaceLabels: { team: 'blue' } }] }),
      rule('by-address', { to: [{ cidr: '198.18.0.10/32' }] }),
      rule('of-others', { to: [{ labels: { app: 'y' } }] }),
    ),
  );
  assert.equal(applied.status, 200, applied.text);
  for (const dryRun of [['--dry-run'], []]) {
    const { code, err } = await culvert('delete', 'workload', 'pods/one', ...dryRun);
    assert.equal(code, 0, err);
    const [, selecting = ''] = /^warning: Workload\/pods\/one: is selected by (.*), by its labels/m.exec(err) ?? [];
    assert.deepEqual(
      selecting.split(', '),
      ['NetworkPolicy/pods/isolated', 'SegmentationRule/by-label', 'SegmentationRule/by-team'],
      err,
    );
    assert.match(err, /^while something still answers at its addresses, they count as outside the mesh: /m);
  }
  for (const dryRun of [['--dry-run'], []]) {
    const { code, err } = await culvert('delete', 'namespace', 'pods', ...dryRun);
    assert.equal(code, 0, err);
    assert.match(
      err,
      /^warning: Namespace\/pods: workloads of this namespace are selected by its labels in SegmentationRule\/by-team \(/m,
    );
  }
  for (const name of ['by-label', 'by-team', 'by-address', 'of-others']) await culvert('delete', 'rule', name);
  const last = await culvert('delete', 'workload', 'pods/two');
  assert.match(last.err, /^warning: Workload\/pods\/two: is selected by NetworkPolicy\/pods\/isolated, by/m);
  await culvert('delete', 'networkpolicy', 'pods/isolated');
});

test('delete --dry-run says what would be deleted, and refuses what a deletion would refuse', async () => {
  const would = await culvert('delete', 'workload', 'shop/db', '--dry-run');
  assert.deepEqual([would.code, would.out], [0, 'Workload/shop/db would be deleted']);
  assert.equal(
    (await culvert('delete', 'rule', 'uses-it', '--dry-run')).out,
    'SegmentationRule/uses-it would be deleted',
  );
  const refused = await culvert('delete', 'segment', 'databases', '--dry-run');
  assert.equal(refused.code, 1);
  assert.match(refused.err, /uses-it/);
  assert.match(
    (await culvert('get', 'all', '-o', 'name')).out,
    /Workload\/shop\/db[^]*SegmentationRule\/uses-it|SegmentationRule\/uses-it[^]*Workload\/shop\/db|uses-it/,
  );
  assert.match((await culvert('get', 'wl', '-o', 'name')).out, /Workload\/shop\/db/);
});

test('a secret goes to a file that only its owner can read, and no file is left without one', async () => {
  const context = join(directory.path, 'ci.yaml');
  const made = await culvert('user', 'create', 'ci', '--out', context);
  assert.deepEqual([made.code, made.out], [0, '']);
  assert.equal((await stat(context)).mode & 0o777, 0o600);
  assert.match(await readFile(context, 'utf8'), /^controller: https:/);
  const asCi = (): Promise<CliRun> => run(['user', 'list'], { env: { CULVERT_CONTEXT: context } });
  assert.doesNotMatch((await asCi()).err, /warning/);
  await chmod(context, 0o644);
  assert.match((await asCi()).err, new RegExp(`^warning: other users can read .*: chmod 600 ${context}$`, 'm'));
  const again = await culvert('user', 'create', 'ci2', '--out', context);
  assert.equal(again.code, 64);
  assert.match(again.err, /exists/);
  assert.doesNotMatch((await culvert('user', 'list')).out, /ci2/);
  const twice = await culvert('user', 'create', 'ci', '--out', join(directory.path, 'other.yaml'));
  assert.equal(twice.code, 1);
  await assert.rejects(stat(join(directory.path, 'other.yaml')), { code: 'ENOENT' });
  const token = join(directory.path, 'token');
  const joining = await culvert('token', 'create', '--node', 'host-a', '--out', token);
  assert.equal(joining.out, '');
  assert.match(
    joining.err,
    /: culvert-agent join --node host-a --controller https:\/\/127\.0\.0\.1:\d+ --token-file FILE$/,
  );
  assert.equal((await stat(token)).mode & 0o777, 0o600);
});

test('two hours of break glass show as two hours', async () => {
  const { out } = await culvert('allow', 'shop/api', 'shop/db:5432', '--for', '2h', '--reason', 'x');
  assert.match(out, /^expires in 2h, at /m);
  assert.match((await culvert('status')).out, /BREAK-GLASS RULE.*\nbreak-glass-\S+ +(?:2h|1h 59m) /);
});

test('explain says what a kind and a field mean, without a controller', async () => {
  const kind = await run(['explain', 'rule'], {});
  assert.match(kind.out, /^KIND +SegmentationRule\n/);
  assert.match(kind.out, /^ {2}spec\.action <word> required$/m);
  const field = await run(['explain', 'rule.spec.from.cidr'], {});
  assert.match(field.out, /^FIELD +SegmentationRule\.spec\.from\[\]\.cidr$/m);
  const mesh = await run(['explain', 'mesh'], {});
  assert.match(mesh.out, /^ {2}spec\.defaultAction <word> default allow\n[^<]*One of:\s+allow,\s+audit,\s+deny\./m);
  const object = await run(['explain', 'peer'], {});
  assert.match(object.out, /^OBJECT +Peer\n[^]*^ {2}serviceAccount </m);
  const nearly = await run(['explain', 'ruel'], {});
  assert.deepEqual([nearly.code, /did you mean rule\?/.test(nearly.err)], [4, true], nearly.err);
  const wrong = await run(['explain', 'rule.spec.form'], {});
  assert.equal(wrong.code, 4);
  assert.match(wrong.err, /did you mean spec\.from\?/);
  const hints: readonly (readonly [asked: string, hint: RegExp])[] = [
    ['service.ports', /\(did you mean spec\.ports\?\)/],
    ['service.prots', /\(did you mean spec\.ports\?\)/],
    ['service.metadata.ports', /\(did you mean spec\.ports\?\)/],
    ['rule.from.cidr', /\(did you mean spec\.from\.cidr\?\)/],
    ['rule.cidr', /\(did you mean spec\.from\.cidr or spec\.to\.cidr\?\)/],
    ['rule.spec.from[0].cird', /\(did you mean spec\.from\.cidr\?\)/],
    ['service.spec.ports.nothingOfTheKind', /\(list its fields: culvert explain Service\.spec\.ports\)/],
    ['service.nothingOfTheKind', /\(list its fields: culvert explain Service\)/],
    ['spec.vips', /\(did you mean Service\.spec\.vips\?\)/],
  ];
  for (const [asked, hint] of hints) {
    const { code, err } = await run(['explain', asked], {});
    assert.equal(code, 4, asked);
    assert.match(err, hint, `${asked}: ${err}`);
  }
});

test('the completion for bash completes commands, options, their values and kinds', async () => {
  const { out: script } = await run(['completion', 'bash'], {});
  const complete = (...words: readonly string[]): string[] => {
    const line = words.map((word) => `'${word}'`).join(' ');
    const { stdout, stderr } = spawnSync(
      'bash',
      [
        // A bash that no shell has started, with a socket as its input, reads the user's ~/.bashrc.
        '--norc',
        '-c',
        `${script}\nCOMP_WORDS=(culvert ${line}); COMP_CWORD=${words.length}; _culvert; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ],
      { encoding: 'utf8' },
    );
    assert.equal(stderr, '');
    return stdout.split('\n').filter((word) => word !== '');
  };
  assert.deepEqual(complete('app'), ['apply']);
  assert.deepEqual(complete('token', 'c'), ['create']);
  assert.deepEqual(complete('get', 'Seg'), ['Segment', 'SegmentationRule']);
  assert.deepEqual(complete('get', 'wl', '-o', 'w'), ['wide']);
  assert.deepEqual(complete('user', 'create', 'x', '--ro'), ['--role']);
  assert.deepEqual(complete('user', 'create', 'x', '--role', 'v'), ['viewer']);
  assert.equal((await run(['completion', 'tcsh'], {})).code, 64);
});

test('fish completes commands, options, their values and kinds', async () => {
  const file = await completionFile('fish', 'culvert.fish');
  const complete = (line: string): string[] => {
    const { stdout, stderr } = spawnSync('fish', ['-N', '-c', 'source $argv[1]; complete -C $argv[2]', file, line], {
      encoding: 'utf8',
    });
    assert.equal(stderr, '');
    return stdout.split('\n').flatMap((text) => (text === '' ? [] : [text.split('\t')[0]!]));
  };
  assert.deepEqual(complete('culvert app'), ['apply']);
  assert.deepEqual(complete('culvert token c'), ['create']);
  assert.deepEqual(complete('culvert get Seg'), ['Segment', 'SegmentationRule']);
  assert.deepEqual(complete('culvert get wl -o w'), ['wide']);
  assert.deepEqual(complete('culvert user create x --ro'), ['--role']);
});

test('zsh completes commands, options, their values and kinds', async () => {
  await completionFile('zsh', '_culvert');
  // A terminal of its own, because zsh completes only where a person types, once the prompt is there. C-t shows the line.
  const script = String.raw`
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
    zpty -w shell "show() { zle -M \"<\$BUFFER>\" }; zle -N show; bindkey '^T' show; PS1=rea''dy"
    zpty -r shell seen '*ready*'
    shift
    for typed; do
      zpty -n -w shell "$typed"$'\t\C-t\C-u'
      zpty -r shell seen '*<*>*'
      seen="$seen[(r)<,(r)>]"
      print -r -- "$seen[2,-2]"
    done
    zpty -d shell`;
  const typed = ['app', 'token c', 'get Segmenta', 'get wl -o w', 'user create x --ro'].map(
    (line) => `culvert ${line}`,
  );
  const { stdout, stderr, signal } = spawnSync('zsh', ['-f', '-c', script, 'zsh', directory.path, ...typed], {
    encoding: 'utf8',
    timeout: 50_000,
  });
  assert.deepEqual(
    [signal, stderr, stdout.split('\n').map((line) => line.trim())],
    [
      null,
      '',
      ['apply', 'token create', 'get SegmentationRule', 'get wl -o wide', 'user create x --role']
        .map((line) => `culvert ${line}`)
        .concat(''),
    ],
  );
});

async function completionFile(shell: string, name: string): Promise<string> {
  const { code, out } = await run(['completion', shell], {});
  assert.equal(code, 0);
  const file = join(directory.path, name);
  await writeFile(file, out);
  return file;
}

test('usage errors end with 64 in all three programs', () => {
  for (const [name, argv] of [
    ['culvert', ['no-such-command']],
    ['culvert', ['get', 'wl', '--no-such-option']],
    ['agent', ['no-such-command']],
    ['agent', ['run', '--no-such-option']],
    ['agent', ['run', '--drain-timeout', 'soon']],
    ['agent', ['run', '--node', 'A B', '--state-dir', join(directory.path, 'no-agent')]],
    ['controller', ['no-such-command']],
    ['controller', ['run', '--token-ttl', 'soon']],
    ['controller', ['ca', 'rotate', 'sideways']],
    ['controller', ['ca', 'export']],
  ] as const) {
    const [command, ...first] = programs[name];
    const { status, stderr } = spawnSync(command, [...first, ...argv], { encoding: 'utf8' });
    assert.equal(status, 64, `${name} ${argv.join(' ')}: ${stderr}`);
    assert.notEqual(stderr, '');
  }
  for (const name of ['culvert', 'agent', 'controller'] as const) {
    const [command, ...first] = programs[name];
    for (const flag of ['--version', '--help']) assert.equal(spawnSync(command, [...first, flag]).status, 0);
  }
});

test('the version loads no library of the commands', () => {
  const [command, ...first] = programs.culvert;
  const refuse = 'if (["commander", "zod", "yaml"].includes(name)) throw new Error("loads " + name);';
  // Node 20 has only `register`, and Node 26 calls it deprecated on the standard error.
  const watch = `data:text/javascript,${encodeURIComponent(`
    import * as module from 'node:module';
    if (module.registerHooks) {
      module.registerHooks({ resolve(name, context, next) { ${refuse} return next(name, context); } });
    } else {
      module.register('data:text/javascript,' + encodeURIComponent(
        'export async function resolve(name, context, next) { ${refuse} return next(name, context); }'));
    }`)}`;
  const { status, stdout, stderr } = spawnSync(command, [...first, '--version'], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: `--import=${watch}` },
  });
  assert.equal(stderr, '');
  assert.deepEqual([status, /^\d+\.\d+\.\d+\n$/.test(stdout)], [0, true]);
});

test('an output that cannot be written is one line, and no stack', () => {
  const [command, ...first] = programs.culvert;
  const shell = `${[command, ...first].join(' ')} explain rule > /dev/full`;
  const { status, stderr } = spawnSync('sh', ['-c', shell], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /^culvert: cannot write the output: .*ENOSPC.*\(free space on its disk\) \[OUTPUT\]\n$/);
});

test('a directory inside a directory of files is passed over, whatever its name', async () => {
  const files = join(directory.path, 'files');
  await mkdir(join(files, 'x.yaml'), { recursive: true });
  await writeFile(join(files, 'a.yaml'), segment);
  const { code, out } = await culvert('apply', '-f', files, '--dry-run');
  assert.equal(code, 0);
  assert.match(out, /Segment\/databases unchanged/);
});
