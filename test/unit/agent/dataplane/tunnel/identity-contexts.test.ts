import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import type { SpiffeId } from '../../../../../shared/identity.js';
import { IdentityContexts } from '../../../../../agent/dataplane/tunnel/identity-contexts.js';
import type { TunnelCertificates } from '../../../../../agent/dataplane/tunnel/tunnel.js';

const front = 'spiffe://lab.test/ns/shop/sa/front' as SpiffeId;
const back = 'spiffe://lab.test/ns/shop/sa/back' as SpiffeId;

function pem(name: string, newline = '\n'): string {
  return ['-----BEGIN CERTIFICATE-----', Buffer.from(name).toString('base64'), '-----END CERTIFICATE-----', ''].join(
    newline,
  );
}

/** `held`: the name of each identity's certificate; each ends at 1000. */
function certificates(roots: readonly string[], held: Readonly<Record<string, string>>): TunnelCertificates {
  return {
    rootsPem: roots.map((root) => pem(root)).join(''),
    certificates: Object.entries(held).map(([identity, name]) => ({
      identity: identity as SpiffeId,
      chainPem: pem(name),
      keyPem: `key of ${name}`,
      notAfterMs: 1000,
    })),
  };
}

/** What the second says of a node that has the first. */
function change(first: TunnelCertificates, second: TunnelCertificates): { renewed: unknown[]; ended: unknown[] } {
  const contexts = new IdentityContexts();
  contexts.replace(first);
  const { renewed, ended } = contexts.replace(second);
  return { renewed: [...renewed], ended: [...ended] };
}

describe('certificates that are replaced', () => {
  const before = certificates(['old'], { [front]: 'front 1', [back]: 'back 1' });

  it('change nothing when they are the same', () => {
    assert.deepEqual(change(before, before), { renewed: [], ended: [] });
  });

  it('renew an identity, with the end of what it had', () => {
    const after = certificates(['old'], { [front]: 'front 2', [back]: 'back 1' });
    assert.deepEqual(change(before, after), { renewed: [[front, 1000]], ended: [] });
  });

  it('renew every identity when a root is added, also where its text is written otherwise', () => {
    const after = certificates(['old', 'new'], { [front]: 'front 1', [back]: 'back 1' });
    const rewritten = { ...after, rootsPem: pem('new', '\r\n') + pem('old', '\r\n') };
    for (const next of [after, rewritten]) {
      assert.deepEqual(change(before, next), {
        renewed: [
          [front, 1000],
          [back, 1000],
        ],
        ended: [],
      });
    }
  });

  it('end every identity when a root is taken away, whatever comes instead', () => {
    for (const roots of [['new'], []]) {
      const after = certificates(roots, { [front]: 'front 2', [back]: 'back 1' });
      assert.deepEqual(change(before, after), { renewed: [], ended: [front, back] });
    }
  });

  it('end an identity that is gone or new', () => {
    assert.deepEqual(change(before, certificates(['old'], { [front]: 'front 1' })), { renewed: [], ended: [back] });
    assert.deepEqual(change(certificates(['old'], {}), certificates(['old'], { [back]: 'back 1' })), {
      renewed: [],
      ended: [back],
    });
  });
});
