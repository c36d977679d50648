import { callAddon } from './addon.js';

type NfTables = {
  deleteEmptyTable(netnsFd: number, isIpv6: boolean, name: string): boolean;
  foundTables(netnsFd: number): number;
};

/**
 * Deletes a table of nftables that holds no chain, set or object, without the program `nft`. The kernel looks and deletes in
 * one step, so what another program adds meanwhile is never lost. Returns false when the table holds something and stays; a
 * table that does not exist counts as deleted. `netnsFd` null: the namespace of the process. Throws `EPROTONOSUPPORT` if the
 * kernel has no nftables.
 */
export function deleteEmptyTable(o: {
  readonly netnsFd: number | null;
  readonly family: 4 | 6;
  readonly name: string;
}): boolean {
  return callAddon(`deleting the empty table ${o.name}`, (addon: NfTables) =>
    addon.deleteEmptyTable(o.netnsFd ?? -1, o.family === 6, o.name),
  );
}

const kindsOfTables = ['none', 'iptables', 'others'] as const;

/** Which tables of nftables are in a namespace: none, only such as iptables makes, or others too. Throws as above. */
export function foundTables(netnsFd: number): (typeof kindsOfTables)[number] {
  const found = callAddon('looking for tables of nftables', (addon: NfTables) => addon.foundTables(netnsFd));
  return kindsOfTables[found] ?? 'others';
}
