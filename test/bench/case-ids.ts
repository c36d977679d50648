/** Every case of `npm run bench`, in the order in which they are measured and shown. */
export const caseIds = [
  'bulk-1',
  'bulk-4',
  'bulk-16',
  'keepalive-1',
  'keepalive-32',
  'keepalive-256',
  'newconn',
  'idle-10k',
  'storm',
  'slow-readers',
  'small-messages',
  'at-rest',
] as const;
export type CaseId = (typeof caseIds)[number];

export function isCaseId(text: string): text is CaseId {
  return (caseIds as readonly string[]).includes(text);
}
