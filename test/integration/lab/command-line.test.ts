import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../../lab/command.js';
import { patientMs } from '../../lab/patience.js';

const main = path.join(import.meta.dirname, '../../lab/main.js');

describe('the command line of the lab', { timeout: patientMs(60_000) }, () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-lab-cli-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  const lab = (...args: string[]) => runCommand([process.execPath, main, ...args]);

  it('builds a lab that stays, runs programs in it and removes it', async () => {
    const file = path.join(directory, 'topology.yaml');
    writeFileSync(
      file,
      `hosts: [{ name: node1, workloads: [
         { name: web, namespace: shop, serviceAccount: web }, { name: web, namespace: blog, serviceAccount: web }] }]`,
    );
    const up = await lab('up', '--topology', file);
    assert.equal(up.code, 0, up.stderr);
    const prefix = up.stdout.trim();
    assert.match(prefix, /^cv[0-9a-f]{4}$/);
    try {
      assert.match((await lab('list')).stdout, new RegExp(`${prefix} held since .*, 3 nodes`));
      const address = await lab('exec', prefix, 'web.blog', '--', 'ip', '-o', '-4', 'addr', 'show', 'dev', 'eth0');
      assert.match(address.stdout, /198\.18\.11\.3\/32/);
      assert.equal((await lab('exec', prefix, 'node1', '--', 'sh', '-c', 'exit 9')).code, 9);
      const ambiguous = await lab('exec', prefix, 'web', '--', 'true');
      assert.equal(ambiguous.code, 1);
      assert.match(ambiguous.stderr, /no single node "web"\. \(its nodes: node1, web\.shop, web\.blog\)/);
    } finally {
      assert.equal((await lab('down', prefix)).code, 0);
    }
    assert.ok(!(await lab('list')).stdout.includes(prefix));
  });

  it('names every problem of a topology with its path', async () => {
    const file = path.join(directory, 'wrong.yaml');
    writeFileSync(file, 'hosts: [{ name: node1, workload: [] }]\nmtu: 100');
    const { code, stderr } = await lab('up', '--topology', file);
    assert.equal(code, 1);
    assert.match(stderr, /hosts\.0: .*workload.*; mtu: /);
  });

  it('says what to do about a prefix that is unknown or left out', async () => {
    const unknown = await lab('down', 'cvzzzz');
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /There is no lab "cvzzzz"/);
    const none = await lab('down');
    assert.equal(none.code, 1);
    assert.match(none.stderr, /name one PREFIX, or say --all/);
  });
});
