import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  completeHost,
  meantHost,
  serviceHost,
  serviceOfHost,
  wildcardMatches,
} from '../../../../shared/routing/service-hosts.js';

/** Istio's reference, Networking / Destination Rule, `host`, and `ResolveShortnameToFQDN` of pilot/pkg/model. */
describe('a host in a document of the namespace shop', () => {
  const rows: readonly (readonly [written: string, whole: string | undefined])[] = [
    ['web', 'web.shop.svc.cluster.local'],
    ['web.shop.svc.cluster.local', 'web.shop.svc.cluster.local'],
    ['web.other.svc.cluster.local', 'web.other.svc.cluster.local'],
    // Names of services here may have dots, and whole names of them are whole.
    ['web.v1.other.svc.cluster.local', 'web.v1.other.svc.cluster.local'],
    ['*', '*'],
    ['*.local', '*.local'],
    ['*.cluster.local', '*.cluster.local'],
    ['*.svc.cluster.local', '*.svc.cluster.local'],
    ['*.other.svc.cluster.local', '*.other.svc.cluster.local'],
    ['*.v1.other.svc.cluster.local', '*.v1.other.svc.cluster.local'],
    // Whole names to Istio, which no service of the mesh has.
    ['web.other', undefined],
    ['web.other.svc', undefined],
    ['svc.cluster.local', undefined],
    ['other.svc.cluster.local', undefined],
    ['www.example.com', undefined],
    ['*.example.com', undefined],
    ['*web', undefined],
    ['web.*', undefined],
    ['web.*.svc.cluster.local', undefined],
    ['Web', undefined],
    ['-web', undefined],
    ['web.', undefined],
    ['', undefined],
    ['198.18.0.1', undefined],
    ['web.shop.svc.cluster.local.', undefined],
  ];
  for (const [written, whole] of rows) {
    it(`${written === '' ? 'nothing' : written} is ${whole ?? 'refused'}`, () => {
      assert.equal(completeHost(written, 'shop'), whole);
    });
  }
});

it('what was probably meant is a whole name', () => {
  assert.equal(meantHost('web.other'), 'web.other.svc.cluster.local');
  assert.equal(meantHost('web.other.svc'), 'web.other.svc.cluster.local');
  for (const written of ['www.example.com', '*.example.com', 'web', '']) assert.equal(meantHost(written), undefined);
});

it('a whole name leads back to its service, and a wildcard to none', () => {
  for (const [namespace, name] of [
    ['shop', 'web'],
    ['shop', 'web.v1'],
    ['svc', 'svc'],
  ] as const) {
    assert.equal(serviceOfHost(serviceHost({ namespace, name })), `${namespace}/${name}`);
  }
  for (const host of ['*', '*.shop.svc.cluster.local', 'web']) assert.equal(serviceOfHost(host), undefined);
});

it('a wildcard is for whole labels below it', () => {
  const name = 'web.shop.svc.cluster.local';
  for (const wildcard of ['*', '*.local', '*.svc.cluster.local', '*.shop.svc.cluster.local']) {
    assert.ok(wildcardMatches(wildcard, name), wildcard);
  }
  for (const wildcard of ['*.op.svc.cluster.local', '*.web.shop.svc.cluster.local', '*.other.svc.cluster.local']) {
    assert.ok(!wildcardMatches(wildcard, name), wildcard);
  }
});
