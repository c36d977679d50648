import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { readToEnd } from '../../../support/mesh/two-hosts.js';

/** Sends abc, X as urgent data, def, closes its half and prints the answer. Node has no MSG_OOB. */
const urgentClient = `
use Socket;
my ($ip, $port) = @ARGV;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
connect($s, sockaddr_in($port, inet_aton($ip))) or die "connect: $!";
for (["abc", 0], ["X", MSG_OOB], ["def", 0]) {
  send($s, $_->[0], $_->[1]) or die "send: $!";
  # Apart, so that each is a segment of its own.
  select(undef, undef, undef, 0.2);
}
shutdown($s, 1);
my $answer = "";
while (sysread($s, my $part, 100)) { $answer .= $part }
print $answer;`;

describe('urgent data', { timeout: patientMs(60_000) }, () => {
  let mesh: DataplaneMesh;
  const workload = (name: string): LabNode => mesh.workload(name);

  before(async () => {
    const spec = (name: string) => ({ name, namespace: 'shop', serviceAccount: name });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('client'), spec('neighbour')] },
          { name: 'node2', workloads: [spec('server')] },
        ],
        externalHosts: ['outside'],
      },
      { snapshot: allowAll({ mesh: { ...allowAll().mesh, mtls: 'PERMISSIVE' } }) },
    );
  });
  after(() => mesh[Symbol.asyncDispose]());

  const paths: readonly { readonly name: string; readonly from?: () => LabNode; readonly to: () => LabNode }[] = [
    { name: 'a tunnel', to: () => workload('server') },
    { name: 'the host', to: () => workload('neighbour') },
    { name: 'plain TCP to the outside', to: () => mesh.lab.host('outside') },
    { name: 'plain TCP from the outside', from: () => mesh.lab.host('outside'), to: () => workload('server') },
  ];
  for (const { name, from = () => workload('client'), to } of paths) {
    test(`of a client stays in the stream, where it was sent, through ${name}`, async () => {
      await using listener = await to().listen({}, (socket) => void answer(socket));
      const argv = ['perl', '-e', urgentClient, to().ipv4, String(listener.port)];
      assert.equal(await from().check(argv), 'got abcXdef');
    });
  }
});

async function answer(socket: Socket): Promise<void> {
  socket.end(`got ${String(await readToEnd(socket))}`);
}
