import type { z } from 'zod';
import {
  authorizationPolicySchema,
  istioSecurityApiVersions,
  type AuthorizationPolicy,
} from './authorization-policy.js';
import { meshSchema, type Mesh } from './mesh.js';
import { culvertApiVersion } from './metadata.js';
import { segmentSchema, type Segment } from './segment.js';
import { segmentationRuleSchema, type SegmentationRule } from './segmentation-rule.js';
import { serviceSchema, type Service } from './service.js';
import { workloadSchema, type Workload } from './workload.js';

/** What people write in YAML and the controller keeps in `culvert_config`. Plain JSON, with defaults filled in. */
export type Resource = Workload | Service | Segment | SegmentationRule | AuthorizationPolicy | Mesh;
export type ResourceKind = Resource['kind'];

type KindInfo = {
  readonly schema: z.ZodType<Resource>;
  readonly isNamespaced: boolean;
  readonly apiVersions: readonly string[];
  /** Other words for it on the command line, lower case. */
  readonly aliases: readonly string[];
};

const culvertOnly = [culvertApiVersion] as const;

export const resourceKinds = {
  Mesh: { schema: meshSchema, isNamespaced: false, apiVersions: culvertOnly, aliases: ['meshes'] },
  Workload: { schema: workloadSchema, isNamespaced: true, apiVersions: culvertOnly, aliases: ['workloads', 'wl'] },
  Service: { schema: serviceSchema, isNamespaced: true, apiVersions: culvertOnly, aliases: ['services', 'svc'] },
  Segment: { schema: segmentSchema, isNamespaced: false, apiVersions: culvertOnly, aliases: ['segments', 'seg'] },
  SegmentationRule: {
    schema: segmentationRuleSchema,
    isNamespaced: false,
    apiVersions: culvertOnly,
    aliases: ['segmentationrules', 'rule', 'rules', 'sr'],
  },
  AuthorizationPolicy: {
    schema: authorizationPolicySchema,
    isNamespaced: true,
    apiVersions: [culvertApiVersion, ...istioSecurityApiVersions],
    aliases: ['authorizationpolicies', 'ap', 'authz'],
  },
} as const satisfies Record<ResourceKind, KindInfo>;

export const kindNames = Object.keys(resourceKinds) as readonly ResourceKind[];

export function isResourceKind(text: string): text is ResourceKind {
  return Object.hasOwn(resourceKinds, text);
}

export function kindInfo(kind: ResourceKind): KindInfo {
  return resourceKinds[kind];
}

/** The kind that a person means by `workload`, `Workloads` or `wl`; undefined when there is none. */
export function findKind(text: string): ResourceKind | undefined {
  const word = text.toLowerCase();
  return kindNames.find((kind) => kind.toLowerCase() === word || kindInfo(kind).aliases.includes(word));
}
