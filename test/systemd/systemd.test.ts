import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { fencedBlocks, shownCommands } from '../support/docs/shown-commands.js';
import { installed, SystemdMachine } from '../support/systemd-machine.js';

let machine: SystemdMachine;
before(async () => {
  machine = await SystemdMachine.boot();
});
after(() => machine[Symbol.asyncDispose]());

const admin = 'export CULVERT_CONTEXT=/var/lib/culvert/controller/admin.yaml';

async function succeeds(script: string, timeoutMs = 60_000): Promise<string> {
  const { code, stdout, stderr } = await machine.run(`${admin}\ncd ${installed}\n${script}`, timeoutMs);
  assert.equal(code, 0, `${script}\n${stdout}${stderr}\n${code === 0 ? '' : await journal()}`);
  return stdout.trim();
}

async function journal(): Promise<string> {
  return (await machine.run("journalctl -b -o cat -n 40 -u 'culvert-*'")).stdout;
}

async function eventually(what: string, script: string): Promise<void> {
  await waitUntil(what, async () => ((await machine.run(`${admin}\n${script}`)).code === 0 ? true : undefined), 60_000);
}

const property = (name: string): Promise<string> => succeeds(`systemctl show culvert-agent -p ${name} --value`);

/** The commands of `operations.md` that set up a controller, and those that set up an agent. */
function documented(): [controller: string, agent: string] {
  const text = readFileSync('deploy/docs/operations.md', 'utf8');
  const blocks = fencedBlocks(text, 'console').map((block) =>
    shownCommands(`\`\`\`console\n${block}\n\`\`\``).join('\n'),
  );
  const found = blocks.filter((block) => /systemctl enable --now culvert-/.test(block));
  assert.equal(found.length, 2);
  const [controller = '', agent = ''] = found;
  return [controller, agent];
}

/** Two workloads: `client` dials the echo server of `server` as fast as it can and counts how each connection ended. */
const workloads = `
ip link add lab0 type bridge; ip addr add 198.18.0.1/24 dev lab0; ip link set lab0 up
number=2
for each in client server; do
  ip netns add $each; ip -n $each link set lo up
  ip link add to-$each type veth peer name eth0 netns $each; ip link set to-$each master lab0 up
  ip -n $each addr add 198.18.0.$number/24 dev eth0; ip -n $each link set eth0 up
  number=$((number + 1))
done
culvert apply -f - <<END
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: client, namespace: shop }
spec: { serviceAccount: client, node: host-a, netns: client, addresses: [198.18.0.2] }
---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: server, namespace: shop }
spec: { serviceAccount: server, node: host-a, netns: server, addresses: [198.18.0.3] }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: client-to-server }
spec: { action: allow, priority: 10, from: [{ workload: shop/client }], to: [{ workload: shop/server }] }
END
systemd-run -q --unit=server ip netns exec server node /root/traffic.cjs server
`;

const traffic = `
const net = require('node:net');
const fs = require('node:fs');
if (process.argv[2] === 'server') {
  net.createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket)).listen(8080);
} else {
  const counts = {};
  const dial = () => {
    const socket = net.connect({ host: '198.18.0.3', port: 8080, allowHalfOpen: true });
    let answer = '';
    const end = (how) => {
      socket.destroy();
      counts[how] = (counts[how] ?? 0) + 1;
      fs.writeFileSync('/root/counts.new', JSON.stringify(counts));
      fs.renameSync('/root/counts.new', '/root/counts.json');
      setTimeout(dial, 10);
    };
    socket.once('error', (error) => end(error.code));
    socket.on('data', (bytes) => (answer += bytes));
    socket.once('end', () => { if (!socket.destroyed) end(answer === 'ping' ? 'ok' : 'cut'); });
    socket.end('ping');
  };
  for (let lane = 0; lane < 3; lane++) dial();
}
`;

/** How the connections of the client ended until now. */
function counts(): Record<string, number> {
  try {
    return JSON.parse(readFileSync(machine.path('/root/counts.json'), 'utf8')) as Record<string, number>;
  } catch {
    return {};
  }
}

async function trafficFlows(): Promise<void> {
  const { ok: before = 0 } = counts();
  await waitUntil('connections go through', () => ((counts()['ok'] ?? 0) > before + 20 ? true : undefined), 60_000);
}

const ready = () =>
  eventually(
    'the agent is ready',
    `node -e 'fetch("http://127.0.0.1:15021/readyz").then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))'`,
  );

test('the units start a mesh as operations.md shows it', { timeout: patientMs(180_000) }, async () => {
  const [controller, agent] = documented();
  await succeeds(controller);
  await eventually('the controller serves', 'culvert status');
  await succeeds('umask 077; culvert token create --node host-a > /etc/culvert/token');
  await succeeds(agent);
  await mkdir(machine.path('/root'), { recursive: true });
  await writeFile(machine.path('/root/traffic.cjs'), traffic);
  await succeeds(workloads);
  await eventually(
    'both are captured',
    'for each in client server; do ip netns exec $each iptables-save | grep -q CULVERT_OUTPUT; done',
  );
  await eventually('the mesh is well', 'culvert check');
  await succeeds('systemd-run -q --unit=client ip netns exec client node /root/traffic.cjs client');
  await trafficFlows();
  assert.equal(await succeeds('systemctl --failed --plain --no-legend'), '');
  // A unit's mistake does not stop it: systemd says it, and leaves the line out.
  assert.equal(await succeeds("systemd-analyze verify --man=no '/etc/systemd/system/culvert-agent.service' 2>&1"), '');
  assert.equal(
    await succeeds("systemd-analyze verify --man=no '/etc/systemd/system/culvert-controller.service' 2>&1"),
    '',
  );
});

test(
  'a restart and a reload of the unit refuse no connection, because systemd keeps the sockets',
  { timeout: patientMs(180_000) },
  async () => {
    // They get there workload by workload.
    const listeners = 'for each in client server; do ip netns exec $each ss -Hltn; done | grep -cE ":150(01|06|08) "';
    const wanted = Number(await succeeds(listeners));
    assert.ok(wanted >= 6, String(wanted));
    await waitUntil('systemd has the sockets of both workloads', async () =>
      Number(await property('NFileDescriptorStore')) >= wanted ? true : undefined,
    );
    const first = await property('MainPID');
    await succeeds('systemctl restart culvert-agent');
    assert.notEqual(await property('MainPID'), first);
    await ready();
    await trafficFlows();
    await succeeds('systemctl reload culvert-agent');
    await eventually('a new agent took over', "journalctl -b -u culvert-agent -o cat | grep -q 'this agent took over'");
    await trafficFlows();
    const { ok: _, ...failures } = counts();
    assert.deepEqual(failures, {});
  },
);

test('a supervisor that is killed leaves the sockets to systemd', { timeout: patientMs(120_000) }, async () => {
  const before = Number(await property('NRestarts'));
  await succeeds('kill -KILL $(systemctl show culvert-agent -p MainPID --value)');
  await waitUntil('systemd started it again', async () =>
    Number(await property('NRestarts')) > before ? true : undefined,
  );
  await ready();
  await trafficFlows();
  // What was open is lost; what was new waited.
  assert.equal(counts()['ECONNREFUSED'], undefined);
});

test('a stop lets go of the sockets, and capture stays', { timeout: patientMs(120_000) }, async () => {
  await succeeds('systemctl stop culvert-agent');
  assert.equal(await property('NFileDescriptorStore'), '0');
  await waitUntil('new connections are refused', () => ((counts()['ECONNREFUSED'] ?? 0) > 5 ? true : undefined));
  await succeeds('systemctl start culvert-agent');
  await ready();
  await trafficFlows();
});

test('the journal has a JSON line for each connection', { timeout: patientMs(60_000) }, async () => {
  const lines = (await succeeds(`journalctl -b -u culvert-agent -o cat | grep '"kind":"access"' | tail -3`)).split(
    '\n',
  );
  assert.equal(lines.length, 3);
  for (const line of lines) assert.match((JSON.parse(line) as { traceId: string }).traceId, /^[0-9a-f]{32}$/);
  assert.equal(await property('LogRateLimitIntervalUSec'), '0');
});

test('the units give the programs no more than they need', { timeout: patientMs(60_000) }, async () => {
  // Tenths of points of 10, fewer are better: systemd-analyze(1).
  for (const [unit, most] of [
    ['culvert-agent', 30],
    ['culvert-controller', 20],
  ] as const) {
    await succeeds(`systemd-analyze security ${unit} --threshold=${most} >/dev/null`);
  }
});

test(
  'commands open keys that a credential of systemd encrypts in a unit of their own, as operations.md shows it',
  { timeout: patientMs(180_000) },
  async () => {
    const text = readFileSync('deploy/docs/operations.md', 'utf8');
    const shown = shownCommands(text).find((command) => command.startsWith('systemd-run '));
    assert.ok(shown !== undefined);
    const unit = '/etc/systemd/system/culvert-controller.service.d';
    await succeeds(`
echo 'correct horse battery' > /root/passphrase.txt
systemd-creds encrypt --name=culvert-keys /root/passphrase.txt /etc/culvert/keys.cred
mkdir -p ${unit}
printf '[Service]\\nLoadCredentialEncrypted=culvert-keys:/etc/culvert/keys.cred\\nEnvironment=CULVERT_CONTROLLER_KEY_PASSPHRASE_FILE=credential:culvert-keys\\n' > ${unit}/keys.conf
systemctl daemon-reload
systemctl restart culvert-controller`);
    await eventually('its keys are encrypted', "grep -q '^culvert sealed key' /var/lib/culvert/controller/ca/root.pem");
    await succeeds('systemctl stop culvert-controller');
    const plain = await machine.run(shown.replace(/-p LoadCredentialEncrypted=\S+ /, ''));
    assert.match(plain.stderr + plain.stdout, /no credentials of systemd|cannot read/);
    assert.match(await succeeds(shown), /prepared a new root/);
    await succeeds("grep -q '^culvert sealed key' /var/lib/culvert/controller/ca/next-root.pem");
    await succeeds('systemctl start culvert-controller');
  },
);
