import { createPublicKey, X509Certificate } from 'node:crypto';
import { describeError } from '../../../shared/errors.js';
import { describeCertificate, onOneLine } from '../../../shared/pki/certificate-info.js';
import { readExtensions, type CertificateExtension } from '../../../shared/pki/certificate-names.js';
import { derTag, readDerChildren, readDerElements } from '../../../shared/pki/der-reader.js';
import { encodePem, joinCertificates, splitCertificates } from '../../../shared/pki/pem.js';
import { namesIn, sameNames, type LeafNames } from '../leaf-names.js';
import type { IssuedCertificate } from '../x509/leaf-certificate.js';
import { issuerError, quoted } from './issuer-error.js';
import { leafUsages, type LeafKind, type LeafUsage } from './leaf-profile.js';

export type Expected = {
  readonly kind: LeafKind;
  /** Exactly these; see `wantedNames`. */
  readonly names: LeafNames;
  /** Of the request, SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
  readonly rootsPem: string;
  readonly ttlMs: number;
  readonly nowMs: number;
};

/** A certificate that is what was asked for, and how it ends at a root. PEM. */
export type VerifiedIssue = IssuedCertificate & {
  /** Between the leaf and the root, in order. */
  readonly issuersPem: string;
  readonly rootPem: string;
  /** When the first certificate above the leaf ends. */
  readonly issuersEndMs: number;
  /** How long it is not valid yet, by this host's clock; 0: it is. */
  readonly startsInMs: number;
};

const maxCertificates = 16;
const maxChainLength = 6;
/** An agent takes 64 certificates in an answer, see `maxWireBytes`. */
const maxChainBytes = 12 * 1024;
const clockToleranceMs = 300_000;
/** What is worth waiting for: cert-manager does not set the beginning back in time. */
const longestStartMs = 5000;
const leastLifeMs = 60_000;

const oids = { keyUsage: '551d0f', extendedKeyUsage: '551d25' } as const;
const bitStringTag = 0x03;
const usageOids: Readonly<Record<LeafUsage, string>> = {
  'server auth': '2b06010505070301',
  'client auth': '2b06010505070302',
};
/** Bits of KeyUsage (RFC 5280, section 4.2.1.3), the first byte. */
const [digitalSignature, keyCertSign, crlSign] = [0x80, 0x04, 0x02];

/**
 * Whether what an issuer gave is exactly what was asked for: for this key, with these names and no other, for these uses, not a
 * CA, valid now and not much longer than wanted, and signed link by link up to one of the roots. A hostile or misconfigured
 * issuer gives no agent another identity. Path lengths and name constraints are judged by OpenSSL, once for each chain
 * (`proveSigning`). Throws `ISSUER_UNFIT`.
 */
export function verifyIssued(bundlePem: string, expected: Expected): VerifiedIssue {
  try {
    return verify(bundlePem, expected);
  } catch (cause) {
    throw unfit(cause instanceof Unfit ? cause.message : `it cannot be read: ${describeError(cause)}`, cause);
  }
}

class Unfit extends Error {}

function verify(bundlePem: string, expected: Expected): VerifiedIssue {
  const pems = splitCertificates(joinCertificates([bundlePem]));
  if (pems.length === 0) throw new Unfit('it has no certificate');
  if (pems.length > maxCertificates) throw new Unfit(`${pems.length} certificates came with it`);
  const [leaf, ...others] = pems.map((pem) => new X509Certificate(pem));
  if (leaf === undefined) throw new Unfit('it has no certificate');
  if (!leaf.publicKey.export({ type: 'spki', format: 'der' }).equals(expected.spki)) {
    throw new Unfit('it is for another key than that of the request');
  }
  const extensions = readExtensions(leaf.raw);
  checkNames(leaf, namesIn(extensions), expected);
  checkUsages(leaf, extensions, leafUsages[expected.kind]);
  const roots = splitCertificates(expected.rootsPem).map((pem) => new X509Certificate(pem));
  const path = pathOf(leaf, others, roots);
  if (path === null) {
    throw new Unfit(
      `no chain leads from its issuer "${quoted(onOneLine(leaf.issuer))}" to a root that this mesh trusts`,
    );
  }
  const above = [...path.issuers, path.root];
  const issuersEndMs = Math.min(...above.map(({ validTo }) => Date.parse(validTo)));
  if (!above.every(({ validFrom }) => Date.parse(validFrom) <= expected.nowMs) || issuersEndMs <= expected.nowMs) {
    throw new Unfit('a certificate above it is not valid now');
  }
  const startsInMs = checkLife(leaf, issuersEndMs, expected);
  const issuersPem = path.issuers.map(pemOf).join('');
  const chainPem = pemOf(leaf) + issuersPem;
  if (chainPem.length > maxChainBytes) {
    throw new Unfit(`it has ${chainPem.length} bytes with its chain, and agents take ${maxChainBytes}`);
  }
  const { serial, notAfterMs } = describeCertificate(leaf.raw);
  return { chainPem, notAfterMs, serial, issuersPem, rootPem: pemOf(path.root), issuersEndMs, startsInMs };
}

function checkNames(leaf: X509Certificate, names: LeafNames, { kind, names: wanted }: Expected): void {
  if (!sameNames(names, wanted)) {
    const shown = (list: LeafNames): string => (list.length === 0 ? 'no name' : quoted(list.join(', ')));
    throw new Unfit(`it is for ${shown(names)}, not for ${shown(wanted)}`);
  }
  // Some verifiers, Node's among them, take a common name for a host name where there is no other.
  if (kind !== 'server' && /(?:^|\n|\+ )CN=/.test(leaf.subject ?? '')) {
    throw new Unfit(`its subject has a common name, "${quoted(onOneLine(leaf.subject))}"`);
  }
}

function checkUsages(
  leaf: X509Certificate,
  extensions: readonly CertificateExtension[],
  usages: readonly LeafUsage[],
): void {
  if (leaf.ca) throw new Unfit('it is the certificate of a CA');
  const [, bits = 0] = readDerElements(valueOf(extensions, oids.keyUsage) ?? new Uint8Array())
    .filter(({ tag }) => tag === bitStringTag)
    .flatMap(({ contents }) => [...contents]);
  if ((bits & digitalSignature) === 0) throw new Unfit('its key usage is not "digital signature"');
  if ((bits & (keyCertSign | crlSign)) !== 0) throw new Unfit('its key may sign certificates or revocations');
  const extended = valueOf(extensions, oids.extendedKeyUsage);
  const found =
    extended === null ? [] : readDerChildren(extended, derTag.sequence).map(({ contents }) => hex(contents));
  const wanted = usages.map((usage) => usageOids[usage]);
  if (found.length !== wanted.length || !wanted.every((oid) => found.includes(oid))) {
    throw new Unfit(`its extended key usages are not exactly ${usages.join(' and ')}`);
  }
}

/** Null: there is no such extension. */
function valueOf(extensions: readonly CertificateExtension[], oid: string): Uint8Array | null {
  const found = extensions.filter((extension) => extension.oid === oid);
  if (found.length > 1) throw new Unfit('it has an extension twice');
  return found[0]?.value ?? null;
}

/** Returns for how long it is not valid yet. */
function checkLife(leaf: X509Certificate, issuersEndMs: number, { ttlMs, nowMs }: Expected): number {
  const [notBeforeMs, notAfterMs] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
  const startsInMs = Math.max(0, notBeforeMs - nowMs);
  if (!(startsInMs <= longestStartMs)) {
    throw new Unfit(`it is not valid for another ${Math.ceil(startsInMs / 1000)} s: compare the clocks`);
  }
  const leftMs = notAfterMs - nowMs;
  if (!(leftMs <= ttlMs + clockToleranceMs)) {
    throw new Unfit(`it is valid until ${iso(notAfterMs)}, longer than the ${ttlMs / 1000} s that were asked for`);
  }
  if (!(leftMs >= Math.min(ttlMs, leastLifeMs) / 2)) throw new Unfit(`it ends at ${iso(notAfterMs)} already`);
  if (notAfterMs > issuersEndMs) {
    throw new Unfit(`it ends at ${iso(notAfterMs)}, after its CA, which ends at ${iso(issuersEndMs)}`);
  }
  return startsInMs;
}

type Path = { readonly issuers: readonly X509Certificate[]; readonly root: X509Certificate };

/**
 * The shortest path to a root. Each certificate is taken once, so a bundle that goes round in circles costs no more. Null:
 * none.
 */
function pathOf(
  leaf: X509Certificate,
  others: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): Path | null {
  const left = new Set(others);
  let ends: readonly (readonly X509Certificate[])[] = [[leaf]];
  for (let length = 0; length < maxChainLength && ends.length > 0; length++) {
    const longer: (readonly X509Certificate[])[] = [];
    for (const path of ends) {
      const last = path.at(-1) ?? leaf;
      const root = roots.find((candidate) => isIssuedBy(last, candidate));
      if (root !== undefined) return { issuers: path.slice(1), root };
      for (const candidate of left) {
        if (!isIssuedBy(last, candidate)) continue;
        left.delete(candidate);
        longer.push([...path, candidate]);
      }
    }
    ends = longer;
  }
  return null;
}

/** RFC 5280, section 6.1: the names match, the issuer is a CA, and its key made the signature. */
function isIssuedBy(subject: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && subject.checkIssued(issuer) && subject.verify(issuer.publicKey);
}

/** The key of a request, as {@link Expected} has it. */
export function spkiOf(publicKeyDer: ArrayBuffer): Uint8Array {
  const key = createPublicKey({ key: Buffer.from(publicKeyDer), format: 'der', type: 'spki' });
  return key.export({ format: 'der', type: 'spki' });
}

function pemOf(certificate: X509Certificate): string {
  return encodePem('CERTIFICATE', certificate.raw);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function iso(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString() : 'no time';
}

function unfit(why: string, cause: unknown): Error {
  return issuerError(
    'ISSUER_UNFIT',
    `the issuer gave a certificate that must not be used: ${why}`,
    'compare its configuration with issuers.md; if it is right, the issuer may be in wrong hands',
    cause,
  );
}
