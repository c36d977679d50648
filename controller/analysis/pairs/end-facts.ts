import type { IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import type { Party } from '../../../shared/policy/connection.js';
import { connectionFacts, type ConnectionFacts, type PartyFacts } from '../../../shared/policy/connection-facts.js';
import { prepareSnapshot, type PreparedSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';
import { connectionOf } from './predict.js';

type Side = 'source' | 'destination';

/** Any port works: what is asked with these facts does not depend on it. */
const port = 1;

/** The facts of an end as the evaluator knows them, found once for each end and side. */
export class EndFacts {
  readonly #prepared: PreparedSnapshot;
  readonly #trustDomain: string;
  readonly #known = {
    source: new WeakMap<MeshParty, ConnectionFacts>(),
    destination: new WeakMap<MeshParty, ConnectionFacts>(),
  };

  /** `snapshot`: its trust domain, labels of namespaces and ServiceEntries count. */
  constructor({ snapshot }: { readonly snapshot: Snapshot }) {
    this.#prepared = prepareSnapshot(snapshot);
    this.#trustDomain = snapshot.trustDomain;
  }

  /** The other side is {@link strangerIn}. */
  of(side: Side, end: MeshParty): ConnectionFacts {
    let facts = this.#known[side].get(end);
    if (facts === undefined) {
      const other = strangerIn('unused-namespace', this.#trustDomain);
      const pair = side === 'source' ? { source: end, destination: other } : { source: other, destination: end };
      const { source, destination } = connectionOf({ ...pair, port });
      facts = connectionFacts(
        this.#prepared.source(source).facts,
        this.#prepared.destination(destination, port).facts,
        port,
      );
      this.#known[side].set(end, facts);
    }
    return facts;
  }

  /** As the workload that a source is, or only claims to be. */
  seeming(side: Side, end: MeshParty): PartyFacts {
    const facts = this.of(side, end);
    return side === 'source' ? (facts.claimedSource ?? facts.source) : facts.destination;
  }
}

/**
 * A meshed party that no rule names (its address is of TEST-NET-1, RFC 5737): the other end while one end is evaluated.
 */
export function strangerIn(namespace: string, trustDomain: string): MeshParty {
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount: 'stranger' });
  const workload = { namespace, name: 'stranger', serviceAccount: 'stranger', labels: {}, node: null };
  const party: Party = { ip: '192.0.2.1' as IpAddress, identity, workload };
  return { name: 'stranger', party, isMeshed: true };
}
