import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mtlsOf } from '../../../../../shared/policy/required-mtls.js';
import { meshed } from '../../../../support/rules/policy-fixture.js';
import { compileDocuments, istio } from '../../../../support/rules/policy-published-fixture.js';
import { checkPublished, type PublishedText } from '../../../../support/rules/published-rows.js';

/**
 * The text of Istio's API for PeerAuthentication (security/v1beta1, peer_authentication.proto), sentence by sentence in our
 * words, in its order. `modes`: of billing/db at port 5432 and at port 80, of shop/db, and of a workload of the root
 * namespace, all with the label app=db: `S`TRICT or `P`ERMISSIVE.
 */

const root = 'istio-system';
const document = (spec: object | undefined, namespace = 'billing', name = 'p') => ({
  ...istio('PeerAuthentication', name, namespace, {}),
  spec,
});
const strict = { mtls: { mode: 'STRICT' } };
const permissive = { mtls: { mode: 'PERMISSIVE' } };
const db = { selector: { matchLabels: { app: 'db' } } };
const ports = (port: string, mode: string) => ({ portLevelMtls: { [port]: { mode } } });

const rows: readonly (readonly [says: string, given: readonly object[], modes: string])[] = [
  ['without a document, plaintext is left to the rules', [], 'PPPP'],
  ['STRICT for a namespace', [document(strict)], 'SSPP'],
  ['STRICT in the root namespace is for the mesh', [document(strict, root)], 'SSSS'],
  ['in the root namespace, documents with a selector are ignored', [document({ ...db, ...strict }, root)], 'PPPP'],
  [
    'they are ignored beside one for the mesh too',
    [document(strict, root), document({ ...db, ...permissive }, root, 'q')],
    'SSSS',
  ],
  [
    'both kinds of traffic for a namespace, mTLS for one workload',
    [document(permissive), document({ ...db, ...strict }, 'billing', 'q')],
    'SSPP',
  ],
  ['mTLS but for one port', [document({ ...db, ...strict, ...ports('80', 'PERMISSIVE') })], 'SPPP'],
  [
    'the mode of the namespace but for one port',
    [document(strict), document({ ...db, mtls: { mode: 'UNSET' }, ...ports('80', 'PERMISSIVE') }, 'billing', 'q')],
    'SPPP',
  ],
  [
    'the selector decides to which workloads the document applies',
    [document({ selector: { matchLabels: { app: 'x' } }, ...strict })],
    'PPPP',
  ],
  ['the selector selects in the namespace of the document', [document({ ...db, ...strict }, 'shop')], 'PPSP'],
  ['without a selector all workloads of the namespace', [document(strict, 'shop')], 'PPSP'],
  ['without a selector in the root namespace all workloads of the mesh', [document(strict, root)], 'SSSS'],
  ['an empty selector selects as none does', [document({ selector: {}, ...strict }, root)], 'SSSS'],
  ['UNSET inherits from the mesh', [document(strict, root), document({ mtls: { mode: 'UNSET' } })], 'SSSS'],
  ['UNSET without anything to inherit is PERMISSIVE', [document({ mtls: { mode: 'UNSET' } })], 'PPPP'],
  ['PERMISSIVE takes both', [document(strict, root), document(permissive)], 'PPSS'],
  ['without mtls it inherits', [document(strict, root), document({})], 'SSSS'],
  ['without a spec it inherits', [document(strict, root), document(undefined)], 'SSSS'],
  ['the port is that of the workload', [document({ ...db, ...ports('5432', 'STRICT') })], 'SPPP'],
];

describe('PeerAuthentication, the mode that follows', () => {
  for (const [says, given, expected] of rows) {
    it(says, () => {
      const snapshot = compileDocuments(...given);
      const [billing, shop, own] = ['billing/db', 'shop/db', `${root}/db`].map(
        (name) => meshed(name, '198.18.0.2').workload,
      );
      assert.ok(billing && shop && own);
      const asked = [
        mtlsOf(snapshot, billing, 5432),
        mtlsOf(snapshot, billing, 80),
        mtlsOf(snapshot, shop, 80),
        mtlsOf(snapshot, own, 80),
      ];
      assert.equal(asked.map(({ mode }) => mode[0]).join(''), expected);
    });
  }
});

const text: PublishedText = {
  introduction: [
    { says: 'a sidecar takes or demands mTLS', nothing: 'there are no sidecars; agents work as in ambient mode' },
    {
      says: 'in ambient mode DISABLE is not supported',
      given: [document({ mtls: { mode: 'DISABLE' } })],
      refused: /"DISABLE" would take encryption away/,
    },
    {
      says: 'DISABLE of a port is not supported either',
      given: [document({ ...db, ...ports('8080', 'DISABLE') })],
      refused: /"DISABLE" would take encryption away/,
    },
    {
      says: 'a document that is ignored is said to be',
      given: [document({ ...db, ...strict }, root)],
      warned: /^warning .*is ignored: in the root namespace istio-system/,
    },
  ],
  portLevelMtls: [
    { says: 'ports need a selector', given: [document(ports('80', 'STRICT'))], refused: /needs a selector/ },
    {
      says: 'a port is from 1 to 65535',
      given: [document({ ...db, ...ports('65536', 'STRICT') })],
      refused: /is not a port from 1 to 65535/,
    },
    {
      says: 'a port is from 1 to 65535: zero',
      given: [document({ ...db, ...ports('0', 'STRICT') })],
      refused: /is not a port from 1 to 65535/,
    },
  ],
};

for (const [part, sentences] of Object.entries(text)) {
  describe(`PeerAuthentication, ${part}`, () => {
    for (const sentence of sentences) it(sentence.says, () => checkPublished(sentence));
  });
}
