/** What differs between two installations in a cluster. */
export type InstallOptions = {
  /** Of controller and agents; its pods stay outside the mesh. */
  readonly namespace: string;
  /** With controller, agent and command; see deploy/container. */
  readonly image: string;
  readonly trustDomain: string;
  /** `--host-probes` of the agents, as it is written: kubelet, so that probes pass where plaintext is refused. */
  readonly hostProbes: string;
  readonly storage: Storage;
  /** Directories of a node, for the CNI plugin; null: without it. */
  readonly cni: { readonly configDirectory: string; readonly binDirectory: string } | null;
  /** Of the controller's pod. */
  readonly nodeSelector: Readonly<Record<string, string>>;
};

/** Where the controller keeps its state: the CA above all, without which every agent has to join again. */
export type Storage =
  /** `className` null: the default class of the cluster. */
  | { readonly kind: 'claim'; readonly size: string; readonly className: string | null }
  /** A directory of the node, which the node selector has to name. */
  | { readonly kind: 'host-path'; readonly path: string }
  /** It goes with the pod. */
  | { readonly kind: 'empty-dir' };

/** An object of Kubernetes, as it is applied. */
export type KubernetesObject = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
};

export const controllerName = 'culvert-controller';
export const agentName = 'culvert-agent';
export const rootsConfigMap = 'culvert-ca';
/** The user of the controller, which is no user of any host. */
export const controllerUser = 65_532;
export const apiPort = 15_443;
export const natsPort = 4222;

/** What is on each object, so that all of them can be listed and removed. */
export function labelsOf(component: 'controller' | 'agent' | 'mesh'): Readonly<Record<string, string>> {
  return {
    'app.kubernetes.io/name': 'culvert',
    'app.kubernetes.io/component': component,
    'app.kubernetes.io/part-of': 'culvert',
  };
}
