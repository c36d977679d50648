import type { IpAddress } from '../../shared/address.js';
import type { Locality, NamedEndpoint, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { selects } from '../../shared/routing/registry-view.js';
import type { EndpointSlice } from './endpoint-slice.js';
import type { ClusterNode } from './node.js';
import { availabilityOf } from './pod-entry.js';
import type { Pod } from './pod.js';
import type { ClusterService } from './service.js';

/** What the registry cannot find by labels: endpoints that are no workloads, and where things run. */
export class NamedEndpoints {
  /** By `/NAME`. */
  readonly nodes = new Map<string, ClusterNode>();
  /** By `NAMESPACE/NAME` of the slice. */
  readonly #slices = new Map<string, EndpointSlice>();
  /** By `NAMESPACE/NAME` of the service. */
  readonly #slicesOf = new Map<string, Set<string>>();
  /** Pods with the network of their nodes, by namespace and `NAMESPACE/NAME`. */
  readonly #onHost = new Map<string, Map<string, Pod>>();

  /** Null: it is gone. Returns the services that it concerns, `NAMESPACE/NAME`. */
  takeSlice(key: string, slice: EndpointSlice | null): readonly string[] {
    const before = this.#slices.get(key);
    if (before !== undefined) this.#slicesOf.get(serviceOf(before))?.delete(key);
    this.#slices.delete(key);
    if (slice !== null) {
      this.#slices.set(key, slice);
      const others = this.#slicesOf.get(serviceOf(slice)) ?? new Set();
      this.#slicesOf.set(serviceOf(slice), others.add(key));
    }
    return [before, slice].flatMap((each) => (each === undefined || each === null ? [] : serviceOf(each)));
  }

  /** Undefined: it is gone. Returns whether it concerns the services of its namespace. */
  takePod(key: string, pod: Pod | undefined): boolean {
    const [namespace = ''] = key.split('/');
    const others = this.#onHost.get(namespace);
    if (pod?.isOnHost === true) {
      this.#onHost.set(namespace, (others ?? new Map<string, Pod>()).set(key, pod));
      return true;
    }
    const wasThere = others?.delete(key) === true;
    if (others?.size === 0) this.#onHost.delete(namespace);
    return wasThere;
  }

  /** What has to be looked at again when the zone of a node changed. */
  concernedBy(node: string): { readonly namespaces: ReadonlySet<string>; readonly services: ReadonlySet<string> } {
    const hasPod = ([, pods]: [string, ReadonlyMap<string, Pod>]): boolean =>
      [...pods.values()].some((pod) => pod.node === node);
    const hasEndpoint = ({ endpoints }: EndpointSlice): boolean => endpoints.some((each) => each.node === node);
    return {
      namespaces: new Set([...this.#onHost].filter(hasPod).map(([namespace]) => namespace)),
      services: new Set([...this.#slices.values()].filter(hasEndpoint).map(serviceOf)),
    };
  }

  /** Null: the node is not known, or there is none. */
  localityOf(node: string | null): Locality | null {
    if (node === null) return null;
    const zone = this.nodes.get(`/${node}`)?.zone ?? null;
    return { host: node, ...(zone === null ? {} : { zone }) };
  }

  /**
   * A pod of a file would select itself into any service, with labels that its node chose: it is no endpoint, and the caller has
   * to say so. `endpoints` null: the endpoints are not the mesh's to choose, so kube-proxy carries the connections: those of
   * the parts of Kubernetes itself, in its own namespace, are pods of files.
   */
  endpointsOf(service: ClusterService): {
    readonly endpoints: readonly NamedEndpoint[] | null;
    readonly leftOut: readonly string[];
  } {
    const pods = [...(this.#onHost.get(service.namespace)?.values() ?? [])].filter((pod) => selects(service, pod));
    const mirrors = pods.filter(({ isMirror }) => isMirror);
    if (mirrors.length > 0 && service.namespace === systemNamespace) return { endpoints: null, leftOut: [] };
    const endpoints = [
      ...pods.filter(({ isMirror }) => !isMirror).flatMap((pod) => this.#ofPod(pod, service)),
      ...[...(this.#slicesOf.get(serviceOf({ ...service, service: service.name })) ?? [])]
        .toSorted()
        .flatMap((key) => this.#ofSlice(this.#slices.get(key), service)),
    ];
    return { endpoints, leftOut: mirrors.map(({ name }) => name) };
  }

  #ofPod(pod: Pod, service: ClusterService): NamedEndpoint[] {
    const ports: Record<string, number> = {};
    for (const { port, targetPort } of service.ports) {
      const target = typeof targetPort === 'number' ? targetPort : ownPort(pod.ports, targetPort);
      if (target !== undefined) ports[port] = target;
    }
    const { availability } = availabilityOf(pod);
    return pod.hostAddresses.map((address) => this.#named({ address, ports, availability, node: pod.node }));
  }

  #ofSlice(slice: EndpointSlice | undefined, service: ClusterService): NamedEndpoint[] {
    if (slice === undefined) return [];
    const ports: Record<string, number> = {};
    for (const { name, port } of service.ports) {
      const target = ownPort(slice.ports, name);
      if (target !== undefined) ports[port] = target;
    }
    return slice.endpoints.map((endpoint) => this.#named({ ...endpoint, ports }));
  }

  #named(init: {
    readonly address: IpAddress;
    readonly ports: Readonly<Record<string, number>>;
    readonly availability: WorkloadEntry['availability'];
    readonly node: string | null;
  }): NamedEndpoint {
    const { address, ports, availability, node } = init;
    const locality = this.localityOf(node);
    return {
      address,
      ports,
      ...(availability === undefined ? {} : { availability }),
      ...(locality === null ? {} : { locality }),
    };
  }
}

const systemNamespace = 'kube-system';

/** A port may be called `constructor`. */
function ownPort(ports: Readonly<Record<string, number>>, name: string): number | undefined {
  return Object.hasOwn(ports, name) ? ports[name] : undefined;
}

function serviceOf({ namespace, service }: Pick<EndpointSlice, 'namespace' | 'service'>): string {
  return `${namespace}/${service}`;
}
