import { CulvertError } from '../../../shared/errors.js';
import type { ControllerSettings } from '../../config/settings.js';
import { CertManagerIssuer } from './cert-manager-issuer.js';
import { CertificateAsk } from './certificate-ask.js';
import type { ExternalIssuer } from './external-issuer.js';
import { HttpsServer } from './https-server.js';
import { httpsAddress } from '../../config/https-address.js';
import { VaultIssuer } from './vault-issuer.js';
import { VaultSession } from './vault-session.js';

export type IssuerSettings = Pick<
  ControllerSettings,
  | 'issuer'
  | 'issuerRootsFile'
  | 'issuerCaFile'
  | 'issuerCredentialFile'
  | 'vaultAddress'
  | 'vaultNamespace'
  | 'vaultMount'
  | 'vaultRole'
  | 'vaultAuth'
  | 'vaultAuthMount'
  | 'vaultAuthRole'
  | 'certManagerApi'
  | 'certManagerNamespace'
  | 'certManagerIssuer'
>;

const serviceAccount = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A path of a mount, with parts as Vault allows them. */
const mountPath = /^[\w.-]+(?:\/[\w.-]+)*$/;

/** The issuer that the settings name; null: the controller's own CA. It is not asked yet. Errors: `CONFIG_INVALID`. */
export function openIssuer(
  settings: IssuerSettings,
  { trustDomain, nowMs }: { readonly trustDomain: string; readonly nowMs: () => number },
): ExternalIssuer | null {
  if (settings.issuer === 'vault') return openVault(settings);
  return settings.issuer === 'cert-manager' ? openCertManager(settings, trustDomain, nowMs) : null;
}

function openVault(settings: IssuerSettings): ExternalIssuer {
  const { vaultAuth: method, vaultAuthRole: role, vaultNamespace: namespace, vaultRole } = settings;
  const url = httpsAddress(settings.vaultAddress, '--vault-address');
  if (method !== 'token' && role === null) throw missing('--vault-auth-role', `--vault-auth is ${method}`);
  if (method !== 'kubernetes' && settings.issuerCredentialFile === null) {
    throw missing('--issuer-credential-file', `--vault-auth is ${method}`);
  }
  const place = `Vault at ${url.origin}`;
  const server = new HttpsServer({ name: place, url, caFile: settings.issuerCaFile });
  const headers = {
    // What proxies of Vault require, so that no web page can send a request.
    'x-vault-request': 'true',
    ...(namespace === null ? {} : { 'x-vault-namespace': headerValue(namespace, '--vault-namespace') }),
  };
  const session = new VaultSession({
    server,
    headers,
    login: {
      method,
      mount: mountOf(settings.vaultAuthMount ?? method, '--vault-auth-mount'),
      role,
      credential: settings.issuerCredentialFile ?? `${serviceAccount}/token`,
    },
  });
  return new VaultIssuer({
    place,
    server,
    session,
    headers,
    mount: mountOf(settings.vaultMount, '--vault-mount'),
    role: vaultRole,
  });
}

function openCertManager(settings: IssuerSettings, trustDomain: string, nowMs: () => number): ExternalIssuer {
  const url = httpsAddress(settings.certManagerApi, '--cert-manager-api');
  const { certManagerNamespace: namespace, certManagerIssuer: named } = settings;
  if (named === null) throw missing('--cert-manager-issuer', '--issuer is cert-manager');
  const [, kind, group = 'cert-manager.io', name] =
    /^([A-Za-z]+)(?:\.([a-z0-9.-]+))?\/([a-z0-9.-]+)$/.exec(named) ?? [];
  if (kind === undefined || name === undefined) {
    throw invalid(`--cert-manager-issuer: "${named}" is no issuer`, 'write it as Issuer/NAME or ClusterIssuer/NAME');
  }
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(namespace)) {
    throw invalid(`--cert-manager-namespace: "${namespace}" is no namespace`, 'use lower-case letters, digits and "-"');
  }
  const place = `cert-manager at ${url.origin}`;
  const caFile = settings.issuerCaFile ?? (settings.issuerCredentialFile === null ? `${serviceAccount}/ca.crt` : null);
  const server = new HttpsServer({ name: place, url, caFile });
  const tokenFile = settings.issuerCredentialFile ?? `${serviceAccount}/token`;
  const ask = new CertificateAsk({ server, namespace, tokenFile });
  return new CertManagerIssuer({ place, ask, issuer: { kind, name, group }, trustDomain, nowMs });
}

function mountOf(text: string, setting: string): string {
  const mount = text.replace(/^\/+|\/+$/g, '');
  if (mountPath.test(mount) && !mount.split('/').some((part) => /^\.+$/.test(part))) return mount;
  throw invalid(`${setting}: "${text}" is no path of a mount`, 'write it as pki, or team/pki, without v1/');
}

function headerValue(text: string, setting: string): string {
  if (/^[\x21-\x7e]+$/.test(text)) return text;
  throw invalid(`${setting}: "${text}" has characters that no header may have`, 'write it as platform/culvert');
}

function missing(setting: string, why: string): CulvertError {
  return invalid(`${why}, but ${setting} is missing`, `set ${setting}`);
}

function invalid(message: string, hint: string): CulvertError {
  return new CulvertError({ code: 'CONFIG_INVALID', message, hint });
}
