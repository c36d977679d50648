import type net from 'node:net';
import { sourceOf } from '../source-of.js';
import { SlowEnds } from '../slow-ends.js';

/**
 * How far a connection has come, from the first to go to the last: `silent` without a byte of a TLS handshake, `waiting` for a
 * request of a client that proved nothing, `asking` while such a request is answered, `trusted` between requests of a client
 * that showed a credential, `served` during one.
 */
const standings = ['silent', 'waiting', 'asking', 'trusted', 'served'] as const;
type Standing = (typeof standings)[number];
type Places = Readonly<Record<Standing, Set<Place>>>;

/** Why a connection had to go: its source had too many that proved nothing, or all together were too many. */
export type PlaceCut = 'source' | 'full';

/** The connections of one server that it may still have to choose from. Sets keep the order of arrival. */
class Row {
  readonly #places: Places = {
    silent: new Set(),
    waiting: new Set(),
    asking: new Set(),
    trusted: new Set(),
    served: new Set(),
  };

  get unproved(): number {
    return this.#places.silent.size + this.#places.waiting.size + this.#places.asking.size;
  }

  get size(): number {
    return this.unproved + this.#places.trusted.size + this.#places.served.size;
  }

  add(place: Place): void {
    this.#places[place.standing].add(place);
  }

  delete(place: Place, standing: Standing): boolean {
    return this.#places[standing].delete(place);
  }

  /** The one that is longest at the lowest standing. */
  get first(): Place | undefined {
    for (const standing of standings) for (const place of this.#places[standing]) return place;
    return undefined;
  }

  get all(): readonly Place[] {
    return standings.flatMap((standing) => [...this.#places[standing]]);
  }
}

/** One connection of a server. */
export class Place {
  readonly socket: net.Socket;
  readonly source: string;
  readonly #onMove: (from: Standing) => void;
  #isSilent: boolean;
  #isProved = false;
  #isLost = false;
  #running = 0;
  #answered = 0;

  constructor(init: {
    socket: net.Socket;
    source: string;
    isSilent: boolean;
    onMove: (place: Place, from: Standing) => void;
  }) {
    this.socket = init.socket;
    this.source = init.source;
    this.#isSilent = init.isSilent;
    this.#onMove = (from) => init.onMove(this, from);
  }

  get standing(): Standing {
    if (this.#isProved) return this.#running > 0 ? 'served' : 'trusted';
    if (this.#running > 0) return 'asking';
    return this.#isSilent ? 'silent' : 'waiting';
  }

  /** Another connection has its place. It can be open for a while after that. */
  get isLost(): boolean {
    return this.#isLost;
  }

  lose(): void {
    this.#isLost = true;
  }

  /** After a request, as opposed to before the first. */
  get isIdle(): boolean {
    return this.#running === 0 && this.#answered > 0;
  }

  /** Its first byte has come. */
  speak(): void {
    this.#move(() => (this.#isSilent = false));
  }

  /** A request has come. */
  begin(): void {
    this.#move(() => this.#running++);
  }

  /** It is answered. */
  end(): void {
    this.#move(() => {
      this.#running--;
      this.#answered++;
    });
  }

  /** The client has shown a valid credential. */
  prove(): void {
    this.#move(() => (this.#isProved = true));
  }

  #move(change: () => void): void {
    const from = this.standing;
    change();
    if (this.standing !== from) this.#onMove(from);
  }
}

/**
 * The connections of one server. A new one is never refused. When one source has more than `perSource` that proved nothing,
 * or all together are more than `total`, the one goes that is longest at the lowest standing. So connections that ask for
 * nothing make room for those that do. They make room at once and end later (see `SlowEnds`), as far as they cost little.
 */
export class ConnectionPlaces {
  readonly #total: number;
  readonly #perSource: number;
  readonly #onCut: (why: PlaceCut) => void;
  readonly #isTls: boolean;
  readonly #all = new Row();
  readonly #sources = new Map<string, Row>();
  /** Sources that may have too many. */
  readonly #toCheck = new Set<string>();
  readonly #ends = new SlowEnds();
  #isSettling = false;

  constructor(init: {
    readonly total: number;
    readonly perSource: number;
    /** The server will say when a connection's first byte comes, see {@link Place.speak}. */
    readonly isTls: boolean;
    readonly onCut: (why: PlaceCut) => void;
  }) {
    this.#total = init.total;
    this.#isTls = init.isTls;
    this.#perSource = init.perSource;
    this.#onCut = init.onCut;
  }

  get size(): number {
    return this.#all.size;
  }

  take(socket: net.Socket): Place {
    const source = sourceOf(socket.remoteAddress ?? '');
    const place = new Place({
      socket,
      source,
      isSilent: this.#isTls,
      onMove: (moved, from) => this.#move(moved, from),
    });
    this.#enter(place);
    socket.once('close', () => this.#leave(place, place.standing));
    // Twice as many are never open, however many come in one turn.
    if (this.#all.size > 2 * this.#total) this.#cut(this.#all, 'full');
    this.#settleSoon(source);
    return place;
  }

  /** The server closes. Disconnects those whose requests are answered, or all; none is held from here on. */
  disconnect(which: 'idle' | 'all'): void {
    this.#ends[Symbol.dispose]();
    for (const place of this.#all.all) if (which === 'all' || place.isIdle) place.socket.destroy();
  }

  /**
   * Not before what has come with the new connections is read: a request that is here already gives its connection a better
   * standing than those that came with it and ask for nothing.
   */
  #settleSoon(source: string): void {
    const isOver = (this.#sources.get(source)?.unproved ?? 0) > this.#perSource || this.#all.size > this.#total;
    if (!isOver) return;
    this.#toCheck.add(source);
    if (this.#isSettling) return;
    this.#isSettling = true;
    setImmediate(() => setImmediate(() => this.#settle()));
  }

  #settle(): void {
    this.#isSettling = false;
    for (const source of this.#toCheck) {
      const row = this.#sources.get(source);
      for (let over = (row?.unproved ?? 0) - this.#perSource; over > 0; over--) if (row) this.#cut(row, 'source');
    }
    this.#toCheck.clear();
    while (this.#all.size > this.#total) this.#cut(this.#all, 'full');
  }

  #cut(row: Row, why: PlaceCut): void {
    const { first } = row;
    if (first === undefined) return;
    const { standing } = first;
    this.#leave(first, standing);
    first.lose();
    // One with a TLS socket costs too much to be kept.
    if (standing === (this.#isTls ? 'silent' : 'waiting'))
      this.#ends.hold({ socket: first.socket, source: first.source });
    else first.socket.destroy();
    this.#onCut(why);
  }

  #enter(place: Place): void {
    const row = this.#sources.get(place.source) ?? new Row();
    this.#sources.set(place.source, row);
    row.add(place);
    this.#all.add(place);
  }

  #leave(place: Place, standing: Standing): boolean {
    if (!this.#all.delete(place, standing)) return false;
    const row = this.#sources.get(place.source);
    row?.delete(place, standing);
    if (row?.size === 0) this.#sources.delete(place.source);
    return true;
  }

  #move(place: Place, from: Standing): void {
    if (this.#leave(place, from)) this.#enter(place);
  }
}
