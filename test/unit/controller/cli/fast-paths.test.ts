import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parse, stringify } from 'yaml';
import { readPlainContext } from '../../../../controller/cli/client/plain-context.js';
import { mayHoldPolicyTests } from '../../../../controller/analysis/tests/policy-test-hint.js';
import { culvert } from '../../../support/controller/cli-fixture.js';

const ca = '-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUA/b+c=\nAA==\n-----END CERTIFICATE-----\n';
const token = 'nK3_xg-0Q1vRZyYt5b0nq7cS8i4l9d2eWfGhJkLmNoP';

describe('a context file as the controller writes it', () => {
  for (const controller of ['https://198.18.0.1:9443', 'https://[fd00::1]:9443', 'https://mesh.example:9443']) {
    it(`is read as YAML reads it, with ${controller}`, () => {
      const text = stringify({ controller, ca, token });
      assert.deepEqual(readPlainContext(text), parse(text));
      assert.deepEqual(readPlainContext(text), { controller, ca, token });
    });
  }

  it('is read with several certificates', () => {
    const text = stringify({ controller: 'https://h:1', ca: ca + ca, token });
    assert.deepEqual(readPlainContext(text), parse(text));
  });

  const others = [
    `controller: https://h:1 # mine\nca: |\n  x\ntoken: ${token}\n`,
    `controller: https://h:1\nca: |\n  x\n\ntoken: ${token}\n`,
    `controller: "https://h:1"\nca: |\n  x\ntoken: ${token}\n`,
    `controller: https://h:1\nca: |\n    x\ntoken: ${token}\n`,
    `controller: https://h:1\ncaFile: ca.pem\ntoken: ${token}\n`,
    `controller: https://h:1\nca: |\n  x\ntoken: 12345678901234567890123456789012\n`,
    `controller: https://h:1\nca: |\n  x\ntoken: -K3_xg-0Q1vRZyYt5b0nq7cS8i4l9d2eWfGh\n`,
    `token: ${token}\ntoken: ${token}\n`,
    '# a comment\n{}\n',
    '',
  ];
  for (const text of others) {
    it(`is left to YAML when it is laid out otherwise: ${JSON.stringify(text.slice(0, 60))}`, () => {
      assert.equal(readPlainContext(text), undefined);
    });
  }
});

describe('the look for assertions among documents', () => {
  const none = [
    '',
    '# nothing\n',
    'kind: Mesh\nspec:\n- x\n',
    '{"kind":"Mesh"}\n---\n# a\n\nkind: Mesh\n',
    '---\n---\n"a": 1\n',
  ];
  for (const text of none)
    it(`finds none in ${JSON.stringify(text)}`, () => assert.equal(mayHoldPolicyTests(text), false));

  const some = [
    'kind: PolicyTest\n',
    '- from: a/b\n  to: c/d:1\n',
    'kind: Mesh\n--- [x]\n',
    '# a\n\n- from: a/b\n',
    'kind: Mesh\n...\n- from: a/b\n',
    '&all\n- from: a/b\n',
    '!!seq\n- from: a/b\n',
    '%YAML 1.2\n---\n- from: a/b\n',
    '"kind": "Policy\\u0054est"\n',
  ];
  for (const text of some)
    it(`finds that ${JSON.stringify(text)} may hold some`, () => assert.ok(mayHoldPolicyTests(text)));
});

describe('the culvert command', () => {
  it('knows every command by the name under which it is loaded', async () => {
    const { out } = await culvert(['--help']);
    const listed = [...out.matchAll(/^ {2}([a-z]+) .*/gm)]
      .map(([, name]) => name ?? '')
      .filter((name) => name !== 'help');
    assert.ok(listed.length > 15);
    for (const name of listed) {
      const { code, out: help } = await culvert([name, '--help']);
      assert.equal(code, 0);
      assert.match(help, new RegExp(`^Usage: culvert ${name}`));
    }
  });
});
