import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { forwardedClient } from '../../../agent/dataplane/flow/client-address.js';
import { formatHostPort, parseCidr, parseHostPort, parseIp } from '../../../shared/address.js';
import { parseSubject } from '../../../shared/bus/subjects.js';
import { parseSpiffeId } from '../../../shared/identity.js';
import { parseRuleRef } from '../../../shared/policy/connection.js';
import { parseNodeName, parseWorkloadName } from '../../../shared/routing/names.js';
import type { FuzzTarget } from '../target.js';

const seeds = [
  ['10.0.0.1', '::1', '::ffff:10.0.0.1', '2001:db8::1', 'fe80::1%eth0', '10.0.0.0/8', '2001:db8::/32', '0.0.0.0/0'],
  ['10.0.0.1:80', '[::1]:443', 'for="[2001:db8::1]:4711"', 'for=10.0.0.1:80;proto=http', 'culvert.sign.host-a'],
  ['spiffe://lab.test/ns/shop/sa/web', 'shop/web', 'host-a', 'SegmentationRule/platform/one', 'Mesh/default'],
].flat();

export const addressTarget: FuzzTarget = {
  name: 'addresses',
  reads: 'addresses, names and SPIFFE IDs in headers, subjects and documents',
  seeds: () => seeds.map((text) => Buffer.from(text)),
  words: ['::', ':', '.', '/', '%', '[', ']', '0', '00', 'ffff', '255', 'spiffe://', '..', '\n', '\0', '\xc3\xa9', ' '],
  check: (input) => {
    const text = input.toString('utf8');
    const ip = parseIp(text);
    if (ip !== undefined) {
      assert.notEqual(isIP(ip), 0);
      assert.equal(parseIp(ip), ip, 'one text for each address');
    }
    const cidr = parseCidr(text);
    if (cidr !== undefined) {
      const again = parseCidr(`${cidr.base}/${cidr.prefixLength}`);
      assert.deepEqual(again, cidr);
    }
    const at = parseHostPort(text);
    if (at !== undefined) assert.deepEqual(parseHostPort(formatHostPort(at)), at);
    const readers = [forwardedClient, parseSubject, parseSpiffeId, parseRuleRef, parseNodeName, parseWorkloadName];
    const read = [ip, cidr, at, ...readers.map((reader) => reader(text) ?? undefined)];
    return read.map((value) => (value === undefined ? '-' : '+')).join('');
  },
};
