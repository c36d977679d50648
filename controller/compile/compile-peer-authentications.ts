import type { PeerAuthentication } from '../resources/kinds/peer-authentication.js';
import { byNamespaceAndName } from './compile-authorization.js';
import type { CompiledPeerAuthentication, MtlsMode } from '../../shared/policy/snapshot.js';

/** Compiles PeerAuthentications, sorted by namespace and name. */
export function compilePeerAuthentications(policies: readonly PeerAuthentication[]): CompiledPeerAuthentication[] {
  return policies.map(compilePolicy).sort(byNamespaceAndName);
}

function compilePolicy({ metadata, spec }: PeerAuthentication): CompiledPeerAuthentication {
  const ports: Record<string, MtlsMode> = {};
  for (const [port, mtls] of Object.entries(spec.portLevelMtls ?? {})) {
    const mode = modeOf(mtls);
    if (mode !== null) ports[String(Number(port))] = mode;
  }
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    selector: spec.selector?.matchLabels ?? {},
    mode: modeOf(spec.mtls),
    ports,
  };
}

function modeOf(mtls: PeerAuthentication['spec']['mtls']): MtlsMode | null {
  return mtls?.mode === undefined || mtls.mode === 'UNSET' ? null : mtls.mode;
}
