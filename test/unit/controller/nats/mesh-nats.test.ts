import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import type { CertificateIssuer } from '../../../../controller/ca/certificate-issuer.js';
import { controllerSettings, type ControllerSettings } from '../../../../controller/config/settings.js';
import { openMeshNats } from '../../../../controller/nats/mesh-nats.js';

const defaults = Object.fromEntries(Object.entries(controllerSettings).map(([name, spec]) => [name, spec.default]));

/** With settings that are wrong nothing is opened, so nothing has to be closed. */
function open(changes: Partial<ControllerSettings>): Promise<unknown> {
  const settings = { ...(defaults as unknown as ControllerSettings), ...changes };
  const log = pino({ level: 'silent' });
  const nothing = (): void => undefined;
  return openMeshNats({
    settings,
    advertise: [],
    ca: {} as CertificateIssuer,
    log,
    nowMs: Date.now,
    onRefused: nothing,
    revoked: [],
  });
}

test('addresses of NATS that are none are refused with the setting, the text and what to write', async () => {
  const cases: [setting: string, text: string, changes: Partial<ControllerSettings>][] = [
    ['--nats', '""', { nats: 'tls://a:4222,' }],
    ['--nats', '"https://a:4222"', { nats: 'tls://a:4222, https://a:4222' }],
    ['--nats', '"tls://a:port"', { nats: 'tls://a:port' }],
    ['--nats', '"tls://user@a:4222"', { nats: 'tls://user@a:4222' }],
    ['--nats-advertise', '"a b"', { natsAdvertise: ['a:4222', 'a b'] }],
    ['--nats-advertise', '"::1"', { natsAdvertise: ['::1'] }],
  ];
  for (const [setting, text, changes] of cases) {
    await assert.rejects(open(changes), (error: Error & { code?: string; hint?: string }) => {
      assert.equal(error.code, 'CONFIG_INVALID');
      assert.equal(error.message, `${setting}: ${text} is not the address of a NATS server`);
      assert.match(error.hint ?? '', /tls:\/\/nats\.example\.net:4222/);
      return true;
    });
  }
});

test('good addresses of your own NATS get as far as the seed of the account', async () => {
  for (const nats of ['tls://a:4222', 'a:4222,nats://b', 'tls://[fd00::1]:4222, 198.18.0.1:4222']) {
    await assert.rejects(open({ nats }), { code: 'CONFIG_INVALID', message: /--nats-account-seed-file is missing/ });
  }
});
