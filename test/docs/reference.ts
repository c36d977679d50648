import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { policyTestSchema } from '../../controller/analysis/tests/policy-test.js';
import { kindInfo, kindNames } from '../../controller/resources/kinds/resource.js';
import { fieldsOf, type FieldRow } from '../../controller/resources/fields/field-rows.js';
import { markdownTable } from './markdown-table.js';

/** A section of the reference: a kind of document, or an object that several kinds have. */
export type ReferenceSection = {
  readonly title: string;
  readonly text: string;
  readonly rows: readonly FieldRow[];
  /** The example in deploy/docs/examples; null: a part has none. */
  readonly exampleFile: string | null;
  readonly facts: readonly string[];
};

/** Every kind, in the order of `resourceKinds`, then what several of them have, by name. */
export function referenceSections(): ReferenceSection[] {
  const parts = new Map<string, z.core.$ZodType>();
  const kinds = [
    ...kindNames.map((kind) => {
      const { schema, apiVersions, aliases, isNamespaced } = kindInfo(kind);
      const facts = [
        `\`apiVersion\`: ${apiVersions.map((version) => `\`${version}\``).join(', ')}`,
        `belongs to ${kind === 'Mesh' || !isNamespaced ? 'the whole mesh' : 'a namespace'}`,
        `on the command line also ${aliases.map((alias) => `\`${alias}\``).join(', ')}`,
      ];
      return kindSection(kind, schema, facts, parts);
    }),
    kindSection('PolicyTest', policyTestSchema, ['`apiVersion`: `culvert.dev/v1`', 'never stored'], parts),
  ];
  const described = new Map<string, ReferenceSection>();
  // A part may have parts of its own, which join the end of the map while it is walked.
  for (const [title, schema] of parts) {
    const { rows, parts: inner } = fieldsOf(schema);
    for (const [name, part] of inner) parts.set(name, part);
    described.set(title, { title, text: '', rows, exampleFile: null, facts: [] });
  }
  return [...kinds, ...[...described.values()].sort((a, b) => (a.title < b.title ? -1 : 1))];
}

function kindSection(
  title: string,
  schema: z.ZodType,
  facts: readonly string[],
  parts: Map<string, z.core.$ZodType>,
): ReferenceSection {
  const fields = fieldsOf(schema);
  for (const [name, part] of fields.parts) parts.set(name, part);
  return { title, text: schema.description ?? '', rows: fields.rows, exampleFile: exampleFileOf(title), facts };
}

/** `SegmentationRule` → `deploy/docs/examples/segmentation-rule.yaml`. */
function exampleFileOf(kind: string): string {
  return `deploy/docs/examples/${kind.replace(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase()}.yaml`;
}

export function renderReference(): string {
  return referenceSections().map(renderSection).join('\n\n');
}

function renderSection({ title, text, rows, exampleFile, facts }: ReferenceSection): string {
  const table = markdownTable(
    ['field', 'type', 'without it', 'meaning', 'limits', 'example'],
    rows.map(({ path, type, presence, meaning, limits, example }) => [
      `\`${path}\``,
      type,
      presence,
      meaning,
      limits,
      example === '' ? '' : `\`${example}\``,
    ]),
  );
  const example = exampleFile === null ? '' : `\`\`\`yaml\n${readFileSync(exampleFile, 'utf8').trimEnd()}\n\`\`\``;
  const parts = [`## ${title}`, text, facts.map((fact) => `- ${fact}`).join('\n'), example, table];
  return parts.filter((part) => part !== '').join('\n\n');
}
