import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { RunningController } from '../../../controller/app.js';
import { culvert as run, type CliRun } from '../../support/controller/cli-fixture.js';
import { startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';
import { joinNodes } from '../../support/controller/joined-agent.js';

/** The workloads that the examples speak of. */
const workloads = [
  ['billing', 'api', 'api'],
  ['billing', 'db', 'db'],
  ['billing', 'reports', 'reports'],
  ['shop', 'cache', 'cache'],
  ['guest', 'shell', 'shell'],
  ['ops', 'shell', 'shell'],
]
  .map(
    ([namespace, name, app], index) => `---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${app} } }
spec: { serviceAccount: ${name}, addresses: [198.18.0.${index + 1}], node: host-a, netns: ${namespace}-${name} }
`,
  )
  .join('');

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;
let yamlBlocks: readonly string[];
let commands: readonly string[];
/** What the guide calls `rules/`: a file for each of its blocks, and the workloads. */
let rules: string;

before(async () => {
  const guide = await readFile('deploy/docs/rules.md', 'utf8');
  yamlBlocks = fenced(guide, 'yaml');
  commands = fenced(guide, 'console')
    .flatMap((block) => block.split('\n'))
    .filter((line) => line !== '');
  directory = await temporaryDirectory();
  rules = join(directory.path, 'rules');
  await mkdir(rules);
  const files = [workloads, ...yamlBlocks].map((text, index) => writeFile(join(rules, `${index}.yaml`), text));
  await Promise.all(files);
  controller = await startedController(join(directory.path, 'state'));
  await joinNodes(controller, 'host-a', 'host-b');
  const registered = await culvert(['apply', '-f', '-'], workloads);
  assert.equal(registered.code, 0, registered.err);
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function fenced(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].flatMap(([, name, body = '']) =>
    name === language ? [body] : [],
  );
}

function culvert(argv: readonly string[], stdin = ''): Promise<CliRun> {
  return run(argv, { env: { CULVERT_CONTEXT: join(directory.path, 'state', 'admin.yaml') }, stdin });
}

/** The words of a line `$ culvert …  # remark`. */
function argvOf(line: string): string[] {
  const match = /^\$ culvert ([^#]+?)(?: +#.*)?$/.exec(line);
  assert.ok(match !== null, `"${line}" is a culvert command`);
  const words = [...(match[1] ?? '').matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
  return words.map((word) => (word === 'rules/' ? rules : word));
}

// In the order of the guide, as a reader would go.
describe('the guide to rules, deploy/docs/rules.md', () => {
  it('has documents that a controller takes one after another, without a warning', async () => {
    assert.ok(yamlBlocks.length >= 7, `${yamlBlocks.length} blocks`);
    for (const block of yamlBlocks.filter((text) => !text.includes('kind: PolicyTest'))) {
      const { code, out, err } = await culvert(['apply', '-f', '-'], block);
      assert.equal(code, 0, `${err}\n${block}`);
      assert.match(out, /created/);
      assert.doesNotMatch(`${out}${err}`, /warning/i, block);
    }
  });

  it('has tests that its own rules pass', async () => {
    const { code, out, err } = await culvert(['test', '-f', rules]);
    assert.equal(code, 0, `${out}\n${err}`);
    const assertions = [workloads, ...yamlBlocks].join('').match(/expect: (?:allow|deny)/g)?.length ?? 0;
    assert.ok(assertions >= 5);
    assert.match(out, new RegExp(String.raw`\b${assertions}\b`));
  });

  it('has commands that run, and a promotion that is refused as long as nothing is recorded', async () => {
    assert.ok(commands.length >= 10, `${commands.length} commands`);
    for (const line of commands) {
      const { code, err } = await culvert(argvOf(line));
      if (line.includes('culvert promote')) assert.match(err, /no connection was recorded/);
      else assert.equal(code, 0, `${line}\n${err}`);
      if (line.includes('culvert apply')) assert.match(err, /^note: 3 assertions of PolicyTests not applied/);
    }
  });

  it('has PolicyTests that are never stored: alone they are refused with what to do, and delete leaves them out', async () => {
    const test = yamlBlocks.find((text) => text.includes('kind: PolicyTest')) ?? '';
    const alone = await culvert(['apply', '-f', '-'], test);
    assert.equal(alone.code, 1);
    assert.match(alone.err, /PolicyTest\/\S+: kind: a PolicyTest is checked, and never stored \(run culvert test -f;/);
    const asked = await culvert(['get', 'PolicyTests']);
    assert.equal(asked.code, 4);
    assert.match(asked.err, /PolicyTests are never stored \(check files with: culvert test -f\)/);
    assert.equal((await culvert(['delete', '-f', '-'], test)).code, 64);
    const segment =
      'apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: spare }\nspec: { members: [{ namespace: shop }] }\n';
    assert.equal((await culvert(['apply', '-f', '-'], `${segment}---\n${test}`)).code, 0);
    const deleted = await culvert(['delete', '-f', '-'], `${segment}---\n${test}`);
    assert.equal(deleted.code, 0, deleted.err);
    assert.match(deleted.out, /^Segment\/spare deleted/);
  });

  it('has PolicyTests beside the rules that apply refuses when they are wrong', async () => {
    const wrong = (yamlBlocks.find((text) => text.includes('kind: PolicyTest')) ?? '').replace('expect:', 'expects:');
    const before = await culvert(['history', '-o', 'json']);
    const { code, err } = await culvert(['apply', '-f', '-'], `${yamlBlocks[0]}---\n${wrong}`);
    assert.equal(code, 1);
    assert.match(err, /PolicyTest\/who-reaches-the-database: .*expects/);
    assert.equal((await culvert(['history', '-o', 'json'])).out, before.out);
  });
});
