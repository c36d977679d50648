import type { PartyWorkload, RuleRef } from './connection.js';
import { meshDefaultRef } from './mesh-default.js';
import { hasLabels } from './prepared-peer.js';
import type { CompiledPeerAuthentication, MtlsMode, Snapshot } from './snapshot.js';

type Destination = Pick<PartyWorkload, 'namespace' | 'labels'>;

/** Whether plaintext from outside the mesh is refused at this port of the workload; see {@link mtlsOf}. */
export function requiredMtls(snapshot: Snapshot, destination: Destination, port: number): MtlsMode {
  return mtlsOf(snapshot, destination, port).mode;
}

/**
 * The mode in force at a port of a workload, and the document that says so. The narrowest scope that says anything
 * wins: the port in a PeerAuthentication that selects the workload, that PeerAuthentication, the one of the namespace,
 * the one of the root namespace for the mesh, and `mtls` of the Mesh. Among several of one scope STRICT wins: Istio
 * takes the oldest, which a document does not show, and the apply refuses sets in which it would matter.
 * Source: Istio's reference, Security / PeerAuthentication.
 */
export function mtlsOf(
  snapshot: Snapshot,
  destination: Destination,
  port: number,
): { readonly mode: MtlsMode; readonly rule: RuleRef } {
  const { peerAuthentications, mesh } = snapshot;
  if (peerAuthentications.length === 0) return { mode: mesh.mtls, rule: meshDefaultRef };
  const ofNamespace = (namespace: string) => peerAuthentications.filter((policy) => policy.namespace === namespace);
  const own = ofNamespace(destination.namespace);
  const specific = own.filter(
    ({ selector }) => isSelective(selector) && hasLabels(Object.entries(selector), destination.labels),
  );
  const wide = (policies: readonly CompiledPeerAuthentication[]) =>
    policies.filter(({ selector }) => !isSelective(selector));
  return (
    strictest(specific, ({ ports, mode }) => ports[String(port)] ?? mode) ??
    strictest(wide(own), ({ mode }) => mode) ??
    strictest(wide(ofNamespace(mesh.rootNamespace)), ({ mode }) => mode) ?? { mode: mesh.mtls, rule: meshDefaultRef }
  );
}

function isSelective(selector: CompiledPeerAuthentication['selector']): boolean {
  return Object.keys(selector).length > 0;
}

function strictest(
  policies: readonly CompiledPeerAuthentication[],
  modeOf: (policy: CompiledPeerAuthentication) => MtlsMode | null,
): { readonly mode: MtlsMode; readonly rule: RuleRef } | undefined {
  const decided = policies.filter((policy) => modeOf(policy) !== null);
  const decisive = decided.find((policy) => modeOf(policy) === 'STRICT') ?? decided[0];
  const mode = decisive === undefined ? null : modeOf(decisive);
  if (decisive === undefined || mode === null) return undefined;
  return { mode, rule: { kind: 'PeerAuthentication', namespace: decisive.namespace, name: decisive.name } };
}
