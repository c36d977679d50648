import { once } from 'node:events';
import type { TunnelStream } from '../../agent/dataplane/engine/tunnel-stream.js';
import type { TestCa } from '../support/tunnel/tunnel-certificates.js';
import { echo, TunnelPair, type TunnelEngine } from '../support/tunnel/tunnel-pair.js';

/** The cost of one case with one engine. Both ends of the tunnel are in this process, so CPU time covers both. */
export type EngineTime = { readonly units: number; readonly cpuMs: number; readonly wallMs: number };

export type EngineCase = {
  readonly id: string;
  /** The unit that is counted per second. */
  readonly unit: 'MB' | 'streams' | 'messages';
  readonly run: (pair: TunnelPair) => Promise<number>;
};

const megabyte = 1_000_000;
const blockBytes = 65_536;
const bulkBytes = 100 * megabyte;
const openings = 4000;
const messages = 8000;

/** Bulk, short streams and small messages, on which a tunnel spends its CPU time. */
export const engineCases: readonly EngineCase[] = [
  { id: 'bulk-1', unit: 'MB', run: (pair) => bulk(pair, 1) },
  { id: 'bulk-4', unit: 'MB', run: (pair) => bulk(pair, 4) },
  { id: 'open-close', unit: 'streams', run: openAndClose },
  { id: 'ping-pong-1', unit: 'messages', run: (pair) => pingPong(pair, 1) },
  { id: 'ping-pong-32', unit: 'messages', run: (pair) => pingPong(pair, 32) },
];

/** Runs one case on a new tunnel over TLS on loopback. */
export async function timeEngine(engine: TunnelEngine, engineCase: EngineCase, ca: TestCa): Promise<EngineTime> {
  await using pair = await TunnelPair.start(engine, ca);
  await pair.streamPair().then(({ near }) => near.reset());
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const units = await engineCase.run(pair);
  const { user, system } = process.cpuUsage(cpuBefore);
  return { units, cpuMs: (user + system) / 1000, wallMs: performance.now() - startedAt };
}

async function bulk(pair: TunnelPair, count: number): Promise<number> {
  const pairs: { readonly near: TunnelStream; readonly far: TunnelStream }[] = [];
  for (let index = 0; index < count; index++) pairs.push(await pair.streamPair());
  const each = Math.ceil(bulkBytes / count / blockBytes);
  await Promise.all(pairs.map(({ near, far }) => pump(near, far, each)));
  return (each * count * blockBytes) / megabyte;
}

async function pump(near: TunnelStream, far: TunnelStream, blocks: number): Promise<void> {
  const block = Buffer.alloc(blockBytes, 7);
  let left = blocks;
  const fill = (): void => {
    while (left > 0) {
      left -= 1;
      // Stops at a limit above the stream's own, as the relay does.
      near.write(block);
      if (near.writableLength >= 2 * blockBytes) return;
    }
    near.end();
  };
  near.on('drain', fill);
  far.on('data', () => {});
  const done = once(far, 'end');
  fill();
  await done;
}

async function openAndClose(pair: TunnelPair): Promise<number> {
  pair.onConnect = (request) => echo(request.accept());
  let left = openings;
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const stream = await pair.stream();
      stream.end('GET / HTTP/1.1\r\n\r\n');
      stream.resume();
      await once(stream, 'close');
    }
  };
  await Promise.all(Array.from({ length: 32 }, worker));
  return openings;
}

async function pingPong(pair: TunnelPair, count: number): Promise<number> {
  pair.onConnect = (request) => echo(request.accept());
  const message = Buffer.alloc(100, 1);
  let left = messages;
  const worker = async (): Promise<void> => {
    const stream = await pair.stream();
    await new Promise<void>((resolve) => {
      const next = (): void => {
        if (left <= 0) resolve();
        left -= 1;
        stream.write(message);
      };
      stream.on('data', next);
      next();
    });
    stream.reset();
  };
  await Promise.all(Array.from({ length: count }, worker));
  return messages;
}
