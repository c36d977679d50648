import assert from 'node:assert/strict';
import { listenTcp, socketAddresses } from '../../../agent/native/addon.js';
import {
  desk,
  epollEvent,
  ioCalls,
  mostTlsBytes,
  startReactor,
  statusBit,
  tlsExtraRoom,
  type IoCalls,
} from '../../../agent/native/io-calls.js';

/** Where tests let the engine read to, and write from. */
export const inAt = desk.bytes;
export const inBytes = mostTlsBytes + tlsExtraRoom;
export const outAt = inAt + inBytes;
export const outBytes = mostTlsBytes;
const onEveryEdge = epollEvent.in | epollEvent.out | epollEvent.peerEnded | epollEvent.onEdge;

type Waiting = { readonly events: number; readonly resolve: (events: number) => void };

let only: EngineDesk | undefined;

/** The engine's floor of this thread as its contract tests use it: numbers, and promises for events. */
export class EngineDesk {
  readonly calls: IoCalls = ioCalls();
  readonly memory: Buffer;
  readonly words: Int32Array;
  readonly #seen = new Map<number, number>();
  /** A reader and a writer of one connection wait for events of their own. */
  readonly #waiting = new Map<number, Waiting[]>();

  private constructor() {
    const memory = startReactor(outAt + outBytes, (count) => this.#onTurn(count));
    this.memory = Buffer.from(memory);
    this.words = new Int32Array(memory);
  }

  /** A thread has one, also where several files of tests share the thread. */
  static ofThread(): EngineDesk {
    return (only ??= new EngineDesk());
  }

  /** The `at`th word of the status of the last call. */
  status(at = 0): number {
    return this.words[desk.status / 4 + at] ?? 0;
  }

  /** Resolves when one of these events has been reported since the last time; those are forgotten then. */
  async event(handle: number, events: number): Promise<number> {
    const seen = this.#seen.get(handle) ?? 0;
    if ((seen & events) !== 0) {
      this.#seen.set(handle, seen & ~events);
      return seen;
    }
    return new Promise((resolve) => {
      this.#waiting.set(handle, [...(this.#waiting.get(handle) ?? []), { events, resolve }]);
    });
  }

  /** What has been reported of it so far ends no wait. */
  forget(handle: number): void {
    this.#seen.delete(handle);
  }

  watch(handle: number, events: number = onEveryEdge): number {
    assert.equal(this.calls.ioWatch(handle, events), 0);
    return handle;
  }

  /** A listener on 127.0.0.1, or ::1. */
  listen(host = '127.0.0.1'): { readonly handle: number; readonly port: number } {
    const fd = listenTcp({ netnsFd: null, host, port: 0, backlog: 64, reusePort: false });
    const { port } = socketAddresses(fd).local;
    const handle = this.calls.ioAdopt(fd);
    assert.ok(handle > 0);
    return { handle: this.watch(handle, epollEvent.in), port };
  }

  /** Waits until one is there. */
  async accept(listener: number): Promise<number> {
    for (;;) {
      const count = this.calls.ioAccept(listener, 1, 0);
      if (count === 1) return this.watch(this.words[desk.accepted / 4] ?? -1);
      assert.equal(count, -11);
      await this.event(listener, epollEvent.in);
    }
  }

  async connect(port: number, ip = '127.0.0.1'): Promise<number> {
    const handle = this.watch(this.calls.ioSocket(ip.includes(':') ? 6 : 4));
    const result = this.calls.ioConnect(handle, ip, port);
    if (result === -115) {
      await this.event(handle, epollEvent.out);
      assert.equal(this.calls.ioAsk(handle, 0), 0);
    } else assert.equal(result, 0);
    return handle;
  }

  /** Two ends of a connection. */
  async pair(): Promise<[client: number, server: number]> {
    const { handle, port } = this.listen();
    const client = await this.connect(port);
    const server = await this.accept(handle);
    this.calls.ioClose(handle, 0);
    return [client, server];
  }

  send(handle: number, text: string | Uint8Array): number {
    const bytes = Buffer.from(text as string);
    this.memory.set(bytes, outAt);
    return this.calls.ioSend(handle, outAt, bytes.length);
  }

  /** What is there next; null at the end. */
  async receive(handle: number): Promise<string | null> {
    for (;;) {
      const count = this.calls.ioReceive(handle, inAt, 65_536);
      if (count > 0) return this.memory.toString('latin1', inAt, inAt + count);
      if (count === 0) return null;
      if (count !== -11) throw new Error(`receive: ${count}`);
      await this.event(handle, epollEvent.in | epollEvent.peerEnded | epollEvent.error | epollEvent.hangUp);
    }
  }

  /** Steps of a handshake until it is done, or the negated errno. */
  async handshake(handle: number): Promise<number> {
    for (;;) {
      const result = this.calls.ioTlsHandshake(handle);
      if (result !== 0) return result;
      if ((this.status() & statusBit.dry) === 0) continue;
      await this.event(handle, epollEvent.in | epollEvent.peerEnded | epollEvent.error | epollEvent.hangUp);
    }
  }

  /** Reads once; waits first where nothing is there. `text` is what came. */
  async receiveTls(handle: number, most = mostTlsBytes): Promise<{ text: string; bits: number; errno: number }> {
    for (;;) {
      const count = this.calls.ioTlsReceive(handle, inAt, most, inBytes);
      assert.ok(count >= 0, `ioTlsReceive: ${count}`);
      const [bits, errno] = [this.status(), this.status(1)];
      if (count > 0 || bits !== statusBit.dry) {
        if (count > 0 || bits !== 0) return { text: this.memory.toString('latin1', inAt, inAt + count), bits, errno };
        continue;
      }
      await this.event(handle, epollEvent.in | epollEvent.peerEnded | epollEvent.error | epollEvent.hangUp);
    }
  }

  sendTls(handle: number, text: string | Uint8Array): number {
    const bytes = Buffer.from(text as string);
    this.memory.set(bytes, outAt);
    return this.calls.ioTlsSend(handle, outAt, bytes.length);
  }

  close(...handles: readonly number[]): void {
    for (const handle of handles) assert.equal(this.calls.ioClose(handle, 0), 0);
  }

  #onTurn(count: number): void {
    for (let at = 0; at < count; at += 1) {
      const [handle = 0, events = 0] = this.words.subarray(2 * at, 2 * at + 2);
      let unseen = events;
      const waiting = this.#waiting.get(handle) ?? [];
      this.#waiting.delete(handle);
      for (const each of waiting) {
        if ((each.events & events) === 0) {
          this.#waiting.set(handle, [...(this.#waiting.get(handle) ?? []), each]);
          continue;
        }
        unseen &= ~each.events;
        each.resolve(events);
      }
      this.#seen.set(handle, (this.#seen.get(handle) ?? 0) | unseen);
    }
  }
}
