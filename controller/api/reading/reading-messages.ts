import type { ParsedDocuments } from '../../resources/parse/parse-documents.js';
import type { Resource } from '../../resources/kinds/resource.js';

/** A problem's place, as problems have it. */
export type Place = { readonly resource: string; readonly path: string };

/** To the thread, which answers each message with one. `id` names a reading. */
export type ReadingQuestion =
  /** The body of an apply. The thread keeps what it read until it has read a few others. */
  | { readonly type: 'read'; readonly id: number; readonly body: Uint8Array }
  /** The next part of the resources. */
  | { readonly type: 'more'; readonly id: number }
  /** The lines of places in a text that was read. */
  | { readonly type: 'lines'; readonly id: number; readonly places: readonly Place[] };

export type ReadingAnswer =
  | {
      readonly type: 'read';
      readonly dryRun: boolean;
      readonly message: string;
      readonly problems: ParsedDocuments['problems'];
    }
  /** JSON of `ReadResource[]`, and whether there is more. */
  | { readonly type: 'more'; readonly json: Uint8Array; readonly isLast: boolean }
  /** Null: not known. */
  | { readonly type: 'lines'; readonly lines: readonly (number | null)[] }
  | { readonly type: 'refused'; readonly code: string; readonly message: string; readonly hint: string | null };

/** A resource, and the number of its document. */
export type ReadResource = readonly [document: number, resource: Resource];
