/** `namespace/name` of a workload. */
export type WorkloadName = string & { readonly __brand: 'WorkloadName' };
/** `namespace/name` of a service, or of a ServiceEntry: rules name both in the same field. */
export type ServiceName = string & { readonly __brand: 'ServiceName' };
/** `namespace/name` of a service account. */
export type ServiceAccountName = string & { readonly __brand: 'ServiceAccountName' };
/** The name of a host in the mesh: a DNS-1123 subdomain, as Kubernetes names nodes. */
export type NodeName = string & { readonly __brand: 'NodeName' };

type Named = { readonly namespace: string; readonly name: string };

const maxNodeNameLength = 253;
const nodeNamePattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const maxQualifiedNameLength = 512;
const qualifiedNamePattern = /^[a-z0-9][a-z0-9.-]*\/[a-z0-9][a-z0-9.-]*$/;

export function workloadName({ namespace, name }: Named): WorkloadName {
  return `${namespace}/${name}` as WorkloadName;
}

/** The workload's name, or undefined when the text cannot be one. */
export function parseWorkloadName(text: string): WorkloadName | undefined {
  return text.length <= maxQualifiedNameLength && qualifiedNamePattern.test(text) ? (text as WorkloadName) : undefined;
}

export function serviceName({ namespace, name }: Named): ServiceName {
  return `${namespace}/${name}` as ServiceName;
}

/** The service account of a workload or of a parsed identity. */
export function serviceAccountName(of: {
  readonly namespace: string;
  readonly serviceAccount: string;
}): ServiceAccountName {
  return `${of.namespace}/${of.serviceAccount}` as ServiceAccountName;
}

/** The node's name, or undefined when the text cannot be one. */
export function parseNodeName(text: string): NodeName | undefined {
  return text.length <= maxNodeNameLength && nodeNamePattern.test(text) ? (text as NodeName) : undefined;
}
