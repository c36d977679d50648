import type { ParsedDocuments } from '../resources/parse/parse-documents.js';
import type { Begin, Permit } from './changed-documents.js';
import type { Deletion } from './plan-inventory.js';

export type ApplyRequest = {
  readonly parsed: ParsedDocuments;
  readonly dryRun: boolean;
  readonly by: string;
  readonly message?: string;
  readonly permit?: Permit;
  readonly begin?: Begin;
};

export type RollbackRequest = Omit<ApplyRequest, 'parsed'> & { readonly revision: number };

/** A change without its documents. */
export type Changing = Omit<ApplyRequest, 'parsed'>;

export type DeleteRequest = Changing & Deletion;

/** The numbers that rules and registry get, each above the present one. */
export type AdvanceRequest = {
  readonly revision: number;
  readonly sequence: number;
  readonly by: string;
  readonly message: string;
  readonly begin: Begin;
};
