import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { LeanSession } from '../../../../../agent/dataplane/engine/lean/lean-session.js';
import { SocketTransport } from '../../../../../agent/dataplane/engine/lean/socket-transport.js';
import type { Transport } from '../../../../../agent/dataplane/engine/lean/transport.js';
import type { LeanStream } from '../../../../../agent/dataplane/engine/lean/lean-stream.js';
import type { HeadersOfPeer } from '../../../../../agent/dataplane/engine/http2-engine.js';
import { IoTransport } from '../../../../../agent/dataplane/engine/lean/io-transport.js';
import type { IoListener } from '../../../../../agent/dataplane/io/io-listener.js';
import { Reactor } from '../../../../../agent/dataplane/io/reactor.js';
import { TlsSession } from '../../../../../agent/dataplane/io/tls-session.js';
import { listenWith, TlsEnd, tlsContext } from '../../../../support/agent/tls-end.js';
import { transportKinds } from '../../../../support/tunnel/transport-pair.js';
import { serverIdentity, TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { withDeadline } from '../../../../support/tunnel/tunnel-pair.js';
import { requireCommands } from '../../../../lab/requirements.js';

const run = promisify(execFile);
const deadlineMs = 60_000;
const directory = mkdtempSync(path.join(tmpdir(), 'h2-interop-'));
const file = path.join(directory, 'upload');
const smallFile = path.join(directory, 'small');
const content = randomBytes(3_000_000);

let server: tls.Server;
let ioListener: IoListener;
const reactor = Reactor.ofThread();
/** Of the server on either kind of transport; `port` is that of the one that is tested. */
const ports = { socket: 0, io: 0 };
let port = 0;
const requests: HeadersOfPeer[] = [];
const failures: string[] = [];
const sessions = new Set<LeanSession>();

before(async () => {
  requireCommands(['curl', 'nghttp', 'h2load']);
  writeFileSync(file, content);
  writeFileSync(smallFile, content.subarray(0, 2000));
  const ca = await TestCa.create();
  const { certificates } = await ca.issue(serverIdentity);
  const { chainPem, keyPem } = certificates[0]!;
  server = tls.createServer({ cert: chainPem, key: keyPem, ALPNProtocols: ['h2'] }, serve);
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ports.socket = (server.address() as AddressInfo).port;
  const context = tlsContext(reactor, 'server', await ca.first(serverIdentity));
  const serving = listenWith(reactor, ({ handle }) => {
    const end = new TlsEnd();
    end.judge = (_peer, session) => {
      session.admit();
      serveOn(new IoTransport(session));
    };
    end.take(TlsSession.begin(reactor, { handle, context, owner: end }));
  });
  ioListener = serving.listener;
  ports.io = serving.port;
});

after(async () => {
  for (const session of sessions) session.destroy();
  ioListener.close();
  server.close();
  await once(server, 'close');
  rmSync(directory, { recursive: true });
});

/** Answers every request with what came with it, whatever its method. */
function serve(socket: tls.TLSSocket): void {
  socket.on('error', () => {});
  socket.setNoDelay(true);
  serveOn(new SocketTransport(socket));
}

function serveOn(transport: Transport): void {
  const session = new LeanSession({
    transport,
    role: 'server',
    limits: {
      firstWindowBytes: 262_144,
      streamWindowBytes: 262_144,
      connectionWindowBytes: 1_048_576,
      maxFrameBytes: 65_536,
      maxStreams: 100,
      maxHeaderListBytes: 16_384,
      maxHeaderFields: 32,
    },
  });
  sessions.add(session);
  session.once('close', () => sessions.delete(session));
  session.on('error', (error: Error) => failures.push(error.message));
  session.on('stream', (stream: LeanStream, headers: HeadersOfPeer) => {
    requests.push(headers);
    stream.on('error', () => {});
    stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' });
    stream.pipe(stream);
  });
}

function url(name = ''): string {
  return `https://127.0.0.1:${port}/${name}`;
}

async function command(program: string, ...argv: string[]): Promise<string> {
  const { stdout, stderr } = await run(program, argv, { timeout: deadlineMs, maxBuffer: 20_000_000 });
  return stdout + stderr;
}

for (const kind of transportKinds)
  describe(`the lean server on ${kind}`, () => {
    before(() => {
      port = ports[kind];
      requests.length = failures.length = 0;
    });

    it('echoes three megabytes to curl', async () => {
      const out = path.join(directory, 'curl');
      const format = '%{http_version} %{http_code}';
      const told = await command('curl', '-sk', '--http2', '-T', file, '-o', out, '-w', format, url());
      assert.equal(told, '2 200');
      assert.ok(readFileSync(out).equals(content));
      assert.deepEqual(failures, []);
    });

    it('serves many requests of curl over one connection', async () => {
      const before = requests.length;
      const urls = Array.from({ length: 50 }, (_unused, at) => url(`part-${at}`));
      await command(
        'curl',
        '-sk',
        '--http2',
        '--parallel',
        '--data',
        'hello',
        ...urls.flatMap((each) => ['-o', '/dev/null', each]),
      );
      const paths = requests.slice(before).map((headers) => headers[':path']);
      assert.equal(paths.length, urls.length);
      assert.deepEqual(new Set(paths), new Set(urls.map((each) => new URL(each).pathname)));
    });

    for (const [what, options] of [
      ['its defaults', []],
      ['windows of one kilobyte', ['--window-bits=10', '--connection-window-bits=16']],
      ['no header table', ['--header-table-size=0', '--encoder-header-table-size=0']],
      ['a large header table', ['--header-table-size=65536', '--encoder-header-table-size=65536']],
      ['padding', ['--padding=200']],
    ] as const) {
      it(`echoes three megabytes to nghttp with ${what}`, async () => {
        const { stdout } = await run('nghttp', ['-y', '-d', file, ...options, url()], {
          timeout: deadlineMs,
          maxBuffer: 20_000_000,
          encoding: 'buffer',
        });
        assert.ok(stdout.equals(content));
        assert.deepEqual(failures, []);
      });
    }

    it('takes header blocks in CONTINUATION frames, and refuses the stream when they are too much', async () => {
      const told = await command('nghttp', '-ynv', '--continuation', url('long'));
      assert.match(told, /send HEADERS frame <length=1[6-9]\d{3},/);
      assert.match(told, /recv RST_STREAM frame <[^>]*>\s+\(error_code=ENHANCE_YOUR_CALM/);
      assert.deepEqual(failures, []);
    });

    it('takes a body with trailers', async () => {
      const told = await command('nghttp', '-yv', '--no-dep', '-d', '/dev/null', '--trailer', 'x-end: yes', url());
      assert.match(told, /recv .*:status: 200/);
      assert.match(told, /recv (DATA|HEADERS) frame <[^>]*flags=0x0[15]/);
      assert.doesNotMatch(told, /RST_STREAM/);
    });

    it('refuses a CONNECT that nghttp makes malformed with :path', async () => {
      const told = await command('nghttp', '-ynv', '-H:method: CONNECT', url());
      assert.match(told, /recv RST_STREAM frame <[^>]*>\s+\(error_code=PROTOCOL_ERROR/);
    });

    it('serves two thousand streams of h2load', async () => {
      const told = await command('h2load', '-n2000', '-c2', '-m50', '-d', smallFile, url());
      assert.match(told, /2000 succeeded, 0 failed, 0 errored/);
      assert.deepEqual(failures, []);
    });

    it('gets every octet of a header field that node:http2 packs with Huffman', async () => {
      const session = http2.connect(url(), { rejectUnauthorized: false });
      session.on('error', () => {});
      const values = Array.from({ length: 0xff - 0x20 }, (_unused, at) => String.fromCharCode(0x21 + at)).filter(
        (octet) => octet !== '\x7f',
      );
      // Among digits, whose codes are short, so that every value is packed.
      const value = values.map((octet) => `0000${octet}0000`).join('');
      const stream = session.request({ ':path': '/octets', 'x-octets': value });
      stream.end();
      stream.resume();
      await withDeadline('the answer', once(stream, 'response'));
      const request = requests.find((headers) => headers[':path'] === '/octets');
      assert.equal(request?.['x-octets'], value);
      session.destroy();
    });
  });
