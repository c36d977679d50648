import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { hostPorts } from '../../../agent/ports.js';
import { alertRules } from '../../../controller/install/alert-rules.js';
import { dashboardQueries } from '../../../controller/install/dashboard.js';
import { defaultValues, metricsPort } from '../../../controller/install/install-options.js';
import { installObjects } from '../../../controller/install/install-objects.js';
import { valueNotes, valuePatterns } from '../../../controller/install/install-values.js';
import { chartDirectory, chartFiles } from '../../docs/chart/chart-files.js';
import { chartOptions } from '../../docs/chart/chart-options.js';
import { templateText } from '../../docs/chart/template-text.js';
import { agentMetrics, controllerMetrics } from '../../docs/metric-tables.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import { installValueSets } from '../../support/controller/install-value-sets.js';

test('the files of the chart are those of the code', () => {
  const files = chartFiles();
  for (const [file, text] of files) {
    assert.ok(text === readFileSync(file, 'utf8'), `${file} is behind the code: run "npm run docs"`);
  }
  const templates = readdirSync(`${chartDirectory}/templates`).filter((name) => name.endsWith('.yaml'));
  for (const name of templates) assert.ok(files.has(`${chartDirectory}/templates/${name}`), `${name} is not generated`);
});

test('what culvert install prints without an option is in the repository, as it is applied', async () => {
  const { code, out } = await culvert(['install']);
  assert.deepEqual([code, `${out}\n`], [0, readFileSync('deploy/kubernetes/culvert.yaml', 'utf8')]);
});

test('every value has a note, and every note a value', () => {
  const values = defaultValues('1');
  const options = JSON.stringify(chartOptions(values));
  for (const path of Object.keys(valueNotes)) assert.ok(options.includes(path), path);
  const unknown = { ...values, colour: 'red' };
  assert.throws(() => chartOptions(unknown), /the value colour has no note/);
});

test('no value may be null: Helm takes it out, and the schema asks for it', () => {
  type Schema = { readonly required?: readonly string[]; readonly properties?: Readonly<Record<string, Schema>> };
  const schema = JSON.parse(readFileSync(`${chartDirectory}/values.schema.json`, 'utf8')) as Schema;
  for (const path of Object.keys(valueNotes)) {
    let at = schema;
    for (const key of path.split('.')) {
      assert.ok(at.required?.includes(key), path);
      at = at.properties?.[key] ?? {};
    }
  }
});

test('patterns of values refuse what is none, without what RE2 of Helm cannot do', () => {
  const fits = (name: keyof typeof valuePatterns, text: string): boolean => new RegExp(valuePatterns[name]).test(text);
  for (const path of ['/a', '/var/lib/culvert', '/opt/.k3s/x/']) assert.ok(fits('directory', path), path);
  for (const path of ['', '/', 'a', '/a/..', '/../a', '/a/./b', '/a b', '//'])
    assert.ok(!fits('directory', path), path);
  for (const pattern of Object.values(valuePatterns)) assert.doesNotMatch(pattern, /\(\?[=!<]/);
});

test('a template quotes values, takes a text of another template for a text, and puts conditions around parts', () => {
  const [when] = installObjects(installValueSets['everything that can be asked for'] ?? defaultValues('1'));
  assert.equal(when?.kind, 'Namespace');
  const text = templateText([
    { a: 'x {{ $labels.y }} "z"', b: 'yes', c: '5', d: [], e: {}, f: [{ g: 1 }, ['h']], i: 'if x\nthen "y"\n\nfi' },
  ]);
  assert.equal(
    text,
    [
      '---',
      'a: {{ "x {{ $labels.y }} \\"z\\"" | quote }}',
      'b: "yes"',
      'c: "5"',
      'd: []',
      'e: {}',
      'f:',
      '  - g: 1',
      '  - - h',
      'i: "if x\\nthen \\"y\\"\\n\\nfi"',
      '',
    ].join('\n'),
  );
});

test('every template is YAML, whatever its values and conditions are', () => {
  for (const [file, text] of chartFiles()) {
    if (!file.startsWith(`${chartDirectory}/templates/`)) continue;
    const lines = text.split('\n').filter((line) => !/^\s*\{\{-.*\}\}$/.test(line));
    // Keys that two conditions have are there twice.
    const documents = parseAllDocuments(lines.join('\n').replaceAll(/\{\{.*\}\}/g, 'x'), { uniqueKeys: false });
    for (const { errors } of documents) assert.deepEqual(errors, [], file);
  }
});

test('alerts and dashboard are about metrics that there are, and metrics are scraped where agents serve them', () => {
  const known = new Set([...agentMetrics(), ...controllerMetrics()].map(({ name }) => name));
  const queries = [...alertRules.map(({ expr }) => expr), ...dashboardQueries];
  const named = queries.flatMap((query) => query.match(/\bculvert_\w+/g) ?? []);
  assert.ok(named.length > 20);
  assert.deepEqual(
    named.filter((name) => !known.has(name) && !known.has(name.replace(/_bucket$/, ''))),
    [],
  );
  assert.equal(metricsPort, hostPorts.metrics);
});
