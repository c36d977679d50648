import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { ConnectionViolation } from '../../../../../agent/dataplane/engine/lean/hpack/connection-violation.js';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import { HpackDecoder } from '../../../../../agent/dataplane/engine/lean/hpack/hpack-decoder.js';
import { HpackEncoder, type HeaderFields } from '../../../../../agent/dataplane/engine/lean/hpack/hpack-encoder.js';

function decoder(maxTableBytes = 4096): HpackDecoder {
  return new HpackDecoder({ maxTableBytes, maxListBytes: 16_384, maxFields: 32 });
}

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(/\s/g, ''), 'hex');
}

function decode(hex: string, by = decoder()): string[] {
  return pairs(by.decode(bytes(hex)).fields);
}

function pairs(fields: readonly string[]): string[] {
  return fields.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${fields[at + 1]}`] : []));
}

function assertBroken(hex: string, detail: RegExp, by = decoder()): void {
  assert.throws(
    () => by.decode(bytes(hex)),
    (error) =>
      error instanceof ConnectionViolation &&
      error.errorCode === errorCode.compressionError &&
      detail.test(error.message),
  );
}

describe('HPACK decodes the examples of RFC 7541 appendix C', () => {
  const single: [section: string, hex: string, field: string, tableBytes: number][] = [
    ['C.2.1', '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572', 'custom-key: custom-header', 55],
    ['C.2.2', '040c 2f73 616d 706c 652f 7061 7468', ':path: /sample/path', 0],
    ['C.2.3', '1008 7061 7373 776f 7264 0673 6563 7265 74', 'password: secret', 0],
    ['C.2.4', '82', ':method: GET', 0],
  ];
  for (const [section, hex, field, tableBytes] of single) {
    it(`in ${section}`, () => {
      const by = decoder();
      assert.deepEqual(decode(hex, by), [field]);
      assert.equal(by.tableBytes, tableBytes);
    });
  }

  const firstRequest = [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'];
  const requests: [string[], number][] = [
    [firstRequest, 57],
    [[...firstRequest, 'cache-control: no-cache'], 110],
    [
      [
        ':method: GET',
        ':scheme: https',
        ':path: /index.html',
        ':authority: www.example.com',
        'custom-key: custom-value',
      ],
      164,
    ],
  ];
  const date = 'date: Mon, 21 Oct 2013 20:13:21 GMT';
  const location = 'location: https://www.example.com';
  const responses: [string[], number][] = [
    [[':status: 302', 'cache-control: private', date, location], 222],
    [[':status: 307', 'cache-control: private', date, location], 222],
    [
      [
        ':status: 200',
        'cache-control: private',
        'date: Mon, 21 Oct 2013 20:13:22 GMT',
        location,
        'content-encoding: gzip',
        'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
      ],
      215,
    ],
  ];
  const sequences: [section: string, maxTableBytes: number, blocks: string[], expected: [string[], number][]][] = [
    [
      'C.3',
      4096,
      [
        '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '8286 84be 5808 6e6f 2d63 6163 6865',
        '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
      ],
      requests,
    ],
    [
      'C.4',
      4096,
      [
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        '8286 84be 5886 a8eb 1064 9cbf',
        '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
      ],
      requests,
    ],
    [
      'C.5',
      256,
      [
        `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
        '4803 3330 37c1 c0bf',
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
         2076 6572 7369 6f6e 3d31`,
      ],
      responses,
    ],
    [
      'C.6',
      256,
      [
        `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
         8f0b 97c8 e9ae 82ae 43d3`,
        '4883 640e ffc1 c0bf',
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
      ],
      responses,
    ],
  ];
  for (const [section, maxTableBytes, blocks, expected] of sequences) {
    it(`in ${section}, block after block`, () => {
      const by = decoder(maxTableBytes);
      for (const [at, [fields, tableBytes]] of expected.entries()) {
        assert.deepEqual(decode(blocks[at]!, by), fields);
        assert.equal(by.tableBytes, tableBytes);
      }
    });
  }

  it('and the integers of C.1', () => {
    // 1337 as the length of a value, with a prefix of seven bits instead of five: 127 + 58 + 9·128 + 0.
    const value = 'x'.repeat(1337);
    const block = Buffer.concat([Buffer.from([0x04, 0x7f, 0xba, 0x09]), Buffer.from(value)]);
    assert.deepEqual(pairs(decoder().decode(block).fields), [`:path: ${value}`]);
  });
});

describe('HPACK refuses with COMPRESSION_ERROR', () => {
  const broken: [what: string, hex: string, detail: RegExp][] = [
    ['index 0 (RFC 7541 §6.1)', '80', /index 0/],
    ['an index beyond both tables (§2.3.3)', 'be', /beyond the table/],
    ['an integer that is too large (§5.1)', 'ffffffffffff7f', /too large/],
    ['an integer that has no end (§5.1)', 'ffff', /within an integer/],
    ['a string longer than its block (§5.2)', '040c2f', /longer than its block/],
    ['a field without a value', '04', /within a field/],
    ['a table size update after a field (§4.2)', '823f', /after a field/],
    ['a table larger than allowed (§6.3)', '3fe21f', /limit 4096/],
    ['EOS within a Huffman string (§5.2)', '0484ffffffff', /EOS/],
    ['a whole byte of Huffman padding (§5.2)', '0482f8ff', /padding/],
    ['Huffman padding that is not ones (§5.2)', '048100', /padding/],
  ];
  for (const [what, hex, detail] of broken) it(what, () => assertBroken(hex, detail));
});

describe('HPACK within its limits', () => {
  it('shrinks and empties its table by size updates', () => {
    const by = decoder();
    decode('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572', by);
    decode('20 82', by);
    assert.equal(by.tableBytes, 0);
    assertBroken('be', /beyond the table/, by);
  });

  it('does not keep an entry larger than the table', () => {
    const by = decoder(64);
    decode('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572', by);
    by.decode(Buffer.concat([Buffer.from([0x40, 1, 0x61, 40]), Buffer.alloc(40, 0x62)]));
    assert.equal(by.tableBytes, 0);
  });

  it('says that a list is too large, and still knows what the table holds', () => {
    const by = decoder();
    const entry = Buffer.concat([
      Buffer.from([0x40, 1, 0x61, 0x7f, 0x80 | (2000 - 127 - 14 * 128), 14]),
      Buffer.alloc(2000, 0x62),
    ]);
    const bomb = by.decode(Buffer.concat([entry, Buffer.alloc(60_000, 0xbe)]));
    assert.equal(bomb.isTooLarge, true);
    assert.ok(bomb.fields.length <= 64);
    assert.equal(by.decode(Buffer.from([0xbe])).fields[1]?.length, 2000);
  });

  it('keeps many small entries in the order of their age', () => {
    const by = decoder();
    for (let index = 0; index < 300; index++) {
      const name = `k${index}`;
      by.decode(Buffer.concat([Buffer.from([0x40, name.length]), Buffer.from(name), Buffer.from([0])]));
      assert.equal(by.decode(Buffer.from([0xbe])).fields[0], name);
      if (index >= 3) assert.equal(by.decode(Buffer.from([0xc1])).fields[0], `k${index - 3}`);
    }
    assert.ok(by.tableBytes <= 4096);
  });

  it('never fails otherwise, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (block) => {
        const by = decoder();
        try {
          by.decode(Buffer.from(block));
        } catch (error) {
          assert.ok(error instanceof ConnectionViolation);
        }
        assert.ok(by.tableBytes <= 4096);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the HPACK encoder', () => {
  it('writes what the decoder reads', () => {
    const octets = fc.string({
      unit: fc.integer({ min: 0x21, max: 0xff }).map((code) => String.fromCharCode(code)),
      maxLength: 300,
    });
    const field = fc.tuple(octets, octets);
    fc.assert(
      fc.property(fc.array(fc.array(field, { maxLength: 10 }), { maxLength: 5 }), (blocks) => {
        const encoder = new HpackEncoder();
        const by = decoder();
        for (const fields of blocks) {
          const { fields: decoded } = by.decode(encoder.encode(fields));
          assert.deepEqual(decoded, fields.flat());
        }
      }),
    );
  });

  it('spends one byte on what the static table has, and says once that its own table is empty', () => {
    const encoder = new HpackEncoder();
    const fields: HeaderFields = [
      [':status', '200'],
      [':authority', 'a:1'],
    ];
    assert.equal(encoder.encode(fields).toString('hex'), '20880103613a31');
    assert.equal(encoder.encode(fields).toString('hex'), '880103613a31');
  });
});
