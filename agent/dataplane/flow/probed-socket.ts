import type { KeepalivePolicy } from '../../../shared/policy/traffic-documents.js';
import { outlastSilence, setProbing, tcpCondition, type Probing, type TcpCondition } from '../../native/tcp-life.js';
import type { PeerSocket } from '../relay/relay-peer.js';
import { probingBy } from './keepalive-policy.js';

/** Probes without an answer after which the other side counts as gone, until it answers again. */
export const unansweredProbes = 3;

/**
 * How the kernel probes one socket of a connection, for all that need it: its entry in connection tracking, and an
 * application's keepalive that reaches to the other side. The shortest pause wins. However long the other side is silent,
 * probing never ends the connection unless a document says so: that is for the applications to decide.
 *
 * Every method throws `EBADF` when the socket is closed.
 */
export class ProbedSocket {
  readonly #socket: Pick<PeerSocket, 'fd'>;
  readonly #keepalive: KeepalivePolicy | undefined;
  readonly #mostProbes: number | undefined;
  #entry: Probing | null = null;
  #askSeconds = Number.POSITIVE_INFINITY;
  #appliedSeconds = 0;
  #isOutlasting = false;

  /**
   * `keepalive`: after which silence the kernel ends the connection, and is set already; absent: it does not. `mostProbes`: after
   * which it gives up that is not told otherwise; by default its greatest count.
   */
  constructor(
    socket: Pick<PeerSocket, 'fd'>,
    how: { readonly keepalive?: KeepalivePolicy; readonly mostProbes?: number } = {},
  ) {
    this.#socket = socket;
    this.#keepalive = how.keepalive;
    this.#mostProbes = how.mostProbes;
  }

  /** As its entry needs it from now on. */
  keepEntry(how: Probing): void {
    const { everySeconds, longestRetransmitMs } = how;
    if (everySeconds === this.#entry?.everySeconds && longestRetransmitMs === this.#entry.longestRetransmitMs) return;
    this.#entry = how;
    this.#appliedSeconds = 0;
    this.#apply();
  }

  /** The other side is asked at least this often from now on. */
  ask(everySeconds: number): void {
    this.#askSeconds = everySeconds;
    this.#apply();
  }

  /**
   * To be called every few seconds while {@link isOutlasting}. The kernel gives up after 127 probes without an answer
   * unless it is told otherwise; but then it would also send bytes again for ever that are not acknowledged, which ends
   * without the mesh. It sends no probes while there are such bytes.
   */
  condition(): TcpCondition {
    const { fd } = this.#socket;
    const condition = tcpCondition(fd);
    if (this.#keepalive !== undefined) return condition;
    const isOutlasting = condition.unansweredProbes >= unansweredProbes && !condition.hasBytesUnderWay;
    if (isOutlasting !== this.#isOutlasting) {
      outlastSilence(fd, isOutlasting);
      this.#isOutlasting = isOutlasting;
    }
    return condition;
  }

  get isOutlasting(): boolean {
    return this.#isOutlasting;
  }

  #apply(): void {
    const everySeconds = Math.min(this.#askSeconds, this.#entry?.everySeconds ?? Number.POSITIVE_INFINITY);
    if (everySeconds === this.#appliedSeconds) return;
    const longestRetransmitMs = this.#entry?.longestRetransmitMs ?? null;
    const { fd } = this.#socket;
    if (this.#keepalive === undefined) setProbing(fd, { everySeconds, longestRetransmitMs }, this.#mostProbes);
    else {
      const { mostProbes, ...how } = probingBy(this.#keepalive, everySeconds);
      setProbing(fd, { ...how, longestRetransmitMs }, mostProbes);
    }
    this.#appliedSeconds = everySeconds;
  }
}
