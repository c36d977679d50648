import { z } from 'zod';
import { kindInfo, type ResourceKind } from '../kinds/resource.js';
import {
  commonColumns,
  customGroup,
  customKind,
  customKindNames,
  type CustomKindName,
  type PrinterColumn,
} from './custom-kinds.js';
import { structuralSchema, validations, type StructuralSchema } from './structural-schema.js';

/** A CustomResourceDefinition (apiextensions.k8s.io/v1). */
export type CustomDefinition = {
  readonly apiVersion: 'apiextensions.k8s.io/v1';
  readonly kind: 'CustomResourceDefinition';
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: { readonly [field: string]: unknown };
};

const version = 'v1';

/** The definitions of all kinds that a cluster has as custom resources of its own, made from their schemas. */
export function customDefinitions(): readonly CustomDefinition[] {
  return customKindNames.map(definitionOf);
}

function definitionOf(kind: CustomKindName): CustomDefinition {
  const { plural, shortNames, columns } = customKind(kind);
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${customGroup}`,
      labels: { 'app.kubernetes.io/name': 'culvert', 'app.kubernetes.io/part-of': 'culvert' },
    },
    spec: {
      group: customGroup,
      scope: kindInfo(kind).isNamespaced ? 'Namespaced' : 'Cluster',
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames,
        categories: ['culvert'],
      },
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: [...columns, ...commonColumns].map(columnOf),
          schema: { openAPIV3Schema: documentSchema(kind) },
        },
      ],
    },
  };
}

/** The API server itself judges the metadata. */
function documentSchema(kind: ResourceKind): StructuralSchema {
  const { schema } = kindInfo(kind);
  const {
    description,
    properties = {},
    required = [],
  } = structuralSchema(schema) as {
    readonly description?: string;
    readonly properties?: Readonly<Record<string, StructuralSchema>>;
    readonly required?: readonly string[];
  };
  const { spec } = properties;
  const name = isSingleton(schema) ? { 'the only one is named default': "self.metadata.name == 'default'" } : {};
  return {
    ...(description === undefined ? {} : { description }),
    type: 'object',
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: { type: 'object' },
      spec,
      status,
    },
    ...(required.includes('spec') ? { required: ['spec'] } : {}),
    // A misspelt field next to spec is refused by the controller too.
    'x-kubernetes-preserve-unknown-fields': true,
    ...validations(name),
  };
}

function isSingleton(schema: z.ZodType): boolean {
  const metadata = schema instanceof z.ZodObject ? schema.shape['metadata'] : undefined;
  return metadata instanceof z.ZodObject && metadata.shape['name'] instanceof z.ZodLiteral;
}

function columnOf({ name, type, jsonPath, description, priority }: PrinterColumn): object {
  return { name, type, jsonPath, description, ...(priority === undefined ? {} : { priority }) };
}

const text = (description: string): StructuralSchema => ({ description, type: 'string' });

const status: StructuralSchema = {
  description: 'What the controller of Culvert says of it.',
  type: 'object',
  properties: {
    observedGeneration: {
      description: 'The generation that the conditions are about.',
      type: 'integer',
      format: 'int64',
    },
    revision: { description: 'The revision of the rules that has it as it is now.', type: 'integer', format: 'int64' },
    agents: text('How many agents enforce it, of how many: 3/3.'),
    conditions: {
      description: 'Accepted, InForce, and Warned, as the conditions of Kubernetes are written.',
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
      items: {
        type: 'object',
        properties: {
          type: text('What the condition is about.'),
          status: { ...text('Whether it holds.'), enum: ['True', 'False', 'Unknown'] },
          reason: text('Why, in a word.'),
          message: text('Why, for people.'),
          lastTransitionTime: { ...text('When its status changed last.'), format: 'date-time' },
          observedGeneration: { description: 'The generation that it is about.', type: 'integer', format: 'int64' },
        },
        required: ['type', 'status', 'reason', 'message', 'lastTransitionTime'],
      },
    },
  },
};
