import process from 'node:process';
import { closeFd } from '../../agent/native/addon.js';
import { desk as layout, epollEvent } from '../../agent/native/io-calls.js';
import { EngineDesk, inAt, inBytes, outAt, outBytes } from '../support/agent/engine-desk.js';
import { engineContext } from '../support/agent/engine-tls.js';
import { clientIdentity, serverIdentity, TestCa } from '../support/tunnel/tunnel-certificates.js';

/**
 * Calls functions of the engine's floor in the order and with the arguments that an input says. It gets inputs after their
 * length, and answers each with one line: what came of it. Its addon is the one with sanitizers.
 */
const engine = EngineDesk.ofThread();
const calls = engine.calls as unknown as Readonly<Record<string, (...args: unknown[]) => unknown>>;
const ca = await TestCa.create();
const certificates = { client: await ca.first(clientIdentity), server: await ca.first(serverIdentity) };
const contexts = {
  client: engineContext(engine, false, certificates.client, { recordsPerKey: 3 }),
  server: engineContext(engine, true, certificates.server, { recordsPerKey: 5 }),
};
const { handle: listener, port } = engine.listen();

/** `s`: socket, `c`: context, `o`: offset, `n`: number, `f`: flag, `i`: IP, `p`: port, `b`: bytes. */
const functions: readonly (readonly [name: string, shape: string])[] = [
  ['ioWatch', 'sn'],
  ['ioAccept', 'snn'],
  ['ioConnect', 'sip'],
  ['ioReceive', 'son'],
  ['ioSend', 'son'],
  ['ioSendParts', 'sn'],
  ['ioShutdown', 's'],
  ['ioClose', 'sf'],
  ['ioSetOption', 'snn'],
  ['ioAsk', 'sn'],
  ['ioSplice', 'ssn'],
  ['ioTlsBegin', 'sc'],
  ['ioTlsHandshake', 's'],
  ['ioTlsPeer', 's'],
  ['ioTlsFailure', 's'],
  ['ioTlsAdmit', 's'],
  ['ioTlsReceive', 'sonn'],
  ['ioTlsSend', 'son'],
  ['ioTlsSendBytes', 'sb'],
  ['ioTlsFlush', 's'],
  ['ioTlsEnd', 's'],
  ['ioFreeTlsContext', 'c'],
  ['ioDescriptor', 's'],
  ['ioPoll', ''],
  ['ioCounts', ''],
  ['ioSocket', 'n'],
  ['ioAdopt', 'n'],
  ['ioListen', 'sn'],
];
const numbers = [0, 1, 2, 4, 6, 64, 256, 1024, 16_384, 65_536, 131_072, outBytes, inBytes, 0x7fffffff, -1, -0x80000000];
const offsets = [
  inAt,
  outAt,
  0,
  layout.bytes - 1,
  inAt + inBytes + outBytes,
  inAt + inBytes + outBytes - 1,
  -1,
  0x7fffffff,
];
const buffers: readonly unknown[] = [
  Buffer.alloc(0),
  Buffer.from('few'),
  Buffer.allocUnsafe(65_536),
  Buffer.allocUnsafe(outBytes),
  engine.memory.subarray(inAt, inAt + 1000),
  engine.memory,
  new Uint8Array(new SharedArrayBuffer(100), 50),
  new DataView(new ArrayBuffer(30), 10),
  new Float64Array(4),
  'no bytes',
  undefined,
];
/** Only addresses of this machine. */
const addresses = ['127.0.0.1', '::1', '', 'x', '127.0.0.1'.repeat(50)];

class Program {
  readonly #input: Buffer;
  #at = 0;
  readonly #open: number[] = [];
  readonly #contexts: number[] = [];
  readonly outcomes = new Set<string>();

  constructor(input: Buffer) {
    this.#input = input;
  }

  run(): void {
    for (let steps = 0; this.#at < this.#input.length && steps < 400; steps += 1) {
      const [choice, value] = [this.#byte() % (functions.length + 4), this.#byte()];
      const [name, shape] = functions[choice - 4] ?? ['', ''];
      if (choice === 0) this.#pair();
      else if (choice === 1) this.#secure();
      else if (choice === 2) this.#keepContext(value % 2 === 0);
      else if (choice === 3) this.#release();
      else
        this.#call(
          name,
          shape.split('').map((kind) => this.#argument(kind)),
        );
    }
  }

  /** Nothing is left of it, whatever it did. */
  end(): void {
    for (const handle of this.#open) calls['ioClose']?.(handle, 1);
    for (const handle of this.#contexts) calls['ioFreeTlsContext']?.(handle);
  }

  #byte(): number {
    return this.#input[this.#at++] ?? 0;
  }

  #call(name: string, args: readonly unknown[]): void {
    // The listener of all programs stays.
    if (args[0] === listener && ['ioClose', 'ioShutdown'].includes(name)) return;
    const result = calls[name]?.(...args);
    if (typeof result === 'number' && result > 0 && (name === 'ioSocket' || name === 'ioAdopt'))
      this.#open.push(result);
    if (typeof result === 'number' && result > 0 && name === 'ioAccept')
      for (let at = 0; at < result; at += 1)
        this.#open.push(engine.words[layout.accepted / 4 + at * layout.acceptedWords] ?? 0);
    this.outcomes.add(
      `${name}${typeof result === 'number' ? Math.sign(result) * (result < 0 ? -result : 1) : typeof result}`,
    );
  }

  #argument(kind: string): unknown {
    const value = this.#byte();
    if (kind === 's' || kind === 'c') {
      const among = kind === 's' ? this.#open : this.#contexts;
      if (value === 255) return this.#word();
      if (value === 254) return listener;
      if (value === 253) return 'no number';
      return among[value % Math.max(1, among.length)] ?? 0;
    }
    if (kind === 'f') return value % 2;
    if (kind === 'b') return buffers[value % buffers.length];
    if (kind === 'i') return addresses[value % addresses.length];
    if (kind === 'p') return value % 2 === 0 ? port : 1;
    const known = kind === 'o' ? offsets : numbers;
    return value >= 128 ? this.#word() : known[value % known.length];
  }

  #word(): number {
    return (this.#byte() << 24) | (this.#byte() << 16) | (this.#byte() << 8) | this.#byte();
  }

  /** Two ends of a connection. */
  #pair(): void {
    const client = calls['ioSocket']?.(4) as number;
    this.#open.push(client);
    if (calls['ioConnect']?.(client, '127.0.0.1', port) === 0) this.#call('ioAccept', [listener, 1, 2]);
    for (const handle of this.#open.slice(-2)) engine.calls.ioWatch(handle, epollEvent.in | epollEvent.onEdge);
  }

  /** TLS on the two that came last. */
  #secure(): void {
    const [client = 0, server = 0] = this.#open.slice(-2);
    this.#call('ioTlsBegin', [client, contexts.client]);
    this.#call('ioTlsBegin', [server, contexts.server]);
    for (const end of [client, server, client, server]) this.#call('ioTlsHandshake', [end]);
    for (const end of [client, server]) this.#call('ioTlsAdmit', [end]);
  }

  #keepContext(isServer: boolean): void {
    if (this.#contexts.length > 8) return;
    const wish = { recordsPerKey: 1 + this.#byte() };
    this.#contexts.push(engineContext(engine, isServer, isServer ? certificates.server : certificates.client, wish));
  }

  #release(): void {
    const handle = this.#open.pop() ?? 0;
    const fd = engine.calls.ioRelease(handle);
    this.outcomes.add(`ioRelease${Math.sign(fd)}`);
    if (fd >= 0) closeFd(fd);
  }
}

function answer(input: Buffer): string {
  const program = new Program(input);
  try {
    program.run();
  } finally {
    program.end();
  }
  for (let left = 1; left > 0;) {
    left = engine.calls.ioAccept(listener, layout.mostAccepted, 0);
    for (let at = 0; at < left; at += 1)
      engine.calls.ioClose(engine.words[layout.accepted / 4 + at * layout.acceptedWords] ?? 0, 1);
  }
  const rest = engine.calls.ioCounts();
  if (rest !== 3) return `LEFT ${rest - 3} handles`;
  return [...program.outcomes].toSorted().join(' ').slice(0, 400) || 'nothing';
}

let waiting = Buffer.alloc(0);
process.stdin.on('data', (bytes: Buffer) => {
  waiting = Buffer.concat([waiting, bytes]);
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32LE(0)) {
    const length = waiting.readUInt32LE(0);
    const input = waiting.subarray(4, 4 + length);
    waiting = waiting.subarray(4 + length);
    process.stdout.write(`${answer(input)}\n`);
  }
});
// Nothing keeps the process then.
process.stdin.on('end', () => engine.close(listener));
