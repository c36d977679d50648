import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

const callsModule = new URL('../../../../../agent/native/io-calls.js', import.meta.url).href;

/**
 * What runs in a thread: connects many times to `port`, and then stays, or does what `end` says. It ends only after a word of
 * the test: its own word and its end could come together, and the test would see the end first.
 */
const threadOf = (port: number, end: string): string => `
  const { parentPort } = require('node:worker_threads');
  import(${JSON.stringify(callsModule)}).then(({ startReactor, ioCalls }) => {
    let turns = 0;
    const memory = startReactor(1 << 20, () => { turns += 1; ${end === 'in a turn' ? "parentPort.postMessage('turn'); for (;;);" : ''} });
    const calls = ioCalls();
    const handles = Array.from({ length: 50 }, () => {
      const handle = calls.ioSocket(4);
      calls.ioConnect(handle, '127.0.0.1', ${port});
      calls.ioWatch(handle, 1 | 4 | 0x2000 | 1 << 31);
      return handle;
    });
    calls.ioSplice(handles[0], handles[1], 100);
    setTimeout(() => { ${end === 'by itself' ? 'for (const handle of handles) calls.ioClose(handle, 0);' : ''} parentPort.postMessage('open'); }, 20);
    ${end === 'process.exit' ? "parentPort.once('message', () => process.exit(3));" : ''}
    ${end === 'throws' ? "parentPort.once('message', () => { throw new Error('on purpose'); });" : ''}
  });`;

function descriptorsOf(kind: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(kind);
    } catch {
      return false;
    }
  }).length;
}

for (const end of ['terminate', 'in a turn', 'process.exit', 'throws', 'by itself'])
  test(`a thread that ends (${end}) closes what it had, and the process goes on`, async (t) => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket.on('error', () => {}));
      socket.on('close', () => sockets.delete(socket));
      socket.write('x');
    });
    // What fails must not keep this process.
    t.after(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const before = [descriptorsOf('socket:'), descriptorsOf('anon_inode:[eventpoll]'), descriptorsOf('pipe:')];
    for (let round = 0; round < 3; round += 1) {
      const worker = new Worker(threadOf(port, end), { eval: true });
      worker.on('error', () => {});
      const exit = new Promise((resolve) => worker.once('exit', resolve));
      await withDeadline('a word of the thread', once(worker, 'message'));
      if (end === 'terminate' || end === 'in a turn') await worker.terminate();
      worker.postMessage('end', []);
      await withDeadline('the end of the thread', exit);
      await withDeadline('the end of its connections', allGone(sockets));
    }
    const now = [descriptorsOf('socket:'), descriptorsOf('anon_inode:[eventpoll]'), descriptorsOf('pipe:')];
    assert.deepEqual(now, before);
    server.close();
    await once(server, 'close');
  });

async function allGone(sockets: ReadonlySet<Socket>): Promise<void> {
  for (const socket of sockets) {
    socket.resume();
    socket.end();
    if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  }
}

test('a handle of another thread is none here', async () => {
  const text = `
    const { parentPort, Worker, isMainThread } = require('node:worker_threads');
    import(${JSON.stringify(callsModule)}).then(({ startReactor, ioCalls }) => {
      startReactor(1 << 20, () => {});
      parentPort.postMessage(Array.from({ length: 64 }, () => ioCalls().ioSocket(4)));
      setInterval(() => {}, 1000);
    });`;
  const workers = [new Worker(text, { eval: true }), new Worker(text, { eval: true })];
  const [first = [], second = []] = (
    await Promise.all(workers.map((worker) => once(worker, 'message') as Promise<[number[]]>))
  ).map(([handles]) => handles);
  // Each slot agrees by chance once in 4,095 cases.
  assert.ok(first.filter((handle) => second.includes(handle)).length <= 1);
  await Promise.all(workers.map((worker) => worker.terminate()));
});

test('a process ends in the middle of all that', () => {
  const text = `import(${JSON.stringify(callsModule)}).then(({ startReactor, ioCalls }) => {
    startReactor(1 << 20, () => process.exit(5));
    const calls = ioCalls();
    const handle = calls.ioSocket(4);
    calls.ioConnect(handle, '127.0.0.1', 1);
    calls.ioWatch(handle, 4);
  });`;
  assert.equal(spawnSync(process.execPath, ['--eval', text], { timeout: 20_000 }).status, 5);
});

test('a view of the memory that JavaScript moves is only a view', () => {
  const text = `import(${JSON.stringify(callsModule)}).then(({ startReactor, ioCalls }) => {
    const view = startReactor(1 << 20, () => {});
    // Node gives it to no other thread: version 20 leaves it here, later ones refuse.
    try { structuredClone(null, { transfer: [view] }); } catch (error) { if (error.name !== 'DataCloneError') process.exit(1); }
    // Since version 21 it can be moved within the thread, and collected there.
    let moved = view.transfer?.() ?? view;
    if (moved.byteLength !== 1 << 20) process.exit(2);
    moved = null;
    globalThis.gc();
    const calls = ioCalls();
    const handle = calls.ioSocket(4);
    if (calls.ioSend(handle, 70_000, 10) !== -32 || calls.ioSend(handle, 1 << 20, 1) !== -14) process.exit(3);
    process.exitCode = 9;
  });`;
  assert.equal(spawnSync(process.execPath, ['--expose-gc', '--eval', text], { timeout: 20_000 }).status, 9);
});

test('a turn that throws is an uncaught exception, and the next one comes', () => {
  const text = `import(${JSON.stringify(callsModule)}).then(({ startReactor, ioCalls }) => {
    let turns = 0;
    startReactor(1 << 20, () => { turns += 1; if (turns === 3) process.exit(7); throw new Error('in a turn'); });
    process.on('uncaughtException', () => {});
    const calls = ioCalls();
    const handle = calls.ioSocket(4);
    calls.ioConnect(handle, '127.0.0.1', 1);
    calls.ioWatch(handle, 4);
  });`;
  assert.equal(spawnSync(process.execPath, ['--eval', text], { timeout: 20_000 }).status, 7);
});

test('a Node that hides a symbol gives an error with its name, and the rest of the addon works', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-hidden-'));
  try {
    const [source, library] = [path.join(directory, 'hide.c'), path.join(directory, 'hide.so')];
    writeFileSync(
      source,
      `#define _GNU_SOURCE
      #include <dlfcn.h>
      #include <string.h>
      void *dlsym(void *handle, const char *name) {
        static void *(*real)(void *, const char *);
        if (!real) {
          real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
          if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
          if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.17");
        }
        return strcmp(name, "SSL_read_ex") == 0 ? 0 : real(handle, name);
      }`,
    );
    execFileSync('gcc', ['-shared', '-fPIC', '-o', library, source]);
    const addonModule = new URL('../../../../../agent/native/passed-sockets.js', import.meta.url).href;
    const text = `
      const { startReactor } = await import(${JSON.stringify(callsModule)});
      const { listenerOf } = await import(${JSON.stringify(addonModule)});
      try { startReactor(1 << 20, () => {}); } catch (error) { console.log(error.code, error.message, listenerOf(0)); }`;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', text], {
      env: { ...process.env, LD_PRELOAD: library },
      encoding: 'utf8',
      timeout: 20_000,
    });
    assert.match(stdout, /^NATIVE_ENGINE the engine cannot start: this Node hides the symbol SSL_read_ex null\n$/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
