import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { copyFile, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { FlowsAnswer } from '../../controller/api/api-types.js';
import { allDocuments } from '../docs/all-documents.js';
import type { CommandResult } from '../lab/command.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { ReaderMachine, sharedPrograms } from '../support/docs/reader-machine.js';
import { readToEnd } from '../support/mesh/two-hosts.js';
import { fencedBlocks, shownCommands } from '../support/docs/shown-commands.js';

const api = { name: 'api', namespace: 'billing', serviceAccount: 'api' };
const db = { name: 'db', namespace: 'billing', serviceAccount: 'db' };
const shell = { name: 'shell', namespace: 'ops', serviceAccount: 'shell' };
const topology = {
  hosts: [
    { name: 'host-a', workloads: [api, shell] },
    { name: 'host-b', workloads: [db] },
  ],
};

/** The set of rules that deploy/docs/rules.md speaks of. */
const rules = `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: db-from-api }
spec: { priority: 100, action: allow, from: [{ serviceAccount: billing/api }], to: [{ workload: billing/db }], ports: [5432] }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: db-closed-to-others }
spec: { priority: 200, action: deny, mode: audit, to: [{ workload: billing/db }] }
---
apiVersion: culvert.dev/v1
kind: PolicyTest
metadata: { name: billing }
spec: { tests: [{ from: billing/api, to: "billing/db:5432", expect: allow, by: db-from-api }] }
`;

/** The service that deploy/docs/traffic.md speaks of. */
const ledger = `
apiVersion: culvert.dev/v1
kind: Service
metadata: { name: ledger, namespace: billing }
spec: { vips: [198.19.255.1], ports: [{ port: 80 }], selector: { app: ledger } }
`;

let mesh: Mesh;
let directory: string;
let controller: ReaderMachine;
let host: ReaderMachine;
/** A machine of a company that has a CA and no controller yet. */
let fresh: ReaderMachine;
/** Another machine of the controller, whose root is taken off line. */
let offline: ReaderMachine;

before(async () => {
  mesh = await startMesh({ topology });
  const { lab } = mesh;
  directory = path.join(lab.tempDir, 'reader');
  await mkdir(path.join(directory, 'rules'), { recursive: true });
  await writeFile(path.join(directory, 'rules', 'billing.yaml'), rules);
  await writeFile(path.join(directory, 'FILE'), 'a password of the reader\n', { mode: 0o600 });
  await symlink(path.resolve('deploy'), path.join(directory, 'deploy'));
  const bin = await sharedPrograms(lab.tempDir);
  const commands = {
    culvert: programs.culvert,
    'culvert-agent': programs.agent,
    'culvert-controller': programs.controller,
  };
  for (const [name, [, main]] of Object.entries(commands)) await symlink(main, path.join(bin, name));
  const shared = { cwd: directory, programs: bin };
  const machine = (name: string, at: string, namespaces = new Map<string, string>()): Promise<ReaderMachine> =>
    ReaderMachine.create({ node: lab.host(at), directory: path.join(lab.tempDir, name), namespaces, ...shared });
  controller = await machine('controller-machine', 'controller');
  fresh = await machine('fresh-machine', 'controller');
  offline = await machine('offline-machine', 'controller');
  host = await machine(
    'host-machine',
    'host-a',
    new Map([api, shell].map(({ name }) => [lab.workload(name).netns, lab.workload(name).netnsPath])),
  );
  for (const each of [controller, host]) await mkdir(each.file('/etc', 'systemd', 'system'), { recursive: true });
  await controller.run(`export CULVERT_CONTEXT=${mesh.controller.contextFile}`);
});
after(() => mesh[Symbol.asyncDispose]());

type Shown = { readonly command: RegExp; readonly run: (command: string) => Promise<void> };

/** Commands that this test cannot run, and why. */
const notRun: readonly { readonly command: RegExp; readonly why: string }[] = [
  { command: /^systemctl /, why: 'no systemd runs in a lab; the units themselves are copied' },
  { command: /^systemd-creds /, why: 'no systemd runs in a lab; key-vault.test.ts reads a credential' },
  { command: /^systemd-run /, why: 'no systemd runs in a lab; key-vault.test.ts reads a credential' },
  { command: /^vault /, why: 'no Vault runs in a lab; fake-vault.ts speaks its API in vault-issuer.test.ts' },
  { command: /^npm test /, why: 'it would run this test' },
];

const runs: readonly Shown[] = [
  { command: /^useradd .* culvert-agent$/, run: async (command) => void (await succeeds(host, command)) },
  { command: /^(?:useradd|install -d|echo .* > \/etc\/culvert\/controller\.env$)/, run: onController },
  {
    command: /^cp (?:deploy\/systemd\/culvert-[\w.]+ )+\/etc\/systemd\/system\/$/,
    run: async (command) => {
      const at = command.includes('controller') ? controller : host;
      await succeeds(at, command);
      for (const unit of command.split(' ').slice(1, -1)) {
        assert.ok(existsSync(at.file('/etc', 'systemd', 'system', path.basename(unit))));
      }
    },
  },
  {
    command: /^(?:chown culvert-agent|chmod 600) \/etc\/culvert\/token$/,
    run: async (command) => {
      await succeeds(host, ': >> /etc/culvert/token');
      await succeeds(host, command);
    },
  },
  {
    command: /^printf 'node: .*' > \/etc\/culvert\/agent\.yaml$/,
    run: async (command) => {
      await succeeds(host, command);
      const { stdout } = await succeeds(host, 'culvert-agent config --config /etc/culvert/agent.yaml');
      assert.match(stdout, /host-a/);
    },
  },
  {
    command: /^culvert user (?:create|list|renew|delete)\b/,
    run: async (command) => {
      await succeeds(controller, command);
      const file = / --out (\S+)/.exec(command)?.[1];
      if (file !== undefined) assert.equal(statSync(path.join(directory, file)).mode & 0o777, 0o600);
    },
  },
  {
    command: /^culvert apply -f rules\//,
    run: async (command) => {
      await succeeds(controller, command);
      await recordConnection();
    },
  },
  {
    command: /^culvert (?:routes|endpoints) /,
    run: async (command) => {
      await mesh.controller.culvert(['apply', '-f', '-'], ledger);
      await onController(command);
    },
  },
  { command: /^culvert (?:audit|get|learn|lint|history|why|test|allow|promote|rollback)\b/, run: onController },
  {
    command: /^culvert diff -f rules\/ --flows /,
    run: async (command) => {
      const { code, stderr } = await controller.run(command);
      assert.ok(code === 0 || code === 2, stderr);
    },
  },
  {
    command: /^ip6?tables -I INPUT .* --connlimit-above /,
    run: async (command) => {
      await succeeds(controller, command);
      // The kernel has it as it was written; held-nats.test.ts of e2e/attacks shows what it does.
      await succeeds(controller, command.replace(' -I ', ' -C '));
    },
  },
  { command: /^culvert-controller ca /, run: changeCa },
  { command: /^culvert-agent remove$/, run: removeAgent },
  { command: /^(?:mkdir -p|cp deploy\/man\/\*\.[18]) .*\/usr\/local\/share\/man/, run: onController },
  {
    command: /^culvert completion bash > /,
    run: async (command) => {
      await succeeds(controller, command);
      assert.match(await readFile(controller.file('/etc', 'bash_completion.d', 'culvert'), 'utf8'), /complete/);
    },
  },
  { command: /^userdel culvert-agent$/, run: async (command) => void (await succeeds(host, command)) },
  {
    command: /^rm -f \/etc\/systemd\/system\/culvert-agent\.service /,
    run: async (command) => {
      await succeeds(host, command);
      const units = readdirSync(host.file('/etc', 'systemd', 'system'));
      assert.deepEqual(
        units.filter((name) => name.startsWith('culvert-')),
        [],
      );
    },
  },
  { command: /^(?:rm -f \/etc\/culvert\/controller\.env |userdel )/, run: onController },
  {
    command: /^rm -f \/etc\/culvert\/agent\.yaml /,
    run: async (command) => {
      await succeeds(host, command);
      assert.deepEqual(readdirSync(host.file('/etc', 'culvert')), []);
    },
  },
  { command: /^rm (?:-r \/var\/lib\/culvert\/controller$|-f \/usr\/local\/bin\/culvert )/, run: onController },
  {
    command: /^rm -r \/var\/lib\/culvert\/agent$/,
    run: async (command) => {
      await succeeds(host, command);
    },
  },
];

/** In the order of a reader: a set of rules exists before it is asked about, and a CA is changed without a controller. */
const last = [
  /^culvert-controller ca (?!import)/,
  /^culvert-controller ca import/,
  /^culvert-agent remove/,
  /^rm -r/,
  /^rm (?!-r)/,
  /^userdel/,
];

test('every command of deploy/docs does what it should', { timeout: 900_000 }, async () => {
  const shown = allDocuments()
    .filter(({ file }) => file.startsWith('deploy/docs/'))
    .flatMap(({ file, text }) => shownCommands(text).map((command) => ({ file, command })));
  assert.ok(shown.length >= 30, `${shown.length} commands`);
  const known = [...runs, ...notRun];
  const unknown = shown.filter(({ command }) => !known.some((each) => each.command.test(command)));
  assert.deepEqual(unknown, [], 'a document shows commands that no line of this test runs');
  for (const { command } of known)
    assert.ok(
      shown.some((each) => command.test(each.command)),
      `${command} is shown`,
    );
  const place = (command: string): number => last.findIndex((each) => each.test(command)) + 1;
  for (const { command } of shown.toSorted((a, b) => place(a.command) - place(b.command))) {
    await runs.find((each) => each.command.test(command))?.run(command);
  }
});

test('documents show commands in console blocks only, so that none escapes', () => {
  for (const { file, text } of allDocuments()) {
    for (const language of ['sh', 'bash', 'shell']) assert.deepEqual(fencedBlocks(text, language), [], file);
  }
});

async function succeeds(at: ReaderMachine, command: string): Promise<CommandResult> {
  const result = await at.run(command);
  assert.equal(result.code, 0, `${command}\n${result.stdout}${result.stderr}`);
  return result;
}

async function onController(command: string): Promise<void> {
  await succeeds(controller, command);
}

/** The traffic that a reader's rules are tried on. */
async function recordConnection(): Promise<void> {
  const [from, to] = [mesh.lab.workload('api'), mesh.lab.workload('db')];
  await using _ = await to.listen({ port: 5432 }, (socket) => socket.end('hello'));
  const socket = await from.connect({ ip: to.ipv4, port: 5432 });
  assert.equal((await readToEnd(socket)).toString(), 'hello');
  socket.destroy();
  await waitUntil('the connection is recorded', async () => {
    const { flows } = (await mesh.controller.api('/v1/flows?namespace=billing')) as FlowsAnswer;
    return flows.length > 0 || undefined;
  });
}

/** Without the controller, as the document says. Its state is copied to where a controller of the machine would have it. */
async function changeCa(command: string): Promise<void> {
  if (command.includes('company.p12')) {
    await copyFile(path.join(directory, 'mesh.p12'), path.join(directory, 'company.p12'));
    await succeeds(fresh, command);
    return;
  }
  // A root that is off line cannot be rotated.
  const at = command.includes('root.p12') ? offline : controller;
  const state = at.file('/var/lib', 'culvert', 'controller');
  if (!existsSync(state)) {
    await mesh.controller.stop();
    await cp(mesh.controller.stateDir, state, { recursive: true });
  }
  await succeeds(at, command);
}

async function removeAgent(command: string): Promise<void> {
  const agent = mesh.agent('host-a');
  const isFirst = !existsSync(host.file('/var/lib', 'culvert', 'agent'));
  await agent.stop('SIGTERM', 30_000);
  await cp(agent.stateDir, host.file('/var/lib', 'culvert', 'agent'), { recursive: true });
  assert.match((await succeeds(host, command)).stdout, isFirst ? /^removed: /m : /^nothing to remove$/m);
  assert.doesNotMatch(await mesh.lab.workload('api').check(['iptables-save']), /1500[168]/);
}
