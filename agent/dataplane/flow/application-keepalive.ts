import type { ApplicationEnd } from '../../native/socket-table.js';
import { setDeaf, tcpCondition } from '../../native/tcp-life.js';
import type { PeerSocket } from '../relay/relay-peer.js';
import type { FarSide } from './far-side.js';

/** The far side is asked this many times in the time after which the application begins to ask. */
const questionsPerIdleTime = 8;
const longestSeconds = 60;
/**
 * Where the far side is asked at least this often, the application begins to ask within 24 s. It must find the agent deaf
 * then: an answer would make it begin once more, after its whole idle time.
 */
const hurriedSeconds = 2;

export type KeepaliveSides = {
  /** Towards the application of this host. */
  readonly near: PeerSocket;
  readonly application: ApplicationEnd;
  readonly far: FarSide;
};

/**
 * Makes the keepalive of an application reach to the other end of its connection. The application probes the agent, whose
 * kernel always answers. So the agent asks the far side, and while that does not answer, it lets the application's probes go
 * unanswered too: after its own time the application gives the connection up, or goes on when the far side is back. An
 * application that does not probe keeps its connection, as without the mesh.
 */
export class ApplicationKeepalive {
  readonly #near: PeerSocket;
  readonly #far: FarSide;
  readonly #everySeconds: number;
  #isFarSideGone = false;

  private constructor(init: { readonly near: PeerSocket; readonly far: FarSide; readonly everySeconds: number }) {
    this.#near = init.near;
    this.#far = init.far;
    this.#everySeconds = init.everySeconds;
  }

  /** Null when the application does not probe. Throws `EBADF` when a side is closed. */
  static follow({ near, application, far }: KeepaliveSides): ApplicationKeepalive | null {
    const probesInMs = application.sockets.find(application.socket)?.probesInMs ?? null;
    if (probesInMs === null) return null;
    // More than the application's idle time, by at most the silence until now, when it has begun to probe.
    const idleMs = tcpCondition(near.fd).silentMs + probesInMs;
    const wanted = Math.floor(idleMs / 1000 / questionsPerIdleTime);
    const everySeconds = Math.max(1, Math.min(longestSeconds, wanted));
    far.ask(everySeconds);
    return new ApplicationKeepalive({ near, far, everySeconds });
  }

  /** The far side does not answer, and so the application gets no answer either. */
  get isFarSideGone(): boolean {
    return this.#isFarSideGone;
  }

  /** {@link update} must be called every second. */
  get isHurried(): boolean {
    return this.#everySeconds <= hurriedSeconds;
  }

  /** To be called every few seconds. Throws like {@link follow}. */
  update(): void {
    this.#far.ask(this.#everySeconds);
    const isGone = this.#far.isGone();
    if (isGone === this.#isFarSideGone) return;
    setDeaf(this.#near.fd, isGone);
    this.#isFarSideGone = isGone;
  }
}
