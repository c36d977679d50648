import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchRoute, type Route } from '../../../../controller/api/router.js';
import { controllerSettings } from '../../../../controller/config/settings.js';
import { joinHostPort, parseListenAddress } from '../../../../shared/config/listen-address.js';
import { loadSettings } from '../../../../shared/config/load-settings.js';
import { formatConfiguration } from '../../../../shared/config/shown-configuration.js';
import { parseSetting } from '../../../../shared/config/parse-setting.js';

test('listen addresses are read with their port, also a free one', () => {
  const cases = [
    ['0.0.0.0:15443', '0.0.0.0', 15443],
    ['[::]:15443', '::', 15443],
    ['[fd00::1]:0', 'fd00::1', 0],
    ['localhost:65535', 'localhost', 65535],
  ] as const;
  for (const [text, host, port] of cases) assert.deepEqual(parseListenAddress(text, '--listen'), { host, port });
  for (const text of [
    '',
    '15443',
    ':15443',
    '::1:15443',
    '[1.2.3.4]:1',
    '0.0.0.0:65536',
    '0.0.0.0:',
    '1.2.3.256:1',
    '[localhost]:1',
    'a b:1',
  ]) {
    assert.throws(() => parseListenAddress(text, '--listen'), { code: 'CONFIG_INVALID' }, text);
  }
  assert.equal(joinHostPort('fd00::1', 1), '[fd00::1]:1');
  assert.equal(joinHostPort('example.net', 1), 'example.net:1');
});

test('every setting has a variable of its own prefix and an example that it accepts', () => {
  for (const spec of Object.values(controllerSettings)) {
    assert.ok(spec.env.startsWith('CULVERT_CONTROLLER_'), spec.env);
    assert.equal(parseSetting(spec, spec.example).ok, true, `${spec.flag} ${spec.example}`);
  }
});

test('the effective settings are shown with where they came from', () => {
  const loaded = loadSettings({
    table: controllerSettings,
    flags: { trustDomain: 'prod.example', advertise: 'a.example,b.example' },
    env: { CULVERT_CONTROLLER_TOKEN_TTL: '5m' },
    file: { logLevel: 'debug' },
  });
  const lines = formatConfiguration(loaded, controllerSettings).split('\n');
  assert.ok(lines.includes('trustDomain: prod.example # flag'), lines.join('\n'));
  assert.ok(lines.includes('advertise: [a.example, b.example] # flag'), lines.join('\n'));
  assert.ok(lines.includes('tokenTtl: 5m # environment'));
  assert.ok(lines.includes('logLevel: debug # file'));
  assert.ok(lines.includes('nats: embedded # default'));
});

test('a path finds its route with decoded parameters, or says what is possible there', () => {
  const route = (method: Route['method'], path: string): Route => ({
    method,
    path,
    access: 'open',
    maxBodyBytes: 0,
    handle: () => ({ status: 200, body: null }),
  });
  const routes = [route('GET', '/v1/things/:kind'), route('GET', '/v1/things/:kind/:name'), route('POST', '/v1/apply')];
  assert.deepEqual(matchRoute(routes, 'GET', '/v1/things/a/b%20c').params, { kind: 'a', name: 'b c' });
  assert.equal(matchRoute(routes, 'GET', '/v1/things/a').route.path, '/v1/things/:kind');
  for (const path of ['/v1/things', '/v1/things/', '/v1/things/a/b/c', '/v1/things/%zz', '/']) {
    assert.throws(() => matchRoute(routes, 'GET', path), { code: 'NOT_FOUND' }, path);
  }
  assert.throws(() => matchRoute(routes, 'GET', '/v1/apply'), { code: 'METHOD_NOT_ALLOWED', hint: 'use POST' });
});
