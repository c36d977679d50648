import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { defaultContextPaths, loadContext } from '../../../../controller/cli/client/context.js';
import { exitCodes } from '../../../../controller/cli/exit-codes.js';
import { parseWhyTarget } from '../../../../controller/cli/input/why-target.js';
import { culvert } from '../../../support/controller/cli-fixture.js';

const pem = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';
let directory = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'culvert-cli-'));
});
after(() => rm(directory, { recursive: true }));

async function file(name: string, text: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
}

describe('the command line', () => {
  it('lists the exit codes in its help', async () => {
    const { code, out } = await culvert(['--help']);
    assert.equal(code, 0);
    for (const { code: number, text } of Object.values(exitCodes)) assert.ok(out.includes(`  ${number}  ${text}`));
  });

  it('prints its version', async () => {
    const { code, out } = await culvert(['--version']);
    assert.equal(code, 0);
    assert.match(out, /^\d+\.\d+\.\d+/);
  });

  const usage: readonly (readonly [argv: readonly string[], error: RegExp])[] = [
    [[], /Usage: culvert/],
    [['aply'], /unknown command 'aply' \(did you mean apply\?\)/],
    [['apply'], /required option '-f, --file <path\.\.\.>' not specified/],
    [['apply', '-f', 'x', '--wiat'], /unknown option '--wiat'/],
    [['apply', '-f', '-', '--wait', '30'], /"30" is not a duration \(write a number with a unit/],
    [['get'], /missing required argument 'kind'/],
    [['get', 'workload', '-o', 'xml'], /Allowed choices are table, json, yaml/],
    [['get', 'segment', '-n', 'billing'], /Segment belongs to the whole mesh and has no namespace/],
    [['get', 'all', 'x'], /"all" takes no name/],
    [['get', 'workload', '/x'], /"\/x" is no name \(write NAME, or NAMESPACE\/NAME\)/],
    [['get', 'workload', 'a/b/c'], /"a\/b\/c" is no name/],
    [['delete', 'workload', 'x/'], /"x\/" is no name/],
    [['lint', '--trust-domain', 'a b', '-f', '-'], /"a b" is not a trust domain/],
    [['test', '--trust-domain', 'A', '-f', '-'], /"A" is not a trust domain/],
    [['why', 'a/b', '[::1'], /"\[::1" is no address in brackets/],
    [['allow', 'a/b', 'c/d:1', '--reason', 'x', '--for', '36501d'], /36501d is too long \(use 36500d at most\)/],
    [['allow', 'a/b', 'c/d:1', '--for', '1h', '--reason', 'x'.repeat(1001)], /longer than 1000 characters/],
    [['apply', '-f', '-', '-m', 'x'.repeat(1025)], /longer than 1024 characters/],
    [['status', '--context', '/proc/self/mem'], /\/proc\/self\/mem is unusable: the disk, or what is behind/],
    [['apply', '-f', '/dev/zero'], /cannot read \/dev\/zero: it is larger than/],
    [['apply', '-f', '/proc/self/mem'], /cannot read \/proc\/self\/mem: the disk, or what is behind/],
    [['apply', '-f', '/dev/null/x'], /there is no file \/dev\/null\/x/],
    [['delete', 'workload'], /nothing to delete was named/],
    [['delete', 'workload', 'x', '-f', 'y'], /a kind and files cannot be combined/],
    [['why', 'a/b'], /missing required argument 'destination'/],
    [['why', 'a/b', 'c/d:x'], /"x" is not a port/],
    [['why', 'a/b', 'c/d', '--expect', 'maybe'], /Allowed choices are allow, deny/],
    [['token', 'create'], /required option '--node <name>' not specified/],
    [['token', 'create', '--node', 'a', '--ttl', 'soon'], /"soon" is not a duration/],
    [['status'], /there is no context file at .*an administrator makes one: culvert user create/],
    [['apply', '-f', '/nowhere/x.yaml'], /there is no file \/nowhere\/x\.yaml/],
  ];
  for (const [argv, error] of usage) {
    it(`exits with 64 for "culvert ${argv.join(' ')}"`, async () => {
      const { code, out, err } = await culvert(argv, { env: { CULVERT_CONTEXT: '/nowhere/context.yaml' } });
      assert.equal(code, 64);
      assert.equal(out, '');
      assert.match(err, error);
    });
  }

  it('exits with 4 for a kind that does not exist', async () => {
    const { code, err } = await culvert(['get', 'workloda']);
    assert.equal(code, 4);
    assert.match(err, /there is no kind "workloda" \(did you mean Workload\?\) \[UNKNOWN_KIND\]/);
  });
});

describe('the files to apply', () => {
  it('are refused when they are not UTF-8', async () => {
    const { code, err } = await culvert(['apply', '-f', await file('latin1.yaml', Buffer.from([0xe4, 0x0a]))]);
    assert.equal(code, 64);
    assert.match(err, /latin1\.yaml is not UTF-8 text/);
  });

  it('are refused when a directory has none', async () => {
    await mkdir(join(directory, 'empty'));
    const { code, err } = await culvert(['apply', '-f', join(directory, 'empty')]);
    assert.equal(code, 64);
    assert.match(err, /has no file to apply \(files must end in \.yaml, \.yml, \.json\)/);
  });

  it('are refused with the file that is broken, not the next', async () => {
    const broken = await file('a-broken.yaml', 'kind: Mesh\nname: "open\n');
    const fine = await file('b-fine.yaml', 'kind: Mesh\n');
    const { code, err } = await culvert(['apply', '-f', broken, fine]);
    assert.equal(code, 64);
    assert.match(err, /a-broken\.yaml:\d+: is not valid YAML: Missing closing "quote/);
  });

  it('are read before they are deleted', async () => {
    const path = await file('wrong.yaml', 'apiVersion: culvert.dev/v1\nkind: Segmnt\n');
    const { code, err } = await culvert(['delete', '-f', path]);
    assert.equal(code, 64);
    assert.match(err, /^error: .*wrong\.yaml:2: kind: there is no kind "Segmnt"[^]*nothing was deleted/);
  });
});

describe('the context file', () => {
  it('takes the CA inline or from a file beside it', async () => {
    await file('ca.pem', pem);
    const inline = await file('inline.yaml', JSON.stringify({ controller: 'https://h:1', ca: pem, token: 'secret' }));
    const beside = await file(
      'beside.yaml',
      JSON.stringify({ controller: 'https://h:1', caFile: 'ca.pem', token: 'secret' }),
    );
    for (const path of [inline, beside]) {
      const { url, caPem, token } = await loadContext(path, {});
      assert.deepEqual([url.origin, caPem, token], ['https://h:1', pem, 'secret']);
    }
  });

  it('is named by --context before CULVERT_CONTEXT', async () => {
    const a = await file('a.yaml', JSON.stringify({ controller: 'https://a', ca: pem, token: 't' }));
    const b = await file('b.yaml', JSON.stringify({ controller: 'https://b', ca: pem, token: 't' }));
    assert.equal((await loadContext(a, { CULVERT_CONTEXT: b })).url.host, 'a');
    assert.equal((await loadContext(undefined, { CULVERT_CONTEXT: b })).url.host, 'b');
  });

  it('is looked for in the configuration directory of the user first', () => {
    assert.equal(defaultContextPaths({ XDG_CONFIG_HOME: '/c' })[0], '/c/culvert/context.yaml');
    assert.equal(defaultContextPaths({ HOME: '/h' })[0], '/h/.config/culvert/context.yaml');
  });

  const refused: readonly (readonly [what: string, text: string, error: RegExp])[] = [
    ['no YAML', 'a: [', /it is not YAML/],
    [
      'plain HTTP',
      JSON.stringify({ controller: 'http://h', ca: pem, token: 't' }),
      /controller: must be an https:\/\/ address/,
    ],
    ['no CA', JSON.stringify({ controller: 'https://h', token: 't' }), /needs either ca \(PEM\) or caFile/],
    [
      'a CA that is no certificate',
      JSON.stringify({ controller: 'https://h', ca: 'x', token: 't' }),
      /its CA is not a PEM/,
    ],
    [
      'a CA file that is missing',
      JSON.stringify({ controller: 'https://h', caFile: 'no.pem', token: 't' }),
      /caFile names .*no\.pem, which does not exist/,
    ],
    [
      'a token with a newline',
      JSON.stringify({ controller: 'https://h', ca: pem, token: 'a\nb' }),
      /token: must be printable ASCII/,
    ],
    ['an unknown field', JSON.stringify({ controller: 'https://h', ca: pem, token: 't', insecure: true }), /insecure/],
  ];
  for (const [what, text, error] of refused) {
    it(`is refused with ${what}`, async () => {
      const { code, err } = await culvert(['--context', await file('refused.yaml', text), 'status']);
      assert.equal(code, 64);
      assert.match(err, error);
    });
  }
});

describe('the target of culvert why', () => {
  const cases: readonly (readonly [string, string, string | null])[] = [
    ['billing/db', 'billing/db', null],
    ['billing/db:5432', 'billing/db', '5432'],
    ['service:billing/db', 'service:billing/db', null],
    ['service:billing/db:5432', 'service:billing/db', '5432'],
    ['198.18.0.1', '198.18.0.1', null],
    ['198.18.0.1:80', '198.18.0.1', '80'],
    ['fd00::1', 'fd00::1', null],
    ['[fd00::1]', 'fd00::1', null],
    ['[fd00::1]:80', 'fd00::1', '80'],
  ];
  for (const [text, destination, port] of cases) {
    it(`reads ${text}`, () => assert.deepEqual(parseWhyTarget(text), { destination, port }));
  }
  for (const text of ['a/b:0', 'a/b:65536', 'a/b:', '[fd00::1]:x', '[fd00::1', '[fd00::1]x']) {
    it(`refuses the port of ${text}`, () => assert.throws(() => parseWhyTarget(text), { code: 'USAGE' }));
  }
});
