import type { HostPort } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { isAcceptedLate, LateExternals } from '../../../shared/routing/late-accept.js';
import { policyOfRule, TrafficPolicies } from '../../../shared/routing/traffic-policies.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { refused, type Refused } from '../connection/ending.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { EndpointLists } from '../route/endpoint-lists.js';
import { ServicePlans } from '../route/service-plans.js';
import { RegistryIndex } from '../route/registry-index.js';
import type { CertificatesMessage } from '../messages.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { serviceName, workloadName, type WorkloadName } from '../../../shared/routing/names.js';
import type { CountedDestination } from '../report/counted-destination.js';

/** Everything that a worker's decisions depend on. Only its message handler writes it; flows read the current values. */
export class WorkerState {
  readonly registry = new RegistryIndex();
  readonly lists = new EndpointLists({ registry: this.registry });
  readonly plans = new ServicePlans({ registry: this.registry, lists: this.lists });
  /** The workloads of this node whose namespaces the worker holds open. */
  readonly hosted = new Map<WorkloadName, HostedWorkload>();
  /** Why the rules are too old to be trusted with new connections; null: they are not. */
  rulesTooOld: string | null = null;
  #snapshot: Snapshot | null = null;
  #lateExternals = new LateExternals([]);
  #trafficPolicies: TrafficPolicies | null = null;
  #certificateEnds: ReadonlyMap<SpiffeId, number> = new Map();

  get snapshot(): Snapshot | null {
    return this.#snapshot;
  }

  /** Which endpoints connections go to; null: no document says anything about it. */
  get trafficPolicies(): TrafficPolicies | null {
    return this.#trafficPolicies;
  }

  useSnapshot(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#trafficPolicies =
      snapshot.destinationRules === undefined &&
      snapshot.virtualServices === undefined &&
      snapshot.rateLimits === undefined
        ? null
        : TrafficPolicies.of(snapshot, this.#trafficPolicies);
    this.#lateExternals = new LateExternals(snapshot.externals, this.#lateExternals);
  }

  useCertificates(message: CertificatesMessage): void {
    this.#certificateEnds = new Map(message.certificates.map(({ identity, notAfterMs }) => [identity, notAfterMs]));
  }

  /**
   * Whether a client's connect to this destination waits until the far side is connected. Also while nothing is known of
   * the destination: it may be one of these, and is refused.
   */
  isAcceptedLate(dialled: HostPort): boolean {
    if (!this.registry.isFilled || this.#snapshot === null) return true;
    return isAcceptedLate(this.registry, this.#lateExternals, dialled);
  }

  /** Whether the workload of an endpoint is still the one at its address; always for one outside the mesh. */
  isThere({ workload, address }: Endpoint): boolean {
    if (workload === null) return true;
    const now = this.registry.workload(workloadName(workload));
    return now?.netns === workload.netns && now.addresses.includes(address.ip);
  }

  /** Whether the rule of a destination is in force for a client of this node, and ejects endpoints of the destination. */
  ejectionRules(): (destination: CountedDestination) => boolean {
    const policies = this.#trafficPolicies;
    if (policies === null) return () => false;
    const namespaces = new Set(Array.from(this.hosted.keys(), (name) => name.slice(0, name.indexOf('/'))));
    return ({ rule, service: name, subset, port }) => {
      const service = this.registry.service(name);
      if (service === undefined) return false;
      for (const namespace of namespaces) {
        const found = policies.ruleFor(service, namespace);
        if (found === null || serviceName(found) !== rule) continue;
        const of = subset === null ? null : found.subsets?.find((each) => each.name === subset);
        if (of !== undefined && policyOfRule(found, port, of).outliers !== undefined) return true;
      }
      return false;
    };
  }

  /** Whether the control thread has a certificate for this identity, valid or expired. */
  hasCertificate(identity: SpiffeId): boolean {
    return this.#certificateEnds.has(identity);
  }

  /** What is missing to decide about this workload's connections and to prove its identity; null when nothing is. */
  notReadyReason(workload: WorkloadEntry, nowMs: number): Refused | null {
    if (!this.registry.isFilled) return refused('NO_RULES_YET', 'no registry yet');
    if (this.#snapshot === null) return refused('NO_RULES_YET', 'no rules yet');
    if (this.rulesTooOld !== null) return refused('RULES_TOO_OLD', this.rulesTooOld);
    const notAfterMs = this.#certificateEnds.get(workload.identity);
    if (notAfterMs === undefined) return refused('NO_RULES_YET', `no certificate for ${workload.identity}`);
    if (notAfterMs > nowMs) return null;
    return refused('CERT_EXPIRED', `own certificate ended ${new Date(notAfterMs).toISOString()}`);
  }
}
