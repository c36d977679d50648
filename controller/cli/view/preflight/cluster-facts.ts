import type { PlannedInstallation } from './planned-installation.js';

/** What a list had; `problem`: why it could not be read. */
export type Listed<T> = { readonly items: readonly T[] } | { readonly problem: string };

type Labels = Readonly<Record<string, string>>;
export type Metadata = {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Labels;
  readonly annotations?: Labels;
};
type Named = { readonly metadata: Metadata };

export type NodeObject = Named & {
  readonly spec?: { readonly unschedulable?: boolean };
  readonly status: {
    readonly nodeInfo: {
      readonly architecture: string;
      readonly operatingSystem: string;
      readonly kernelVersion: string;
      readonly kubeletVersion: string;
      readonly containerRuntimeVersion: string;
    };
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
};

/** `spec` as far as it says which program it is. */
export type DaemonSetObject = Named & {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers?: readonly {
          readonly name: string;
          readonly image?: string;
          readonly env?: readonly { readonly name: string; readonly value?: string }[];
        }[];
      };
    };
  };
};

export type LabelSelector = {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
};

type PolicyRule = {
  readonly ports?: readonly {
    readonly protocol?: string;
    readonly port?: number | string;
    readonly endPort?: number;
  }[];
};
export type NetworkPolicyObject = Named & {
  readonly spec: {
    readonly podSelector?: LabelSelector;
    readonly policyTypes?: readonly ('Ingress' | 'Egress')[];
    readonly ingress?: readonly PolicyRule[];
    readonly egress?: readonly PolicyRule[];
  };
};

export type RuntimeClassObject = Named & { readonly handler: string };

/** A right that the installation needs, and whether the user of kubectl has it. */
export type Right = { readonly what: string; readonly isGiven: boolean };

/** Whether the API server would take a pod like that of an agent: where it was asked, and what it said. */
export type Trial = {
  readonly namespace: string;
  /** Null: it would take it. */
  readonly refusal: string | null;
};

/** What was seen of a cluster before an installation. */
export type ClusterFacts = {
  readonly planned: PlannedInstallation;
  /** `v1.37.2`; null: it does not say. */
  readonly serverVersion: string | null;
  /** Kinds that it serves, as `deployments.apps`. */
  readonly served: ReadonlySet<string>;
  /** Why there may be more of them; null: those are all. */
  readonly servedProblem: string | null;
  readonly nodes: Listed<NodeObject>;
  readonly namespaces: Listed<Named>;
  readonly daemonSets: Listed<DaemonSetObject>;
  /** Settings of Cilium; null: it is not there, or `unreadSettings` says more. */
  readonly cilium: Labels | null;
  /** Of Calico's FelixConfiguration `default`; null: as for Cilium. */
  readonly felix: Readonly<Record<string, unknown>> | null;
  /** Which data plane the operator of Calico makes, such as `BPF`; null: as for Cilium. */
  readonly calicoDataplane: string | null;
  /** Settings of the network of pods that are there and cannot be read, and why. */
  readonly unreadSettings: readonly { readonly of: 'Cilium' | 'Calico'; readonly problem: string }[];
  readonly storageClasses: Listed<Named>;
  readonly networkPolicies: Listed<NetworkPolicyObject>;
  /** Policies for pods of all namespaces, as `KIND NAME`. */
  readonly clusterPolicies: Listed<string>;
  readonly runtimeClasses: Listed<RuntimeClassObject>;
  /** Objects with the label of Culvert. */
  readonly installed: Listed<Named & { readonly kind: string }>;
  /** Of kube-system. */
  readonly systemServices: Listed<Named>;
  readonly rights: Listed<Right>;
  readonly trial: Trial;
};

/** The items; none where they could not be read. */
export function itemsOf<T>(listed: Listed<T>): readonly T[] {
  return 'items' in listed ? listed.items : [];
}
