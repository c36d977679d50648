import { parseCidr } from '../../../shared/address.js';
import { formatSpiffeId, parseSpiffeId } from '../../../shared/identity.js';
import type { Party } from '../../../shared/policy/connection.js';
import type { PartyChange } from './peer-field.js';
import { serviceAccountName } from '../../../shared/routing/names.js';

/** Limit on the values of one list that are tried; those in the same namespace come first. */
const maxValues = 16;

type Home = { readonly namespace: string; readonly serviceAccount: string };

/** The account from the registry, else the proved one; undefined: the party has none. */
function homeOf({ workload, identity }: Party): Home | undefined {
  return workload ?? (identity === null ? undefined : parseSpiffeId(identity));
}

function movedTo(party: Party, home: Home, trustDomain: string): Party {
  return {
    ...party,
    identity: party.identity === null ? null : formatSpiffeId({ trustDomain, ...home }),
    workload: party.workload === null ? null : { ...party.workload, ...home },
  };
}

export function toAccounts(accounts: readonly string[], party: Party, trustDomain: string): PartyChange[] {
  const is = homeOf(party);
  if (is === undefined) return [];
  return nearest(accounts, `${is.namespace}/`).map((account) => {
    const [namespace = '', serviceAccount = ''] = account.split('/');
    return {
      cost: namespace === is.namespace ? 1 : 2,
      fact: 'service account',
      is: serviceAccountName(is),
      wouldBe: account,
      party: movedTo(party, { namespace, serviceAccount }, trustDomain),
    };
  });
}

export function toNamespaces(namespaces: readonly string[], party: Party, trustDomain: string): PartyChange[] {
  const is = homeOf(party);
  if (is === undefined) return [];
  return nearest(namespaces, is.namespace).map((namespace) => ({
    cost: 3,
    fact: 'namespace',
    is: is.namespace,
    wouldBe: namespace,
    party: movedTo(party, { namespace, serviceAccount: is.serviceAccount }, trustDomain),
  }));
}

/** Only workloads of the same namespace; another namespace would be a second change. */
export function toWorkloads(names: readonly string[], party: Party): PartyChange[] {
  const { workload } = party;
  if (workload === null) return [];
  const prefix = `${workload.namespace}/`;
  return nearest(names, prefix)
    .filter((name) => name.startsWith(prefix))
    .map((name) => ({
      cost: 3,
      fact: 'workload',
      is: `${prefix}${workload.name}`,
      wouldBe: name,
      party: { ...party, workload: { ...workload, name: name.slice(prefix.length) } },
    }));
}

/** Only if exactly one label is missing or different; two would be two changes. */
export function toLabels(labels: Readonly<Record<string, string>>, party: Party): PartyChange[] {
  const { workload } = party;
  if (workload === null) return [];
  const missing = Object.entries(labels).filter(([name, value]) => workload.labels[name] !== value);
  const [first, ...others] = missing;
  if (first === undefined || others.length > 0) return [];
  const [name, value] = first;
  const changed = { ...party, workload: { ...workload, labels: { ...workload.labels, [name]: value } } };
  return [{ cost: 1, fact: `label ${name}`, is: workload.labels[name] ?? null, wouldBe: value, party: changed }];
}

export function toNodes(nodes: readonly string[], party: Party): PartyChange[] {
  const { workload } = party;
  if (workload === null) return [];
  return nearest(nodes, '').map((node) => ({
    cost: 5,
    fact: 'node',
    is: workload.node,
    wouldBe: node,
    party: { ...party, workload: { ...workload, node } },
  }));
}

/** To the first address of each network of the party's address family. */
export function toNetworks(cidrs: readonly string[], party: Party): PartyChange[] {
  const isV6 = party.ip.includes(':');
  return nearest(cidrs, '').flatMap((text) => {
    const cidr = parseCidr(text);
    if (cidr === undefined || cidr.base.includes(':') !== isV6) return [];
    return [{ cost: 4, fact: 'address', is: party.ip, wouldBe: cidr.base, party: { ...party, ip: cidr.base } }];
  });
}

function nearest(values: readonly string[], prefix: string): readonly string[] {
  const close = values.filter((value) => value.startsWith(prefix));
  return [...close, ...values.filter((value) => !value.startsWith(prefix))].slice(0, maxValues);
}
