import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { registryKey, type RegistryEntry } from '../../shared/routing/registry-entry.js';
import { maxRegistryEntryBytes } from '../../shared/wire/signed.js';
import type { InventoryConflict, InventorySource, SourceEntry } from '../inventory/inventory-source.js';
import { namedSlices, readEndpointSlice, type EndpointSlice } from './endpoint-slice.js';
import { enrolmentOf } from './enrolment.js';
import type { EventObjects } from './cluster-events.js';
import type { Regarding } from './event-writer.js';
import type { KubernetesApi } from './kubernetes-api.js';
import type { KubernetesState } from './kubernetes-state.js';
import { readNamespace, type ClusterNamespace } from './namespace.js';
import { NamedEndpoints } from './named-endpoints.js';
import { nodeEnrolments, type NodeEnrolments } from './node-enrolments.js';
import { readNode, type ClusterNode } from './node.js';
import { readPod, type Pod } from './pod.js';
import { podEntry } from './pod-entry.js';
import { Reflector, type ReflectedKind } from './reflector.js';
import { readService, type ClusterService } from './service.js';
import { serviceEntry } from './service-entry.js';

/** Changes that come within this time share one write. */
const gatherMs = 20;
const retryMs = 1000;
const maxListed = 20;
const maxNamed = 3;

/**
 * Pods and services of a cluster as a source of the inventory: no revision, no snapshot. An API server that is slow or away
 * costs freshness only. Until all kinds were listed once, what the inventory has from the last run stays.
 */
export class KubernetesSource implements AsyncDisposable, EventObjects {
  readonly #source: InventorySource;
  readonly #trustDomain: string;
  readonly #ownNamespace: string;
  readonly #takesAmbient: boolean;
  /** As in {@link nodeEnrolments}. */
  readonly #standing = new Set<string>();
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #pods = new Map<string, Pod>();
  readonly #services = new Map<string, ClusterService>();
  readonly #namespaces = new Map<string, ClusterNamespace>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #reflectors: readonly Pick<Reflector<unknown>, 'name' | 'isSynced' | 'problem' | 'run' | 'unreadable'>[];
  /** Keys of objects that are there and cannot be understood. What is known of them stays, also from the last run. */
  readonly #unreadable = { pods: new Set<string>(), services: new Set<string>(), namespaces: new Set<string>() };
  /** Keys of pods and of services whose entries have to be made again. */
  readonly #changed = { pods: new Set<string>(), services: new Set<string>() };
  readonly #named = new NamedEndpoints();
  readonly #enrolled = new Set<string>();
  /** What is not in force as it is written, by registry key. */
  readonly #warnings = new Map<string, Warning>();
  #onChange: () => void = () => undefined;
  #isReplaced = false;
  #isWriting = false;
  #writeProblem: string | null = null;
  #running: Promise<unknown> = Promise.resolve();

  constructor(init: {
    readonly api: KubernetesApi;
    readonly source: InventorySource;
    readonly trustDomain: string;
    /** The namespace of the controller itself, whose pods stay outside the mesh. */
    readonly ownNamespace: string;
    /** The label of Istio's ambient mode counts, too. */
    readonly takesAmbient?: boolean;
    readonly log: Log;
    /** For tests. */
    readonly backoff?: { readonly firstMs: number; readonly longestMs: number };
  }) {
    const { api, log, backoff } = init;
    this.#source = init.source;
    this.#trustDomain = init.trustDomain;
    this.#ownNamespace = init.ownNamespace;
    this.#takesAmbient = init.takesAmbient ?? false;
    this.#log = log;
    const reflector = <T>(kind: ReflectedKind<T>): Reflector<T> =>
      new Reflector({ api, log, kind, ...(backoff === undefined ? {} : { backoff }) });
    this.#reflectors = [
      reflector({
        ...this.#kept(this.#pods, (key) => this.#podChanged(key), this.#unreadable.pods),
        name: 'pods',
        path: '/api/v1/pods',
        read: readPod,
      }),
      reflector({
        ...this.#kept(this.#services, (key) => this.#changed.services.add(key), this.#unreadable.services),
        name: 'services',
        path: '/api/v1/services',
        read: readService,
      }),
      reflector({
        ...this.#kept(this.#namespaces, (key) => this.#namespaceChanged(key.slice(1)), this.#unreadable.namespaces),
        name: 'namespaces',
        path: '/api/v1/namespaces',
        read: readNamespace,
      }),
      reflector({
        ...this.#kept(this.#named.nodes, (key) => this.#nodeChanged(key.slice(1))),
        name: 'nodes',
        path: '/api/v1/nodes',
        read: readNode,
      }),
      reflector({
        ...this.#kept(this.#slices, (key) => this.#sliceChanged(key)),
        name: 'endpointslices',
        path: '/apis/discovery.k8s.io/v1/endpointslices',
        selector: namedSlices,
        read: readEndpointSlice,
      }),
    ];
  }

  start(): void {
    this.#running = Promise.all(this.#reflectors.map((each) => each.run(this.#stop.signal)));
  }

  /** Calls back with each change of what the API server has. One callback at a time. */
  onChange(callback: () => void): void {
    this.#onChange = callback;
  }

  /** Which pods wait for the agents of their nodes; null: not everything was listed yet. */
  get enrolments(): NodeEnrolments | null {
    if (!this.#reflectors.every(({ isSynced }) => isSynced)) return null;
    const [pods, namespaces] = [this.#pods.values(), this.#namespaces.values()];
    const unknown = new Set(
      [...this.#unreadable.namespaces].map((key) => key.slice(1)).filter((name) => this.#isUnknown(name)),
    );
    return nodeEnrolments({
      pods,
      namespaces: [...namespaces],
      unknown,
      ownNamespace: this.#ownNamespace,
      takesAmbient: this.#takesAmbient,
      standing: this.#standing,
    });
  }

  get state(): KubernetesState {
    const problems = this.#reflectors.flatMap(({ problem }) => problem ?? []);
    const unreadable = this.#reflectors.flatMap(({ name, unreadable: keys }) =>
      [...keys].map((key) => `${name} ${key}`),
    );
    const unread =
      unreadable.length === 0
        ? []
        : [
            `${unreadable.length} objects cannot be understood, and what was known of them stays: see the log about ${unreadable.slice(0, maxNamed).join(', ')}`,
          ];
    return {
      isSynced: this.#isReplaced,
      problems: [...new Set(problems), ...(this.#writeProblem === null ? [] : [this.#writeProblem])],
      pods: this.#pods.size,
      enrolled: this.#enrolled.size,
      services: this.#services.size,
      warnings: [...unread, ...[...this.#warnings.values()].slice(0, maxListed).map(textOf)].slice(0, maxListed),
    };
  }

  startedPod(key: string): Regarding | null {
    const pod = this.#pods.get(key);
    return pod === undefined || pod.addresses.length === 0 ? null : regarding('Pod', pod);
  }

  get nodes(): Iterable<ClusterNode> {
    return this.#named.nodes.values();
  }

  node(name: string): Regarding | null {
    const node = this.#named.nodes.get(`/${name}`);
    return node === undefined ? null : regarding('Node', { ...node, namespace: '' });
  }

  entry(key: string): Regarding | null {
    const [kind, namespace = '', ...rest] = key.split('.');
    const name = `${namespace}/${rest.join('.')}`;
    const found = kind === 'service' ? this.#services.get(name) : this.#pods.get(name);
    return found === undefined ? null : regarding(kind === 'service' ? 'Service' : 'Pod', found);
  }

  warnings(): readonly { readonly regarding: Regarding; readonly problems: readonly string[] }[] {
    return [...this.#warnings].flatMap(([key, { problems }]) => {
      const found = this.entry(key);
      return found === null ? [] : [{ regarding: found, problems }];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Keeps a map like what the API server has, and says which keys of it changed. */
  #kept<T>(
    objects: Map<string, T>,
    onChanged: (key: string) => void,
    unreadable = new Set<string>(),
  ): Pick<ReflectedKind<T>, 'onReplaced' | 'onChanged' | 'onUnreadable'> {
    return {
      onReplaced: (all, unread) => {
        const known = new Set([...objects.keys(), ...unreadable]);
        const gone = [...known].filter((key) => !all.has(key) && !unread.has(key));
        unreadable.clear();
        for (const key of unread) unreadable.add(key);
        const changed = [...all].filter(([key, object]) => !isDeepStrictEqual(objects.get(key), object));
        for (const key of gone) objects.delete(key);
        for (const [key, object] of changed) objects.set(key, object);
        for (const key of gone) onChanged(key);
        for (const [key] of changed) onChanged(key);
        this.#writeSoon();
        this.#onChange();
      },
      onChanged: (key, object) => {
        // Most changes are of what the mesh does not read.
        if (!unreadable.delete(key) && isDeepStrictEqual(objects.get(key) ?? null, object)) return;
        if (object === null) objects.delete(key);
        else objects.set(key, object);
        onChanged(key);
        this.#writeSoon();
        this.#onChange();
      },
      onUnreadable: (key) => {
        unreadable.add(key);
        this.#onChange();
      },
    };
  }

  /** Nothing is known of the namespace but that it is there: whether its pods are in the mesh stays as it was. */
  #isUnknown(namespace: string): boolean {
    return this.#unreadable.namespaces.has(`/${namespace}`) && !this.#namespaces.has(`/${namespace}`);
  }

  /** A pod with the network of its node is an endpoint of which services have to know. */
  #podChanged(key: string): void {
    this.#changed.pods.add(key);
    const [namespace = ''] = key.split('/');
    if (this.#named.takePod(key, this.#pods.get(key)))
      this.#servicesChanged((service) => service.namespace === namespace);
  }

  #servicesChanged(isConcerned: (service: ClusterService) => boolean): void {
    for (const [key, service] of this.#services) if (isConcerned(service)) this.#changed.services.add(key);
  }

  #sliceChanged(key: string): void {
    for (const service of this.#named.takeSlice(key, this.#slices.get(key) ?? null))
      this.#changed.services.add(service);
  }

  /** Its zone may have changed. */
  #nodeChanged(name: string): void {
    for (const [key, { node }] of this.#pods) if (node === name) this.#changed.pods.add(key);
    const { namespaces, services } = this.#named.concernedBy(name);
    for (const key of services) this.#changed.services.add(key);
    this.#servicesChanged(({ namespace }) => namespaces.has(namespace));
  }

  /** Whether its pods are in the mesh may have changed. */
  #namespaceChanged(name: string): void {
    for (const [key, { namespace }] of this.#pods) if (namespace === name) this.#changed.pods.add(key);
  }

  #writeSoon(): void {
    if (this.#isWriting) return;
    this.#isWriting = true;
    void this.#write();
  }

  /** Until nothing is left to write. */
  async #write(): Promise<void> {
    const { signal } = this.#stop;
    let waitMs = gatherMs;
    while (this.#hasChanges && !signal.aborted) {
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
      // The first list of one kind comes before that of another, and half of a cluster must not replace the whole.
      if (!this.#reflectors.every(({ isSynced }) => isSynced)) break;
      if (signal.aborted) return;
      waitMs = (await this.#writeOnce()) ? gatherMs : retryMs;
    }
    this.#isWriting = false;
  }

  get #hasChanges(): boolean {
    return !this.#isReplaced || this.#changed.pods.size + this.#changed.services.size > 0;
  }

  async #writeOnce(): Promise<boolean> {
    const pods = this.#isReplaced ? [...this.#changed.pods] : [...this.#pods.keys()];
    const services = this.#isReplaced ? [...this.#changed.services] : [...this.#services.keys()];
    this.#changed.pods.clear();
    this.#changed.services.clear();
    try {
      const decided = pods.filter((key) => !this.#isUnknown(this.#pods.get(key)?.namespace ?? ''));
      const entries = [...decided.map((key) => this.#podEntry(key)), ...services.map((key) => this.#serviceEntry(key))];
      const upserts = entries.flatMap(({ entry }): SourceEntry[] =>
        entry === null ? [] : [{ entry, document: null }],
      );
      const removals = entries.flatMap(({ key, entry }) => (entry === null ? [key] : []));
      const { conflicts } = this.#isReplaced
        ? await this.#source.change({ upserts, removals })
        : await this.#source.replaceAll(upserts, this.#undecided(pods));
      this.#isReplaced = true;
      this.#writeProblem = null;
      for (const conflict of conflicts) this.#tell(conflict);
      return true;
    } catch (error) {
      for (const key of pods) this.#changed.pods.add(key);
      for (const key of services) this.#changed.services.add(key);
      const problem = `changes of the cluster cannot be written: ${describeError(error)}`;
      if (problem !== this.#writeProblem) this.#log.error({ err: error }, 'changes of the cluster cannot be written');
      this.#writeProblem = problem;
      return false;
    }
  }

  /** Registry keys of what is there and of which too little is known to write it. */
  #undecided(pods: readonly string[]): ReadonlySet<string> {
    const ofUnknown = pods.filter((key) => this.#isUnknown(this.#pods.get(key)?.namespace ?? ''));
    const unreadPods = [...this.#unreadable.pods].filter((key) => !this.#pods.has(key));
    const unreadServices = [...this.#unreadable.services].filter((key) => !this.#services.has(key));
    return new Set([
      ...[...ofUnknown, ...unreadPods].map((key) => registryKeyOf('workload', key)),
      ...unreadServices.map((key) => registryKeyOf('service', key)),
    ]);
  }

  #podEntry(name: string): { readonly key: string; readonly entry: RegistryEntry | null } {
    const key = registryKeyOf('workload', name);
    const pod = this.#pods.get(name);
    this.#enrolled.delete(key);
    if (pod === undefined) {
      this.#warnings.delete(key);
      return { key, entry: null };
    }
    const namespace = this.#namespaces.get(`/${pod.namespace}`);
    const { isEnrolled, problem } = enrolmentOf(pod, namespace?.labels, this.#ownNamespace, this.#takesAmbient);
    const { entry, problems } = podEntry(pod, {
      isEnrolled,
      trustDomain: this.#trustDomain,
      locality: this.#named.localityOf(pod.node),
    });
    if (entry?.protocol === 'hbone') this.#enrolled.add(key);
    const isLarge = entry !== null && isTooLarge(entry);
    const size = isLarge ? ['it has so many labels and ports that none of them counts'] : [];
    this.#warn(key, `pod ${name}`, [...(problem === null ? [] : [problem]), ...problems, ...size]);
    return { key, entry: isLarge ? { ...entry, labels: {}, ports: {} } : entry };
  }

  #serviceEntry(name: string): { readonly key: string; readonly entry: RegistryEntry | null } {
    const key = registryKeyOf('service', name);
    const service = this.#services.get(name);
    const found = service === undefined ? null : this.#named.endpointsOf(service);
    if (service === undefined || found === null || found.endpoints === null) {
      this.#warnings.delete(key);
      return { key, entry: null };
    }
    const entry = serviceEntry(service, found.endpoints);
    const isLarge = isTooLarge(entry);
    this.#warn(key, `service ${name}`, [
      ...found.leftOut.map(
        (pod) => `the pod ${pod} was made by its node and not by the cluster, and is no endpoint of it`,
      ),
      ...(isLarge ? ['it is too large for the mesh: kube-proxy carries it'] : []),
    ]);
    return { key, entry: isLarge ? null : entry };
  }

  #warn(key: string, what: string, problems: readonly string[]): void {
    if (problems.length === 0) {
      this.#warnings.delete(key);
      return;
    }
    const known = this.#warnings.get(key);
    const isNews = known === undefined || textOf(known) !== textOf({ what, problems });
    if (isNews) this.#log.warn({ object: what, problems }, 'not in force as it is written');
    this.#warnings.set(key, { what, problems });
  }

  #tell({ claim, winner, loser }: InventoryConflict): void {
    this.#log.warn({ claim, winner, loser }, 'two entries claim the same: the second one goes without it');
  }
}

type Warning = { readonly what: string; readonly problems: readonly string[] };

function textOf({ what, problems }: Warning): string {
  return `${what}: ${problems.join('; ')}`;
}

function regarding(kind: Regarding['kind'], { namespace, name, uid }: Omit<Regarding, 'kind'>): Regarding {
  return { kind, namespace, name, uid };
}

/** More than half of what an entry may have when it is sealed, so that no entry stops those of others. */
function isTooLarge(entry: RegistryEntry): boolean {
  return Buffer.byteLength(JSON.stringify(entry)) > maxRegistryEntryBytes / 2;
}

/** Of `NAMESPACE/NAME`. */
function registryKeyOf(kind: 'workload' | 'service', key: string): string {
  const [namespace = '', name = ''] = key.split('/');
  return registryKey({ kind, namespace, name } as RegistryEntry);
}
