import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isServed } from '../../../../agent/capture/host-namespaces.js';
import { ListeningSockets } from '../../../../agent/dataplane/pool/listening-sockets.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { createLab, type Lab } from '../../../lab/lab.js';
import { workloadNamed } from '../../../support/routing/names.js';

let lab: Lab;

before(async () => {
  const workloads = [{ name: 'web', namespace: 'shop', serviceAccount: 'web' }];
  lab = await createLab({ hosts: [{ name: 'node1', workloads }] });
});

after(async () => {
  await lab.close();
});

test("a namespace is served while a process of the host listens on the agent's port in it, and not by its own", async () => {
  const { netnsPath } = lab.workload('web');
  assert.equal(await isServed(netnsPath), false);
  const listener = "require('net').createServer().listen(15001, '127.0.0.1', () => console.log('listening'))";
  const own = await lab.workload('web').spawn([process.execPath, '-e', `process.setuid(65534); ${listener}`]);
  await own.waitForLine(/listening/);
  assert.equal(await isServed(netnsPath), false, 'a program of the workload is no agent');
  await own.stop();
  const sockets = new ListeningSockets({ workers: 2, backlog: 16 });
  sockets.openFor([{ name: workloadNamed('shop/web'), netnsPath, netnsInode: netnsInode(netnsPath) ?? 0 }]);
  assert.equal(await isServed(netnsPath), true);
  sockets.closeAll();
  assert.equal(await isServed(netnsPath), false);
  assert.equal(await isServed('/run/netns/none-of-this-name'), false);
});
