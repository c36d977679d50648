import type { FuzzTarget } from './target.js';
import { addressTarget } from './targets/addresses.js';
import { certificateTarget, certificateRequestTarget } from './targets/certificates.js';
import { applyBodyTarget, documentTarget } from './targets/documents.js';
import { engineTarget } from './targets/engine.js';
import { hpackTarget, http2ClientTarget, http2ServerTarget } from './targets/http2.js';
import { helperTarget } from './targets/helper.js';
import { clusterTarget } from './targets/cluster.js';
import { auditLogTarget, journalTarget, registryFileTarget } from './targets/files.js';
import { issuerTarget } from './targets/issuers.js';
import { requestTarget, sealedTarget, signedTarget } from './targets/messages.js';

/** Every parser of the product that reads what others wrote. */
export const targets: readonly FuzzTarget[] = [
  http2ServerTarget,
  http2ClientTarget,
  hpackTarget,
  documentTarget,
  applyBodyTarget,
  requestTarget,
  sealedTarget,
  signedTarget,
  certificateTarget,
  certificateRequestTarget,
  issuerTarget,
  addressTarget,
  registryFileTarget,
  journalTarget,
  auditLogTarget,
  helperTarget,
  clusterTarget,
  engineTarget,
];
