import tls from 'node:tls';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { readNamedFile } from '../../shared/named-file.js';

const maxFileBytes = 1024 * 1024;
/** Certificates are replaced in their files, often by another program. */
const readEveryMs = 60_000;

type KeyPair = { readonly cert: string; readonly key: string };

/** The certificate of /metrics, /healthz and /readyz, and its key: PEM files, which are read again once a minute. */
export class EndpointCertificate implements Disposable {
  readonly #paths: KeyPair;
  readonly #log: Log;
  readonly #timer: NodeJS.Timeout;
  readonly #onChange = new Set<(pair: KeyPair) => void>();
  #current: KeyPair;
  #problem = '';

  private constructor(init: { readonly paths: KeyPair; readonly current: KeyPair; readonly log: Log }) {
    this.#paths = init.paths;
    this.#current = init.current;
    this.#log = init.log;
    this.#timer = setInterval(() => void this.reread(), readEveryMs).unref();
  }

  /** Null: neither file is set. Throws CulvertError `CONFIG_INVALID` if only one is, or if they cannot be used. */
  static async open(init: {
    readonly certificateFile: string | null;
    readonly keyFile: string | null;
    readonly log: Log;
  }): Promise<EndpointCertificate | null> {
    const { certificateFile: cert, keyFile: key, log } = init;
    if (cert === null && key === null) return null;
    if (cert === null || key === null) throw invalid('one of the two files is missing');
    const paths = { cert, key };
    const current = await readPair(paths).catch((error: unknown) => {
      throw invalid(describeError(error));
    });
    return new EndpointCertificate({ paths, current, log });
  }

  get current(): KeyPair {
    return this.#current;
  }

  onChange(use: (pair: KeyPair) => void): void {
    this.#onChange.add(use);
  }

  /** Never rejects: files that cannot be used are an error in the log, once, and the last good certificate stays. */
  async reread(): Promise<void> {
    try {
      const pair = await readPair(this.#paths);
      this.#problem = '';
      if (pair.cert === this.#current.cert && pair.key === this.#current.key) return;
      this.#current = pair;
      for (const use of this.#onChange) use(pair);
      this.#log.info({ file: this.#paths.cert }, 'the endpoints have a new certificate');
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#problem) this.#log.error({ problem }, 'the certificate of the endpoints cannot be used');
      this.#problem = problem;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Rejects if one cannot be read, or if they do not belong together. */
async function readPair(paths: KeyPair): Promise<KeyPair> {
  const [cert, key] = await Promise.all([read(paths.cert), read(paths.key)]);
  tls.createSecureContext({ cert, key });
  return { cert, key };
}

async function read(path: string): Promise<string> {
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (file.isRead) return file.bytes.toString('utf8');
  throw new Error(`cannot read ${path}: ${file.problem}`);
}

function invalid(problem: string): CulvertError {
  return new CulvertError({
    code: 'CONFIG_INVALID',
    message: `--endpoint-certificate and --endpoint-key: ${problem}`,
    hint: 'set both, to PEM files of a certificate with its chain and of its key',
  });
}
