import { isIpv6 } from '../../../shared/address.js';
import type { Clock, Decision, RuleName } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { isNamedExternal, type FlowParty } from '../../../shared/wire/flows.js';
import { cidrsOf, regionsWithin } from '../pairs/cidr-regions.js';
import type { Conversation } from './conversations.js';
import { regionParty, workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import { possibleDecisions } from '../pairs/possible-decisions.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { lookupOf, type RegistryLookup } from '../registry/registry-lookup.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** How a set of rules decides a recorded conversation, or why that is unknown. */
export type Replayed =
  | {
      readonly verdict: 'allow' | 'deny';
      readonly rule: RuleName;
      readonly reason: Decision['reason'];
      readonly audited: readonly RuleName[];
    }
  | { readonly verdict: 'unknown'; readonly why: string };

/**
 * Evaluates recorded conversations with the facts of the record and, for labels and addresses, of the registry. Records
 * contain neither addresses nor labels: if the missing facts could change the decision, the answer is `unknown`.
 */
export class Replay {
  readonly #set: RuleSet;
  readonly #clock: Clock;
  readonly #registry: RegistryLookup;
  readonly #byIdentity = new Map<string, WorkloadEntry[]>();
  readonly #known = new Map<string, Ends>();

  constructor({ set, clock }: { set: RuleSet; clock: Clock }) {
    this.#set = set;
    this.#clock = clock;
    this.#registry = lookupOf(set.entries);
    for (const entry of set.entries) {
      if (entry.kind !== 'workload') continue;
      this.#byIdentity.set(entry.identity, [...(this.#byIdentity.get(entry.identity) ?? []), entry]);
    }
  }

  ask({ source, destination, port }: Pick<Conversation, 'source' | 'destination' | 'port'>): Replayed {
    if (port === 0) return unknown('the record does not say the port');
    const from = this.#endsOf(source, 'source');
    if ('why' in from) return from;
    const to = this.#endsOf(destination, 'destination');
    if ('why' in to) return to;
    let first: Decision | null = null;
    for (const a of from.ends) {
      for (const b of to.ends) {
        if (isIpv6(a.party.ip) !== isIpv6(b.party.ip)) continue;
        const decisions = possibleDecisions(this.#set.snapshot, { source: a, destination: b, port }, this.#clock);
        const [decision] = decisions;
        if (decision === undefined) continue;
        if (decisions.some(({ verdict }) => verdict !== decision.verdict)) return unknown(partOfSources);
        first ??= decision;
        if (decision.verdict !== first.verdict) return unknown((a === from.ends[0] ? to : from).ambiguity);
      }
    }
    if (first === null) return unknown('the two have no address of the same family any more');
    const { verdict, rule, reason, audited } = first;
    return { verdict, rule: formatRuleRef(rule), reason, audited: audited.map(formatRuleRef) };
  }

  #endsOf(end: FlowParty, side: 'source' | 'destination'): Ends {
    const key = `${side} ${end.workload ?? ''} ${end.identity ?? ''} ${end.cidr ?? ''}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const ends = this.#find(end, side);
    this.#known.set(key, ends);
    return ends;
  }

  #find({ workload, identity, cidr }: FlowParty, side: 'source' | 'destination'): Ends {
    if (workload !== null) return this.#ofWorkload(workload, identity, side);
    const candidates = cidr === null ? [] : this.#addressesIn(cidr);
    if (candidates === null) return unknown(`no ServiceEntry is called ${cidr ?? ''} any more`);
    if (identity !== null) return this.#ofIdentity(identity, candidates);
    if (cidr === null) return unknown(`the record does not say who the ${side} was`);
    return { ends: candidates, ambiguity: `the rules tell addresses within ${cidr} apart` };
  }

  #ofWorkload(name: WorkloadName, identity: string | null, side: 'source' | 'destination'): Ends {
    const entry = this.#registry.workload(name);
    if (entry === undefined) return unknown(`the workload ${name} is not registered`);
    if (entry.addresses.length === 0) return unknown(`the workload ${name} has no address`);
    // A source is identified by what it proved, a destination by what the registry requires of it.
    if (side === 'source' && identity !== null && identity !== entry.identity) {
      return unknown(`the workload ${name} had another identity`);
    }
    const ends = entry.addresses.map((ip) => workloadParty(entry, ip));
    const ambiguity = `the rules tell the addresses of ${name} apart`;
    if (side === 'destination') return { ends, ambiguity };
    return { ends: ends.map((end) => ({ ...end, isMeshed: identity !== null })), ambiguity };
  }

  /** A party that proved an identity from an unregistered address. */
  #ofIdentity(identity: string, candidates: readonly MeshParty[]): Ends {
    const registered = (this.#byIdentity.get(identity) ?? []).flatMap((entry) =>
      entry.addresses.map((ip) => workloadParty(entry, ip)),
    );
    const bare = candidates.map(({ name, party }) => ({
      name,
      party: { ...party, identity: identity as WorkloadEntry['identity'] },
      isMeshed: true,
    }));
    const ends = [...registered, ...bare];
    if (ends.length === 0) return unknown(`no workload proves ${identity} any more`);
    return { ends, ambiguity: `the record does not say which workload proved ${identity}` };
  }

  /** Null: the ServiceEntry does not exist. */
  #addressesIn(cidr: string): MeshParty[] | null {
    const { snapshot } = this.#set;
    const named = isNamedExternal(cidr) ? snapshot.externals.find(({ name }) => name === cidr)?.cidrs : [cidr];
    if (named === undefined) return null;
    return named.flatMap((network) =>
      regionsWithin(network, cidrsOf(snapshot)).map((region) => regionParty(region, cidr)),
    );
  }
}

const partOfSources = 'a rule is enforced for a part of the sources, and the record does not say the address';

type Unknown = Extract<Replayed, { verdict: 'unknown' }>;
type Ends = Unknown | { readonly ends: readonly MeshParty[]; readonly ambiguity: string };

function unknown(why: string): Unknown {
  return { verdict: 'unknown', why };
}
