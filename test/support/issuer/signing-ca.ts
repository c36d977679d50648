import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../controller/ca/x509/certificate-authority.js';
import { issueLeaf, type LeafRequest } from '../../../controller/ca/x509/leaf-certificate.js';
import { parseCsr } from '../../../controller/ca/x509/parsed-certificate-request.js';

export type LeafOrder = Pick<LeafRequest, 'names' | 'usages' | 'ttlMs'> &
  Partial<Pick<LeafRequest, 'commonName' | 'publicKey' | 'backdateMs' | 'issuer' | 'now'>>;

/** A root and an issuing CA, as an issuer elsewhere has them. What it signs can be changed before it does. */
export class SigningCa {
  readonly trustDomain: string;
  root: CertificateAuthority;
  issuing: CertificateAuthority;
  /** For certificates that a hostile or misconfigured issuer gives. */
  alter: (order: LeafOrder) => LeafOrder = (order) => order;

  private constructor(trustDomain: string, root: CertificateAuthority, issuing: CertificateAuthority) {
    this.trustDomain = trustDomain;
    this.root = root;
    this.issuing = issuing;
  }

  static async create(trustDomain: string): Promise<SigningCa> {
    const root = await createRootCa({ trustDomain });
    return new SigningCa(trustDomain, root, await createIssuingCa({ root, trustDomain }));
  }

  /** Another issuing CA, under another root where it is asked for. */
  async change({ isNewRoot }: { readonly isNewRoot: boolean }): Promise<void> {
    if (isNewRoot) this.root = await createRootCa({ trustDomain: this.trustDomain });
    this.issuing = await createIssuingCa({ root: this.root, trustDomain: this.trustDomain });
  }

  async sign(csrPem: string, order: LeafOrder): Promise<string> {
    const { publicKey } = await parseCsr(csrPem);
    const { chainPem } = await issueLeaf({ issuer: this.issuing, publicKey, ...this.alter(order) });
    return chainPem;
  }
}
