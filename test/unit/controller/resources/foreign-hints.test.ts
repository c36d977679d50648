import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';

/** What an author of documents of another project reads: what to write in their place, never a name that merely looks alike. */
const advice: readonly (readonly [apiVersion: string | undefined, kind: string, problem: RegExp])[] = [
  [
    'cilium.io/v2',
    'CiliumNetworkPolicy',
    /Culvert does not take CiliumNetworkPolicy of Cilium \(its rules can be written as Net/,
  ],
  [undefined, 'CiliumNetworkPolicy', /Culvert does not take CiliumNetworkPolicy of Cilium/],
  ['cilium.io/v2', 'CiliumEgressGatewayPolicy', /does not take CiliumEgressGatewayPolicy of Cilium/],
  ['cilium.io/v2', 'CiliumClusterwideNetworkPolicy', /SegmentationRules of the tier platform or baseline/],
  [
    'projectcalico.org/v3',
    'NetworkPolicy',
    /does not take NetworkPolicy of Calico \(its fields are not those of Kubernetes/,
  ],
  ['projectcalico.org/v3', 'GlobalNetworkPolicy', /of Calico/],
  ['crd.antrea.io/v1beta1', 'ClusterNetworkPolicy', /of Antrea/],
  ['policy.linkerd.io/v1alpha1', 'AuthorizationPolicy', /of Linkerd \(its fields are not those of Istio/],
  ['policy.linkerd.io/v1beta3', 'Server', /of Linkerd \(its rules can be written as AuthorizationPolicies/],
  [
    'consul.hashicorp.com/v1alpha1',
    'ServiceIntentions',
    /of Consul \(each intention can be written as a SegmentationRule/,
  ],
  ['kuma.io/v1alpha1', 'Mesh', /of Kuma \(settings of this mesh are in a Mesh with apiVersion culvert\.dev\/v1/],
  ['access.smi-spec.io/v1alpha3', 'TrafficTarget', /of Service Mesh Interface/],
  ['security.istio.io/v1', 'RequestAuthentication', /of Istio \(its JWTs are in HTTP requests/],
  ['gateway.networking.k8s.io/v1', 'TLSRoute', /of the Gateway API \(write its routes as a VirtualService/],
  ['gateway.networking.k8s.io/v1', 'UDPRoute', /of the Gateway API \(it is about UDP/],
  ['networking.istio.io/v1', 'Sidecar', /can be written as SegmentationRules/],
  ['v1', 'Service', /of Kubernetes \(write it with apiVersion culvert\.dev\/v1/],
  ['apps/v1', 'Deployment', /of Kubernetes \(register each of its instances as a Workload/],
  ['gateway.networking.k8s.io/v1', 'HTTPRoute', /of the Gateway API/],
];

/** A name of ours that is misspelt, and names of projects that nothing is known of. */
const others: readonly (readonly [apiVersion: string | undefined, kind: string, problem: RegExp])[] = [
  ['networking.k8s.io/v1', 'NetworkPolcy', /did you mean "NetworkPolicy"/],
  ['security.istio.io/v1', 'AuthorizationPolicies', /did you mean "AuthorizationPolicy"/],
  ['culvert.dev/v1', 'SegmentationRul', /did you mean "SegmentationRule"/],
  [undefined, 'NetworkPolicyy', /did you mean "NetworkPolicy"/],
  ['example.test/v1', 'NetworkPolicy2', /\(the kinds are Mesh/],
  [
    'extensions/v1beta1',
    'NetworkPolicy',
    /apiVersion: must not be "extensions\/v1beta1" \(for NetworkPolicy it is networking/,
  ],
  ['v1', 'Segment', /apiVersion: must not be "v1" \(for Segment it is culvert\.dev\/v1/],
];

describe('documents of other projects', () => {
  for (const [apiVersion, kind, problem] of [...advice, ...others]) {
    it(`${apiVersion ?? 'no apiVersion'} ${kind}`, () => {
      const { problems } = parseDocuments(JSON.stringify({ apiVersion, kind, metadata: { name: 'x' } }));
      assert.match(problems.map(formatProblem).join('\n'), problem);
    });
  }
  for (const [apiVersion, kind] of advice) {
    it(`${apiVersion ?? 'no apiVersion'} ${kind}: no other kind is suggested`, () => {
      const { problems } = parseDocuments(JSON.stringify({ apiVersion, kind, metadata: { name: 'x' } }));
      assert.doesNotMatch(problems.map(formatProblem).join('\n'), /did you mean/);
    });
  }
});
