import { CulvertError } from '../../shared/errors.js';
import { didYouMean } from '../../shared/nearest-name.js';
import { clusterNetworkPolicyApiVersion } from '../resources/kinds/cluster-network-policy.js';
import { kubernetesNetworkingApiVersion } from '../resources/kinds/network-policy.js';
import type { RuleKind } from './rule-object.js';

const istioSecurity = 'security.istio.io/v1';
const istioNetworking = 'networking.istio.io/v1';

const foreign: readonly RuleKind[] = [
  { ...of('NetworkPolicy', kubernetesNetworkingApiVersion, 'networkpolicies'), definition: null },
  of('ClusterNetworkPolicy', clusterNetworkPolicyApiVersion, 'clusternetworkpolicies'),
  of('AuthorizationPolicy', istioSecurity, 'authorizationpolicies'),
  of('PeerAuthentication', istioSecurity, 'peerauthentications'),
  of('ServiceEntry', istioNetworking, 'serviceentries'),
  { kind: 'Namespace', path: '/api/v1/namespaces', apiVersion: 'v1', definition: null, isOurs: false },
];

function of(kind: RuleKind['kind'], apiVersion: string, plural: string): RuleKind {
  const [group = ''] = apiVersion.split('/', 1);
  return { kind, path: `/apis/${apiVersion}/${plural}`, apiVersion, definition: `${plural}.${group}`, isOurs: false };
}

/** The kinds of others that a setting names. Errors: `CONFIG_INVALID`. */
export function foreignRuleKinds(names: readonly string[]): readonly RuleKind[] {
  return names.map((name) => {
    const found = foreign.find(({ kind }) => kind === name);
    if (found !== undefined) return found;
    const known = foreign.map(({ kind }) => kind);
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: `--kubernetes-policies: there is no kind "${name}" to take`,
      hint: didYouMean(name, known, `use some of ${known.join(', ')}`),
    });
  });
}
