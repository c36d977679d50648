import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createLab, type Lab } from '../lab/lab.js';
import type { CommandResult } from '../lab/command.js';
import { LabProcess } from '../lab/lab-process.js';
import { thisProcess } from '../lab/lab-owner.js';
import { claimPrefix, readLabStates, removeLabState } from '../lab/lab-state.js';
import { testRunVariable } from '../lab/test-processes.js';
import { waitUntil } from '../lab/wait-until.js';
import { ReaderMachine, sharedPrograms } from '../support/docs/reader-machine.js';
import { fencedBlocks, shownCommands } from '../support/docs/shown-commands.js';

/** The hosts and workloads that the README speaks of. */
const topology = {
  hasController: true,
  hosts: [
    { name: 'host-a', workloads: [{ name: 'api', namespace: 'billing', serviceAccount: 'api' }] },
    { name: 'host-b', workloads: [{ name: 'db', namespace: 'billing', serviceAccount: 'db' }] },
  ],
};

let readme: string;
let lab: Lab;
let controller: ReaderMachine;
let hosts: readonly ReaderMachine[];
const agents = new Map<string, LabProcess>();

before(async () => {
  readme = await readFile('README.md', 'utf8');
  lab = await createLab(topology);
  const cwd = path.join(lab.tempDir, 'clone');
  await copyOfClone(cwd);
  const programs = await sharedPrograms(lab.tempDir);
  const shared = {
    directory: path.join(lab.tempDir, 'machines'),
    cwd,
    programs,
    hosts: `${lab.host('controller').ipv4} controller.example.net\n`,
  };
  await mkdir(shared.directory);
  controller = await ReaderMachine.create({ node: lab.host('controller'), ...shared });
  hosts = await Promise.all(
    topology.hosts.map(async ({ name, workloads }) => {
      const namespaces = workloads.map((spec): [string, string] => [
        `${spec.namespace}-${spec.name}`,
        lab.workload(spec.name).netnsPath,
      ]);
      return ReaderMachine.create({ node: lab.host(name), ...shared, namespaces: new Map(namespaces) });
    }),
  );
});
after(async () => {
  await lab[Symbol.asyncDispose]();
});

/**
 * What `git clone` gives, with the npm packages that this clone has, so that nothing is downloaded, and with what it has built,
 * so that the build finds it up to date. bare-machine.test.ts builds from the sources alone.
 */
async function copyOfClone(target: string): Promise<void> {
  const leftOut = path.resolve('.git');
  await cp('.', target, {
    recursive: true,
    verbatimSymlinks: true,
    preserveTimestamps: true,
    filter: (from) => path.resolve(from) !== leftOut,
  });
}

const npmEnv = { npm_config_audit: 'false', npm_config_fund: 'false', npm_config_update_notifier: 'false' };

/** How each command of the README is run and judged; a command without a line here fails the test. */
const runs: readonly { readonly command: RegExp; readonly run: (command: string) => Promise<void> }[] = [
  { command: /^npm run demo$/, run: runDemo },
  {
    command: /^npm (?:install|run build)$/,
    run: async (command) => {
      await succeeds(controller.run(command, { timeoutMs: 300_000, env: npmEnv }), command);
    },
  },
  {
    command: /^ln -s "\$PWD\/dist\//,
    run: async (command) => {
      await succeeds(controller.run(command), command);
      const name = command.split('/').at(-1) ?? '';
      assert.match((await succeeds(controller.run(`${name} --version`), command)).stdout, /^\d+\.\d+\.\d+/);
    },
  },
  {
    command: /^culvert-controller run /,
    run: async (command) => {
      const started = await controller.start(command);
      const url = 'https://controller.example.net:15443/readyz';
      await waitUntil(
        'the controller is ready',
        async () => {
          started.requireRunning();
          return (await controller.run(`curl -skf ${url}`)).code === 0 ? true : undefined;
        },
        60_000,
      );
    },
  },
  {
    command: /^export CULVERT_CONTEXT=/,
    run: async (command) => {
      await succeeds(controller.run(command), command);
    },
  },
  { command: /^culvert token create --node host-a$/, run: giveTokens },
  {
    command: /^useradd /,
    run: async (command) => {
      for (const host of hosts) await succeeds(host.run(command), command);
    },
  },
  { command: /^culvert-agent run --node host-a /, run: startAgents },
  {
    command: /^culvert apply -f first\.yaml$/,
    run: async (command) => {
      await writeFile(path.join(lab.tempDir, 'clone', 'first.yaml'), fencedBlocks(readme, 'yaml').join('---\n'));
      const { stdout, stderr } = await succeeds(controller.run(command), command);
      assert.equal(stdout.match(/ created/g)?.length, 4, stdout);
      assert.doesNotMatch(`${stdout}${stderr}`, /warning/);
      await succeeds(controller.run('culvert rollout status --wait 30s'), command);
      await Promise.all(hosts.map(isReady));
      await carriesWhatTheRuleAllows();
    },
  },
  {
    command: /^culvert status$/,
    run: async (command) => {
      const { stdout } = await succeeds(controller.run(command), command);
      for (const { name } of hosts) assert.match(stdout, new RegExp(`\\b${name}\\b`));
    },
  },
  {
    command: /^culvert check$/,
    run: async (command) => {
      await waitUntil(
        'all is well',
        async () => {
          const { code, stdout, stderr } = await controller.run(command);
          if (code !== 0) throw new Error(`${stdout}${stderr}`);
          return true;
        },
        60_000,
      );
    },
  },
  {
    command: /^culvert why billing\/api billing\/db:22$/,
    run: async (command) => {
      assert.match((await succeeds(controller.run(command), command)).stdout, /deny[^]*db-closed-to-others/);
    },
  },
  {
    command: /^curl -s localhost:15021\/readyz$/,
    run: async (command) => {
      for (const host of hosts) {
        assert.match((await succeeds(host.run(command), command)).stdout, /"ready": ?true/);
      }
    },
  },
  {
    command: /^culvert-agent remove$/,
    run: async (command) => {
      for (const host of hosts) {
        await agents.get(host.name)?.stop('SIGTERM', 30_000);
        assert.match((await succeeds(host.run(command), command)).stdout, /^removed: /m);
      }
      const rules = await lab.workload('api').check(['iptables-save']);
      assert.doesNotMatch(rules, /1500[168]/);
    },
  },
  {
    command: /^rm -r \/var\/lib\/culvert\/agent$/,
    run: async (command) => {
      for (const host of hosts) await succeeds(host.run(command), command);
    },
  },
];

test('every command of the README does what the README says', { timeout: 900_000 }, async () => {
  const commands = shownCommands(readme);
  assert.ok(commands.length >= 15, `${commands.length} commands`);
  const unknown = commands.filter((shown) => !runs.some(({ command }) => command.test(shown)));
  assert.deepEqual(unknown, [], 'the README shows commands that no line of this test runs');
  for (const shown of commands) await runs.find(({ command }) => command.test(shown))?.run(shown);
});

async function succeeds(running: Promise<CommandResult>, command: string): Promise<CommandResult> {
  const result = await running;
  assert.equal(result.code, 0, `${command}\n${result.stdout}${result.stderr}`);
  return result;
}

/**
 * On the machine itself, as the demo builds a lab of its own. Its output has the lines that the README shows. It is held in
 * addition, so that the commands which it prints are tried.
 */
async function runDemo(command: string): Promise<void> {
  const cwd = path.join(lab.tempDir, 'clone');
  await using demo = await LabProcess.start([...command.split(' '), '--', '--hold'], { cwd, env: npmEnv });
  await demo.waitForLine(/^Ctrl-C ends it\.$/, 300_000);
  await tryPlayCommands(
    demo.lines.flatMap((line) => /^  npm run demo (?:-- )?(.*)$/.exec(line)?.[1] ?? []),
    cwd,
  );
  const [held] = readLabStates().filter(
    ({ testRun, tempDir }) => testRun === process.env[testRunVariable] && existsSync(path.join(tempDir, 'play.sh')),
  );
  assert.ok(held !== undefined);
  // As Ctrl-C does. npm ends with it, at its own time.
  demo.signal('SIGINT');
  await waitUntil('the demo has removed its lab', () =>
    readLabStates().some(({ prefix }) => prefix === held.prefix) ? undefined : true,
  );
  // Its last line comes after that.
  await waitUntil('the demo has said so', () =>
    demo.lines.some((line) => line.endsWith('is left.')) ? true : undefined,
  );
  const printed = withoutFigures(demo.lines.join('\n'));
  const shown = fencedBlocks(readme, 'text').flatMap((block) => block.split('\n'));
  const lines = shown.filter((line) => line !== '' && line !== '…');
  assert.ok(lines.length >= 5, 'the README shows what the demo prints');
  for (const line of lines) assert.ok(printed.includes(withoutFigures(line)), `${line}\n${printed}`);
}

/** What each kind of command that the demo prints must show. */
const playCommands: readonly (readonly [command: RegExp, shows: RegExp])[] = [
  [/^shell client$/, /PONG/],
  [/^shell intruder redis-cli /, /closed the connection|reset/i],
  [/^shell intruder curl /, /curl: \(\d+\)|reset|refused/i],
  // The address of the bastion, on the other host.
  [/^shell web ssh bastion$/, /198\.18\.12\./],
  [/^culvert status$/, /node1/],
  [/^culvert why /, /deny[^]*redis-deny-others/],
  [/^culvert delete /, /redis-deny-others/],
  [/^culvert apply -f /, /bastion-closed-to-others created/],
  [/^shell intruder ssh bastion$/, /closed|reset/i],
  [/^shell node1 curl .*metrics$/, /culvert_connections_opened_total/],
  [/^shell node1 curl .*readyz$/, /"ready": true/],
  [/^shell web iptables-save$/, /CULVERT/],
  [/^log node1$/, /"name":"culvert-agent"/],
  [/^shell node2 tcpdump$/, /listening on eth0/],
];

async function tryPlayCommands(shown: readonly string[], cwd: string): Promise<void> {
  assert.equal(shown.length, playCommands.length, shown.join('\n'));
  // Without `--` the option is npm's, and the command would do what it was asked not to do.
  const taken = 'npm run --silent demo culvert delete SegmentationRule redis-deny-others --dry-run';
  await using refused = await LabProcess.start(taken.split(' '), { cwd, env: npmEnv });
  await refused.waitForLine(/npm took --dry-run for an option of its own.*npm run demo -- culvert delete/, 60_000);
  await using unknown = await LabProcess.start('npm run --silent demo nosuch'.split(' '), { cwd, env: npmEnv });
  await unknown.waitForLine(/^unknown command 'nosuch' \(the commands are shell, culvert and log/, 60_000);
  await choosesAmongDemos(cwd);
  for (const command of shown) {
    const shows = playCommands.find(([pattern]) => pattern.test(command))?.[1] ?? assert.fail(command);
    // The shells read from here.
    const script = `{ printf '%s\\n' 'redis-cli -h cache ping' 'hostname -I' 'exit'; } | npm run --silent demo -- ${command}`;
    await using running = await LabProcess.start(['sh', '-c', script], { cwd, env: npmEnv });
    await running.waitForLine(shows, 60_000);
  }
}

/** With an older demo, of which there is only what the commands look at. */
async function choosesAmongDemos(cwd: string): Promise<void> {
  const tempDir = path.join(lab.tempDir, 'older-demo');
  await mkdir(tempDir);
  await writeFile(path.join(tempDir, 'play.sh'), 'culvert() { echo "the older demo"; }\n');
  const testRun = process.env[testRunVariable] ?? null;
  const createdAt = new Date(0).toISOString();
  const owner = thisProcess();
  const { prefix } = claimPrefix((name) => {
    return { prefix: name, owner, createdAt, testRun, namespaces: [], tempDir, nodes: [] };
  });
  try {
    const cases: readonly (readonly [chosen: Record<string, string>, shows: RegExp])[] = [
      [{}, new RegExp(`^note: of the held demos ${prefix}, cv.*CULVERT_DEMO chooses`)],
      [{ CULVERT_DEMO: prefix }, /^the older demo$/],
      [{ CULVERT_DEMO: 'cvnone' }, /^No demo "cvnone" is held\..*CULVERT_DEMO is one of cv/],
    ];
    for (const [chosen, shows] of cases) {
      const env = { ...npmEnv, ...chosen };
      await using asked = await LabProcess.start('npm run --silent demo culvert status'.split(' '), { cwd, env });
      await asked.waitForLine(shows, 60_000);
    }
  } finally {
    removeLabState(prefix);
  }
}

function withoutFigures(text: string): string {
  return text.replace(/\d+(?:\.\d+)?/g, '0');
}

/** As the README says: made at the controller, copied to the host. */
async function giveTokens(command: string): Promise<void> {
  for (const host of hosts) {
    const { stdout } = await succeeds(controller.run(command.replace('host-a', host.name)), command);
    const token = stdout.split('\n').findLast((line) => line.trim() !== '') ?? '';
    await writeFile(host.file('/etc', 'culvert', 'token'), `${token}\n`, { mode: 0o600 });
  }
}

async function startAgents(command: string): Promise<void> {
  for (const host of hosts) agents.set(host.name, await host.start(command.replace('host-a', host.name)));
  await Promise.all(hosts.map(isReady));
}

function isReady(host: ReaderMachine): Promise<true> {
  return waitUntil(
    `the agent of ${host.name} is ready`,
    async () => {
      agents.get(host.name)?.requireRunning();
      const { code, stdout } = await host.run('curl -sf localhost:15021/readyz');
      if (code !== 0) throw new Error(`${stdout}\n${agents.get(host.name)?.lines.slice(-5).join('\n') ?? ''}`);
      return true as const;
    },
    60_000,
  );
}

async function carriesWhatTheRuleAllows(): Promise<void> {
  const [api, db] = [lab.workload('api'), lab.workload('db')];
  await using _allowed = await db.listen({ port: 5432 }, (socket) => socket.end('hello'));
  await using _denied = await db.listen({ port: 22 }, (socket) => socket.end('hello'));
  const socket = await api.connect({ ip: db.ipv4, port: 5432 });
  const [first] = (await once(socket, 'data')) as [Buffer];
  assert.equal(first.toString(), 'hello');
  socket.destroy();
  // The reset may be there before this process has seen that the connection is open.
  const refused = api.connect({ ip: db.ipv4, port: 22 }).then((socket) => once(socket, 'data'));
  await assert.rejects(refused, /ECONNRESET/);
}
