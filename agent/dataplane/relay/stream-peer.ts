import type { TunnelStream } from '../engine/tunnel-stream.js';
import { WaitingBlock } from '../sockets/waiting-block.js';
import { promptBytes, type Breakage, type OutputBounds, type PeerOwner, type RelayPeer } from './relay-peer.js';

const bounds: OutputBounds = { usualBytes: 131_072, unprovenBytes: 65_536, beginsUnproven: false };

/** A stream of a tunnel as a side of a relay. */
export class StreamPeer implements RelayPeer {
  readonly bounds = bounds;
  readonly socket = null;
  readonly #stream: TunnelStream;
  #owner: PeerOwner | null = null;
  #block: WaitingBlock | null = null;

  constructor(stream: TunnelStream) {
    this.#stream = stream;
  }

  get isGone(): boolean {
    return this.#stream.isGone;
  }

  get breakage(): Breakage | null {
    const { wasReset, resetDetail, isTunnelLost, destroyed, readableEnded, writableFinished } = this.#stream;
    if (wasReset) return { detail: resetDetail, isReset: !isTunnelLost };
    if (!destroyed || (readableEnded && writableFinished)) return null;
    return { detail: 'closed before its end', isReset: false };
  }

  get isPaused(): boolean {
    return this.#stream.isPaused();
  }

  get unreadBytes(): number {
    return this.#stream.readableLength;
  }

  get waitingBytes(): number {
    return this.#stream.writableLength;
  }

  get hasTakenAll(): boolean {
    return this.#stream.writableFinished;
  }

  open(owner: PeerOwner): void {
    this.#owner = owner;
    const stream = this.#stream;
    stream.on('error', () => this.#tellBreakage());
    stream.on('end', () => {
      // A cancelled stream also reports an end. Forwarding it as FIN would make truncated data look complete.
      if (this.breakage === null) owner.onEnd();
      else this.#tellBreakage();
    });
    stream.on('close', () => {
      this.#tellBreakage();
      owner.onGone();
    });
    stream.on('drain', () => owner.onDrained());
    const onBytes = (bytes: Buffer): void => owner.onBytes(bytes);
    stream.on('data', onBytes);
    stream.lendTo?.(onBytes);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  send(bytes: Buffer): number {
    const stream = this.#stream;
    const sent = stream.writeNow?.(bytes) ?? 0;
    if (sent === bytes.length) return 0;
    const rest = bytes.subarray(sent);
    if (rest.length < promptBytes) stream.write(Buffer.from(rest));
    else this.#write(rest);
    return stream.writableLength;
  }

  /** What a turn brings is gathered in the tunnel. */
  flush(): void {}

  end(): void {
    this.#stream.end();
  }

  reset(): void {
    this.#stream.reset();
  }

  #write(bytes: Buffer): void {
    let block = this.#block;
    for (let at = 0; at < bytes.length;) {
      if (block?.hasRoomFor(this) !== true) block = WaitingBlock.for(this);
      at += block.add(at === 0 ? bytes : bytes.subarray(at));
      this.#stream.write(block.take(), block.onTaken);
    }
    this.#block = block;
  }

  #tellBreakage(): void {
    const { breakage } = this;
    if (breakage !== null) this.#owner?.onBroken(breakage);
  }
}
