import assert from 'node:assert/strict';
import { test } from 'node:test';
import { array, assert as forAll, constantFrom, integer, ipV4, ipV6, oneof, property, tuple } from 'fast-check';
import ipaddr from 'ipaddr.js';
import { ipBytes, parseIp } from '../../../shared/address.js';

const canonicalForms: readonly [text: string, canonical: string][] = [
  ['0.0.0.0', '0.0.0.0'],
  ['198.18.0.1', '198.18.0.1'],
  ['255.255.255.255', '255.255.255.255'],
  ['::ffff:198.18.0.1', '198.18.0.1'],
  ['::FFFF:198.18.0.1', '198.18.0.1'],
  ['::ffff:c612:1', '198.18.0.1'],
  ['0:0:0:0:0:ffff:198.18.0.1', '198.18.0.1'],
  ['FD00:0:0::1', 'fd00::1'],
  ['64:ff9b::192.0.2.1', '64:ff9b::c000:201'],
];

test('every spelling of an address has one canonical form', () => {
  for (const [text, canonical] of canonicalForms) assert.equal(parseIp(text), canonical, text);
});

test('texts that only look like an address are none', () => {
  const texts = [
    '256.1.1.1',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '0x1.2.3.4',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.4\n',
    '1.2.3.-4',
  ];
  const mapped = texts.map((text) => `::ffff:${text}`);
  for (const text of [...texts, ...mapped, '', '::ffff:', 'fe80::1%eth0', '::ffff:1.2.3.4%eth0', 'localhost']) {
    assert.equal(parseIp(text), undefined, JSON.stringify(text));
  }
});

test('the short way for IPv4 answers as the library does', () => {
  const byte = oneof(integer({ min: 0, max: 300 }).map(String), constantFrom('00', '010', '0x7', '', '-1'));
  const quad = array(byte, { minLength: 3, maxLength: 5 }).map((bytes) => bytes.join('.'));
  const text = tuple(constantFrom('', '::ffff:', '::FFFF:', '::'), quad).map((parts) => parts.join(''));
  forAll(
    property(text, (candidate) => {
      const lastPart = candidate.slice(candidate.lastIndexOf(':') + 1);
      const isLiteral =
        ipaddr.IPv4.isValidFourPartDecimal(lastPart) && (lastPart === candidate || ipaddr.IPv6.isValid(candidate));
      assert.equal(parseIp(candidate), isLiteral ? ipaddr.process(candidate).toString() : undefined);
    }),
    { numRuns: 2000 },
  );
});

test('the bytes of an address are in network order', () => {
  forAll(
    property(oneof(ipV4(), ipV6()), (text) => {
      const ip = parseIp(text);
      assert.ok(ip !== undefined);
      assert.deepEqual(ipBytes(ip), ipaddr.process(text).toByteArray());
    }),
  );
});
