import { warn, type Finding } from '../mesh-check.js';
import { itemsOf, type ClusterFacts, type LabelSelector, type NetworkPolicyObject } from './cluster-facts.js';
import { listText, unread } from './texts.js';

/** Of tunnels, at the address of each pod of the mesh. */
const tunnelPort = 15_008;

/** Policies that the network of pods enforces below the mesh, and that would stop it. */
export function policyFindings(facts: ClusterFacts): Finding[] {
  const { networkPolicies, clusterPolicies, planned } = facts;
  const items = itemsOf(networkPolicies);
  const names = (policies: readonly NetworkPolicyObject[]): string =>
    listText(policies.map(({ metadata }) => `${metadata.namespace ?? ''}/${metadata.name}`));
  const own = items.filter(
    ({ metadata, spec }) =>
      metadata.namespace === planned.namespace &&
      metadata.labels?.['app.kubernetes.io/part-of'] !== 'culvert' &&
      isSelected(spec.podSelector, planned.controllerLabels),
  );
  const outwards = own.filter((policy) => directionsOf(policy).includes('Egress') && !allowsAll(policy.spec.egress));
  const elsewhere = items.filter(({ metadata }) => !isSystem(metadata.namespace ?? '', planned.namespace));
  const closed = elsewhere.filter((policy) =>
    directionsOf(policy).some((direction) => isClosed(policy, direction, items)),
  );
  const wide = itemsOf(clusterPolicies);
  return [
    ...unread({ 'network policies': networkPolicies, 'policies for all namespaces': clusterPolicies }),
    ...(outwards.length === 0
      ? []
      : [
          warn(
            `${names(outwards)} limits what the controller may connect to`,
            'allow it the API server and the DNS of the cluster, or delete the policy',
          ),
        ]),
    ...(closed.length === 0
      ? []
      : [
          warn(
            `${names(closed)} leaves no way for tunnels: pods of the mesh reach each other at TCP ${tunnelPort}`,
            `where such pods get into the mesh, allow TCP ${tunnelPort} in both directions there; the mesh then rules the ports`,
          ),
        ]),
    ...(wide.length === 0
      ? []
      : [
          warn(
            `${listText(wide)} ${wide.length === 1 ? 'is' : 'are'} for pods of all namespaces, and not judged here`,
            `they must leave TCP ${tunnelPort} between pods of the mesh, and 15443 and 4222 to the controller`,
          ),
        ]),
  ];
}

/** Policies add up: one for all pods of the namespace may leave the way that this one does not. */
function isClosed(policy: NetworkPolicyObject, direction: Direction, all: readonly NetworkPolicyObject[]): boolean {
  const allows = (one: NetworkPolicyObject): boolean =>
    directionsOf(one).includes(direction) && allowsTunnel(direction === 'Ingress' ? one.spec.ingress : one.spec.egress);
  if (allows(policy)) return false;
  return !all.some(
    (other) =>
      other.metadata.namespace === policy.metadata.namespace && isForAll(other.spec.podSelector) && allows(other),
  );
}

function isForAll({ matchLabels = {}, matchExpressions = [] }: LabelSelector = {}): boolean {
  return Object.keys(matchLabels).length === 0 && matchExpressions.length === 0;
}

type Direction = 'Ingress' | 'Egress';

/** Pods there never get into the mesh. */
function isSystem(namespace: string, own: string): boolean {
  return namespace === own || ['kube-system', 'kube-public', 'kube-node-lease'].includes(namespace);
}

/** As the API has it: without types, Ingress counts, and Egress where it has rules. */
function directionsOf({ spec: { policyTypes, egress } }: NetworkPolicyObject): readonly Direction[] {
  if (policyTypes !== undefined) return policyTypes;
  return egress === undefined ? ['Ingress'] : ['Ingress', 'Egress'];
}

type Rules = NetworkPolicyObject['spec']['ingress'];

function allowsAll(rules: Rules): boolean {
  return (rules ?? []).some((rule) => Object.keys(rule).length === 0);
}

/** From or to some peer. Whether it is the right one depends on which pods are in the mesh. */
function allowsTunnel(rules: Rules): boolean {
  return (rules ?? []).some(({ ports }) => {
    if (ports === undefined || ports.length === 0) return true;
    return ports.some(({ protocol = 'TCP', port, endPort }) => {
      if (protocol !== 'TCP') return false;
      if (typeof port !== 'number') return port === undefined;
      return port === tunnelPort || (port < tunnelPort && endPort !== undefined && endPort >= tunnelPort);
    });
  });
}

function isSelected(selector: LabelSelector | undefined, labels: Readonly<Record<string, string>>): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {};
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      const isAmong = value !== undefined && values.includes(value);
      return operator === 'NotIn' ? !isAmong : isAmong;
    })
  );
}
