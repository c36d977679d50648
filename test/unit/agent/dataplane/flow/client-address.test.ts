import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clientOf, forwardedClient, forwardedOf } from '../../../../../agent/dataplane/flow/client-address.js';
import type { PeerAddress } from '../../../../../agent/dataplane/sockets/socket-addresses.js';
import type { HostPort, IpAddress } from '../../../../../shared/address.js';
import { workload } from '../../../../support/routing/registry-entries.js';

const v4 = { ip: '198.18.11.2' as IpAddress, port: 40_000 };
const v6 = { ip: 'fd00::2' as IpAddress, port: 40_000 };

describe('the Forwarded header', () => {
  for (const client of [v4, v6]) {
    test(`names ${client.ip} with its port, and is read back`, () => {
      assert.deepEqual(forwardedClient(forwardedOf(client)), client);
    });
  }

  const texts: readonly (readonly [text: string, client: HostPort | null])[] = [
    ['for="198.18.11.2:40000"', v4],
    ['For=198.18.11.2:40000', v4],
    ['for="198.18.11.2:40000";host=db.shop;proto=hbone', v4],
    ['for="198.18.11.2:40000", for="198.18.99.9:1"', v4],
    ['for="[FD00:0::2]:40000"', v6],
    ['', null],
    ['for=198.18.11.2', null],
    ['for="[fd00::2]"', null],
    ['for="198.18.11.2:0"', null],
    ['for="198.18.11.2:65536"', null],
    ['for="198.18.11.2:_hidden"', null],
    ['for=unknown', null],
    ['for="198.18.11.2:40000', null],
    ['by="198.18.11.2:40000"', null],
    [`for="${'1'.repeat(100_000)}`, null],
  ];
  for (const [text, client] of texts) {
    test(`"${text.slice(0, 60)}" names ${client === null ? 'no client' : client.ip}`, () => {
      assert.deepEqual(forwardedClient(text), client);
    });
  }
});

describe('the client that an inbound record shows', () => {
  const web = workload('shop/web', [v4.ip, v6.ip]);
  const db = workload('shop/db', ['198.18.12.2']);
  const registry = { workloadAt: (ip: IpAddress) => [web, db].find(({ addresses }) => addresses.includes(ip)) };
  const peerAddress = { ip: v4.ip, port: 50_000 } as PeerAddress;
  const shownFor = (forwarded: string, peerIdentity = web.identity): HostPort =>
    clientOf({ peerAddress, peerIdentity, headers: { forwarded, baggage: '', traceparent: '' } }, registry);

  test('has the port that the other agent names', () => {
    assert.deepEqual(shownFor(forwardedOf(v4)), v4);
  });

  test('has another address of the same workload', () => {
    assert.deepEqual(shownFor(forwardedOf(v6)), v6);
  });

  test('is the tunnel’s own when the header names no client', () => {
    assert.deepEqual(shownFor(''), peerAddress);
  });

  test('is the tunnel’s own when the header names another workload’s address, or one that no workload has', () => {
    for (const ip of ['198.18.12.2', '198.18.99.9', '127.0.0.1'] as IpAddress[]) {
      assert.deepEqual(shownFor(forwardedOf({ ip, port: 40_000 })), peerAddress);
    }
  });

  test('is the tunnel’s own when the identity is not the workload’s', () => {
    assert.deepEqual(shownFor(forwardedOf(v6), db.identity), peerAddress);
  });
});
