import { callAddon } from './addon.js';

type NfTables = { deleteEmptyTable(netnsFd: number, isIpv6: boolean, name: string): boolean };

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
