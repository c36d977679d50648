import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { nodeNamed } from '../../../support/routing/names.js';
import { compareClaimants, type SourceEntry } from '../../../../controller/inventory/inventory-source.js';
import { MergedRegistry } from '../../../../controller/inventory/merged-registry.js';
import { registryKey, type RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import { found, serviceEntry, workloadEntry } from '../../../support/controller/inventory-fixture.js';

const onNode = (name: string, ip: string, netns: string) => workloadEntry(name, { ip, node: nodeNamed('n'), netns });
const [a, b] = ['198.18.0.1', '198.18.0.2'];

type Case = {
  readonly what: string;
  /** Of each source, in the order in which they come. */
  readonly entries: readonly (readonly [source: string, entry: RegistryEntry])[];
  /** By key: the addresses it is published with, and its network namespace. */
  readonly published: Readonly<Record<string, string>>;
  readonly conflicts: readonly string[];
};

const otherNames = ['/var/run/netns/x', '//run/netns/x', '/run/./netns//x/', '/run/netns/y/../x', '/var/./run/netns/x'];

const cases: readonly Case[] = [
  {
    what: 'entries that have nothing in common are all published',
    entries: [
      ['kubernetes', workloadEntry('web', { ip: a })],
      ['documents', workloadEntry('api', { ip: b })],
    ],
    published: { 'workload.shop.api': b, 'workload.shop.web': a },
    conflicts: [],
  },
  {
    what: 'of one name the document counts, and the other claims nothing',
    entries: [
      ['kubernetes', workloadEntry('web', { ip: a })],
      ['documents', workloadEntry('web', { ip: b })],
      ['mesh', workloadEntry('other', { ip: a })],
    ],
    published: { 'workload.shop.other': a, 'workload.shop.web': b },
    conflicts: ['the name: documents workload.shop.web, not kubernetes workload.shop.web'],
  },
  {
    what: 'of one address the document has it, and the other goes without',
    entries: [
      [
        'kubernetes',
        {
          ...workloadEntry('web'),
          addresses: workloadEntry('x', { ip: a }).addresses.concat(workloadEntry('x', { ip: b }).addresses),
        },
      ],
      ['documents', workloadEntry('api', { ip: b })],
    ],
    published: { 'workload.shop.api': b, 'workload.shop.web': a },
    conflicts: [`${b}: documents workload.shop.api, not kubernetes workload.shop.web`],
  },
  {
    what: 'sources without a rank come in the order of their names',
    entries: [
      ['zebra', workloadEntry('web', { ip: a })],
      ['apple', workloadEntry('api', { ip: a })],
    ],
    published: { 'workload.shop.api': a, 'workload.shop.web': '' },
    conflicts: [`${a}: apple workload.shop.api, not zebra workload.shop.web`],
  },
  {
    what: 'within one source the first key has it',
    entries: [
      ['kubernetes', workloadEntry('web', { ip: a })],
      ['kubernetes', workloadEntry('api', { ip: a })],
      ['kubernetes', serviceEntry('web', a)],
    ],
    published: { 'service.shop.web': a, 'workload.shop.api': '', 'workload.shop.web': '' },
    conflicts: [
      `${a}: kubernetes service.shop.web, not kubernetes workload.shop.api`,
      `${a}: kubernetes service.shop.web, not kubernetes workload.shop.web`,
    ],
  },
  {
    what: 'of one network namespace the document has it, and the other is unreachable, also in the clear',
    entries: [
      ['kubernetes', onNode('web', a, '/run/netns/x')],
      ['documents', onNode('api', b, 'x')],
    ],
    published: { 'workload.shop.api': `${b} x hbone`, 'workload.shop.web': `${a} hbone` },
    conflicts: ['/run/netns/x on n: documents workload.shop.api, not kubernetes workload.shop.web'],
  },
  ...otherNames.map((netns) => ({
    what: `${netns} is the network namespace x`,
    entries: [
      ['documents', onNode('web', a, netns)],
      ['documents', onNode('api', b, 'x')],
    ] as const,
    published: { 'workload.shop.api': `${b} x hbone`, 'workload.shop.web': `${a} hbone` },
    conflicts: ['/run/netns/x on n: documents workload.shop.api, not documents workload.shop.web'],
  })),
  {
    what: 'names of other network namespaces stay apart',
    entries: [
      ['documents', onNode('web', a, '/var/run/netns/y')],
      ['documents', onNode('api', b, '/run/netns/x')],
    ],
    published: { 'workload.shop.api': `${b} /run/netns/x hbone`, 'workload.shop.web': `${a} /var/run/netns/y hbone` },
    conflicts: [],
  },
];

function shown(merged: MergedRegistry): Record<string, string> {
  const lines = [...merged.published].map(([key, { entry }]): [string, string] => {
    if (entry.kind === 'service') return [key, entry.vips.join(',')];
    const { addresses, netns, node, protocol } = entry;
    return [key, [addresses.join(','), netns, node === null ? null : protocol].filter((one) => one !== null).join(' ')];
  });
  return Object.fromEntries(lines.sort(([x], [y]) => (x < y ? -1 : 1)));
}

function conflictsOf(merged: MergedRegistry): string[] {
  return merged.conflicts
    .map(({ claim, winner, loser }) => `${claim}: ${winner.source} ${winner.key}, not ${loser.source} ${loser.key}`)
    .sort();
}

for (const { what, entries, published, conflicts } of cases) {
  test(`${what}, in whatever order they come`, () => {
    for (const order of [entries, entries.toReversed()]) {
      const merged = new MergedRegistry();
      let sequence = 1;
      for (const [source, entry] of order) {
        merged.apply(source, { upserts: [found(entry)], removals: [] }, ++sequence);
      }
      assert.deepEqual(shown(merged), published);
      assert.deepEqual(conflictsOf(merged), conflicts);
    }
  });
}

const sources = ['documents', 'kubernetes', 'apple'];
const anEntry = fc
  .tuple(
    fc.constantFrom('w0', 'w1', 'w2', 'w3'),
    fc.subarray([0, 1, 2, 3, 4]),
    fc.constantFrom(null, 'x', 'y'),
    fc.boolean(),
  )
  .map(([name, ips, netns, isService]): RegistryEntry => {
    const addresses = ips.flatMap((ip) => workloadEntry('x', { ip: `198.18.0.${ip}` }).addresses);
    if (isService) return { ...serviceEntry(name, a), vips: addresses };
    return { ...workloadEntry(name, netns === null ? {} : { node: nodeNamed('n'), netns }), addresses };
  });
const aChange = fc.record({
  source: fc.constantFrom(...sources),
  upserts: fc.array(anEntry, { maxLength: 3 }),
  removals: fc.array(fc.constantFrom('workload.shop.w0', 'workload.shop.w1', 'service.shop.w2'), { maxLength: 2 }),
});

/** The stated order, written down once more: all entries in it, each taking what is left. */
function expected(merged: MergedRegistry): Record<string, string> {
  const all = sources.flatMap((source) => [...merged.heldBy(source).values()]).sort((x, y) => compareClaimants(x, y));
  const names = new Map<string, (typeof all)[number]>();
  for (const held of all) if (!names.has(held.key)) names.set(held.key, held);
  const taken = new Set<string>();
  const given: [string, SourceEntry['entry']][] = [];
  for (const held of all) {
    if (names.get(held.key) !== held) continue;
    const take = (claim: string): boolean => !taken.has(claim) && taken.add(claim).size > 0;
    const { entry } = held;
    if (entry.kind === 'service') given.push([held.key, { ...entry, vips: entry.vips.filter(take) }]);
    else {
      const addresses = entry.addresses.filter(take);
      const netns = entry.netns !== null && take(`netns ${entry.netns}`) ? entry.netns : null;
      given.push([held.key, { ...entry, addresses, netns }]);
    }
  }
  const other = new MergedRegistry();
  for (const [key, entry] of given) {
    assert.equal(registryKey(entry), key);
    other.apply('documents', { upserts: [found(entry)], removals: [] }, 2);
  }
  return shown(other);
}

test('any changes of any sources give what the stated order gives, and taking one back leaves no trace', () => {
  fc.assert(
    fc.property(fc.array(aChange, { maxLength: 12 }), aChange, (changes, last) => {
      const merged = new MergedRegistry();
      let sequence = 1;
      const apply = ({ source, upserts, removals }: typeof last) =>
        merged.apply(source, { upserts: upserts.map(found), removals }, ++sequence);
      for (const change of changes) {
        apply(change);
        assert.deepEqual(shown(merged), expected(merged));
      }
      const everything = () => ({
        published: new Map([...merged.published].sort(([x], [y]) => (x < y ? -1 : 1))),
        conflicts: conflictsOf(merged),
      });
      const before = everything();
      const applied = apply(last);
      assert.deepEqual(shown(merged), expected(merged));
      applied.undo();
      assert.deepEqual(everything(), before);
    }),
    { numRuns: 300 },
  );
});
