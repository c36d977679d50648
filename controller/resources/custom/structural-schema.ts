import type { z } from 'zod';
import { fieldNotes, type OpenApiNote } from '../kinds/field-notes.js';

/** A schema of OpenAPI v3 as a CustomResourceDefinition takes it ("structural"). */
export type StructuralSchema = { readonly [word: string]: unknown };

type Layers = readonly z.core.$ZodType[];

/** A list whose entries have rules in CEL needs a bound, or the API server refuses the definition as too expensive. */
const maxRuledItems = 65_536;

/**
 * What a definition of a custom resource says of a schema. Fields that it does not know are kept, so that the controller can
 * refuse them by name: the API server would drop a misspelt `from` in silence, and the rule would match everybody. What the
 * schema checks in code is left to the controller, unless the field notes say it in OpenAPI or CEL.
 * Source: "Specifying a structural schema" in the Kubernetes documentation of CustomResourceDefinitions.
 */
export function structuralSchema(schema: z.core.$ZodType): StructuralSchema {
  const layers = unwrapped(schema);
  const description = firstOf(layers, (layer) => (layer as z.ZodType).description);
  const fallback = firstOf(layers, defaultOf);
  const { rules = {}, ...noted } = firstOf(layers, (layer) => fieldNotes.get(layer as z.ZodType)?.openApi) ?? {};
  const typed = typedBy(layers);
  return {
    ...(description === undefined ? {} : { description }),
    ...typed,
    ...boundsOf(layers, typed),
    ...noted,
    ...(fallback === undefined ? {} : { default: fallback }),
    ...validations(rules),
  };
}

/** Rules in CEL, as a schema has them. */
export function validations(rules: Required<OpenApiNote>['rules']): StructuralSchema {
  const listed = Object.entries(rules).map(([message, rule]) => ({ rule, message }));
  return listed.length === 0 ? {} : { 'x-kubernetes-validations': listed };
}

function typedBy(layers: Layers): StructuralSchema {
  for (const layer of layers) {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    switch (def.type) {
      case 'object':
        return objectOf(def.shape);
      case 'record':
        return { type: 'object', additionalProperties: structuralSchema(def.valueType) };
      case 'array': {
        const items = structuralSchema(def.element);
        return { type: 'array', items, ...(hasRules(items) ? { maxItems: maxRuledItems } : {}) };
      }
      case 'union':
        return { 'x-kubernetes-int-or-string': true };
      case 'enum':
        return { type: 'string', enum: Object.values(def.entries) };
      case 'literal':
        return { type: def.values.includes(true) ? 'boolean' : 'string', enum: def.values };
      case 'string':
      case 'number':
      case 'boolean':
        return { type: def.type };
      case 'transform':
        // Texts that are read in any case: the words are left to the controller.
        return { type: 'string' };
      default:
    }
  }
  throw new Error('a schema of this type has no form in OpenAPI');
}

function objectOf(shape: Readonly<Record<string, z.core.$ZodType>>): StructuralSchema {
  const required = Object.entries(shape).flatMap(([name, field]) => (isRequired(unwrapped(field)) ? [name] : []));
  return {
    type: 'object',
    properties: Object.fromEntries(Object.entries(shape).map(([name, field]) => [name, structuralSchema(field)])),
    ...(required.length === 0 ? {} : { required }),
    'x-kubernetes-preserve-unknown-fields': true,
  };
}

function isRequired(layers: Layers): boolean {
  return !layers.some((layer) =>
    ['optional', 'default', 'prefault'].includes((layer as z.core.$ZodTypes)._zod.def.type),
  );
}

/** Of a whole object the controller fills it in: the API server would need the defaults of its fields as well. */
function defaultOf(layer: z.core.$ZodType): unknown {
  const { def } = (layer as z.core.$ZodTypes)._zod;
  return def.type === 'default' && typeof def.defaultValue !== 'object' ? def.defaultValue : undefined;
}

/** Lengths and patterns, which all have the meaning that they have in the schema. */
function boundsOf(layers: Layers, { type }: StructuralSchema): StructuralSchema {
  const bounds: Record<string, unknown> = {};
  const unit = type === 'array' ? 'Items' : 'Length';
  for (const layer of layers) {
    for (const check of (layer as z.core.$ZodTypes)._zod.def.checks ?? []) {
      const { def } = (check as z.core.$ZodChecks)._zod;
      if (def.check === 'min_length') bounds[`min${unit}`] = def.minimum;
      if (def.check === 'max_length') bounds[`max${unit}`] = def.maximum;
      // The patterns of Go look neither ahead nor back.
      if (def.check === 'string_format' && def.pattern !== undefined && !/\(\?<?[=!]/.test(def.pattern.source)) {
        bounds['pattern'] = def.pattern.source;
      }
    }
  }
  return bounds;
}

function hasRules(schema: StructuralSchema): boolean {
  return JSON.stringify(schema).includes('"x-kubernetes-validations"');
}

/** A schema and those that it wraps, outermost first, up to what a document may have. */
function unwrapped(schema: z.core.$ZodType): Layers {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('innerType' in def) return [schema, ...unwrapped(def.innerType)];
  return def.type === 'pipe' ? [schema, ...unwrapped(def.in)] : [schema];
}

function firstOf<T>(layers: Layers, read: (layer: z.core.$ZodType) => T | undefined): T | undefined {
  return layers.map(read).find((value) => value !== undefined);
}
