import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { requirementsOf, declaredPrograms } from '../lab/declared-programs.js';
import { packagesOf } from '../lab/requirements.js';
import { BareMachine } from '../support/bare-machine.js';

/** `whole`: every suite runs in there, which takes as long as the gate (part of a release). */
const isWhole = process.env['CULVERT_BARE_MACHINE'] === 'whole';
const clone = '/opt/culvert';

let machine: BareMachine;
/** Mounts in it that this process saw while it was made. */
const mounted = new Set<string>();
before(async () => {
  const look = (): void => {
    const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    for (const line of lines) if (line.includes('/culvert-bare-')) mounted.add(line);
  };
  const looking = setInterval(look, 50);
  try {
    machine = await BareMachine.create();
  } finally {
    clearInterval(looking);
  }
  await machine.addClone(clone);
});
after(() => machine[Symbol.asyncDispose]());

test('the making of a bare machine mounts nothing where its folder is removed', () => {
  assert.deepEqual([...mounted], []);
});

async function succeeds(script: string, network: 'host' | 'none', timeoutMs: number): Promise<string> {
  const { code, stdout, stderr } = await machine.run(`cd ${clone}\n${script}`, { network, timeoutMs });
  assert.equal(code, 0, [...failures(stdout), ...[stdout, stderr].map((text) => lastLines(text))].join('\n'));
  return stdout;
}

/** What the summary of a run of tests lists. */
function failures(stdout: string): string[] {
  return stdout.split('\n').filter((line) => /^(?:failed|left behind): /.test(line));
}

function lastLines(text: string): string {
  return text.split('\n').slice(-15).join('\n');
}

/** The packages of the product alone, as the README names them. */
function packagesOfProduct(): string[] {
  const own = declaredPrograms.filter(({ uses }) =>
    (['agent', 'controller', 'build'] as const).some((use) => uses[use]),
  );
  return packagesOf(own.map(({ command, packages }) => ({ command, packages, why: '' })));
}

/** One workload in a namespace of its own, a controller and an agent that captures it, and everything as found afterwards. */
const oneHost = `
set -x
ip netns add web; ip -n web link set lo up
ip link add to-web type veth peer name eth0 netns web
ip link set to-web up; ip addr add 198.18.0.1/24 dev to-web
ip -n web link set eth0 up; ip -n web addr add 198.18.0.2/24 dev eth0; ip -n web route add default via 198.18.0.1
nothing=$(ip netns exec web iptables-save)
culvert-controller run --advertise 127.0.0.1 >/tmp/controller.log 2>&1 & controller=$!
export CULVERT_CONTEXT=/var/lib/culvert/controller/admin.yaml
patiently() { for i in $(seq 300); do "$@" >/tmp/last 2>&1 && return 0; sleep 0.2; done; cat /tmp/last /tmp/*.log; return 1; }
patiently culvert status
culvert token create --node host-a >/tmp/token
useradd --system --no-create-home --shell /usr/sbin/nologin culvert-agent
culvert-agent run --node host-a --controller https://127.0.0.1:15443 --token-file /tmp/token >/tmp/agent.log 2>&1 & agent=$!
culvert apply -f - <<E
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: web, namespace: shop }
spec: { serviceAccount: web, node: host-a, netns: web, addresses: [198.18.0.2] }
E
patiently sh -c 'ip netns exec web iptables-save | grep CULVERT_OUTPUT'
patiently culvert check
kill $agent; wait $agent
culvert-agent remove
test "$(ip netns exec web iptables-save)" = "$nothing"
kill $controller; wait $controller || true
echo "as it was found"
`;

test(
  'the product is installed on a fresh Debian 12 with the packages that it names, and captures a workload there',
  { timeout: 900_000 },
  async () => {
    const packages = packagesOfProduct();
    const apt = `export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends ${packages.join(' ')}`;
    await succeeds(apt, 'host', 600_000);
    const install = `npm install --offline --no-audit --no-fund
npm run build
for each in culvert-agent culvert-controller culvert; do
  ln -s "$PWD/dist/programs/$each.js" /usr/local/bin/$each
done`;
    await succeeds(install, 'none', 300_000);
    assert.match(await succeeds(oneHost, 'none', 180_000), /as it was found\n$/);
  },
);

test('npm test installs what it needs on a fresh Debian 12, and passes there', { timeout: 7_200_000 }, async () => {
  const bootstrap = `import('./test/bootstrap.mjs').then((module) => module.bootstrap('tests'))`;
  await succeeds(`node -e "${bootstrap}"`, 'host', 600_000);
  const missing = requirementsOf('tests').map(({ command }) => `command -v ${command} >/dev/null || echo ${command}`);
  assert.equal(await succeeds(missing.join('\n'), 'none', 30_000), '');
  await succeeds(
    'for each in culvert culvert-agent culvert-controller; do test -x "dist/programs/$each.js"; done',
    'none',
    30_000,
  );
  const some = "npm test unit integration -- --filter 'unit/lab|lab/network|capture/back-ends'";
  // The gate gets a second Node from npm, and makes the root of a Debian in there.
  const output = isWhole ? await succeeds('npm test', 'host', 7_000_000) : await succeeds(some, 'none', 300_000);
  assert.match(output, /^ok: \d+ tests$/m);
});
