import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { patientMs } from '../../../lab/patience.js';
import type { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { startPathMesh, testedPaths } from '../../../support/agent/path-mesh.js';
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

/** Sends the same at once, before anything of it is read, and waits for the answer with its half open. */
const promptClient = `
use Socket;
my ($ip, $port) = @ARGV;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
connect($s, sockaddr_in($port, inet_aton($ip))) or die "connect: $!";
for (["abc", 0], ["X", MSG_OOB], ["def", 0]) { send($s, $_->[0], $_->[1]) or die "send: $!" }
sysread($s, my $answer, 100);
print $answer;`;

describe('urgent data', { timeout: patientMs(60_000) }, () => {
  let mesh: DataplaneMesh;

  before(async () => {
    mesh = await startPathMesh();
  });
  after(() => mesh[Symbol.asyncDispose]());

  for (const { name, ends } of testedPaths) {
    test(`of a client stays in the stream, where it was sent, through ${name}`, async () => {
      const { from, to } = ends(mesh);
      await using listener = await to.listen({}, (socket) => void answer(socket));
      const argv = ['perl', '-e', urgentClient, to.ipv4, String(listener.port)];
      assert.equal(await from.check(argv), 'got abcXdef');
    });

    test(`of a client that awaits an answer holds up nothing behind it, through ${name}`, async () => {
      const { from, to } = ends(mesh);
      await using listener = await to.listen({}, (socket) => {
        let got = '';
        socket.on('data', (part) => {
          got += String(part);
          if (got.length === 7) socket.end(`got ${got}`);
        });
      });
      assert.equal(await from.check(['perl', '-e', promptClient, to.ipv4, String(listener.port)]), 'got abcXdef');
    });
  }
});

async function answer(socket: Socket): Promise<void> {
  socket.end(`got ${String(await readToEnd(socket))}`);
}
