import { isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { z } from 'zod';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

const podsSchema = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string(), uid: z.string() }),
      spec: z.object({ nodeName: z.string().optional() }).default({}),
      status: z.object({ podIPs: z.array(z.object({ ip: z.string() })).nullish() }).default({}),
    }),
  ),
});
type OwnPod = z.infer<typeof podsSchema>['items'][number];

const timeoutMs = 5000;
const againAfterFailureMs = 1000;
/** One that another wrote over is right again after this time. */
const againMs = 3000;

/**
 * Has the Service of the controllers lead to this one: an EndpointSlice for each family of its addresses, which belongs to its
 * pod and goes with it. The Service selects no pod, so there is no other slice with an endpoint.
 */
export class ActiveEndpoint implements AsyncDisposable {
  readonly #api: KubernetesApi;
  readonly #namespace: string;
  readonly #service: string;
  readonly #ports: Readonly<Record<string, number>>;
  readonly #log: Log;
  readonly #podName: string;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #hasFailed = false;

  /** Begins at once. */
  constructor(init: {
    readonly api: KubernetesApi;
    readonly namespace: string;
    /** Name of the Service. */
    readonly service: string;
    /** Its ports, by name. */
    readonly ports: Readonly<Record<string, number>>;
    readonly log: Log;
    /** For tests: of this pod. */
    readonly podName?: string;
  }) {
    this.#api = init.api;
    this.#namespace = init.namespace;
    this.#service = init.service;
    this.#ports = init.ports;
    this.#log = init.log;
    this.#podName = init.podName ?? hostname();
    this.#running = this.#publish();
  }

  /** Ends it; the slices stay until the next one writes its own, or the pod goes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  async #publish(): Promise<void> {
    let nextMs = againMs;
    try {
      const pod = await this.#ownPod();
      const ips = (pod.status.podIPs ?? []).map(({ ip }) => ip);
      if (ips.length === 0) throw new Error(`pod ${this.#podName} has no address yet`);
      for (const family of ['IPv4', 'IPv6'] as const) {
        const own = ips.filter((ip) => isIPv6(ip) === (family === 'IPv6'));
        if (own.length > 0) await this.#write(family, own, pod);
      }
      if (this.#hasFailed) this.#log.info('the Service of the controller leads here');
      this.#hasFailed = false;
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      nextMs = againAfterFailureMs;
      if (!this.#hasFailed) this.#log.error({ err: error }, 'the Service of the controller does not lead here');
      this.#hasFailed = true;
    }
    if (this.#stop.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#publish();
    }, nextMs);
  }

  /** A pod has its name as the name of its host. */
  async #ownPod(): Promise<OwnPod> {
    const selector = encodeURIComponent(`metadata.name=${this.#podName}`);
    const path = `/api/v1/namespaces/${this.#namespace}/pods?fieldSelector=${selector}`;
    const { items } = podsSchema.parse(await this.#api.get(path, this.#limit()));
    const own = items.find(({ metadata }) => metadata.name === this.#podName);
    if (own === undefined) throw new Error(`there is no pod ${this.#podName} in ${this.#namespace}`);
    return own;
  }

  async #write(addressType: 'IPv4' | 'IPv6', addresses: readonly string[], pod: OwnPod): Promise<void> {
    const { name, uid } = pod.metadata;
    const own = { kind: 'Pod', name, uid } as const;
    const slice = `${this.#service}-active-${addressType.toLowerCase()}`;
    const { nodeName } = pod.spec;
    const body = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: slice,
        namespace: this.#namespace,
        labels: {
          'app.kubernetes.io/part-of': 'culvert',
          'kubernetes.io/service-name': this.#service,
          'endpointslice.kubernetes.io/managed-by': this.#service,
        },
        ownerReferences: [{ apiVersion: 'v1', ...own }],
      },
      addressType,
      endpoints: [
        {
          addresses,
          conditions: { ready: true, serving: true, terminating: false },
          ...(nodeName === undefined ? {} : { nodeName }),
          targetRef: { ...own, namespace: this.#namespace },
        },
      ],
      ports: Object.entries(this.#ports).map(([portName, port]) => ({ name: portName, port, protocol: 'TCP' })),
    };
    const where = `/apis/discovery.k8s.io/v1/namespaces/${this.#namespace}/endpointslices/${slice}`;
    // Server-side apply: it makes the slice where it is missing, and takes over that of the one before.
    const path = `${where}?fieldManager=${this.#service}&force=true`;
    await this.#api.send({ method: 'PATCH', path, body, type: 'application/apply-patch+yaml' }, this.#limit());
  }

  #limit(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, timeoutSignal(timeoutMs)]);
  }
}
