import { z } from 'zod';
import type { MatchFieldName } from '../../../shared/policy/match-fields.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import type { DocumentField } from '../match/peer-field.js';
import { peerFieldNames, peerFields, type PeerTable } from '../match/peer-fields.js';
import { fieldNotes } from './field-notes.js';

type PeerShape = {
  [F in keyof PeerTable as PeerTable[F]['document']['name']]: PeerTable[F]['document']['schema'];
};

const documents = peerFieldNames.map((field) => peerFields[field].document);

/** Fields that only members of the mesh can match. */
const memberFields = peerFieldNames.flatMap((field) => {
  const { about, document } = peerFields[field];
  return about === 'workload' || about === 'namespace' ? [document.name] : [];
});

/**
 * One entry of `from`, `to` and a segment's `members`. All fields that are set must match; the entries of a list are
 * alternatives. `segment` and `service` stand alone, and `except` removes addresses from `cidr`. `external` matches
 * addresses that no workload, service or ServiceEntry of the root namespace names; `unauthenticated` matches sources that
 * proved no identity.
 */
export const peerSchema = z
  .strictObject(Object.fromEntries(documents.map(({ name, schema }) => [name, schema])) as PeerShape)
  .superRefine((peer, context) => {
    const fields = Object.keys(peer);
    if (fields.length === 0) {
      context.addIssue({ code: 'custom', message: 'is empty: name at least one of segment, namespace, labels, …' });
    }
    const refuse = (field: string, message: string) => {
      context.addIssue({ code: 'custom', path: [field], message });
    };
    if (peer.segment !== undefined && fields.length > 1) {
      refuse('segment', 'stands alone: put the other fields into the members of the segment');
    }
    if (peer.service !== undefined && fields.length > 1) {
      refuse('service', 'stands alone: it means the endpoints of the service, or the addresses of the ServiceEntry');
    }
    const known = fields.find((field) => memberFields.includes(field));
    if (peer.external !== undefined && known !== undefined) {
      refuse(known, 'contradicts external: who has one is a member of the mesh');
    }
    if (peer.unauthenticated !== undefined && known !== undefined) {
      refuse(known, 'contradicts unauthenticated: who proves no identity is known by the address only');
    }
    if (peer.except !== undefined && peer.cidr === undefined) {
      context.addIssue({ code: 'custom', path: ['except'], message: 'takes addresses out of cidr: add cidr' });
    }
  })
  .register(fieldNotes, {
    example: '{ serviceAccount: billing/api }',
    part: 'Peer',
    openApi: {
      minProperties: 1,
      rules: {
        'segment stands alone': alone('segment'),
        'service stands alone': alone('service'),
        'external contradicts what only a member of the mesh has': `!has(self.external) || !(${anyOf(memberFields)})`,
        'unauthenticated contradicts what only a member of the mesh has': `!has(self.unauthenticated) || !(${anyOf(memberFields)})`,
        'except takes addresses out of cidr': '!has(self.except) || has(self.cidr)',
      },
    },
  });

/** In CEL: that a field is there without any other. */
function alone(field: string): string {
  return `!has(self.${field}) || !(${anyOf(documents.map(({ name }) => name).filter((name) => name !== field))})`;
}

/** `namespace` is a word of CEL itself, and the API server knows the field as `__namespace__`. */
function anyOf(fields: readonly string[]): string {
  return fields.map((field) => `has(self.${field === 'namespace' ? '__namespace__' : field})`).join(' || ');
}

export type Peer = z.output<typeof peerSchema>;

/** The value that a peer has for one field, and how documents write that field; undefined when it is not set. */
export function writtenField(
  field: MatchFieldName,
  peer: Peer,
): { readonly document: DocumentField<MatchFieldName>; readonly written: unknown } | undefined {
  const { document } = peerFields[field];
  const written = (peer as Readonly<Record<string, unknown>>)[document.name];
  return written === undefined ? undefined : { document, written };
}

/** Compiles a peer without `segment` and `service`, which can stand for several matches. */
export function toPeerMatch(peer: Peer): PeerMatch {
  return Object.fromEntries(
    peerFieldNames.flatMap((field) => {
      const found = writtenField(field, peer);
      return found === undefined ? [] : [[field, found.document.toMatch(found.written)]];
    }),
  );
}

/** `from` and `to` of a rule; omit the field to match every party. */
export const peerListField = z
  .array(peerSchema)
  .min(1, 'must not be empty: leave it out to match everybody')
  .register(fieldNotes, { example: '[{ serviceAccount: billing/api }]' });
