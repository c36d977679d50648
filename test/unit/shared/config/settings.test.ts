import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from 'commander';
import { loadSettings } from '../../../../shared/config/load-settings.js';
import { addSettingOptions, settingsOfCommand } from '../../../../shared/config/setting-options.js';
import { defineSettings, renderSettingsTable } from '../../../../shared/config/settings-table.js';
import { formatBytes, formatDuration, parseBytes, parseDuration } from '../../../../shared/config/units.js';
import { CulvertError } from '../../../../shared/errors.js';

const table = defineSettings({
  connectTimeoutMs: {
    kind: 'duration',
    flag: '--connect-timeout',
    env: 'CULVERT_TEST_CONNECT_TIMEOUT',
    key: 'connectTimeout',
    default: 5000,
    min: 1,
    help: 'Longest dial.',
    example: '5s',
  },
  windowBytes: {
    kind: 'bytes',
    flag: '--window',
    env: 'CULVERT_TEST_WINDOW',
    key: 'window',
    default: 4096,
    max: 1 << 20,
    help: 'Window.',
    example: '64KiB',
  },
  level: {
    kind: 'enum',
    values: ['info', 'warn'],
    flag: '--level',
    env: 'CULVERT_TEST_LEVEL',
    key: 'level',
    default: 'info',
    help: 'Level.',
    example: 'info',
  },
  names: {
    kind: 'list',
    flag: '--names',
    env: 'CULVERT_TEST_NAMES',
    key: 'names',
    default: [],
    help: 'Names.',
    example: 'a,b',
  },
  isQuiet: {
    kind: 'boolean',
    flag: '--quiet',
    env: 'CULVERT_TEST_QUIET',
    key: 'quiet',
    default: false,
    help: 'Say less.',
    example: 'true',
  },
  token: {
    kind: 'string',
    flag: '--token',
    env: 'CULVERT_TEST_TOKEN',
    key: 'token',
    default: null,
    help: 'Token.',
    example: 'abc',
    isSecret: true,
  },
});

test('durations and sizes need a unit and are written back as they were', () => {
  for (const [text, ms] of [
    ['250ms', 250],
    ['5s', 5000],
    ['1.5m', 90_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['0', 0],
  ] as const) {
    assert.equal(parseDuration(text), ms);
  }
  for (const text of ['5', '5x', '-1s', '', 's', '1e3s', '5 s']) assert.equal(parseDuration(text), undefined, text);
  assert.equal(parseBytes('4MiB'), 4_194_304);
  assert.equal(parseBytes('4MB'), undefined);
  assert.deepEqual(
    [formatDuration(90_000), formatDuration(5000), formatDuration(86_400_000), formatBytes(4_194_304)],
    ['90s', '5s', '1d', '4MiB'],
  );
});

test('an option wins over the environment, which wins over the file, which wins over the default', () => {
  const env = { CULVERT_TEST_CONNECT_TIMEOUT: '2s', CULVERT_TEST_LEVEL: 'warn' };
  const { values, sources } = loadSettings({
    table,
    flags: { connectTimeoutMs: '1s' },
    env,
    file: { level: 'info', window: '8KiB', names: ['a'] },
  });
  assert.deepEqual(values, {
    connectTimeoutMs: 1000,
    windowBytes: 8192,
    level: 'warn',
    names: ['a'],
    isQuiet: false,
    token: null,
  });
  assert.deepEqual(sources, {
    connectTimeoutMs: 'flag',
    windowBytes: 'file',
    level: 'environment',
    names: 'file',
    isQuiet: 'default',
    token: 'default',
  });
});

test('every problem is reported at once, with its place, the value and an example, and secrets stay hidden', () => {
  const load = () =>
    loadSettings({
      table,
      flags: { connectTimeoutMs: '0' },
      env: { CULVERT_TEST_LEVLE: 'x', CULVERT_TEST_TOKEN: '' },
      file: { window: '2MiB', levle: 'info', names: [1] },
    });
  assert.throws(load, (error: unknown) => {
    assert.ok(error instanceof CulvertError);
    for (const part of [
      '6 problems',
      'levle: unknown key; did you mean level?',
      'did you mean CULVERT_TEST_LEVEL?',
      '--connect-timeout: "0" must be at least 1ms, such as 5s',
      'window: "2MiB" must be at most 1MiB',
      'names: [1] must be a list',
      'CULVERT_TEST_TOKEN: the value must be',
    ]) {
      assert.ok(error.message.includes(part), `${part} is missing in ${error.message}`);
    }
    return true;
  });
});

test('variables that Kubernetes makes of a Service with the name of a program are no typing errors', () => {
  const links = ['SERVICE_HOST', 'SERVICE_PORT', 'SERVICE_PORT_HTTPS', 'PORT', 'PORT_15443_TCP'];
  const parts = ['PROTO', 'PORT', 'ADDR'].map((part) => `PORT_15443_TCP_${part}`);
  const env = Object.fromEntries([...links, ...parts].map((name) => [`CULVERT_TEST_${name}`, 'tcp://10.96.0.1:15443']));
  assert.equal(loadSettings({ table, flags: {}, env, file: undefined }).values.level, 'info');
  const wrong = { CULVERT_TEST_PORT_X: '1' };
  assert.throws(() => loadSettings({ table, flags: {}, env: wrong, file: undefined }), /unknown environment variable/);
});

test('a command takes its options and its help from the table', async () => {
  const command = addSettingOptions(new Command('x').exitOverride(), table);
  command.parse(['--quiet', '--window', '1KiB'], { from: 'user' });
  const { values } = await settingsOfCommand(command, table, {});
  assert.equal(values.isQuiet, true);
  assert.equal(values.windowBytes, 1024);
  assert.match(
    command.helpInformation(),
    /--connect-timeout <duration>\s+Longest dial\.\s+\(CULVERT_TEST_CONNECT_TIMEOUT,\s+default 5s\)/,
  );
  assert.match(
    renderSettingsTable(table),
    /\| `level` \| `--level` \| `CULVERT_TEST_LEVEL` \| `info` \| Level\. One of info, warn\. \|/,
  );
});
