import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../../../', import.meta.url));
const sources = ['agent/native/cni/json.c', 'test/integration/agent/native/json-driver.c'];
/** As in json.h. */
const maxDepth = 64;

let directory = '';
let driver = '';
/** With AddressSanitizer, where the compiler has it. */
let isSanitized = false;

before(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-json-'));
  driver = path.join(directory, 'driver');
  isSanitized = compile(['-fsanitize=address,undefined', '-fno-sanitize-recover']) || !compile([]);
});
after(() => rmSync(directory, { recursive: true }));

function compile(flags: readonly string[]): boolean {
  const args = [
    '-std=gnu11',
    '-g',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    ...flags,
    '-I',
    path.join(root, 'agent/native/cni'),
  ];
  const { status } = spawnSync('gcc', [...args, '-o', driver, ...sources.map((each) => path.join(root, each))]);
  return status === 0;
}

/** What the reader says of each text. Fails when it looks past the end of one. */
async function read(texts: readonly Uint8Array[]): Promise<readonly string[]> {
  const child = spawn(driver, [], { env: {} });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  child.stdin.on('error', () => undefined);
  for (const each of texts) {
    const size = Buffer.alloc(4);
    size.writeUInt32LE(each.length);
    child.stdin.write(size);
    child.stdin.write(each);
  }
  child.stdin.end();
  const [code, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  assert.equal(stderr, '');
  assert.equal(code, 0);
  return stdout.split('\n').slice(0, -1);
}

/** What Node's own reader says: undefined for what is no JSON in UTF-8. */
function reference(bytes: Uint8Array): { readonly value: unknown } | undefined {
  try {
    const decoded = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const value: unknown = JSON.parse(decoded);
    return depthOf(decoded) > maxDepth ? undefined : { value };
  } catch {
    return undefined;
  }
}

/** Of values within each other, of a text that is JSON. */
function depthOf(json: string): number {
  const bare = json.replaceAll(/"(?:[^"\\]|\\.)*"/g, '0');
  let depth = 0;
  let most = 0;
  for (const [at] of bare.matchAll(/[[{]\s*[\]}]?|[\]}]/g)) {
    if (at === ']' || at === '}') depth--;
    else if (/[\]}]$/.test(at)) most = Math.max(most, depth + 1);
    else most = Math.max(most, ++depth + 1);
  }
  return Math.max(most, 1);
}

function* numbers(seed: number): Generator<number> {
  for (let state = seed; ;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

const seeds: readonly string[] = [
  '{"a":1}',
  '{"a":"x\\u00e9\\ud83d\\ude00\\n","b":[true,false,null,-1.5e+7,{"a":2}],"a2":{}}',
  ' [ 1 , {"a" : [] } ] ',
  '{"\\u0061":"\\/","c":{"a":0}}',
  '{"a":{"a":{"a":[[[[]]]]}},"d":"\u20ac\u{10ffff}"}',
  '{"b":1,"a":12345,"c":"a"}',
  '"a"',
  '{}',
  '0',
];
const bytesOfInterest = Buffer.from(
  '{}[]",:\\u0aAeE+-.19 \n\t\x00\x1f\x7f\x80\xbf\xc0\xc2\xe0\xed\xf0\xf4\xff',
  'latin1',
);

function mutated(from: Uint8Array, random: Generator<number, never>): Buffer {
  let bytes = Buffer.from(from);
  for (let left = (random.next().value % 3) + 1; left > 0; left--) {
    const at = random.next().value % (bytes.length + 1);
    const byte = bytesOfInterest.subarray(random.next().value % bytesOfInterest.length).subarray(0, 1);
    const end = [at, at + 1, at + (random.next().value % 9)][random.next().value % 3] ?? at;
    bytes = Buffer.concat([
      bytes.subarray(0, at),
      random.next().value % 4 === 0 ? Buffer.alloc(0) : byte,
      bytes.subarray(end),
    ]);
  }
  return bytes;
}

function assertSame(bytes: Uint8Array, said: string | undefined): void {
  const expected = reference(bytes);
  const shown = JSON.stringify(Buffer.from(bytes).toString('latin1')).slice(0, 300);
  const [verdict, search, value = ''] = said?.split(' ') ?? [];
  assert.equal(verdict, expected === undefined ? 'no' : 'yes', shown);
  const object = expected?.value;
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    if (expected !== undefined) assert.equal(search, 'absent', shown);
    return;
  }
  assert.equal(search !== 'absent', Object.hasOwn(object, 'a'), shown);
  if (search !== 'found') return;
  const found = Buffer.from(value.slice(1), 'hex').toString();
  assert.equal(found, found.trim(), shown);
  assert.deepEqual(JSON.parse(found), (object as { a: unknown }).a, shown);
}

test('it takes what is JSON, finds the member that Node finds, and never looks past the end', async (t) => {
  const random = numbers(0x2545f491) as Generator<number, never>;
  const texts: Buffer[] = seeds.map((seed) => Buffer.from(seed));
  const whole = [...texts];
  for (let round = 0; round < 20_000; round++) {
    const from = whole[random.next().value % whole.length] ?? Buffer.alloc(0);
    const next = mutated(from, random);
    texts.push(next);
    // What is still JSON is changed further.
    if (whole.length < 2000 && reference(next) !== undefined) whole.push(next);
  }
  for (const seed of seeds) {
    for (let length = 0; length < Buffer.byteLength(seed); length++) texts.push(Buffer.from(seed).subarray(0, length));
  }
  const said = await read(texts);
  assert.equal(said.length, texts.length);
  for (const [index, bytes] of texts.entries()) assertSame(bytes, said[index]);
  t.diagnostic(`${texts.length} texts, ${whole.length} of them JSON, AddressSanitizer: ${isSanitized ? 'yes' : 'no'}`);
});

test('it goes no deeper than its bound, whatever the text is made of', async () => {
  const nested = (open: string, inner: string, close: string, depth: number): Buffer =>
    Buffer.from(`${open.repeat(depth)}${inner}${close.repeat(depth)}`);
  const texts = [
    nested('[', '', ']', maxDepth),
    nested('[', '', ']', maxDepth + 1),
    nested('{"a":', '1', '}', maxDepth - 1),
    nested('{"a":', '1', '}', maxDepth),
    nested('[', '', '', 1_000_000),
    nested('{"a":', '', '', 300_000),
    nested('"\\', '', '', 300_000),
  ];
  const said = await read(texts);
  assert.deepEqual(
    said.map((line) => line.split(' ')[0]),
    ['yes', 'no', 'yes', 'no', 'no', 'no', 'no'],
  );
});

test('texts and numbers have a bound and a form', async () => {
  const rows: readonly (readonly [value: string, text: string, number: string])[] = [
    ['"fifteen bytes.."', `=${Buffer.from('fifteen bytes..').toString('hex')}`, 'none'],
    ['"sixteen bytes..."', 'none', 'none'],
    ['"\\u20ac\\ud83d\\ude00"', `=${Buffer.from('\u20ac\u{1f600}').toString('hex')}`, 'none'],
    ['"0123456789abc\\u00e9"', `=${Buffer.from('0123456789abc\u00e9').toString('hex')}`, 'none'],
    ['"0123456789abcd\\u00e9"', 'none', 'none'],
    ['"\\u0000"', 'none', 'none'],
    ['"\\ud83d"', 'none', 'none'],
    ['"\\ude00"', 'none', 'none'],
    ['"\\ud83d\\u0041"', 'none', 'none'],
    ['"\\ud83dx"', 'none', 'none'],
    ['""', '=', 'none'],
    ['0', 'none', '0'],
    ['1000000', 'none', '1000000'],
    ['1000001', 'none', 'none'],
    ['18446744073709551616', 'none', 'none'],
    ['-1', 'none', 'none'],
    ['1.0', 'none', 'none'],
    ['1e2', 'none', 'none'],
    ['true', 'none', 'none'],
  ];
  const said = await read(rows.map(([value]) => Buffer.from(`{"a": ${value} }`)));
  for (const [index, [value, decoded, number]] of rows.entries()) {
    const written = `=${Buffer.from(value).toString('hex')}`;
    assert.equal(said[index], `yes found ${written} ${decoded} ${number}`, value);
  }
  const twice = await read([
    Buffer.from('{"a":1,"a":1}'),
    Buffer.from('{"a":1,"\\u0061":2}'),
    Buffer.from('{"a\\u0000":1}'),
  ]);
  assert.deepEqual(twice, ['yes twice', 'yes twice', 'yes absent']);
});
