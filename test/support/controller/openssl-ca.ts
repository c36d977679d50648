import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What `openssl genpkey` makes. */
const keyOptions = {
  rsa1024: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024'],
  rsa2048: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'],
  rsa3072: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:3072'],
  rsa4096: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:4096'],
  rsaPss: ['-algorithm', 'RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048'],
  p256: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'],
  p384: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384'],
  p521: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-521'],
  ed25519: ['-algorithm', 'ED25519'],
} as const;

export type OpensslCa = {
  readonly key: keyof typeof keyOptions;
  /** Lines of the section of extensions; default: those of an ordinary CA. */
  readonly extensions?: readonly string[];
  /** Default: SHA-256. */
  readonly digest?: string;
  /** Absent: self-signed. */
  readonly under?: MadeCa;
  readonly days?: number;
};

export type MadeCa = { readonly keyFile: string; readonly certificateFile: string; readonly above: readonly string[] };

const ordinary = [
  'basicConstraints=critical,CA:true',
  'keyUsage=critical,keyCertSign,cRLSign',
  'subjectKeyIdentifier=hash',
];

/** Certificate authorities made by openssl, as a company has them, in a directory of their own. */
export class OpensslCas implements AsyncDisposable {
  readonly directory: string;
  readonly passwordFile: string;
  /** To make an RSA key takes up to seconds, so those of one kind share it, but for a CA and the one above it. */
  readonly #rsaKeys = new Map<OpensslCa['key'], string>();
  #count = 0;

  private constructor(directory: string) {
    this.directory = directory;
    this.passwordFile = path.join(directory, 'password');
  }

  static async create(): Promise<OpensslCas> {
    const cas = new OpensslCas(await mkdtemp(path.join(tmpdir(), 'culvert-openssl-')));
    await writeFile(cas.passwordFile, 'secret\n');
    return cas;
  }

  async make({ key, extensions = ordinary, digest = 'sha256', under, days = 30 }: OpensslCa): Promise<MadeCa> {
    const number = ++this.#count;
    const [requestFile, certificateFile, extensionFile] = ['csr', 'pem', 'ext'].map((kind) =>
      path.join(this.directory, `${number}.${kind}`),
    ) as [string, string, string];
    const keyFile = await this.#keyOf(key, number, under);
    await run('openssl', [
      'req',
      '-new',
      '-key',
      keyFile,
      '-subj',
      `/O=Example AG/CN=CA ${number}`,
      '-out',
      requestFile,
    ]);
    await writeFile(extensionFile, `[ca]\n${extensions.join('\n')}\n`);
    const signer =
      under === undefined ? ['-signkey', keyFile] : ['-CA', under.certificateFile, '-CAkey', under.keyFile];
    const hash = key === 'ed25519' && under === undefined ? [] : [`-${digest}`];
    const what = ['x509', '-req', '-in', requestFile, '-set_serial', String(number), '-days', String(days)];
    const extended = ['-extfile', extensionFile, '-extensions', 'ca', '-out', certificateFile];
    await run('openssl', [...what, ...signer, ...hash, ...extended]);
    const above = under === undefined ? [] : [under.certificateFile, ...under.above];
    return { keyFile, certificateFile, above };
  }

  async #keyOf(key: OpensslCa['key'], number: number, under: MadeCa | undefined): Promise<string> {
    const kept = this.#rsaKeys.get(key);
    if (kept !== undefined && kept !== under?.keyFile) return kept;
    const file = path.join(this.directory, `${number}.key`);
    await run('openssl', ['genpkey', ...keyOptions[key], '-out', file]);
    if (key.startsWith('rsa')) this.#rsaKeys.set(key, file);
    return file;
  }

  /** A PKCS#12 file with the key, its certificate and those above it. */
  async export(ca: MadeCa): Promise<string> {
    const out = `${ca.certificateFile}.p12`;
    const above = path.join(this.directory, 'above.pem');
    const chain = await Promise.all(ca.above.map((file) => readFile(file, 'utf8')));
    await writeFile(above, chain.join(''));
    const own = ['pkcs12', '-export', '-inkey', ca.keyFile, '-in', ca.certificateFile];
    const others = chain.length === 0 ? [] : ['-certfile', above];
    await run('openssl', [...own, ...others, '-out', out, '-passout', 'pass:secret']);
    return out;
  }

  /** Whether `openssl verify` accepts a chain for a purpose. Rejects with what it says otherwise. */
  async verify(chainPem: string, rootsPem: string, purpose: 'sslserver' | 'sslclient'): Promise<void> {
    const [chain, roots] = ['chain.pem', 'roots.pem'].map((name) => path.join(this.directory, name)) as [
      string,
      string,
    ];
    await Promise.all([writeFile(chain, chainPem), writeFile(roots, rootsPem)]);
    await run('openssl', ['verify', '-purpose', purpose, '-CAfile', roots, '-untrusted', chain, chain]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}
