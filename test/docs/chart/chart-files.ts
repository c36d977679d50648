import { stringify } from 'yaml';
import { wrapped } from '../../../controller/cli/view/wrapped-text.js';
import { alertRules } from '../../../controller/install/alert-rules.js';
import { dashboard } from '../../../controller/install/dashboard.js';
import { installObjects, installParts } from '../../../controller/install/install-objects.js';
import { defaultValues, type InstallValues } from '../../../controller/install/install-options.js';
import { valueNotes } from '../../../controller/install/install-values.js';
import { version } from '../../../shared/version.js';
import { chartOptions } from './chart-options.js';
import { templateText } from './template-text.js';

export const chartDirectory = 'deploy/helm/culvert';

const generated = 'Made by "npm run docs" from controller/install: change it there.';

/**
 * All files of the chart, what `culvert install` prints, and the alerts and the dashboard by themselves, by their path from the
 * root of the repository.
 */
export function chartFiles(): ReadonlyMap<string, string> {
  const values = defaultValues(version);
  const ofChart = { ...values, namespace: '' };
  const templates = installParts(chartOptions(values)).map(
    ({ name, objects }) =>
      [`${chartDirectory}/templates/${name}.yaml`, `{{- /* ${generated} */ -}}\n${templateText(objects)}`] as const,
  );
  return new Map([
    [`${chartDirectory}/Chart.yaml`, chartYaml(version)],
    [`${chartDirectory}/values.yaml`, valuesYaml(ofChart)],
    [`${chartDirectory}/values.schema.json`, `${JSON.stringify(valuesSchema(ofChart), null, 2)}\n`],
    [`${chartDirectory}/templates/_names.tpl`, names(values)],
    ...templates,
    ['deploy/kubernetes/culvert.yaml', installObjects(values).map(yaml).join('---\n')],
    ['deploy/prometheus/alerts.yaml', `# ${generated}\n${yaml({ groups: [{ name: 'culvert', rules: alertRules }] })}`],
    ['deploy/grafana/culvert.json', `${JSON.stringify(dashboard, null, 2)}\n`],
  ]);
}

/** A release in the namespace `default` was made without one in mind: agents there would be among the pods of others. */
function names({ namespace }: InstallValues): string {
  const usual = `(eq .Release.Namespace "default" | ternary ${JSON.stringify(namespace)} .Release.Namespace)`;
  const comment = `{{- /* ${generated} */ -}}`;
  return `${comment}\n{{- define "culvert.namespace" -}}\n{{- .Values.namespace | default ${usual} -}}\n{{- end -}}\n`;
}

function yaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, version: '1.1', aliasDuplicateObjects: false });
}

function chartYaml(version: string): string {
  const chart = {
    apiVersion: 'v2',
    name: 'culvert',
    description: 'Encryption, authorisation, segmentation and measurement for every TCP connection between pods',
    type: 'application',
    version,
    appVersion: version,
    // Agents join with tokens that name their node.
    kubeVersion: '>=1.32.0-0',
  };
  return `# ${generated}\n${yaml(chart)}`;
}

/** Every value with its default, below what it means. */
function valuesYaml(values: InstallValues): string {
  return `# ${generated}\n${valueLines(values, '', '').join('\n')}\n`.replaceAll(':\n\n', ':\n');
}

function valueLines(tree: object, path: string, indent: string): string[] {
  return Object.entries(tree).flatMap(([key, value]: [string, unknown]) => {
    const below = path === '' ? key : `${path}.${key}`;
    const note = valueNotes[below];
    if (note === undefined) return ['', `${indent}${key}:`, ...valueLines(value as object, below, `${indent}  `)];
    const text = yaml({ [key]: value })
      .trimEnd()
      .split('\n');
    return ['', wrapped(note.help, `${indent}# `), ...text.map((line) => indent + line)];
  });
}

/** JSON Schema of the values, with which Helm refuses what the programs would refuse later. */
function valuesSchema(values: InstallValues): object {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the chart of Culvert',
    ...schemaOf(values, ''),
    // Of a chart that has this one as a part.
    properties: { ...(schemaOf(values, '')['properties'] as object), global: { type: 'object' } },
  };
}

function schemaOf(value: unknown, path: string): Record<string, unknown> {
  const note = valueNotes[path];
  if (note !== undefined) return { type: typeOf(value), description: note.help, ...note.schema };
  const entries = Object.entries(value as object).map(([key, each]) => {
    return [key, schemaOf(each, path === '' ? key : `${path}.${key}`)] as const;
  });
  // Helm takes out what is null: then it is missing, and a template would print "nil" in its place.
  const required = entries.map(([key]) => key);
  const own = { type: 'object', additionalProperties: false, required, properties: Object.fromEntries(entries) };
  return path === 'controller' ? { ...own, ...placeOfState } : own;
}

/** A directory of a node needs the node, and two controllers need the same state. */
const placeOfState = {
  not: {
    properties: { replicas: { const: 2 }, storage: { properties: { kind: { const: 'empty-dir' } } } },
  },
  anyOf: [
    { properties: { storage: { properties: { kind: { not: { const: 'host-path' } } } } } },
    {
      properties: {
        storage: { properties: { path: { minLength: 1 } } },
        nodeSelector: { minProperties: 1 },
      },
    },
  ],
} as const;

function typeOf(value: unknown): string {
  return Array.isArray(value) ? 'array' : typeof value;
}
