import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { deleteEmptyTable } from '../../../../agent/native/nf-tables.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

const tables = (): Promise<string> => network.sh(network.a, 'nft list tables');

test('an empty table is deleted, in its family and its namespace only', async () => {
  await network.sh(network.a, 'nft add table ip raw; nft add table ip6 raw; nft add table ip nat');
  await network.sh(network.b, 'nft add table ip raw');
  const { fd } = network.a;
  assert.equal(deleteEmptyTable({ netnsFd: fd, family: 4, name: 'raw' }), true);
  assert.deepEqual((await tables()).trim().split('\n').sort(), ['table ip nat', 'table ip6 raw']);
  assert.equal(deleteEmptyTable({ netnsFd: fd, family: 6, name: 'raw' }), true);
  assert.equal(await tables(), 'table ip nat\n');
  assert.equal(await network.sh(network.b, 'nft list tables'), 'table ip raw\n');
  assert.equal(deleteEmptyTable({ netnsFd: fd, family: 4, name: 'nat' }), true);
});

test('a table that is not there counts as deleted', () => {
  assert.equal(deleteEmptyTable({ netnsFd: network.a.fd, family: 4, name: 'mangle' }), true);
});

test('a table that holds anything stays as it is', async () => {
  for (const thing of ['chain ip raw c', 'set ip raw s { type ipv4_addr; }', 'counter ip raw n']) {
    await network.sh(network.a, `nft add table ip raw; nft 'add ${thing}'`);
    const before = await network.sh(network.a, 'nft list ruleset');
    assert.equal(deleteEmptyTable({ netnsFd: network.a.fd, family: 4, name: 'raw' }), false, thing);
    assert.equal(await network.sh(network.a, 'nft list ruleset'), before);
    await network.sh(network.a, 'nft delete table ip raw');
  }
});
