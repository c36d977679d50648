/** Of one thread. A shadow needs a descriptor where it is on this host or outside the mesh: at most this part of all. */
const mostOpen = 1024;
const descriptorPart = 1 / 64;
const mostWaitingBytes = 33_554_432;

/**
 * What the shadows of a thread may use together, so that they take nothing that served connections need. Each client has a share:
 * it gets more only while it uses no more than is left, so alone a half, and there is always something left for the next one.
 */
export class ShadowPool {
  readonly #mostOpen: number;
  readonly #mostWaitingBytes: number;
  readonly #shares = new Map<string, ShadowShare>();
  #open = 0;
  #waitingBytes = 0;

  /** `descriptors`: how many files the process may have open. */
  constructor(init: { readonly descriptors: number; readonly mostWaitingBytes?: number }) {
    this.#mostOpen = Math.min(mostOpen, Math.floor(init.descriptors * descriptorPart));
    this.#mostWaitingBytes = init.mostWaitingBytes ?? mostWaitingBytes;
  }

  /** Bytes that shadows have not taken yet. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get open(): number {
    return this.#open;
  }

  get freePlaces(): number {
    return this.#mostOpen - this.#open;
  }

  get freeBytes(): number {
    return this.#mostWaitingBytes - this.#waitingBytes;
  }

  /** Of the shadows of a client; the caller gives it back with {@link ShadowShare.release}. */
  shareOf(client: string): ShadowShare {
    let share = this.#shares.get(client);
    if (share === undefined) {
      const onChange = (places: number, bytes: number): void => {
        this.#open += places;
        this.#waitingBytes += bytes;
      };
      share = new ShadowShare({ pool: this, onChange, onUnused: () => void this.#shares.delete(client) });
      this.#shares.set(client, share);
    }
    share.hold();
    return share;
  }
}

/** What the shadows of one client use of a {@link ShadowPool}. */
export class ShadowShare {
  readonly #pool: Pick<ShadowPool, 'open' | 'waitingBytes' | 'freePlaces' | 'freeBytes'>;
  readonly #onChange: (places: number, bytes: number) => void;
  readonly #onUnused: () => void;
  #holders = 0;
  #open = 0;
  #waitingBytes = 0;

  constructor(init: {
    readonly pool: Pick<ShadowPool, 'open' | 'waitingBytes' | 'freePlaces' | 'freeBytes'>;
    readonly onChange: (places: number, bytes: number) => void;
    readonly onUnused: () => void;
  }) {
    this.#pool = init.pool;
    this.#onChange = init.onChange;
    this.#onUnused = init.onUnused;
  }

  /** Why {@link enter} gave no place. */
  get noPlaceText(): string {
    return `${this.#open} shadows of the client are open on this thread, and ${this.#pool.open} in all, as many as may be`;
  }

  /** Why {@link take} refused. */
  get noRoomText(): string {
    return `${this.#waitingBytes} bytes wait for shadows of the client on this thread, and ${this.#pool.waitingBytes} for all`;
  }

  hold(): void {
    this.#holders += 1;
  }

  /** For each {@link hold}, once, after all else was given back. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#onUnused();
  }

  /** A place for one more connection to a shadow, until {@link leave}; false: there is none. */
  enter(): boolean {
    if (this.#open >= this.#pool.freePlaces) return false;
    this.#count(1, 0);
    return true;
  }

  leave(): void {
    this.#count(-1, 0);
  }

  /** Whether this many bytes more may wait. They count until {@link giveBack}. */
  take(bytes: number): boolean {
    if (this.#waitingBytes + 2 * bytes > this.#pool.freeBytes) return false;
    this.#count(0, bytes);
    return true;
  }

  giveBack(bytes: number): void {
    this.#count(0, -bytes);
  }

  #count(places: number, bytes: number): void {
    this.#open += places;
    this.#waitingBytes += bytes;
    this.#onChange(places, bytes);
  }
}
