import { meshDefaultRef, type PartyWorkload, type RuleRef } from './connection.js';
import { labelKey, type ScopeKind } from './prepared/policy-scope.js';
import { PolicyScopes, type ScopesOfRevision } from './prepared/policy-scopes.js';
import { hasLabels, type LabelPairs } from './prepared/conditions.js';
import type { CompiledPeerAuthentication, MtlsMode, Snapshot } from './snapshot.js';

type Destination = Pick<PartyWorkload, 'namespace' | 'labels'>;

/**
 * The mTLS mode at a port of a workload, and the document that sets it. The narrowest scope that sets a mode wins: the
 * port in a PeerAuthentication that selects the workload, that PeerAuthentication itself, the one of the namespace, the
 * one of the root namespace for the mesh, and finally `mtls` of the Mesh. In the root namespace, documents that select
 * workloads are ignored: Istio's text says so, and Istio does. If several of one scope exist, STRICT wins:
 * Istio takes the oldest, but documents do not carry their age, and `culvert apply` refuses sets in which the choice
 * would matter. Source: Istio's reference, Security / PeerAuthentication.
 */
export function mtlsOf(
  snapshot: Snapshot,
  destination: Destination,
  port: number,
): { readonly mode: MtlsMode; readonly rule: RuleRef } {
  const { peerAuthentications, mesh } = snapshot;
  if (peerAuthentications.length === 0) return { mode: mesh.mtls, rule: meshDefaultRef };
  const scopes = scopesOf(peerAuthentications);
  const own = scopes.get(destination.namespace)?.about(destination.labels);
  const specific = destination.namespace === mesh.rootNamespace ? undefined : own?.specific;
  return (
    strictest(specific, ({ ports, mode }) => ports[String(port)] ?? mode) ??
    strictest(own?.wide, ({ mode }) => mode) ??
    strictest(scopes.get(mesh.rootNamespace)?.about(noLabels).wide, ({ mode }) => mode) ?? {
      mode: mesh.mtls,
      rule: meshDefaultRef,
    }
  );
}

/** PeerAuthentications of one namespace: those that select workloads by labels, and those for the whole namespace. */
type Selection = {
  readonly specific: readonly CompiledPeerAuthentication[];
  readonly wide: readonly CompiledPeerAuthentication[];
};

type Selectable = { readonly policy: CompiledPeerAuthentication; readonly pairs: LabelPairs };

const kind: ScopeKind<Selectable, Selection> = {
  keysOf: ({ pairs: [pair] }) => (pair === undefined ? null : [labelKey(...pair)]),
  selects: ({ pairs }, labels) => hasLabels(pairs, labels),
  select: (selected) => ({
    specific: selected.filter(({ pairs }) => pairs.length > 0).map(({ policy }) => policy),
    wide: selected.filter(({ pairs }) => pairs.length === 0).map(({ policy }) => policy),
  }),
};

const noLabels = {};

type Documents = Snapshot['peerAuthentications'];
const scopesOfDocuments = new WeakMap<Documents, ScopesOfRevision<Selection>>();

function scopesOf(documents: Documents): ScopesOfRevision<Selection> {
  let scopes = scopesOfDocuments.get(documents);
  if (scopes === undefined) {
    const policies = documents.map((policy) => ({ policy, pairs: Object.entries(policy.selector) }));
    scopes = new PolicyScopes({ kind }).of(policies);
    scopesOfDocuments.set(documents, scopes);
  }
  return scopes;
}

function strictest(
  policies: readonly CompiledPeerAuthentication[] = [],
  modeOf: (policy: CompiledPeerAuthentication) => MtlsMode | null,
): { readonly mode: MtlsMode; readonly rule: RuleRef } | undefined {
  const decided = policies.filter((policy) => modeOf(policy) !== null);
  const decisive = decided.find((policy) => modeOf(policy) === 'STRICT') ?? decided[0];
  const mode = decisive === undefined ? null : modeOf(decisive);
  if (decisive === undefined || mode === null) return undefined;
  return { mode, rule: { kind: 'PeerAuthentication', namespace: decisive.namespace, name: decisive.name } };
}
