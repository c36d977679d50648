const certificatePattern = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+?-----END CERTIFICATE-----/g;

/** The certificates of a PEM bundle, in order, each ending with a newline. */
export function splitCertificates(pem: string): string[] {
  return [...pem.matchAll(certificatePattern)].map((match) => `${match[0]}\n`);
}

/** One bundle of several; duplicate certificates are kept once. */
export function joinCertificates(pems: readonly string[]): string {
  return [...new Set(pems.flatMap(splitCertificates))].join('');
}

export function encodePem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The DER of the first PEM block with any label; undefined without one. */
export function decodePem(pem: string): Uint8Array | undefined {
  const match = /-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----/.exec(pem);
  return match?.[2] === undefined ? undefined : Buffer.from(match[2], 'base64');
}
